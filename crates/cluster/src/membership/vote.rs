//! The vote is given and taken.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::admit::without;
use super::{No, REST, id, voters};
use crate::asking::CALL_WAIT;
use crate::handle::Node;
use crate::transport::MessageKind;
use crate::types::ChangeMembers;
use crate::{MemberStatus, Peer};

impl Node {
    pub(super) async fn vote_here(
        &self,
        promote: &BTreeSet<String>,
        demote: &BTreeSet<String>,
    ) -> Result<(), No> {
        self.lead.confirm().await.map_err(|_| No::NotHere)?;
        if let Some(name) = promote.intersection(demote).next() {
            return Err(No::Refused(format!("{name} cannot get the vote and lose it")));
        }
        let membership = self.membership();
        let ids = |names: &BTreeSet<String>| -> Result<BTreeSet<u64>, No> {
            names.iter().map(|name| id(&membership, name)).collect()
        };
        let (promoted, demoted) = (ids(promote)?, ids(demote)?);
        let before = voters(&membership);
        let after: BTreeSet<u64> = without(&before, &demoted).union(&promoted).copied().collect();
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
        self.reshape(ChangeMembers::ReplaceAllVoters(after), true).await
    }

    /// One that has just been let in is not there at once.
    async fn wait_for_presence(&self, peer: &Peer) -> Result<(), No> {
        let until = Instant::now() + PRESENCE_WAIT;
        loop {
            match self.check_presence(peer).await {
                Ok(_) => return Ok(()),
                Err(no) if Instant::now() >= until => return Err(no),
                Err(_) => tokio::time::sleep(REST).await,
            }
        }
    }

    /// A voter that is not there could keep the change, and all after it, from being agreed on.
    pub(super) async fn check_presence(&self, peer: &Peer) -> Result<MemberStatus, No> {
        let asked = self.call(peer, MessageKind::Status, &(), CALL_WAIT).await;
        asked.map_err(|cause| {
            No::Refused(format!("{} does not answer, so it cannot vote: {cause}", peer.name))
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

/// For a new voter to be there.
const PRESENCE_WAIT: Duration = Duration::from_secs(5);
