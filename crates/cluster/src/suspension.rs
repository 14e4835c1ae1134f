//! Who is suspended: what the cluster has agreed on, and what this node was told and could not tell
//! the others yet.
//!
//! A suspension counts on the node that was told at once, before anybody is asked; it lies in
//! `DIR/suspensions.json` until the cluster has agreed on it. So the switch works at a node that is
//! cut off, and holds over a restart there.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rules::suspension::{Suspension as Rule, Suspensions, Whom};
use tokio::sync::watch;

use crate::board::View;
use crate::directory::write_whole;
use crate::fact::{
    Fact, FactChange, FactCommand, FactExpect, FactKey, FactKind, FactRejected, Facts, Suspension,
};
use crate::log::blocking;
use crate::{Error, FactError, Handle, Kept, news, record};

/// How far a suspension, or its end, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The cluster has agreed on it: every node that hears of the others acts by it.
    Cluster,
    /// This node acts by it; it tells the others as soon as it can.
    Node,
}

/// Why a suspension was not made or not ended.
#[derive(Debug, thiserror::Error)]
pub enum SuspensionError {
    /// Nobody of this name is suspended.
    #[error("`{whom}` is not suspended")]
    NotSuspended { whom: Whom },
    /// The suspension cannot be kept.
    #[error(transparent)]
    Rejected(#[from] FactRejected),
    /// The cluster cannot agree that it is over; it goes on.
    #[error("the suspension goes on: {why}")]
    Unavailable { why: String },
    /// It counts on this node, and the cluster has not agreed on it; a restart would forget it.
    #[error("the suspension counts on this node, but it cannot be written down")]
    Disk(#[source] io::Error),
}

/// Everybody who is suspended, as this node acts by it.
#[derive(Debug)]
pub(crate) struct Desk {
    path: PathBuf,
    /// What the others do not know yet.
    own: Mutex<BTreeMap<Whom, Suspension>>,
    /// What the cluster has agreed on, when it was last looked at.
    agreed: Mutex<Facts>,
    acted_by: watch::Sender<Arc<Suspensions>>,
    /// Held by whoever changes what is kept, to the end.
    turn: tokio::sync::Mutex<()>,
}

impl Desk {
    /// Reads what an earlier life was told and could not tell the others.
    pub(crate) fn open(path: PathBuf, agreed: Facts) -> Result<Self, Error> {
        let own = read(&path)?;
        let desk = Self {
            path,
            own: Mutex::new(own),
            agreed: Mutex::new(agreed),
            acted_by: watch::Sender::default(),
            turn: tokio::sync::Mutex::default(),
        };
        desk.show();
        Ok(desk)
    }

    /// Makes what this node alone knows of somebody what it was.
    fn put_back(&self, whom: &Whom, before: Option<Suspension>) {
        let mut own = self.own.lock();
        own.remove(whom);
        own.extend(before.map(|before| (whom.clone(), before)));
    }

    /// Acts by what is known now.
    fn show(&self) {
        let own = self.own.lock();
        let agreed = self.agreed.lock();
        let rule = |suspension: &Suspension| Rule {
            reason: Arc::from(suspension.reason.as_str()),
            until: suspension.until,
        };
        let all = own.iter().map(|(whom, told)| (whom.clone(), rule(told)));
        let all = all.chain(listed(&agreed).map(|(whom, told)| (whom, rule(told))));
        let all = Arc::new(all.collect::<Suspensions>());
        self.acted_by.send_if_modified(|known| {
            let is_new = *known != all;
            *known = all;
            is_new
        });
    }

    /// Takes up what the cluster has agreed on.
    fn look(&self, view: &View) {
        if self.agreed.lock().is_same(&view.facts) {
            return;
        }
        *self.agreed.lock() = view.facts.clone();
        self.show();
    }

    /// Writes down what the others do not know yet.
    async fn keep(&self) -> io::Result<()> {
        let own: BTreeMap<String, Suspension> =
            self.own.lock().iter().map(|(whom, told)| (whom.to_string(), told.clone())).collect();
        let (path, text) = (self.path.clone(), record::pack(&own));
        blocking(move || write_whole(&path, &text).map_err(|cause| failed("write", &path, cause)))
            .await
            .map_err(|error| match error {
                Error::Io { cause, .. } => cause,
                other => io::Error::other(other),
            })
    }
}

impl Handle {
    /// Suspends somebody: at once on this node, and on the others as soon as they hear of it.
    ///
    /// # Errors
    /// When it cannot be kept. After [`SuspensionError::Disk`] it counts all the same.
    pub async fn suspend(
        &self,
        whom: &Whom,
        suspension: Suspension,
    ) -> Result<Reach, SuspensionError> {
        let desk = &self.0.suspensions;
        let _turn = desk.turn.lock().await;
        let before = desk.own.lock().insert(whom.clone(), suspension.clone());
        // Requests are refused from here on, whatever becomes of the rest.
        desk.show();
        let kept = desk.keep().await;
        match self.tell(whom, suspension).await {
            Ok(()) => {
                desk.own.lock().remove(whom);
                self.look_at_suspensions();
                self.forget_own().await;
                Ok(Reach::Cluster)
            }
            Err(FactError::Rejected(rejected)) => {
                desk.put_back(whom, before);
                desk.show();
                self.forget_own().await;
                Err(SuspensionError::Rejected(rejected))
            }
            Err(FactError::Unavailable { .. }) => {
                kept.map(|()| Reach::Node).map_err(SuspensionError::Disk)
            }
        }
    }

    /// Ends a suspension. One that the cluster has agreed on ends by its agreement only; one that
    /// this node alone knows ends here.
    ///
    /// # Errors
    /// When there is none, or the cluster cannot agree: it goes on then.
    pub async fn resume(&self, whom: &Whom) -> Result<Reach, SuspensionError> {
        let desk = &self.0.suspensions;
        let _turn = desk.turn.lock().await;
        self.look_at_suspensions();
        let is_own = desk.own.lock().contains_key(whom);
        let is_agreed = listed(&desk.agreed.lock()).any(|(other, _)| other == *whom);
        let key = FactKey::new(FactKind::Suspension, whom.to_string());
        let clear = FactChange::Clear { key, expect: FactExpect::Any };
        // Asked also when this node knows of none: it may be behind.
        let cleared = self.change(clear).await;
        match cleared {
            Err(FactError::Rejected(rejected)) => return Err(rejected.into()),
            Err(FactError::Unavailable { why, .. }) if !is_own || is_agreed => {
                return Err(SuspensionError::Unavailable { why });
            }
            Ok(()) if !is_own && !is_agreed => {
                return Err(SuspensionError::NotSuspended { whom: whom.clone() });
            }
            Ok(()) | Err(FactError::Unavailable { .. }) => {}
        }
        desk.own.lock().remove(whom);
        self.look_at_suspensions();
        desk.show();
        self.forget_own().await;
        Ok(if cleared.is_ok() { Reach::Cluster } else { Reach::Node })
    }

    /// Who is suspended, now and after each change, as this node acts by it.
    #[must_use]
    pub fn suspensions(&self) -> watch::Receiver<Arc<Suspensions>> {
        self.0.suspensions.acted_by.subscribe()
    }

    /// Every suspension that this node knows, and how far each has come.
    #[must_use]
    pub fn list_suspensions(&self) -> Vec<(Whom, Suspension, Reach)> {
        let desk = &self.0.suspensions;
        self.look_at_suspensions();
        let own = desk.own.lock();
        let own = own.iter().map(|(whom, told)| (whom.clone(), told.clone(), Reach::Node));
        let agreed = desk.agreed.lock();
        let agreed = listed(&agreed).map(|(whom, told)| (whom, told.clone(), Reach::Cluster));
        let mut all: Vec<_> = own.chain(agreed).collect();
        all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        all
    }

    /// Acts by what the cluster agrees on, and tells it what this node alone knows, until the node
    /// stops.
    pub(crate) async fn keep_suspensions(self) {
        let mut views = self.0.board.views();
        let stop = self.0.stop.clone();
        loop {
            self.look_at_suspensions();
            let waits = !self.0.suspensions.own.lock().is_empty();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = news::change(&mut views) => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(AGAIN), if waits => self.tell_own().await,
            }
        }
    }

    async fn tell_own(&self) {
        let desk = &self.0.suspensions;
        let _turn = desk.turn.lock().await;
        let own = desk.own.lock().clone();
        for (whom, suspension) in own {
            match self.tell(&whom, suspension).await {
                Ok(()) => {
                    tracing::info!(%whom, "the cluster has agreed on a suspension");
                    desk.own.lock().remove(&whom);
                }
                // A full cluster may have room later; the suspension counts here until then.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(%whom, error, "the others do not know of a suspension yet");
                }
            }
        }
        self.look_at_suspensions();
        desk.show();
        self.forget_own().await;
    }

