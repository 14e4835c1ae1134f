//! Repeats of a request: which try goes to the upstream, and what the others are told.
//!
//! What may be repeated is remembered under a digest of it. A try goes if it is the first, or if
//! one before it provably had no effect; every other waits for the answer of the one that went,
//! or is given it. However tries are lost, doubled or cut off, there are never more effects than
//! there were first tries.

use std::time::Duration;

use crate::operation::Api;

/// What a route wants of repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Care {
    /// Its requests are kept from being repeated where the upstream speaks an API whose calls the
    /// gate knows.
    #[default]
    ByApi,
    /// They are not.
    Never,
    /// They are.
    Always(Box<Rule>),
}

/// How requests are kept from being repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How long a key is remembered.
    pub window: Duration,
    /// How long a request is remembered whose client counts tries.
    pub retry_window: Duration,
    /// Bytes of a body that is compared.
    pub body_max: usize,
    /// Whether requests go unprotected while it cannot be known what was sent before.
    pub passes_without_ledger: bool,
}

impl Care {
    /// The rule for requests to an upstream.
    #[must_use]
    pub fn rule(&self, api: Option<Api>) -> Option<&Rule> {
        match self {
            Self::ByApi => api.map(|_| &Rule::DEFAULT),
            Self::Never => None,
            Self::Always(rule) => Some(rule),
        }
    }
}

impl Rule {
    /// Where the author says nothing else: a day for keys, as other APIs have it; ten minutes for
    /// tries, more than the official SDKs ever take for theirs.
    pub const DEFAULT: Self = Self {
        window: Duration::from_secs(86_400),
        retry_window: Duration::from_secs(600),
        body_max: 512 << 10,
        passes_without_ledger: false,
    };
}

/// How a request asks: what it says of being a repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It names itself by a key (`Idempotency-Key`): any other with that key is the same one.
    ByKey,
    /// Its client counts tries, and this is the first: whoever sent the same before meant another.
    First,
    /// Its client counts tries, and this is a further one.
    Again,
}

/// What is remembered of a request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What the requests under this name have in common; another is no repeat.
    fingerprint: [u8; 32],
    flights: Vec<Flight>,
    /// Tries that had no effect beside others that are still told of: as many repeats may go.
    spare: u32,
    /// Tries that left and of whose answer nobody knows.
    unknown: u32,
    answer: Option<Kept>,
}

/// A try under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    id: u64,
    /// Whether its first byte may have gone to the upstream.
    departed: bool,
    /// Until when its node is believed to live, in microseconds.
    until: u64,
}

/// What is kept of the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub status: u16,
    /// Whether the rest is kept too: it may have been too long, or have had no room any more.
    pub whole: bool,
}

/// What a request that may be a repeat is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go: its flight is noted.
    Go,
    /// Another is under way: ask again.
    Wait,
    /// It was answered.
    Answered(Kept),
    /// It went, and nobody knows what came of it.
    Unknown,
    /// The key belongs to another request.
    Other,
    /// Too many are under way at once.
    Full,
}

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It was not let go. One that is not there any more was given up as that already.
    Grounded,
    /// It had no effect: nothing of it was sent, or the upstream's answer proves it.
    Void,
    /// The upstream answered.
    Answered(Kept),
    /// It left, and no answer came.
    Unknown,
}

impl Landing {
    /// Whether it says of a try that had left what became of it.
    const fn is_known(self) -> bool {
        match self {
            Self::Void | Self::Answered(_) => true,
            Self::Grounded | Self::Unknown => false,
        }
    }
}

impl Slot {
    /// The slot of a request that nobody made before.
    #[must_use]
    pub const fn new(fingerprint: [u8; 32]) -> Self {
        Self { fingerprint, flights: Vec::new(), spare: 0, unknown: 0, answer: None }
    }

    /// A slot as it was stored: flights that had departed are of unknown outcome by then.
    #[must_use]
    pub const fn restored(
        fingerprint: [u8; 32],
        (spare, unknown): (u32, u32),
        answer: Option<Kept>,
    ) -> Self {
        Self { fingerprint, flights: Vec::new(), spare, unknown, answer }
    }

