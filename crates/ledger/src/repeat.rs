//! Safe repeats: which tries of a request went to the upstream, and what they were answered.
//!
//! What a try may do is decided by `rules::repeat`. Here stands what is remembered of it: of one
//! node in a file of its own, of a fleet in Redis. A try is remembered as departed, durably in
//! the node's file or in as much as Redis keeps, before its first byte leaves.

mod desk;
mod name;
mod rows;
mod seal;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use model::Clock;
pub use rules::repeat::Asked;
use rules::repeat::{Kept, Landing};
use tokio::sync::mpsc::OwnedPermit;

pub use self::name::{Name, Request};
use self::seal::{open, seal};
pub use self::store::Error;
use self::store::{Order, Store};
use crate::Fleet;

/// What is asked before a request that may be a repeat goes on.
#[derive(Clone, Debug)]
pub struct Ask {
    pub name: Name,
    pub asked: Asked,
    /// How long it is remembered after it was last spoken of.
    pub window: Duration,
}

/// What the request may do.
#[derive(Debug)]
pub enum Claim {
    /// Go on, and tell of each step.
    Go(Box<Flight>),
    /// Another is under way: ask again.
    Wait,
    /// It was answered so, in the words of who landed it.
    Answered(Vec<u8>),
    /// It was answered with this status, and the rest is not kept.
    Status(u16),
    /// It went, and nobody knows what came of it.
    Unknown,
    /// The key belongs to another request.
    Other,
    /// There is no room to remember it.
    Full,
}

/// How a try ended.
#[derive(Debug)]
pub enum Ending {
    /// It had no effect: it never left, or the upstream's answer proves it.
    Void,
    /// The upstream answered with a status; the whole answer where it is to be kept.
    Answered(u16, Option<Vec<u8>>),
    /// It left, and no answer came.
    Unknown,
}

/// What is remembered cannot be asked: the store is away, too slow or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is known of repeats cannot be asked")]
pub struct Away;

/// What a gate remembers of requests that may be repeated. Clones share it.
#[derive(Clone, Debug)]
pub struct Repeats {
    own: Store,
    fleet: Option<Fleet>,
}

/// A try that may go. Dropped before it departed it leaves its place to others; dropped later its
/// outcome is unknown.
#[derive(Debug)]
pub struct Flight {
    name: Name,
    window: Duration,
    id: u64,
    way: Way,
    departed: bool,
}

#[derive(Debug)]
enum Way {
    /// The place in the store's queue is taken before the flight begins, so that its end is
    /// always told.
    Own { store: Store, last: Option<OwnedPermit<Order>> },
    /// Where nothing is told any more, the flight's lease runs out.
    Fleet(Box<Fleet>),
}

impl Repeats {
    /// Opens what a node remembers, in its ledger's directory. The thread that keeps it ends when
    /// the last clone is dropped.
    ///
    /// # Errors
    /// When the file cannot be used, or the thread cannot start.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { own: Store::open(Some(directory), clock)?, fleet: None })
    }

    /// The same, remembered by the process alone: for tests.
    ///
    /// # Errors
    /// When the thread cannot start.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { own: Store::open(None, clock)?, fleet: None })
    }

    /// Over a file of a test's own, and the way to open it again.
    #[cfg(test)]
    fn over(file: rows::File, reopen: desk::Reopen, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { own: Store::over(file, reopen, clock)?, fleet: None })
    }

    /// The same of a fleet: all is remembered in its Redis.
    #[must_use]
    pub fn shared(self, fleet: Fleet) -> Self {
        Self { fleet: Some(fleet), ..self }
    }

    /// Asks what a request may do.
    ///
    /// # Errors
    /// When that cannot be known; nothing of it may go then.
    pub async fn claim(&self, ask: &Ask) -> Result<Claim, Away> {
        let mut id = [0; 8];
        SystemRandom::new().fill(&mut id).map_err(|_| Away)?;
        let id = u64::from_le_bytes(id);
        let (name, window) = (ask.name.clone(), ask.window);
        if let Some(fleet) = &self.fleet {
            let claimed = fleet.claim(ask, id).await?;
            let way = Way::Fleet(Box::new(fleet.clone()));
            return Ok(claimed.into_claim(&ask.name, || Flight {
                name,
                window,
                id,
                way,
                departed: false,
            }));
        }
        let last = self.own.reserve().await?;
        let claimed = self.own.claim(ask, id).await?;
        let way = Way::Own { store: self.own.clone(), last: Some(last) };
        Ok(claimed.into_claim(&ask.name, || Flight { name, window, id, way, departed: false }))
    }
}

