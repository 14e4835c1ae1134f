//! The vote is given and taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{No, REST, id, voters};
use crate::asking::CALL_WAIT;
use crate::handle::Node;
use crate::transport::{MessageKind, Peer};
use crate::types::ChangeMembers;
use crate::{MemberStatus, Role};

impl Node {
    pub(super) async fn vote_here(
        self: &Arc<Self>,
        promote: &BTreeSet<String>,
        demote: &BTreeSet<String>,
    ) -> Result<(), No> {
        if let Some(name) = promote.intersection(demote).next() {
            return Err(No::Refused(format!("{name} cannot get the vote and lose it")));
        }
        let membership = self.settled().await?;
        let ids = |names: &BTreeSet<String>| -> Result<BTreeSet<u64>, No> {
            names.iter().map(|name| id(&membership, name)).collect()
        };
        let (promoted, demoted) = (ids(promote)?, ids(demote)?);
        let before = voters(&membership);
        let after = &(&before - &demoted) | &promoted;
        if after == before {
            return Ok(());
        }
        if !VOTERS.contains(&after.len()) {
            return Err(No::Refused(even(after.len())));
        }
        for new in after.difference(&before) {
            if let Some(peer) = membership.get_node(new) {
                self.wait_for_presence(peer).await?;
            }
        }
        self.check_quorum(&membership, &after).await?;
        self.reshape(ChangeMembers::ReplaceAllVoters(after), true).await
    }

    /// One that has just been let in is not there at once, and has to catch up before others wait
    /// for its word.
    async fn wait_for_presence(&self, peer: &Peer) -> Result<(), No> {
        let until = Instant::now() + PRESENCE_WAIT;
        let goal = self.board.view().applied;
        loop {
            let no = match self.check_presence(peer).await {
                Ok(()) if self.lead.has_reached(peer.id, goal) => return Ok(()),
                Ok(()) => No::Refused(format!("{} has not caught up yet", peer.name)),
                Err(no) => no,
            };
            if Instant::now() >= until {
                return Err(no);
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Whether a member is there, and takes part.
    pub(super) async fn check_presence(&self, peer: &Peer) -> Result<(), No> {
        match self.check_reached(peer).await? {
            Role::Stopped => Err(No::Refused(format!(
                "{} takes part no more: its disk has failed, or it is stopping",
                peer.name
            ))),
            Role::Single | Role::Leader | Role::Follower | Role::Candidate | Role::Learner => {
                Ok(())
            }
        }
    }

    /// Whether a member answers at this address, and what part it plays.
    pub(super) async fn check_reached(&self, peer: &Peer) -> Result<Role, No> {
        if peer.id == self.lead.me() {
            return Ok(self.role());
        }
        let asked = self.call(peer, MessageKind::Status, &(), CALL_WAIT).await;
        asked.map(|said: MemberStatus| said.role).map_err(|cause| {
            No::Refused(format!("{} does not answer at {}: {cause}", peer.name, peer.address))
        })
    }
}

/// Why not so many.
pub(super) fn even(count: usize) -> String {
    format!(
        "{count} voters would be left; have 1, 3 or 5: name two nodes at once, or give the vote \
         of one to another (`promote d --demote c`)"
    )
}

/// How many voters there may be: an even number stands no more losses than the odd one below it.
pub(super) const VOTERS: [usize; 3] = [1, 3, 5];

/// For a new voter to be there, and to catch up.
const PRESENCE_WAIT: Duration = Duration::from_secs(5);
