//! Calls per token: 1,200 in five minutes, and five minutes of silence for the one that makes more.
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::later;

/// How many calls a token has, over which window, and how long it is blocked when it makes more.
/// The window begins with a token's first call and is not sliding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls in one window.
    pub calls: u32,
    /// The window, in whole seconds.
    pub window: Duration,
    /// For how long every call of the token is answered 429, in whole seconds.
    pub block: Duration,
}

impl Default for Quota {
    fn default() -> Self {
        let five_minutes = Duration::from_secs(300);
        Self { calls: 1_200, window: five_minutes, block: five_minutes }
    }
}

impl Quota {
    /// A quota that no test reaches.
    pub fn unlimited() -> Self {
        Self { calls: u32::MAX, ..Self::default() }
    }
}

/// What is left, as the `Ratelimit` header says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) calls: u32,
    pub(crate) resets_in_s: u64,
}

/// Whether a call may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn {
    Yes(Left),
    Blocked { retry_after_s: u64 },
}

/// Every token's count.
#[derive(Debug)]
pub(crate) struct Counts {
    quota: Quota,
    tokens: HashMap<String, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    began: Timestamp,
    calls: u32,
    blocked_until: Option<Timestamp>,
}

impl Counts {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, tokens: HashMap::new() }
    }

    /// Takes one call of `token` at `now`.
    pub(crate) fn draw(&mut self, token: &str, now: Timestamp) -> Drawn {
        if !self.tokens.contains_key(token) {
            self.make_room();
        }
        let fresh = Count { began: now, calls: 0, blocked_until: None };
        let count = self.tokens.entry(token.to_owned()).or_insert(fresh);
        match count.blocked_until {
            Some(until) if now < until => {
                return Drawn::Blocked { retry_after_s: seconds(now, until) };
            }
            Some(_) => *count = fresh,
            None => {}
        }
        if now >= later(count.began, self.quota.window) {
            *count = fresh;
        }
        if count.calls >= self.quota.calls {
            let until = later(now, self.quota.block);
            count.blocked_until = Some(until);
            return Drawn::Blocked { retry_after_s: seconds(now, until) };
        }
        count.calls += 1;
        Drawn::Yes(Left {
            calls: self.quota.calls - count.calls,
            resets_in_s: seconds(now, later(count.began, self.quota.window)),
        })
    }

    /// What somebody has whom nothing is counted for.
    pub(crate) fn untouched(&self) -> Left {
        Left { calls: self.quota.calls, resets_in_s: self.quota.window.as_secs() }
    }

    /// The `Ratelimit-Policy` header.
    pub(crate) fn policy(&self) -> String {
        format!("\"default\";q={};w={}", self.quota.calls, self.quota.window.as_secs())
    }

    fn make_room(&mut self) {
        if self.tokens.len() < TOKENS_MAX {
            return;
        }
        let oldest = self.tokens.iter().min_by_key(|(_, count)| count.began);
        if let Some(token) = oldest.map(|(token, _)| token.clone()) {
            self.tokens.remove(&token);
        }
    }
}

/// Whole seconds from `from` to `to`, rounded up, so that waiting them is enough.
fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    let wait = to.duration_since(from);
    let whole = u64::try_from(wait.as_secs()).unwrap_or(0);
    whole + u64::from(wait.subsec_nanos() > 0)
}

/// Tokens counted at once. When full, the one counted longest is forgotten and begins anew.
const TOKENS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{Counts, Drawn, Quota, TOKENS_MAX};

    /// Draws at each second of `at` and writes what came: calls left, or `-` and the wait.
    fn check(calls: u32, at: &[i64], expected: &str) {
        let mut counts = Counts::new(Quota { calls, ..Quota::default() });
        let drawn = at.iter().map(|second| {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(*second);
            match counts.draw("a", now) {
                Drawn::Yes(left) => left.calls.to_string(),
                Drawn::Blocked { retry_after_s } => format!("-{retry_after_s}"),
            }
        });
        assert_eq!(drawn.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn the_call_after_the_last_blocks_the_token_for_five_minutes() {
        check(2, &[0, 1, 10, 11, 309, 310], "1 0 -300 -299 -1 1");
    }

    #[test]
    fn blocked_calls_do_not_lengthen_the_block() {
        check(1, &[0, 1, 100, 200, 300, 301], "0 -300 -201 -101 -1 0");
    }

    #[test]
    fn a_window_that_ends_gives_every_call_back() {
        check(2, &[0, 1, 299, 300], "1 0 -300 -299");
        check(2, &[0, 1, 300, 301], "1 0 1 0");
    }

    #[test]
    fn strangers_cannot_make_the_counts_grow() {
        let mut counts = Counts::new(Quota::default());
        for stranger in 0..TOKENS_MAX + 10 {
            counts.draw(&stranger.to_string(), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(counts.tokens.len(), TOKENS_MAX);
    }
}
