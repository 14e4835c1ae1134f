//! The handle through which the rest of the program reads and changes the cluster's document.

use std::sync::Arc;
use std::time::Duration;

use config::{Applied, Command, Keyring, State};
use model::{Entropy, NodeName};
use rules::Snapshot;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::board::Board;
use crate::judge::judge;
use crate::publisher::compile;
use crate::secret::Secrets;
use crate::writer::{Job, Proposal};
use crate::{ClusterId, Kept, ProposeError, Role, Status};

/// Reads and changes the document. Cheap to clone; every clone is the same node.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Node>);

/// What all clones of a handle share.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) cluster: ClusterId,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) board: Arc<Board>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) dry_runs: Arc<Semaphore>,
}

impl Handle {
    /// Makes a change, and answers when it is durable and this node judges by it.
    ///
    /// Secrets in the command are as people wrote them; they are sealed before anything is
    /// stored. If the future is dropped the change is made or not made, but never half.
    ///
    /// # Errors
    /// When the document's rules or the compiler refuse it, or the node cannot take changes; see
    /// [`Kept`] for whether the change may have been made nevertheless.
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Propose(Proposal { command, answer });
        match self.0.jobs.send_timeout(job, QUEUE_WAIT).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(ProposeError::unavailable("too many changes wait"));
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => {
                return Err(ProposeError::unavailable(STOPPED));
            }
        }
        let unknown =
            |why: &str| Err(ProposeError::Unavailable { why: why.to_owned(), kept: Kept::Unknown });
        match tokio::time::timeout(ANSWER_WAIT, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => unknown("the writer ended before it answered"),
            Err(_) => unknown("the store takes too long"),
        }
    }

    /// The answer that [`Handle::propose`] would give now, but nothing is changed.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn dry_run(&self, command: Command) -> Result<Applied, ProposeError> {
        let busy = || ProposeError::unavailable("too many dry runs at once");
        let seat = Arc::clone(&self.0.dry_runs).acquire_owned();
        let seat = tokio::time::timeout(QUEUE_WAIT, seat).await.map_err(|_| busy())?;
        let seat = seat.map_err(|_| busy())?;
        let node = Arc::clone(&self.0);
        let judged = tokio::task::spawn_blocking(move || {
            let _seat = seat;
            node.judge_only(command)
        });
        judged.await.unwrap_or_else(|_| {
            Err(ProposeError::unavailable("judging this change met a defect of the program"))
        })
    }

    /// The document as it is now: durable, secrets sealed.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.0.board.state()
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
        let ended = node.jobs.is_closed().then(|| STOPPED.to_owned());
        Status {
            node: node.name.clone(),
            cluster: node.cluster,
            role: Role::Single,
            revision: node.board.state().revision(),
            live: live.revision,
            why_not_ready: node.board.faults(),
            why_not_writable: node.board.why_not_writable().or(ended),
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
    fn judge_only(&self, command: Command) -> Result<Applied, ProposeError> {
        let mut state = State::clone(&self.board.state());
        let applied = judge(&mut state, command, &self.keyring, &*self.entropy)?;
        compile(&state, &self.keyring, &self.secrets, self.secrets.generation())
            .map_err(ProposeError::Faults)?;
        Ok(applied)
    }
}

/// What a node says whose writer has ended: it is stopping, or the writer met a defect.
const STOPPED: &str = "the writer has ended";

/// How long a change waits for a place in the writer's queue, and a dry run for a seat.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// How long a change may take once it has a place: many batches on a slow disk.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
