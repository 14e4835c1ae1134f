//! What the store has just refused, so that a rush of requests does not ask it for each.
//!
//! A bucket that is short of tokens for a while stays short for that while, whoever asks. Until
//! then, but never for longer than [`SHUT_MAX`], a node refuses without a call: tokens that come
//! back early (a lease that is returned, a limit that is widened) wait that long at most. The time
//! counts from before the call, so that nobody is refused for whom the store had a token.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::{Bucket, Tokens, Uptime};
use parking_lot::Mutex;
use rules::limit::Short;
use rules::plan::{BucketKey, Draw, Plan};

use crate::Denial;
use crate::limit::worst;

/// The buckets that are short. Shared by all cores; a node that refuses nobody never locks it.
#[derive(Debug, Default)]
pub(crate) struct Shut {
    shards: [Shard; SHARDS],
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    until: Mutex<HashMap<Drawn, Until>>,
    count: AtomicUsize,
}

/// A draw that was refused: with another price or rate the bucket may have something.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Drawn {
    key: BucketKey,
    bucket: Bucket,
    cost: Tokens,
}

#[derive(Clone, Copy, Debug)]
struct Until {
    /// When a token is there.
    token: Uptime,
    /// Until when that is taken for granted.
    trusted: Uptime,
}

impl Shut {
    /// Notes which draws of a plan the store found short, in a call that was sent after `asked`.
    pub(crate) fn note(
        &self,
        plan: &Plan,
        shorts: impl Iterator<Item = Option<Short>>,
        asked: Uptime,
    ) {
        for (draw, short) in plan.draws.iter().zip(shorts) {
            // What never comes is refused by the store itself, in case the limit is changed.
            let Some(Short::For(wait)) = short else { continue };
            let until = Until { token: asked.plus(wait), trusted: asked.plus(wait.min(SHUT_MAX)) };
            let shard = self.shard(draw);
            let mut shut = shard.until.lock();
            if shut.len() >= SHARD_MAX {
                shut.retain(|_, until| until.trusted > asked);
            }
            if shut.len() < SHARD_MAX {
                let Draw { key, bucket, cost, .. } = draw;
                shut.insert(Drawn { key: key.clone(), bucket: *bucket, cost: *cost }, until);
            }
            shard.count.store(shut.len(), Ordering::Relaxed);
        }
    }

    /// The refusal of a plan of which a draw is known to be short.
    pub(crate) fn denial(&self, plan: &Plan, now: Uptime) -> Option<Denial> {
        if plan.draws.iter().all(|draw| self.shard(draw).count.load(Ordering::Relaxed) == 0) {
            return None;
        }
        worst(plan, plan.draws.iter().map(|draw| self.short(draw, now)))
    }

    fn short(&self, draw: &Draw, now: Uptime) -> Option<Short> {
        let shard = self.shard(draw);
        if shard.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let Draw { key, bucket, cost, .. } = draw;
        let drawn = Drawn { key: key.clone(), bucket: *bucket, cost: *cost };
        let mut shut = shard.until.lock();
        let until = *shut.get(&drawn)?;
        if now < until.trusted {
            return Some(Short::For(until.token.since(now)));
        }
        shut.remove(&drawn);
        shard.count.store(shut.len(), Ordering::Relaxed);
        None
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards")]
    fn shard(&self, draw: &Draw) -> &Shard {
        let place = self.hasher.hash_one(&draw.key) % (SHARDS as u64);
        &self.shards[usize::try_from(place).unwrap_or_default()]
    }
}

/// How long the store's word is trusted.
const SHUT_MAX: Duration = Duration::from_millis(50);

/// Locks that cores share.
const SHARDS: usize = 16;

/// Buckets of a shard. When it is full the store is asked about further ones, as ever: some 4 MB
/// in all at the worst.
const SHARD_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::{Duration, SHARD_MAX, SHARDS, SHUT_MAX, Short, Shut, Uptime};
    use crate::Denial;
    use crate::fleet::tests::{fixed, plan};

    fn at(millis: u64) -> Uptime {
        Uptime::from_micros(millis * 1_000)
    }

    fn wait(millis: u64) -> Short {
        Short::For(Duration::from_millis(millis))
    }

    #[test]
    fn what_the_store_refused_is_refused_until_the_token_is_due_and_not_for_long() {
        let (shut, both) = (Shut::default(), plan(vec![fixed("a", 1), fixed("b", 1)]));
        assert_eq!(shut.denial(&both, at(0)), None);
        shut.note(&both, [None, Some(wait(20))].into_iter(), at(100));
        let denied = |short| Some(Denial::Short { draw: 1, short });
        assert_eq!(shut.denial(&both, at(105)), denied(wait(15)));
        assert_eq!(shut.denial(&plan(vec![fixed("a", 1)]), at(105)), None);
        assert_eq!(shut.denial(&both, at(120)), None);
        shut.note(&both, [None, Some(wait(60_000))].into_iter(), at(200));
        assert_eq!(shut.denial(&both, at(210)), denied(wait(59_990)));
        assert_eq!(shut.denial(&both, at(200).plus(SHUT_MAX)), None);
    }

    #[test]
    fn another_rule_or_price_and_a_shadow_ask_the_store() {
        let shut = Shut::default();
        let shadow = plan(vec![fixed("shadow", 1)]);
        shut.note(&shadow, [Some(wait(20))].into_iter(), at(0));
        assert_eq!(shut.denial(&shadow, at(1)), None);
        shut.note(&plan(vec![fixed("a", 1)]), [Some(wait(20))].into_iter(), at(0));
        assert!(shut.denial(&plan(vec![fixed("a", 1)]), at(1)).is_some());
        assert_eq!(shut.denial(&plan(vec![fixed("a", 2)]), at(1)), None);
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let shut = Shut::default();
        for number in 0..2 * SHARDS * SHARD_MAX {
            let plan = plan(vec![fixed(&number.to_string(), 1)]);
            shut.note(&plan, [Some(wait(20))].into_iter(), at(0));
        }
        let held: usize = shut.shards.iter().map(|shard| shard.until.lock().len()).sum();
        assert!((SHARDS * SHARD_MAX / 2..=SHARDS * SHARD_MAX).contains(&held), "{held}");
    }
}