impl Flight {
    /// Remembers that the first byte is about to leave.
    ///
    /// # Errors
    /// When that cannot be remembered, or others may have gone in its place: it must not leave.
    pub async fn depart(&mut self) -> Result<(), Away> {
        match &self.way {
            Way::Own { store, .. } => store.depart(&self.name, self.id).await?,
            Way::Fleet(fleet) => fleet.depart(&self.name, self.id, self.window).await?,
        }
        self.departed = true;
        Ok(())
    }

    /// What tells its store that its node lives, where the store needs to be told.
    #[must_use]
    pub fn pulse(&self) -> Option<Pulse> {
        match &self.way {
            Way::Own { .. } => None,
            Way::Fleet(fleet) => Some(Pulse {
                fleet: Fleet::clone(fleet),
                name: self.name.clone(),
                window: self.window,
                id: self.id,
            }),
        }
    }

    /// Whether it has departed.
    #[must_use]
    pub const fn has_departed(&self) -> bool {
        self.departed
    }

    /// Tells how it ended. What cannot be told to Redis leaves an unknown outcome.
    pub async fn land(mut self, ending: Ending) {
        let (landing, answer) = match ending {
            Ending::Void if !self.departed => (Landing::Grounded, None),
            Ending::Void => (Landing::Void, None),
            Ending::Unknown => (Landing::Unknown, None),
            Ending::Answered(status, answer) => {
                let sealed = answer.and_then(|answer| seal(&self.name, answer));
                (Landing::Answered(Kept { status, whole: sealed.is_some() }), sealed)
            }
        };
        let Self { name, window, id, way, .. } = &mut self;
        match way {
            Way::Own { store, last } => {
                if let Some(last) = last.take() {
                    store.land(last, name, *id, (landing, answer));
                }
            }
            Way::Fleet(fleet) => {
                let told = fleet.land(name, (*id, *window), (landing, answer)).await;
                if told.is_err() {
                    tracing::warn!("how a request that may be repeated ended is not remembered");
                }
            }
        }
        // What drops now has been told.
        self.departed = false;
    }
}

/// The pulse of a flight.
#[derive(Debug)]
pub struct Pulse {
    fleet: Fleet,
    name: Name,
    window: Duration,
    id: u64,
}

impl Pulse {
    /// Beats until it is dropped: run it beside the flight.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            // A lease that runs out makes the outcome unknown, which is safe.
            let _renewed = self.fleet.renew(&self.name, self.id, self.window).await;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Way::Own { store, last } = &mut self.way
            && let Some(last) = last.take()
        {
            let landing = if self.departed { Landing::Unknown } else { Landing::Grounded };
            store.land(last, &self.name, self.id, (landing, None));
        }
    }
}

/// What a store says of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    Go,
    Wait,
    /// The answer as it is sealed.
    Answered(u16, Vec<u8>),
    Status(u16),
    Unknown,
    Other,
    Full,
}

impl Claimed {
    fn into_claim(self, name: &Name, flight: impl FnOnce() -> Flight) -> Claim {
        match self {
            Self::Go => Claim::Go(Box::new(flight())),
            Self::Wait => Claim::Wait,
            Self::Answered(status, sealed) => {
                open(name, &sealed).map_or(Claim::Status(status), Claim::Answered)
            }
            Self::Status(status) => Claim::Status(status),
            Self::Unknown => Claim::Unknown,
            Self::Other => Claim::Other,
            Self::Full => Claim::Full,
        }
    }
}

/// How long a flight's node is believed to live without a word. Longer than any pause of a node
/// that works, and short enough to wait for.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How often a flight's node says that it lives.
const RENEW_EVERY: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests;
