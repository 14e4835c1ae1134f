//! Says a refusal once a minute: a peer that is refused tries again ten times a second.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What was said of whom, and when.
#[derive(Debug, Default)]
pub(super) struct Hush(Mutex<HashMap<(String, String), Instant>>);

impl Hush {
    /// Whether to say this now.
    pub(super) fn may_say(&self, who: &str, why: &str) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock();
        let key = (who.to_owned(), why.to_owned());
        if said.get(&key).is_some_and(|at| now.duration_since(*at) < PAUSE) {
            return false;
        }
        if said.len() >= SAID_MAX {
            said.retain(|_, at| now.duration_since(*at) < PAUSE);
        }
        // Still full: many strangers at once. More lines would not help anybody.
        if said.len() >= SAID_MAX {
            return false;
        }
        said.insert(key, now);
        true
    }
}

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(60);

/// Different lines a minute; further ones are not said.
const SAID_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::{Hush, PAUSE, SAID_MAX};

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_minute() {
        let hush = Hush::default();
        let said = [("a", "x"), ("a", "x"), ("b", "x"), ("a", "y")];
        assert_eq!(said.map(|(who, why)| hush.may_say(who, why)), [true, false, true, true]);
        tokio::time::advance(PAUSE).await;
        assert!(hush.may_say("a", "x"));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cannot_fill_the_log() {
        let hush = Hush::default();
        let said = (0..2 * SAID_MAX).filter(|who| hush.may_say(&who.to_string(), "x")).count();
        assert_eq!(said, SAID_MAX);
    }
}
