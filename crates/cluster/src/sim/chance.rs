//! Chance that comes from a seed.

use std::io;
use std::ops::Range;
use std::time::Duration;

use model::Entropy;
use parking_lot::Mutex;

/// A stream of numbers (SplitMix64: Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of this name that belongs to a seed. Each part of a simulation has its own, so
    /// that one which draws more does not change what the others draw.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let mixed = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound; 0 when there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    /// A whole number of milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }

    /// One of some that are there.
    pub(crate) fn one_of<T: Copy, const N: usize>(&mut self, some: [T; N]) -> T {
        self.pick(&some).expect("an array that is written out holds something")
    }

    /// One of several; `None` when there is none.
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let place = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(place).cloned()
    }
}

/// A node's random bytes.
#[derive(Debug)]
pub(crate) struct SeededEntropy(pub(crate) Mutex<Chance>);

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut chance = self.0.lock();
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&chance.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}
