//! What the checker of windows finds of each limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use model::{Bucket, Timestamp};
use rules::window::{Replay, Worst};
use serde_json::{Value, json};

use super::order::Take;
use super::record::Rule;

/// The windows of all limits and subjects, as far as they were seen.
pub(super) struct Verdicts<'a> {
    rules: &'a [Rule],
    tolerance: Duration,
    /// Subjects whose bucket is not full.
    active: HashMap<(usize, Arc<str>), Replay>,
    found: Vec<Found<'a>>,
}

/// What was found of a limit.
#[derive(Debug)]
pub(super) struct Found<'a> {
    rule: &'a Rule,
    tolerance: Duration,
    pub(super) passed: u64,
    /// The subject of the worst window, and the window.
    worst: Option<(Arc<str>, Worst)>,
    /// Tokens by which it holds too many.
    pub(super) excess: u64,
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(rules: &'a [Rule], tolerance: Duration) -> Self {
        let found = |rule| Found { rule, tolerance, passed: 0, worst: None, excess: 0 };
        let found = rules.iter().map(found).collect();
        Self { rules, tolerance, active: HashMap::new(), found }
    }

    /// Notes a take, in the order of time.
    ///
    /// # Errors
    /// When there are too many subjects at once.
    pub(super) fn take(&mut self, take: Take) -> Result<()> {
        let Take { at, rule, subject } = take;
        let Some(found) = self.found.get_mut(rule) else { return Ok(()) };
        found.passed += 1;
        let bucket = found.rule.bucket;
        let key = (rule, subject);
        if let Some(replay) = self.active.get_mut(&key) {
            replay.take(at);
            return Ok(());
        }
        if self.active.len() >= SUBJECTS_MAX {
            self.forget(at);
            // With few forgotten, the next search would come too soon.
            if self.active.len() >= SUBJECTS_MAX / 16 * 15 {
                bail!("more than {SUBJECTS_MAX} subjects draw at once");
            }
        }
        let mut replay = Replay::new(bucket);
        replay.take(at);
        self.active.insert(key, replay);
        Ok(())
    }

    /// Notes the verdict of those whose bucket is full again, and forgets them.
    fn forget(&mut self, at: u64) {
        let Self { active, found, tolerance, .. } = self;
        active.retain(|(rule, subject), replay| {
            if !replay.is_full(at) {
                return true;
            }
            if let Some(found) = found.get_mut(*rule) {
                found.judge(subject, replay, *tolerance);
            }
            false
        });
    }

    /// What was found, a limit each.
    pub(super) fn finish(mut self) -> Vec<Found<'a>> {
        for ((rule, subject), replay) in &self.active {
            if let Some(found) = self.found.get_mut(*rule) {
                found.judge(subject, replay, self.tolerance);
            }
        }
        debug_assert_eq!(self.found.len(), self.rules.len());
        self.found
    }
}

impl Found<'_> {
    fn judge(&mut self, subject: &Arc<str>, replay: &Replay, tolerance: Duration) {
        let worst = replay.worst();
        // Of equally bad ones the first name, whatever the order of the map.
        let is_worse = self
            .worst
            .as_ref()
            .is_none_or(|(name, known)| (worst.drawn, name) > (known.drawn, subject));
        if is_worse {
            self.worst = Some((Arc::clone(subject), worst));
        }
        self.excess = self.excess.max(replay.excess(tolerance));
    }

    fn name(&self) -> &str {
        self.rule.id.as_deref().unwrap_or("-")
    }

    /// What the worst window may hold: burst + rate · its length, in whole tokens.
    fn allowed(&self, worst: &Worst) -> u64 {
        let bucket: Bucket = self.rule.bucket;
        let length = u128::from(worst.to - worst.from) + self.tolerance.as_micros();
        let units = u128::from(bucket.refill()) * length + u128::from(bucket.capacity());
        u64::try_from(units / u128::from(bucket.unit())).unwrap_or(u64::MAX)
    }

    pub(super) fn as_row(&self) -> [String; 8] {
        let [mut subject, mut from, mut to, mut held, mut allowed] = [const { String::new() }; 5];
        if let Some((name, worst)) = &self.worst {
            subject = name.to_string();
            (from, to) = (moment(worst.from), moment(worst.to));
            (held, allowed) = (worst.count.to_string(), self.allowed(worst).to_string());
        }
        let (passed, excess) = (self.passed.to_string(), self.excess.to_string());
        [self.name().to_owned(), passed, subject, from, to, held, allowed, excess]
    }

    pub(super) fn as_json(&self) -> Value {
        let worst = self.worst.as_ref().map(|(subject, worst)| {
            json!({
                "subject": &**subject,
                "from": moment(worst.from), "to": moment(worst.to),
                "held": worst.count, "allowed": self.allowed(worst),
            })
        });
        json!({
            "limit": self.rule.id.as_deref(), "passed": self.passed,
            "kept": self.excess == 0, "excess": self.excess, "worst": worst,
        })
    }
}

/// A moment as records have it.
fn moment(micros: u64) -> String {
    let micros = i64::try_from(Timestamp::from_micros(micros).as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| String::from("-"), |at| at.to_string())
}

/// Subjects whose bucket is not full, at once: some 200 MB of them. Beyond that nothing is judged.
const SUBJECTS_MAX: usize = 1_000_000;
