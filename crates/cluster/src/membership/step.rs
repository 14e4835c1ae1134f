//! The steps of a change: on the members as the last one has left them, and only where enough of
//! those who would vote are there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::No;
use crate::handle::Node;
use crate::transport::Peer;
use crate::types::{ChangeMembers, Membership};

impl Node {
    pub(super) async fn add_learner(&self, peer: Peer) -> Result<(), No> {
        let added = self.lead.raft.add_learner(peer.id, peer, false);
        let added = tokio::time::timeout(CHANGE_WAIT, added).await;
        added.map_err(|_| late())?.map(drop).map_err(|cause| why(&cause))
    }

    /// Makes one step of a change, if this node has led since the members were looked at.
    pub(super) async fn reshape(&self, change: ChangeMembers, retain: bool) -> Result<(), No> {
        if self.lead.term() != Some(self.members_term.load(Ordering::Relaxed)) {
            return Err(No::NotHere);
        }
        self.reshape_now(change, retain).await
    }

    pub(super) async fn reshape_now(&self, change: ChangeMembers, retain: bool) -> Result<(), No> {
        let changed = self.lead.raft.change_membership(change, retain);
        let changed = tokio::time::timeout(CHANGE_WAIT, changed).await;
        changed.map_err(|_| late())?.map(drop).map_err(|cause| why(&cause))
    }

    /// The members as the last change has left them. A change that somebody else has left in the
    /// middle is brought to its end first.
    pub(super) async fn settled(&self) -> Result<Membership, No> {
        self.lead.confirm().await.map_err(|_| No::NotHere)?;
        let term = self.lead.term().ok_or(No::NotHere)?;
        self.members_term.store(term, Ordering::Relaxed);
        let until = Instant::now() + SETTLE_WAIT;
        loop {
            let (membership, is_agreed) = self.lead.members().await.map_err(|_| No::NotHere)?;
            match (is_agreed, membership.get_joint_config().as_slice()) {
                (true, [_, .., last]) => {
                    tracing::info!("a change of the votes was left in the middle; ending it");
                    let change = ChangeMembers::ReplaceAllVoters(last.clone());
                    self.reshape(change, true).await?;
                }
                (true, _) => return Ok(membership),
                (false, _) if Instant::now() >= until => {
                    let why = "the last change of the members is not agreed on yet".to_owned();
                    return Err(No::Unsure(why));
                }
                (false, _) => self.lead.moment().await,
            }
        }
    }

    /// Refuses a change after which no majority of the voters would be there to agree on anything:
    /// it could not be taken back.
    pub(super) async fn check_quorum(
        self: &Arc<Self>,
        membership: &Membership,
        voters: &BTreeSet<u64>,
    ) -> Result<(), No> {
        let mut asking = JoinSet::new();
        for peer in voters.iter().filter_map(|id| membership.get_node(id)) {
            let (node, peer) = (Arc::clone(self), peer.clone());
            asking.spawn(async move { (node.check_presence(&peer).await.is_err(), peer.name) });
        }
        let mut silent: Vec<String> =
            asking.join_all().await.into_iter().filter(|one| one.0).map(|one| one.1).collect();
        if 2 * (voters.len() - silent.len().min(voters.len())) > voters.len() {
            return Ok(());
        }
        silent.sort();
        Err(No::Refused(format!(
            "of the {} voters that would be left too few answer; silent: {}",
            voters.len(),
            silent.join(", ")
        )))
    }
}

fn late() -> No {
    No::Unsure("no majority of the nodes answered in time".to_owned())
}

fn why(cause: &crate::types::WriteError) -> No {
    use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
    match cause {
        RaftError::Fatal(cause) => No::Unsure(format!("this node takes part no more: {cause}")),
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => No::NotHere,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(cause)) => match cause {
            ChangeMembershipError::InProgress(_) => {
                No::Unsure("another change of the members is on its way".to_owned())
            }
            ChangeMembershipError::EmptyMembership(_) => {
                No::Refused("the last voter cannot go".to_owned())
            }
            ChangeMembershipError::LearnerNotFound(missing) => {
                No::Refused(format!("node {} is not a member", missing.node_id))
            }
        },
    }
}

/// How long an earlier change may take to be agreed on.
const SETTLE_WAIT: Duration = Duration::from_secs(5);

/// How long Raft may take for one step of a change.
const CHANGE_WAIT: Duration = Duration::from_secs(10);