    async fn tell(&self, whom: &Whom, suspension: Suspension) -> Result<(), FactError> {
        let fact = Fact::Suspension(suspension);
        self.change(FactChange::Set { id: whom.to_string(), fact, expect: FactExpect::Any }).await
    }

    async fn change(&self, change: FactChange) -> Result<(), FactError> {
        let command = FactCommand { at: self.0.clock.now(), changes: vec![change] };
        let told = tokio::time::timeout(PATIENCE, self.propose_facts(command)).await;
        told.unwrap_or_else(|_| {
            let why = "the cluster has not agreed in time".to_owned();
            Err(FactError::Unavailable { why, kept: Kept::Unknown })
        })
    }

    fn look_at_suspensions(&self) {
        self.0.suspensions.look(&self.0.board.view());
    }

    /// Writes down that the others know now. If that fails they are told again after a restart,
    /// which changes nothing.
    async fn forget_own(&self) {
        if let Err(error) = self.0.suspensions.keep().await {
            tracing::warn!(%error, "the suspensions that the cluster knows stay written down here");
        }
    }
}

/// The suspensions among facts. A fact whose id names nobody was made by a newer release; it is
/// passed over, as its kind would be.
fn listed(facts: &Facts) -> impl Iterator<Item = (Whom, &Suspension)> {
    facts.list(FactKind::Suspension).filter_map(|(id, fact)| match fact {
        Fact::Suspension(suspension) => Some((id.parse().ok()?, suspension)),
        _ => None,
    })
}

fn read(path: &PathBuf) -> Result<BTreeMap<Whom, Suspension>, Error> {
    let text = match std::fs::read(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        read => read.map_err(|cause| failed("read", path, cause))?,
    };
    let malformed = |why: String| failed("read", path, io::Error::other(why));
    let own: BTreeMap<String, Suspension> =
        record::unpack(&text).map_err(|why| malformed(why.to_string()))?;
    let whom = |(text, told): (String, Suspension)| match text.parse::<Whom>() {
        Ok(whom) => Ok((whom, told)),
        Err(why) => Err(malformed(why.to_string())),
    };
    own.into_iter().map(whom).collect()
}

fn failed(verb: &'static str, path: &std::path::Path, cause: io::Error) -> Error {
    Error::Io { verb, path: path.to_path_buf(), cause }
}

/// How long the cluster may take to agree before the operator is told that only this node acts.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the others are told again what they do not know.
const AGAIN: Duration = Duration::from_secs(1);
