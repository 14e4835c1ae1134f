//! What one node may do, by what it knows and how sure it is of it.

use std::time::Duration;

use super::{AUTHORITY, Epoch, Mode, WAIT};

/// What a node knows of what was agreed on. Times are microseconds of its own monotonic clock.
#[derive(Clone, Debug)]
pub struct Holder {
    node: u64,
    terms: Terms,
    epoch: Option<Epoch>,
    /// When everybody keeps to the era that is known.
    ready: u64,
    /// Until when nothing newer counts.
    until: u64,
}

/// The times that make it safe.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub authority: Duration,
    /// Before a share begins, and before the store does.
    pub before_share: Duration,
    pub before_store: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { authority: AUTHORITY, before_share: WAIT, before_store: WAIT }
    }
}

impl Terms {
    fn wait(&self, mode: &Mode) -> u64 {
        match mode {
            Mode::Store => micros(self.before_store),
            Mode::Local { .. } => micros(self.before_share),
        }
    }
}

/// Who counts a limit that may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The store, from and until then.
    Store { from: u64, until: u64 },
    /// This node has one of so many equal parts, which begins empty, from and until then.
    Local { parts: u64, from: u64, until: u64 },
    /// Nobody that this node may ask. What it holds it may still spend.
    Nobody,
}

impl Holder {
    /// A node that knows nothing yet.
    #[must_use]
    pub const fn new(node: u64, terms: Terms) -> Self {
        Self { node, terms, epoch: None, ready: 0, until: 0 }
    }

    /// What is known to be agreed on.
    #[must_use]
    pub const fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// Something was agreed on. What is older than what is known says nothing.
    pub fn hear(&mut self, now: u64, epoch: &Epoch) {
        let era = self.epoch.as_ref().map(|known| known.era);
        match era {
            Some(era) if era > epoch.era => return,
            Some(era) if era == epoch.era => {}
            // Before the first nobody could count.
            _ if epoch.era == 0 => self.ready = 0,
            _ => self.ready = now.saturating_add(self.terms.wait(&epoch.mode)),
        }
        self.epoch = Some(epoch.clone());
    }

    /// Who leads has said that nothing newer was agreed on than what this node knows. It was asked
    /// at `asked`, and knew the era for `age` by then.
    pub fn confirm(&mut self, asked: u64, era: u64, age: Duration) {
        let sure = micros(self.terms.authority);
        self.until = self.until.max(asked.saturating_add(sure - sure / DRIFT));
        if let Some(epoch) = self.epoch.as_ref().filter(|epoch| epoch.era == era) {
            let wait = asked.saturating_add(self.terms.wait(&epoch.mode));
            let age = micros(age);
            self.ready = self.ready.min(wait.saturating_sub(age - age / DRIFT));
        }
    }

    /// Who counts limits that may be shared.
    #[must_use]
    pub fn source(&self) -> Source {
        let Some(epoch) = self.epoch.as_ref().filter(|epoch| self.belongs(epoch)) else {
            return Source::Nobody;
        };
        let (from, until) = (self.ready, self.until);
        match (&epoch.mode, epoch.parts(self.node)) {
            (Mode::Store, _) if epoch.life != 0 => Source::Store { from, until },
            (Mode::Local { .. }, Some(parts)) => Source::Local { parts, from, until },
            (Mode::Store | Mode::Local { .. }, _) => Source::Nobody,
        }
    }

    /// With which number the store may be called now: it begins anew where it keeps a lower one.
    /// Until all have stopped counting under the number before, with none.
    #[must_use]
    pub fn number(&self, now: u64) -> Option<u64> {
        let Some(epoch) = &self.epoch else { return Some(0) };
        if !self.belongs(epoch) {
            return None;
        }
        let is_begun = epoch.life != 0 || epoch.mode != Mode::Store;
        (is_begun || now >= self.ready).then_some(epoch.number)
    }

    /// When that may change without any news.
    #[must_use]
    pub const fn ready(&self) -> u64 {
        self.ready
    }

    /// Whether this life of the store is the one that counts.
    #[must_use]
    pub fn counts(&self, life: u64) -> bool {
        let Some(epoch) = &self.epoch else { return true };
        let is_any = epoch.number == 0 && epoch.life == 0;
        self.belongs(epoch) && (is_any || epoch.life == life)
    }

    /// Who is not known to keep to what is agreed on does not count.
    fn belongs(&self, epoch: &Epoch) -> bool {
        epoch.members.contains_key(&self.node)
    }
}

impl Source {
    /// Whether it may be asked at a time.
    #[must_use]
    pub const fn is_live(self, now: u64) -> bool {
        match self {
            Self::Store { from, until } | Self::Local { from, until, .. } => {
                from <= now && now < until
            }
            Self::Nobody => false,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Two clocks run apart by less than one part in so many.
const DRIFT: u64 = 128;
