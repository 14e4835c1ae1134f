//! What a node answers to its peers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::Revision;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ask::{Ask, Told};
use crate::asking::CALL_WAIT;
use crate::grpc::is_for_all;
use crate::handle::Node;
use crate::lead::Leader;
use crate::network::{MESSAGE_VERSION, json, unpack_chunk};
use crate::transport::{BoxFuture, Message, MessageKind, PeerName, Refused, Service};
use crate::types::{ChunkError, ServerState};
use crate::{Handle, Live, Member, MemberStatus, Role};

impl Service for Handle {
    fn answer<'a>(
        &'a self,
        from: &'a PeerName,
        message: Message,
    ) -> BoxFuture<'a, Result<Message, Refused>> {
        Box::pin(async move {
            let Message { kind, version, body } = message;
            let answered = if version > MESSAGE_VERSION {
                Err(refused(format!(
                    "message version {version} is newer than {MESSAGE_VERSION}, the newest known"
                )))
            } else {
                self.0.answer(from, kind, &body).await
            };
            match answered {
                Ok(body) => Ok(Message { kind, version: MESSAGE_VERSION, body }),
                // While its Raft has ended a node would say so several times a second.
                Err(refused) if self.0.lead.metrics().running_state.is_err() => Err(refused),
                Err(refused) => {
                    let (from, why) = (from.as_str(), refused.why.as_str());
                    tracing::warn!(from, ?kind, why, "refused a message");
                    Err(refused)
                }
            }
        })
    }
}

impl Handle {
    /// This node, as it would tell another.
    #[must_use]
    pub fn own_member(&self) -> Option<Member> {
        let node = &*self.0;
        let (peer, votes) = node.lead.myself()?;
        Some(Member { peer, votes, said: Ok(node.own_status(None)) })
    }

    /// Every node of the cluster: what it says of itself, or why it could not be asked.
    pub async fn members(&self) -> Vec<Member> {
        self.0.members().await
    }
}

impl Handle {
    /// Waits until a change is live on every member that can be reached, for ten seconds at most.
    pub async fn wait_until_live(&self, revision: Revision) -> Live {
        let until = Instant::now() + LIVE_WAIT;
        let mut pause = LIVE_PAUSE;
        loop {
            let members = self.0.members_since(Instant::now()).await;
            let is_live = |said: &MemberStatus| said.live >= revision.number();
            let said = || members.iter().filter_map(|member| member.said.as_ref().ok());
            let (on, there) = (said().filter(|said| is_live(said)).count(), said().count());
            if on == there || Instant::now() >= until {
                return Live { on, of: members.len() };
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LIVE_PAUSE_MAX);
        }
    }
}

impl Node {
    async fn answer(
        self: &Arc<Self>,
        from: &PeerName,
        kind: MessageKind,
        body: &Bytes,
    ) -> Result<Bytes, Refused> {
        let raft = &self.lead.raft;
        // Raft's own messages are taken from whoever has our certificate: a node that is behind
        // does not know yet who has become a member, and must not keep it from leading.
        if !is_for_all(kind) && !self.lead.has_member(from.as_str()) {
            return Err(refused(format!("node {from} is not a member of this cluster")));
        }
        match kind {
            MessageKind::Append => tell(raft.append_entries(read(body)?).await),
            MessageKind::Vote => tell(raft.vote(read(body)?).await),
            MessageKind::Snapshot => {
                let chunk = unpack_chunk(body).ok_or_else(malformed)?;
                match raft.install_snapshot(chunk).await {
                    Err(openraft::error::RaftError::APIError(cause)) => {
                        Ok(json(&Err::<(), ChunkError>(cause)))
                    }
                    Ok(answer) => Ok(json(&Ok::<_, ChunkError>(answer))),
                    Err(openraft::error::RaftError::Fatal(cause)) => Err(ended(&cause)),
                }
            }
            MessageKind::Propose => Ok(json(&self.judge_for_peer(read(body)?).await)),
            MessageKind::ReadIndex => Ok(json(&self.lead.confirm().await.ok())),
            MessageKind::Status => Ok(json(&self.own_status(Some(from)))),
            MessageKind::Members => Ok(json(&self.change_members_for(from, &read(body)?).await)),
            MessageKind::Ledger => Ok(json(&self.hear_ledger(from, read(body)?).await)),
        }
    }

    /// Judges a peer's change, if this node leads; it is not handed on a second time.
    async fn judge_for_peer(&self, ask: Ask) -> Told {
        if self.lead.leader() == Leader::Me { self.ask_here(ask).await } else { Told::NotHere }
    }

    async fn members(self: &Arc<Self>) -> Vec<Member> {
        let metrics = self.lead.metrics();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let mut asking = JoinSet::new();
        for (id, peer) in membership.nodes() {
            let (node, peer) = (Arc::clone(self), peer.clone());
            let (votes, is_me) = (voters.contains(id), *id == metrics.id);
            asking.spawn(async move {
                if is_me {
                    return Member { peer, votes, said: Ok(node.own_status(None)) };
                }
                let asked = node.call(&peer, MessageKind::Status, &(), CALL_WAIT).await;
                Member { peer, votes, said: asked.map_err(|cause| cause.to_string()) }
            });
        }
        let mut members = asking.join_all().await;
        members.sort_by(|a, b| (&a.peer.name, a.peer.id).cmp(&(&b.peer.name, b.peer.id)));
        members
    }

    /// The members as they were asked after this moment. Writers that wait at once share a look.
    async fn members_since(self: &Arc<Self>, moment: Instant) -> Vec<Member> {
        let mut look = self.look.lock().await;
        if let Some((at, members)) = &*look
            && *at >= moment
        {
            return members.clone();
        }
        let at = Instant::now();
        let members = self.members().await;
        *look = Some((at, members.clone()));
        members
    }

    pub(crate) fn own_status(&self, asker: Option<&PeerName>) -> MemberStatus {
        let view = self.board.view();
        MemberStatus {
            role: self.role(),
            applied: view.applied,
            revision: view.state.revision().number(),
            live: self.snapshots.borrow().revision.number(),
            why_not_ready: self.why_not_ready(),
            why_not_writable: self.why_not_writable(),
            you: asker.and_then(|name| self.lead.known_as(name.as_str())),
            leader: self.lead.leader_peer(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        if self.transport.is_none() && self.lead.is_sole_voter() {
            return Role::Single;
        }
        let metrics = self.lead.metrics();
        if metrics.running_state.is_err() {
            return Role::Stopped;
        }
        match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        }
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    // serde's own text could quote the message.
    serde_json::from_slice(body).map_err(|_| malformed())
}

/// Raft's answer as a body; when Raft has ended there is none.
fn tell<T: Serialize>(
    answer: Result<T, openraft::error::RaftError<u64>>,
) -> Result<Bytes, Refused> {
    match answer {
        Ok(answer) => Ok(json(&answer)),
        Err(cause) => Err(ended(&cause)),
    }
}

fn ended(cause: &dyn std::fmt::Display) -> Refused {
    refused(format!("this node's Raft has ended: {cause}"))
}

fn malformed() -> Refused {
    refused("the message is none of ours".to_owned())
}

fn refused(why: String) -> Refused {
    Refused { why }
}

/// How long a writer waits for others to serve its change.
const LIVE_WAIT: Duration = Duration::from_secs(10);

/// Between two looks at who serves it: twice as long each time.
const LIVE_PAUSE: Duration = Duration::from_millis(2);
const LIVE_PAUSE_MAX: Duration = Duration::from_millis(64);
