//! What is done about the members without being asked: addresses that moved, places that were
//! taken over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::admit::without;
use super::{MembersAsk, No, check_address, ids, peers, voters};
use crate::asking::CALL_WAIT;
use crate::fact::{Fact, FactKind};
use crate::handle::Node;
use crate::lead::Leader;
use crate::transport::{MessageKind, Peer};
use crate::types::ChangeMembers;
use crate::{MemberStatus, MembershipError};

/// Looks after the members until told to stop.
pub(crate) async fn keep(node: Arc<Node>, address: String, stop: CancellationToken) {
    let keeping = async {
        tokio::join!(node.keep_address(&address), node.keep_places(), node.tell_who_leads());
    };
    tokio::select! {
        () = keeping => {}
        () = stop.cancelled() => {}
    }
}

impl Node {
    /// Tells the cluster where this node is reached, if it believes something else.
    async fn keep_address(&self, address: &str) {
        loop {
            let known = self.membership().get_node(&self.lead.me()).cloned();
            let own = Peer {
                id: self.lead.me(),
                name: self.name.to_string(),
                address: address.to_owned(),
            };
            // A node that has just joined is told first that it has.
            if known.as_ref() == Some(&own) {
                return;
            }
            if known.is_some() && !self.has_departed(self.name.as_str()) {
                match self.change_members(&MembersAsk::Move(own)).await {
                    Ok(()) => tracing::info!(address, "the cluster knows this node's address"),
                    Err(MembershipError::Refused { why }) => {
                        tracing::error!(address, why, "the cluster does not take this address");
                        return;
                    }
                    Err(MembershipError::Unavailable { why }) => {
                        tracing::warn!(address, why, "the cluster does not know this address yet");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says who leads, whenever that changes.
    async fn tell_who_leads(&self) {
        let mut told = None;
        loop {
            let leader = self.lead.leader();
            if told.as_ref() != Some(&leader) {
                match &leader {
                    Leader::Me => tracing::info!("this node leads"),
                    Leader::Peer(peer) => tracing::info!(node = peer.name, "another node leads"),
                    Leader::Nobody => tracing::warn!("no node leads that this one hears of"),
                }
                told = Some(leader);
            }
            self.lead.moment().await;
        }
    }

    /// While this node leads: a node that was let in for another gets its place when it has
    /// caught up.
    async fn keep_places(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.lead.leader() != Leader::Me {
                continue;
            }
            for (id, name) in self.replacements() {
                let _turn = self.members_turn.lock().await;
                match self.give_place(id, &name).await {
                    Ok(true) => tracing::info!(node = name, id, "a new node has taken its place"),
                    Ok(false) | Err(No::NotHere) => {}
                    Err(No::Refused(why) | No::Unsure(why)) => {
                        tracing::debug!(node = name, why, "a new node waits for its place");
                    }
                }
            }
        }
    }

    /// The nodes that were let in to take another's place, and their names.
    fn replacements(&self) -> Vec<(u64, String)> {
        let facts = self.board.view().facts;
        let tokens = facts.list(FactKind::JoinToken).filter_map(|(_, fact)| match fact {
            Fact::JoinToken(token) if token.replaces => Some((token.id, token.node.clone())),
            _ => None,
        });
        tokens.collect()
    }

    /// Puts a new node in the place of whoever else has its name; says whether there was anybody.
    async fn give_place(&self, id: u64, name: &str) -> Result<bool, No> {
        let membership = self.membership();
        let Some(peer) = membership.get_node(&id) else { return Ok(false) };
        let others: BTreeSet<u64> =
            ids(&membership, name).into_iter().filter(|other| *other != id).collect();
        if others.is_empty() {
            return Ok(false);
        }
        if !self.lead.has_reached(id, self.board.view().applied) {
            return Err(No::Unsure("it has not caught up".to_owned()));
        }
        self.check_presence(peer).await?;
        let before = voters(&membership);
        let (voting, silent): (BTreeSet<u64>, BTreeSet<u64>) =
            others.into_iter().partition(|other| before.contains(other));
        if !silent.is_empty() {
            self.reshape(ChangeMembers::RemoveNodes(silent), false).await?;
        }
        if !voting.is_empty() {
            let mut after = without(&before, &voting);
            after.insert(id);
            self.reshape(ChangeMembers::ReplaceAllVoters(after), false).await?;
        }
        Ok(true)
    }

    /// Where a member is reached now.
    pub(super) async fn move_here(&self, peer: &Peer) -> Result<(), No> {
        self.lead.confirm().await.map_err(|_| No::NotHere)?;
        let membership = self.membership();
        let known = membership.get_node(&peer.id);
        let known = known.ok_or_else(|| No::Refused("it is not a member".to_owned()))?;
        if known == peer {
            return Ok(());
        }
        // A node that was alone may have had any name.
        let alone = membership.nodes().count() == 1;
        if known.name != peer.name && !alone {
            return Err(No::Refused(format!("node {} is called {}", peer.id, known.name)));
        }
        check_address(&membership, peer)?;
        self.reshape(ChangeMembers::SetNodes(peers(peer.clone())), true).await
    }

    /// Whom the other members believe to lead.
    pub(super) async fn leader_by_hearsay(&self) -> Option<Peer> {
        let me = self.lead.me();
        let membership = self.membership();
        for (_, peer) in membership.nodes().filter(|(id, _)| **id != me) {
            let asked = self.call(peer, MessageKind::Status, &(), CALL_WAIT).await;
            if let Ok(MemberStatus { leader: Some(leader), .. }) = asked
                && leader.id != me
            {
                return Some(leader);
            }
        }
        None
    }
}

/// How often there may be something to do; nobody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
