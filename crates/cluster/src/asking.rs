//! How a change finds whoever leads, and a reader what was agreed on.

use std::sync::Arc;
use std::time::Duration;

use config::{Applied, State};
use rules::Snapshot;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::ask::{Ask, Job, Refusal, Told, Waiting};
use crate::entry::{Change, ProposalId};
use crate::error::AskError;
use crate::handle::{Node, STOPPED};
use crate::lead::Leader;
use crate::network::{MESSAGE_VERSION, json};
use crate::news;
use crate::transport::{Message, MessageKind, Peer, TransportError};
use crate::{Kept, ReadError};

impl Node {
    /// Has a change judged by who leads, wherever that is. What got no answer is asked again.
    pub(crate) async fn ask(&self, change: Change) -> Result<Applied, AskError> {
        let mut id = [0; 16];
        self.entropy.fill(&mut id).map_err(|_| {
            let why = "there are no random bytes to name the change by".to_owned();
            AskError::Unavailable { why, kept: Kept::No }
        })?;
        let mut ask = Ask { id: ProposalId(id), since: None, change: Arc::new(change) };
        let extra = wait_for_size(&ask);
        let mut hope = Hope { sent: false, why: NO_LEADER.to_owned() };
        let asking = self.ask_until_judged(&mut ask, &mut hope);
        let asked = tokio::time::timeout(ANSWER_WAIT + extra, asking).await;
        ask.end();
        let Ok(answered) = asked else {
            let Hope { sent, why } = hope;
            return Err(AskError::Unavailable { why, kept: kept(sent) });
        };
        let applied = answered?;
        // What this node has judged itself is live already, or will not be before it is mended.
        if self.board.faults().is_empty() {
            self.wait_until_live(&applied).await;
        }
        Ok(applied)
    }

