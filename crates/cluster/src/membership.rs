//! Who belongs to the cluster, and who votes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Handle;
use crate::transport::Peer;

/// Why the members were not changed.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Ask the node that leads.
    #[error("this node does not lead")]
    NotLeader,
    /// A change that was begun before is not finished.
    #[error("another change of the members is on its way")]
    InProgress,
    /// A voter must be a member first.
    #[error("node {id} is not a member")]
    Unknown { id: u64 },
    /// A cluster without voters could decide nothing.
    #[error("there must be a voter")]
    NoVoter,
    /// It may have been made, or be made yet.
    #[error("no majority of the nodes answered in time")]
    Late,
    /// Raft has ended on this node.
    #[error("this node takes part no more: {why}")]
    Ended { why: String },
}

impl Handle {
    /// Takes a node in as a learner: it gets everything and has no vote. One that is a member
    /// already gets the new address.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn admit(&self, peer: Peer) -> Result<(), MembershipError> {
        let raft = &self.0.lead.raft;
        let changed = tokio::time::timeout(CHANGE_WAIT, raft.add_learner(peer.id, peer, false));
        changed.await.map_err(|_| MembershipError::Late)?.map(drop).map_err(|cause| why(&cause))
    }

    /// Gives the vote to exactly these members; voters that are left out become learners.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn set_voters(&self, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
        let raft = &self.0.lead.raft;
        let changed = tokio::time::timeout(CHANGE_WAIT, raft.change_membership(voters, true));
        changed.await.map_err(|_| MembershipError::Late)?.map(drop).map_err(|cause| why(&cause))
    }
}

fn why(cause: &crate::types::WriteError) -> MembershipError {
    use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
    match cause {
        RaftError::Fatal(cause) => MembershipError::Ended { why: cause.to_string() },
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => MembershipError::NotLeader,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(cause)) => match cause {
            ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
            ChangeMembershipError::EmptyMembership(_) => MembershipError::NoVoter,
            ChangeMembershipError::LearnerNotFound(missing) => {
                MembershipError::Unknown { id: missing.node_id }
            }
        },
    }
}

/// How long a change of the members may take: its entry, and the one that ends it.
const CHANGE_WAIT: Duration = Duration::from_secs(30);
