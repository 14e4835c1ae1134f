//! The handle through which the rest of the program reads and changes the cluster's document.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::{Applied, Command, Keyring, State};
use model::{Clock, Entropy, NodeName};
use parking_lot::Mutex;
use rules::Snapshot;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ask::{Job, Refusal};
use crate::bench::seal;
use crate::board::Board;
use crate::entry::Change;
use crate::fact::{FactCommand, Facts};
use crate::lead::{Lead, Leader};
use crate::outage::Ears;
use crate::publisher::compile;
use crate::secret::Secrets;
use crate::suspension::Desk;
use crate::token::Mint;
use crate::transport::Transport;
use crate::{ClusterId, FactError, Member, ProposeError, ReadError, Status};

/// Reads and changes the document. Cheap to clone; every clone is the same node.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Node>);

/// What all clones of a handle share.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) cluster: ClusterId,
    pub(crate) lead: Lead,
    /// `None` for a node that is alone.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) board: Arc<Board>,
    pub(crate) suspensions: Desk,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) dry_runs: Arc<Semaphore>,
    /// Held by whoever changes the members; it must hold it to the end.
    pub(crate) members_turn: tokio::sync::Mutex<()>,
    /// The term in which this node has looked at the members last, to change them.
    pub(crate) members_term: AtomicU64,
    pub(crate) clock: Arc<dyn Clock>,
    /// What goes on though nobody waits for it, until the node stops.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Held while it is looked how far the members are.
    pub(crate) look: tokio::sync::Mutex<Option<(Instant, Vec<Member>)>>,
    /// What is heard of the store of the fleet's counts.
    pub(crate) outage: Mutex<Ears>,
    /// Makes join tokens; set where the node has peers.
    pub(crate) mint: OnceLock<Mint>,
}

impl Handle {
    /// Makes a change, and answers when it is agreed on, durable, and this node judges by it.
    ///
    /// Any node takes it and hands it to the one that leads; what is lost on the way is sent
    /// again, and has its effect once. Secrets in the command are as people wrote them; they are
    /// sealed before anything is stored. If the future is dropped the change is made or not made,
    /// but never half.
    ///
    /// # Errors
    /// When the document's rules or the compiler refuse it, or the cluster cannot take changes;
    /// see [`Kept`](crate::Kept) for whether the change may have been made nevertheless.
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        Ok(self.0.ask(Change::Document(command)).await?)
    }

    /// Changes facts, and answers when the change is agreed on, durable, and seen by this node.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn propose_facts(&self, command: FactCommand) -> Result<(), FactError> {
        self.0.ask(Change::Facts(command)).await?;
        Ok(())
    }

    /// The answer that [`Handle::propose`] would give now, but nothing is changed.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn dry_run(&self, command: Command) -> Result<Applied, ProposeError> {
        let busy = || ProposeError::unavailable("too many dry runs at once");
        let seat = Arc::clone(&self.0.dry_runs).acquire_owned();
        let seat = tokio::time::timeout(SEAT_WAIT, seat).await.map_err(|_| busy())?;
        let seat = seat.map_err(|_| busy())?;
        let node = Arc::clone(&self.0);
        let judged = tokio::task::spawn_blocking(move || {
            let _seat = seat;
            node.judge_only(&command)
        });
        judged.await.unwrap_or_else(|_| Err(ProposeError::from(Refusal::Defect)))
    }

    /// The document as this node has it: agreed on, secrets sealed. Another node may have a newer
    /// one; [`Handle::read`] asks.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.0.board.state()
    }

    /// The document with everything in it that was answered anywhere before this was called.
    ///
    /// # Errors
    /// When no majority of the nodes can be asked in time.
    pub async fn read(&self) -> Result<Arc<State>, ReadError> {
        self.0.read().await
    }

    /// The facts as this node has them.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.0.board.view().facts
    }

    /// What requests are judged by, now and after each change.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.snapshots.clone()
    }

    /// What the node says of itself now.
    #[must_use]
    pub fn status(&self) -> Status {
        let node = &*self.0;
        let live = Arc::clone(&node.snapshots.borrow());
        Status {
            node: node.name.clone(),
            cluster: node.cluster,
            role: node.role(),
            revision: node.board.state().revision(),
            live: live.revision,
            why_not_ready: node.why_not_ready(),
            why_not_writable: node.why_not_writable(),
            unresolved: live.unresolved.clone(),
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("node", &self.0.name).finish_non_exhaustive()
    }
}

impl Node {
    /// Why traffic should go elsewhere.
    pub(crate) fn why_not_ready(&self) -> Vec<String> {
        let mut reasons = self.board.faults();
        if self.transport.is_none() {
            return reasons;
        }
        if let Some(why) = self.board.why_not_writable() {
            // It follows the others no more, and would judge by an old document for ever.
            reasons.push(why);
        }
        match self.lead.belongs(self.board.view().applied) {
            _ if self.has_departed(self.name.as_str(), self.lead.me()) => {
                reasons.push("this node has left the cluster".to_owned());
            }
            Some(true) => self.board.show_told(),
            Some(false) if self.board.is_told() => {
                reasons.push("this node is no member of the cluster any more".to_owned());
            }
            // Once told, a change of the members that is on its way is no reason.
            None if self.board.is_told() => {}
            Some(false) | None => {
                reasons.push("the cluster has not told this node its document yet".to_owned());
            }
        }
        reasons.extend(self.board.banished());
        reasons
    }

    /// Why no change can be made.
    pub(crate) fn why_not_writable(&self) -> Option<String> {
        let ended = self.jobs.is_closed().then(|| STOPPED.to_owned());
        let leader = match self.lead.leader() {
            Leader::Nobody => Some(NO_LEADER.to_owned()),
            Leader::Peer(peer) => self.board.unheard(peer.id),
            Leader::Me => None,
        };
        let silence = self.lead.silence().filter(|silence| *silence > SILENCE_MAX);
        let silence = silence.map(|silence| {
            format!("no majority of the nodes has answered for {} s", silence.as_secs())
        });
        self.board.why_not_writable().or(ended).or(leader).or(silence)
    }

    fn judge_only(&self, command: &Command) -> Result<Applied, ProposeError> {
        let mut state = State::clone(&self.board.state());
        let command = seal(&state, command, &self.keyring, &*self.entropy)?;
        let applied = state.apply(&command)?;
        compile(&state, &self.keyring, &self.secrets, self.secrets.generation())
            .map_err(ProposeError::Faults)?;
        Ok(applied)
    }
}

/// What a node says whose proposer has ended: it is stopping, or the proposer met a defect.
pub(crate) const STOPPED: &str = "the node has stopped";

/// What a node says that hears of no leader.
const NO_LEADER: &str = "no node leads that this one hears of";

/// A leader that a majority has not answered for so long can make no change now.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a dry run waits for a seat.
const SEAT_WAIT: Duration = Duration::from_secs(5);
