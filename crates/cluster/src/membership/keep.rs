//! What is done about the members without being asked: addresses that moved, places that were
//! taken over, changes that were broken off.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::leave::Going;
use super::{MembersAsk, No, check_address, ids, peers, voters};
use crate::asking::CALL_WAIT;
use crate::fact::{Fact, FactKind, JoinToken};
use crate::handle::Node;
use crate::lead::Leader;
use crate::transport::{MessageKind, Peer};
use crate::types::ChangeMembers;
use crate::{Home, MemberStatus, MembershipError, Role};

/// Looks after the members, and after this node's place among them, without end.
pub(crate) async fn keep(node: Arc<Node>, home: Home, (dir, address): (PathBuf, String)) {
    tokio::join!(
        node.keep_address(home, (dir, &address)),
        node.keep_members(),
        node.tell_who_leads(),
        node.listen_to_leader(),
        Box::pin(node.keep_ledger()),
    );
}

impl Node {
    /// Tells the cluster where this node is reached, whenever it believes something else.
    async fn keep_address(self: &Arc<Self>, mut home: Home, (dir, address): (PathBuf, &str)) {
        let me = self.lead.me();
        let own = Peer { id: me, name: self.name.to_string(), address: address.to_owned() };
        let (mut said, mut is_unkept) = (None, false);
        loop {
            let known = self.membership().get_node(&me).cloned();
            // A node that has just joined is told first that it has.
            let is_member = known.is_some() && !self.has_departed(&own.name, me);
            let elsewhere = match self.lead.leader() {
                Leader::Nobody if is_member => self.as_others_know_me().await,
                _ => known.clone(),
            };
            let is_right = known.as_ref() == Some(&own) && elsewhere.is_none_or(|it| it == own);
            let mut is_taken = is_right;
            if !is_right && is_member {
                let asked = self.change_members(&MembersAsk::Move(own.clone())).await;
                is_taken = asked.is_ok();
                if said.as_ref() != Some(&asked) {
                    tell_moved(address, &asked);
                    said = Some(asked);
                }
            }
            // At once: a start without the setting must not take it back.
            if is_taken && home.address != address {
                match home.moved(&dir, address) {
                    Ok(()) => address.clone_into(&mut home.address),
                    Err(_) if is_unkept => {}
                    Err(cause) => {
                        is_unkept = true;
                        let cause = &cause as &dyn std::error::Error;
                        tracing::warn!(cause, "the new address is not kept in the data directory");
                    }
                }
            }
            tokio::time::sleep(ADDRESS_EVERY).await;
        }
    }

