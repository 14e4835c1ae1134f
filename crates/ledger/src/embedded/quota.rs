//! Quotas of a node alone: what is known of credentials, saved over a clean stop.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use model::{Timestamp, Uptime};
use parking_lot::Mutex;
use rules::quota::{Edition, News, Past, Principal, Rule, Step, WINDOW_MAX};
use serde::{Deserialize, Serialize};

/// What is known of each credential, by the name of its count.
#[derive(Debug, Default)]
pub(super) struct Principals {
    held: Mutex<HashMap<Arc<str>, Held>>,
    /// Since when nothing is known of a credential that is not held; `None`: it was never used.
    lost_at: Option<Uptime>,
}

#[derive(Debug)]
enum Held {
    Live(Box<Principal>),
    /// Until somebody asks.
    Saved(Row),
}

/// A credential in the file. Times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    subject: String,
    /// The numbers of the rule that counted them; older versions did not say.
    #[serde(default)]
    rule: Option<[u64; 7]>,
    /// Calls by their ages.
    calls: Vec<(u64, u64)>,
    /// Calls that were counted before those.
    #[serde(default)]
    before: u64,
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
        let mut held: HashMap<Arc<str>, Held> = HashMap::new();
        for mut row in rows {
            let elapsed = u64::try_from(elapsed(&row)).unwrap_or(u64::MAX);
            // Ages are told from the clock's beginning on, so that they grow by themselves.
            for (age, _) in &mut row.calls {
                *age = age.saturating_add(elapsed);
            }
            row.blocked = row.blocked.saturating_sub(elapsed);
            row.at = millis(uptime);
            let subject = Arc::from(row.subject.as_str());
            // Older versions counted a credential for each quota by itself.
            if let Some(Held::Saved(other)) = held.remove(&subject) {
                row.calls.extend(other.calls);
                row.blocked = row.blocked.max(other.blocked);
            }
            held.insert(subject, Held::Saved(row));
        }
        Ok(Self { held: Mutex::new(held), lost_at })
    }

    /// Takes a step; `None` when there is no room for another credential.
    pub(super) fn step(
        &self,
        subject: &Arc<str>,
        edition: &Edition,
        uptime: Uptime,
        news: &News,
    ) -> Option<Step> {
        let (mut held, now) = (self.held.lock(), millis(uptime));
        if !held.contains_key(subject) && held.len() >= CREDENTIALS_MAX {
            held.retain(|_, held| match held {
                Held::Live(principal) => !principal.is_idle(now),
                Held::Saved(row) => now.saturating_sub(row.at) < WINDOW_MAX,
            });
            if held.len() >= CREDENTIALS_MAX {
                return None;
            }
        }
        let fresh = || match self.lost_at {
            Some(lost) => Principal::lost(&edition.rule, millis(lost)),
            None => Principal::default(),
        };
        let entry =
            held.entry(Arc::clone(subject)).or_insert_with(|| Held::Live(Box::new(fresh())));
        if let Held::Saved(row) = entry {
            let principal = Principal::known(&row.past(edition.rule), row.at);
            *entry = Held::Live(Box::new(principal));
        }
        match entry {
            Held::Live(principal) => Some(principal.step(edition, now, NODE, news)),
            Held::Saved(_) => None,
        }
    }

    /// Writes what is known, durably.
    pub(super) fn save(&self, directory: &Path, now: Timestamp, uptime: Uptime) -> io::Result<()> {
        let held = self.held.lock();
        let row = |(subject, held): (&Arc<str>, &Held)| match held {
            Held::Saved(row) => {
                let elapsed = millis(uptime).saturating_sub(row.at);
                let calls = row.calls.iter().map(|(age, calls)| (age + elapsed, *calls));
                let blocked = row.blocked.saturating_sub(elapsed);
                Some(Row { calls: calls.collect(), blocked, at: now.as_micros(), ..row.clone() })
            }
            Held::Live(principal) => {
                let Past { rule, calls, before, blocked } = principal.past(millis(uptime))?;
                let (subject, rule) = (subject.to_string(), Some(rule.numbers()));
                Some(Row { subject, rule, calls, before, blocked, at: now.as_micros() })
            }
        };
        let rows: Vec<Row> = held.iter().filter_map(row).collect();
        let mut file = File::create(directory.join(FILE))?;
        file.write_all(&serde_json::to_vec(&rows)?)?;
        file.sync_all()
    }
}

impl Row {
    fn past(&self, otherwise: Rule) -> Past {
        Past {
            rule: self.rule.and_then(Rule::from_numbers).unwrap_or(otherwise),
            calls: self.calls.clone(),
            before: self.before,
            blocked: self.blocked,
        }
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
