//! Quotas of a node alone: what is known of credentials, saved over a clean stop.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use model::{QuotaId, Timestamp, Uptime};
use parking_lot::Mutex;
use rules::quota::{News, Principal, Rule, Step, WINDOW_MAX};
use serde::{Deserialize, Serialize};

use crate::quota::QuotaKey;

/// What is known of each credential.
#[derive(Debug, Default)]
pub(super) struct Principals {
    held: Mutex<HashMap<QuotaKey, Held>>,
    /// Since when nothing is known of a credential that is not held; `None`: it was never used.
    lost_at: Option<Uptime>,
}

#[derive(Debug)]
enum Held {
    Live(Box<Principal>),
    /// Until its rule is known.
    Saved(Row),
}

/// A credential in the file. Times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    quota: String,
    subject: String,
    /// Calls by their ages.
    calls: Vec<(u64, u64)>,
    blocked: u64,
    /// The wall clock's time of this, in microseconds since 1970.
    at: u64,
}

impl Principals {
    /// What a clean stop left, which counts once; nothing is known after another.
    pub(super) fn open(
        directory: &Path,
        lost_at: Option<Uptime>,
        (now, uptime): (Timestamp, Uptime),
    ) -> io::Result<Self> {
        let path = directory.join(FILE);
        let rows: Vec<Row> = match fs::read(&path) {
            Ok(text) if lost_at.is_none() => {
                serde_json::from_slice(&text).map_err(io::Error::other)?
            }
            Ok(_) => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let elapsed = |row: &Row| now.since(Timestamp::from_micros(row.at)).as_millis();
        let held = rows.into_iter().map(|mut row| {
            let elapsed = u64::try_from(elapsed(&row)).unwrap_or(u64::MAX);
            // Ages are told from the clock's beginning on, so that they grow by themselves.
            for (age, _) in &mut row.calls {
                *age = age.saturating_add(elapsed);
            }
            row.blocked = row.blocked.saturating_sub(elapsed);
            row.at = millis(uptime);
            let key = QuotaKey {
                quota: QuotaId::new(&row.quota),
                subject: Arc::from(row.subject.as_str()),
            };
            (key, Held::Saved(row))
        });
        Ok(Self { held: Mutex::new(held.collect()), lost_at })
    }

    /// Takes a step; `None` when there is no room for another credential.
    pub(super) fn step(
        &self,
        key: &QuotaKey,
        rule: &Rule,
        uptime: Uptime,
        news: &News,
    ) -> Option<Step> {
        let (mut held, now) = (self.held.lock(), millis(uptime));
        if !held.contains_key(key) && held.len() >= CREDENTIALS_MAX {
            held.retain(|_, held| match held {
                Held::Live(principal) => !principal.is_idle(now),
                Held::Saved(row) => now.saturating_sub(row.at) < WINDOW_MAX,
            });
            if held.len() >= CREDENTIALS_MAX {
                return None;
            }
        }
        let fresh = || match self.lost_at {
            Some(lost) => Principal::lost(rule, millis(lost)),
            None => Principal::default(),
        };
        let entry = held.entry(key.clone()).or_insert_with(|| Held::Live(Box::new(fresh())));
        if let Held::Saved(row) = entry {
            let principal = Principal::known(rule, row.at, &row.calls, row.blocked);
            *entry = Held::Live(Box::new(principal));
        }
        match entry {
            Held::Live(principal) => Some(principal.step(rule, now, NODE, news)),
            Held::Saved(_) => None,
        }
    }

    /// Writes what is known, durably.
    pub(super) fn save(&self, directory: &Path, now: Timestamp, uptime: Uptime) -> io::Result<()> {
        let held = self.held.lock();
        let row = |(key, held): (&QuotaKey, &Held)| match held {
            Held::Saved(row) => {
                let elapsed = millis(uptime).saturating_sub(row.at);
                let calls = row.calls.iter().map(|(age, calls)| (age + elapsed, *calls));
                let blocked = row.blocked.saturating_sub(elapsed);
                Row { calls: calls.collect(), blocked, at: now.as_micros(), ..row.clone() }
            }
            Held::Live(principal) => {
                let (calls, blocked) = principal.history(millis(uptime));
                let (quota, subject) = (key.quota.to_string(), key.subject.to_string());
                Row { quota, subject, calls, blocked, at: now.as_micros() }
            }
        };
        let rows: Vec<Row> = held.iter().map(row).collect();
        let mut file = File::create(directory.join(FILE))?;
        file.write_all(&serde_json::to_vec(&rows)?)?;
        file.sync_all()
    }
}

/// Milliseconds of the monotonic clock, from so early that every window began after it.
fn millis(uptime: Uptime) -> u64 {
    uptime.as_micros() / 1_000 + 2 * WINDOW_MAX
}

/// The only node there is.
const NODE: u64 = 0;

const FILE: &str = "quotas.json";

/// Credentials that are counted. When there are as many and all were used within their windows, a
/// call on a further one is refused.
const CREDENTIALS_MAX: usize = 4_096;