    /// What must survive the process: the fingerprint, the spare tries, those whose outcome is not
    /// known or would not be if the process ended now, and the answer.
    #[must_use]
    pub fn parts(&self) -> ([u8; 32], (u32, u32), Option<Kept>) {
        let departed = self.flights.iter().filter(|flight| flight.departed).count();
        let departed = u32::try_from(departed).unwrap_or(u32::MAX);
        (self.fingerprint, (self.spare, self.unknown.saturating_add(departed)), self.answer)
    }

    /// Judges a request; where it goes, its flight is noted until then under this id.
    pub fn ask(
        &mut self,
        (asked, fingerprint): (Asked, &[u8; 32]),
        id: u64,
        (now, until): (u64, u64),
    ) -> Verdict {
        self.expire(now);
        if self.fingerprint != *fingerprint {
            if !self.is_empty() {
                return Verdict::Other;
            }
            *self = Self::new(*fingerprint);
        }
        if asked != Asked::First && self.spare == 0 {
            match self.answer {
                _ if !self.flights.is_empty() => return Verdict::Wait,
                _ if self.unknown > 0 => return Verdict::Unknown,
                Some(kept) => return Verdict::Answered(kept),
                None => {}
            }
        }
        if self.flights.len() >= FLIGHTS_MAX {
            return Verdict::Full;
        }
        if asked != Asked::First {
            self.spare = self.spare.saturating_sub(1);
        }
        self.flights.push(Flight { id, departed: false, until });
        Verdict::Go
    }

    /// Notes that a flight is about to leave. `false` when it is no longer known: others may have
    /// gone in its place, so it must not.
    pub fn depart(&mut self, id: u64, (now, until): (u64, u64)) -> bool {
        self.expire(now);
        let flight = self.flights.iter_mut().find(|flight| flight.id == id);
        let Some(flight) = flight else { return false };
        (flight.departed, flight.until) = (true, until);
        true
    }

    /// Notes that the flight's node lives.
    pub fn renew(&mut self, id: u64, (now, until): (u64, u64)) {
        self.expire(now);
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            flight.until = until;
        }
    }

    /// Notes how a flight ended. One that is not there departed and was given up: it comes late.
    pub fn land(&mut self, id: u64, landing: Landing, now: u64) {
        self.expire(now);
        let place = self.flights.iter().position(|flight| flight.id == id);
        match place {
            Some(place) => drop(self.flights.swap_remove(place)),
            None if self.unknown > 0 && landing.is_known() => self.unknown -= 1,
            None => return,
        }
        match landing {
            Landing::Void | Landing::Grounded => self.spare = self.spare.saturating_add(1),
            Landing::Unknown => self.unknown = self.unknown.saturating_add(1),
            Landing::Answered(kept) => self.answer = Some(kept),
        }
        self.settle();
    }

    /// Notes that no more than the status is left of its answer.
    pub const fn forget_answer(&mut self) {
        if let Some(kept) = &mut self.answer {
            kept.whole = false;
        }
    }

    /// Whether there is nothing to tell of: nobody is under way and nothing had an effect.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.flights.is_empty() && self.unknown == 0 && self.answer.is_none()
    }

    /// Whether somebody is under way.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        !self.flights.is_empty()
    }

    /// Gives up the flights of nodes that are not believed to live any more.
    fn expire(&mut self, now: u64) {
        let (mut spare, mut unknown) = (self.spare, self.unknown);
        self.flights.retain(|flight| {
            if flight.until > now {
                return true;
            }
            let count = if flight.departed { &mut unknown } else { &mut spare };
            *count = count.saturating_add(1);
            false
        });
        (self.spare, self.unknown) = (spare, unknown);
        self.settle();
    }

    /// A slot with nothing to tell of is as good as none.
    const fn settle(&mut self) {
        if self.is_empty() {
            self.spare = 0;
        }
    }
}

/// Tries of one request under way at once. A further one is refused.
pub const FLIGHTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
