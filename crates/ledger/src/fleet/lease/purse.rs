//! Tokens of one bucket that a node holds, and until when: what requests spend without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The tokens stand with a generation in one word. Whoever counts them for the store begins a new
/// generation: what was spent before cannot come back after the store was told that it was spent.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    /// Generation, and tokens in the low 32 bits.
    state: AtomicU64,
    /// The end of the lease by the node's monotonic clock, in microseconds.
    until: AtomicU64,
    /// Where more is asked for.
    low: AtomicU32,
}

/// Tokens that were spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    generation: u32,
    pub(crate) left: u32,
    /// Whether it is time to ask for more.
    pub(crate) is_low: bool,
}

impl Purse {
    /// Spends tokens, if the lease lives and they are there.
    pub(crate) fn take(&self, now: u64, cost: u32) -> Option<Spent> {
        if now >= self.until.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let (generation, tokens) = parts(state);
            let left = tokens.checked_sub(cost)?;
            let next = word(generation, left);
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let is_low = left <= self.low.load(Ordering::Relaxed);
                    return Some(Spent { generation, left, is_low });
                }
                Err(other) => state = other,
            }
        }
    }

    /// What taking so many would leave.
    pub(crate) fn peek(&self, now: u64, cost: u32) -> Option<Spent> {
        let (generation, tokens) = parts(self.state.load(Ordering::Acquire));
        let left = tokens.checked_sub(cost).filter(|_| now < self.until())?;
        Some(Spent { generation, left, is_low: false })
    }

    /// Takes back what was spent for nothing, unless it was counted meanwhile: then it is lost,
    /// which is safe.
    pub(crate) fn undo(&self, spent: Spent, cost: u32) {
        let back = |state| {
            let (generation, tokens) = parts(state);
            (generation == spent.generation).then(|| word(generation, tokens.saturating_add(cost)))
        };
        self.change(back);
    }

    /// Whether what was spent is still the node's to use: nobody counted it as used before.
    pub(crate) fn holds(&self, spent: Spent, now: u64) -> bool {
        let (generation, _) = parts(self.state.load(Ordering::Acquire));
        generation == spent.generation && now < self.until.load(Ordering::Acquire)
    }

    pub(crate) fn tokens(&self) -> u32 {
        parts(self.state.load(Ordering::Acquire)).1
    }

    pub(crate) fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// Keeps at most so many tokens, for the store's count: how many are kept, and how many go.
    pub(crate) fn cut(&self, most: u32) -> (u32, u32) {
        let cut = |state| {
            let (generation, tokens) = parts(state);
            Some(word(generation.wrapping_add(1), tokens.min(most)))
        };
        let (_, tokens) = parts(self.change(cut));
        (tokens.min(most), tokens.saturating_sub(most))
    }

    /// Adds what was granted; all that is held now lives until then.
    pub(crate) fn fill(&self, granted: u32, until: u64) {
        self.until.store(until, Ordering::Release);
        self.change(|state| {
            let (generation, tokens) = parts(state);
            Some(word(generation, tokens.saturating_add(granted)))
        });
    }

    /// Changes the word, or leaves it: what it was before.
    fn change(&self, next: impl FnMut(u64) -> Option<u64>) -> u64 {
        let changed = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        changed.unwrap_or_else(|state| state)
    }

    /// Nothing is spent any more.
    pub(crate) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    pub(crate) fn ask_at(&self, low: u32) {
        self.low.store(low, Ordering::Relaxed);
    }
}

fn word(generation: u32, tokens: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(tokens)
}

#[expect(clippy::cast_possible_truncation, reason = "these are the two halves of the word")]
const fn parts(state: u64) -> (u32, u32) {
    ((state >> 32) as u32, state as u32)
}

#[cfg(test)]
mod tests {
    use super::Purse;

    #[test]
    fn what_is_held_is_spent_once_and_not_after_its_end() {
        let purse = Purse::default();
        purse.fill(3, 100);
        assert_eq!(purse.take(99, 2).unwrap().left, 1);
        assert!(purse.take(99, 2).is_none());
        assert!(purse.take(100, 1).is_none());
        assert!(purse.take(99, 1).is_some());
        assert!(purse.take(99, 1).is_none());
    }

    #[test]
    fn what_the_store_counts_as_spent_never_comes_back() {
        let purse = Purse::default();
        purse.fill(3, 100);
        let spent = purse.take(0, 1).unwrap();
        purse.undo(spent, 1);
        assert_eq!(purse.tokens(), 3);
        let spent = purse.take(0, 1).unwrap();
        assert!(purse.holds(spent, 99) && !purse.holds(spent, 100));
        assert_eq!(purse.cut(1), (1, 1));
        assert!(!purse.holds(spent, 0));
        purse.undo(spent, 1);
        assert_eq!(purse.tokens(), 1);
    }

    #[test]
    fn many_threads_spend_what_there_is_and_no_more() {
        let purse = Purse::default();
        purse.fill(10_000, 1);
        let spent: usize = std::thread::scope(|scope| {
            let spend = || (0..4_000).filter(|_| purse.take(0, 1).is_some()).count();
            let spenders = [(); 4].map(|()| scope.spawn(spend));
            spenders.map(|spender| spender.join().unwrap()).iter().sum()
        });
        assert_eq!(spent, 10_000);
    }
}