    /// While this node leads: what was left in the middle is brought to its end, and a node that
    /// was let in for another gets its place when it has caught up.
    async fn keep_members(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.lead.leader() != Leader::Me {
                continue;
            }
            let _turn = self.members_turn.lock().await;
            if let Err(No::Refused(why) | No::Unsure(why)) = self.end_what_was_begun().await {
                tracing::debug!(why, "a change of the members waits for its end");
            }
            for (id, name, others) in self.replacements() {
                match self.give_place(id, &name, &others).await {
                    Ok(()) => tracing::info!(node = name, id, "a new node has taken its place"),
                    Err(No::NotHere) => {}
                    Err(No::Refused(why) | No::Unsure(why)) => {
                        tracing::debug!(node = name, why, "a new node waits for its place");
                    }
                }
            }
        }
    }

    async fn end_what_was_begun(self: &Arc<Self>) -> Result<(), No> {
        if self.membership().get_joint_config().len() > 1 {
            self.settled().await?;
        }
        self.end_departures().await
    }

    /// The nodes that were let in to take the places of others that are still members.
    pub(super) fn replacements(&self) -> Vec<(u64, String, BTreeSet<u64>)> {
        let (facts, membership) = (self.board.view().facts, self.membership());
        let tokens = facts.list(FactKind::JoinToken).filter_map(|(_, fact)| match fact {
            Fact::JoinToken(token) => Some(token),
            _ => None,
        });
        let is_there = |token: &&JoinToken| {
            membership.get_node(&token.id).is_some() && !self.has_departed(&token.node, token.id)
        };
        let placed = tokens.filter(is_there).map(|token| {
            let named = ids(&membership, &token.node);
            let others = named.into_iter().filter(|id| token.replaces.contains(id)).collect();
            (token.id, token.node.clone(), others)
        });
        placed.filter(|(_, _, others): &(_, _, BTreeSet<u64>)| !others.is_empty()).collect()
    }

    /// Puts a new node in the place of others with its name.
    async fn give_place(
        self: &Arc<Self>,
        id: u64,
        name: &str,
        others: &BTreeSet<u64>,
    ) -> Result<(), No> {
        let membership = self.settled().await?;
        let peer = membership.get_node(&id).ok_or(No::NotHere)?;
        if !self.lead.has_reached(id, self.board.view().applied) {
            return Err(No::Unsure("it has not caught up".to_owned()));
        }
        self.check_presence(peer).await?;
        let before = voters(&membership);
        let mut after = &before - others;
        if after != before {
            after.insert(id);
            self.check_quorum(&membership, &after).await?;
        }
        self.say_goodbye(&Going::from([(name.to_owned(), others.clone())])).await?;
        if after == before {
            return self.remove(&membership, others).await;
        }
        self.reshape(ChangeMembers::ReplaceAllVoters(after), false).await?;
        let membership = self.membership();
        let left = others.iter().filter(|id| membership.get_node(id).is_some()).copied().collect();
        self.remove(&membership, &left).await
    }

    /// Where a member is reached now. It has to be: who leads could otherwise lose it.
    pub(super) async fn move_here(&self, peer: &Peer) -> Result<(), No> {
        let membership = self.settled().await?;
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
        self.check_reached(peer).await?;
        self.reshape(ChangeMembers::SetNodes(peers(peer.clone())), true).await
    }

    /// A member that says of itself that it leads.
    pub(super) async fn leader_by_hearsay(&self) -> Option<Peer> {
        self.hear(|peer, said| (said.role == Role::Leader).then(|| peer.clone())).await
    }

    /// As whom another member knows this node.
    async fn as_others_know_me(&self) -> Option<Peer> {
        let me = self.lead.me();
        self.hear(|_, said| said.you.filter(|you| you.id == me)).await
    }

    /// Asks the other members in turn until one has something to say.
    async fn hear<T>(&self, what: impl Fn(&Peer, MemberStatus) -> Option<T>) -> Option<T> {
        let me = self.lead.me();
        let membership = self.membership();
        for (_, peer) in membership.nodes().filter(|(id, _)| **id != me) {
            let asked = self.call(peer, MessageKind::Status, &(), CALL_WAIT).await;
            if let Some(heard) = asked.ok().and_then(|said| what(peer, said)) {
                return Some(heard);
            }
        }
        None
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

    /// Finds out when who leads cannot be reached: a learner is never told.
    async fn listen_to_leader(&self) {
        loop {
            let unheard = match self.lead.leader() {
                Leader::Me => None,
                Leader::Peer(peer) => {
                    let asked = self.call(&peer, MessageKind::Status, &(), CALL_WAIT).await;
                    let leads = |said: &MemberStatus| said.role == Role::Leader;
                    if asked.as_ref().is_ok_and(leads) {
                        self.board.show_banished(None);
                    } else {
                        // It may be the leader of long ago: the others know whether we belong.
                        self.as_others_know_me().await;
                    }
                    let why = match asked {
                        Ok(said) if leads(&said) => None,
                        Ok(_) => Some(format!("{} leads no more", peer.name)),
                        Err(cause) => Some(format!("who leads cannot be reached: {cause}")),
                    };
                    why.map(|why| (peer.id, why))
                }
                Leader::Nobody => None,
            };
            self.board.show_unheard(unheard);
            tokio::time::sleep(LISTEN_EVERY).await;
        }
    }
}

fn tell_moved(address: &str, asked: &Result<(), MembershipError>) {
    match asked {
        Ok(()) => tracing::info!(address, "the cluster knows this node's address"),
        Err(MembershipError::Refused { why }) => {
            tracing::error!(address, why, "the cluster does not take this node's address");
        }
        Err(MembershipError::Unavailable { why }) => {
            tracing::warn!(address, why, "the cluster does not know this node's address yet");
        }
    }
}

/// How often there may be something to do; nobody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a node looks whether others know where it is.
const ADDRESS_EVERY: Duration = Duration::from_millis(500);

/// How often a node asks whoever leads whether it is there.
const LISTEN_EVERY: Duration = Duration::from_secs(2);