    async fn ask_until_judged(&self, ask: &mut Ask, hope: &mut Hope) -> Result<Applied, AskError> {
        let since = self.board.view().applied;
        let mut leaderless_since = None;
        loop {
            let may_be_made = hope.sent;
            // It would hear no more of it.
            if let Some(why) = self.board.why_not_writable() {
                return Err(AskError::Unavailable { why, kept: kept(may_be_made) });
            }
            let told = match self.lead.leader() {
                Leader::Me => {
                    hope.sent = true;
                    self.ask_here(ask.clone()).await
                }
                Leader::Peer(peer) => {
                    hope.sent = true;
                    // One that is cut off never answers; whoever follows it knows the change by
                    // its id.
                    tokio::select! {
                        biased;
                        told = self.ask_there(&peer, ask) => told,
                        () = self.lead.leads_no_more(peer.id) => {
                            Told::unsure("the leader changed before it answered")
                        }
                    }
                }
                Leader::Nobody => Told::NotHere,
            };
            match told {
                Told::Judged(Ok(applied)) => return Ok(applied),
                Told::Judged(Err(refusal)) => return Err(AskError::Refused(refusal)),
                Told::Busy { why } => {
                    return Err(AskError::Unavailable { why, kept: kept(may_be_made) });
                }
                Told::Forgotten => {
                    let why = "the change was sent too long ago to know".to_owned();
                    return Err(AskError::Unavailable { why, kept: Kept::Unknown });
                }
                Told::NotHere => {
                    hope.sent = may_be_made;
                    let since = *leaderless_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= LEADER_WAIT {
                        let why = NO_LEADER.to_owned();
                        return Err(AskError::Unavailable { why, kept: kept(may_be_made) });
                    }
                }
                Told::Unsure { why } => {
                    ask.since.get_or_insert(since);
                    leaderless_since = None;
                    hope.why = why;
                }
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Puts a change before this node's own judge.
    pub(crate) async fn ask_here(&self, ask: Ask) -> Told {
        let (answer, answered) = oneshot::channel();
        let job = Job::Judge(Waiting { ask, answer });
        match self.jobs.send_timeout(job, QUEUE_WAIT).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Told::busy("too many changes wait");
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Told::busy(STOPPED),
        }
        answered.await.unwrap_or_else(|_| Told::unsure("the node stopped before it answered"))
    }

    /// Puts a change before another node's judge.
    async fn ask_there(&self, peer: &Peer, ask: &Ask) -> Told {
        let wait = FORWARD_WAIT + wait_for_size(ask);
        match self.call(peer, MessageKind::Propose, ask, wait).await {
            Ok(told) => told,
            Err(
                TransportError::Unreachable { .. }
                | TransportError::Refused { .. }
                | TransportError::Left { .. }
                | TransportError::Newer { .. },
            ) => Told::NotHere,
            Err(TransportError::Oversized { bytes, .. }) => {
                Told::Judged(Err(Refusal::Oversized { bytes }))
            }
            Err(cause @ (TransportError::Late { .. } | TransportError::Broken { .. })) => {
                Told::Unsure { why: cause.to_string() }
            }
        }
    }

    /// Whoever got an answer from here finds it true here.
    async fn wait_until_live(&self, applied: &Applied) {
        let mut snapshots = self.snapshots.clone();
        let is_live = |snapshot: &Arc<Snapshot>| snapshot.revision >= applied.revision;
        let is_live = news::until(&mut snapshots, is_live);
        if tokio::time::timeout(LIVE_WAIT, is_live).await.is_err() {
            tracing::debug!("a change is made, but not live on this node yet");
        }
    }

    /// The document with everything that was agreed on before.
    pub(crate) async fn read(&self) -> Result<Arc<State>, ReadError> {
        if self.lead.metrics().running_state.is_err() {
            return Err(ReadError::Ended);
        }
        let asking = async {
            loop {
                if let Some(index) = self.read_index().await {
                    return index;
                }
                tokio::time::sleep(REST).await;
            }
        };
        let index = tokio::time::timeout(READ_WAIT, asking);
        let index = index.await.map_err(|_| ReadError::NoMajority)?;
        let mut views = self.board.views();
        let reached = news::until(&mut views, |view| view.applied >= index);
        match tokio::time::timeout(READ_WAIT, reached).await {
            Ok(Ok(())) => Ok(Arc::clone(&views.borrow().state)),
            Ok(Err(_)) | Err(_) => Err(ReadError::Behind),
        }
    }

    /// Up to which entry a reader must have applied; `None` when nobody could say.
    async fn read_index(&self) -> Option<u64> {
        match self.lead.leader() {
            Leader::Me => self.lead.confirm().await.ok(),
            Leader::Peer(peer) => {
                tokio::select! {
                    biased;
                    asked = self.call(&peer, MessageKind::ReadIndex, &(), CALL_WAIT) => {
                        asked.unwrap_or_default()
                    }
                    () = self.lead.leads_no_more(peer.id) => None,
                }
            }
            Leader::Nobody => None,
        }
    }

    /// Sends a message and reads its answer.
    pub(crate) async fn call<Q: serde::Serialize + Sync, A: DeserializeOwned>(
        &self,
        peer: &Peer,
        kind: MessageKind,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, TransportError> {
        let Some(transport) = &self.transport else {
            let why = "this node has no cluster listener".to_owned();
            return Err(TransportError::Unreachable { peer: peer.id, why });
        };
        let message = Message { kind, version: MESSAGE_VERSION, body: json(question) };
        let answered = transport.call(peer, message, deadline).await;
        if let Err(TransportError::Left { why, .. }) = &answered {
            self.board.show_banished(Some(format!("{} says: {why}", peer.name)));
        }
        let answer = answered?;
        serde_json::from_slice(&answer.body).map_err(|_| {
            let why = "its answer is none of ours".to_owned();
            TransportError::Broken { peer: peer.id, why }
        })
    }
}

/// What is known of a change that got no answer yet.
struct Hope {
    /// Whether it may have been made.
    sent: bool,
    why: String,
}

const fn kept(may_be_made: bool) -> Kept {
    if may_be_made { Kept::Unknown } else { Kept::No }
}

/// How much longer a large change may take than a small one.
fn wait_for_size(ask: &Ask) -> Duration {
    CHANGE_WAIT * u32::try_from(ask.changes()).unwrap_or(u32::MAX)
}

/// What is said when a change finds nobody to judge it.
const NO_LEADER: &str = "no majority of the nodes can be reached";

/// How long a change waits for a place in the proposer's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(5);

/// How long a change may take altogether: many batches on a slow disk, or several elections.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// How much longer for each change of a command: what judging it takes on a busy machine.
const CHANGE_WAIT: Duration = Duration::from_micros(300);

/// How long one node may take to answer for another's change; longer than an entry may take.
const FORWARD_WAIT: Duration = Duration::from_secs(10);

/// How long nobody may lead before a change is refused; longer than an election.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// How long to wait before asking again.
const REST: Duration = Duration::from_millis(25);

/// How long a change that another node has made may take to be live here.
const LIVE_WAIT: Duration = Duration::from_secs(5);

/// How long a reader waits to know what is newest, and then for it to arrive.
const READ_WAIT: Duration = Duration::from_secs(5);

/// How long a peer may take to answer a short question.
pub(crate) const CALL_WAIT: Duration = Duration::from_secs(2);
