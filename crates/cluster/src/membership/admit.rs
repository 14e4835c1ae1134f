//! A new node is taken in.

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{MembersAsk, MembershipError, No, check_address, ids, peers};
use crate::fact::{
    Fact, FactChange, FactCommand, FactExpect, FactKind, FactRejected, JoinToken, micros,
};
use crate::grpc::{Admission, Admitted, Newcomer};
use crate::handle::Node;
use crate::token::TokenId;
use crate::transport::{BoxFuture, Peer, Refused};
use crate::types::ChangeMembers;
use crate::{FactError, Handle};

/// A node that has shown a good token, on its way to the node that leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    /// The token's id.
    token: String,
    peer: Peer,
    /// The digest of its key, in hexadecimal.
    key: String,
    /// Whether the token names the node: it may then take the place of a member.
    is_named: bool,
    #[serde(with = "micros")]
    expires: Timestamp,
}

impl From<Newcomer> for Arrival {
    fn from(newcomer: Newcomer) -> Self {
        let Newcomer { token, terms, name, address, key } = newcomer;
        Self {
            token: token.to_string(),
            peer: Peer { id: number(token), name: name.to_string(), address },
            key: hex::encode(key),
            is_named: terms.node.is_some(),
            expires: terms.expires,
        }
    }
}

impl Admission for Handle {
    fn admit<'a>(&'a self, newcomer: Newcomer) -> BoxFuture<'a, Result<Admitted, Refused>> {
        Box::pin(async move {
            let arrival = Arrival::from(newcomer);
            let me = arrival.peer.clone();
            let admitted = self.0.change_members(&MembersAsk::Admit(arrival)).await;
            admitted.map_err(|cause: MembershipError| Refused { why: cause.to_string() })?;
            let membership = self.0.membership();
            let others = membership.nodes().filter(|(id, _)| **id != me.id);
            let mut members: Vec<Peer> = others.map(|(_, peer)| peer.clone()).collect();
            let id = me.id;
            members.push(me);
            Ok(Admitted { id, members })
        })
    }
}

impl Node {
    /// Spends the token and makes the node a learner; a token that was spent by the same node is
    /// the same admission, since the answer to the first may have been lost.
    pub(super) async fn admit_here(&self, arrival: &Arrival) -> Result<(), No> {
        let membership = self.settled().await?;
        // The token says the number, not whoever passes it on.
        let id = TokenId::parse(&arrival.token).map(number);
        let id = id.ok_or_else(|| No::Refused("the token's id is none".to_owned()))?;
        let peer = &Peer { id, ..arrival.peer.clone() };
        check_address(&membership, peer)?;
        match self.board.fact(FactKind::JoinToken, &arrival.token) {
            Some(Fact::JoinToken(spent)) if spent.node == peer.name && spent.key == arrival.key => {
            }
            Some(_) => return Err(No::Refused("the join token was used already".to_owned())),
            None => {
                if membership.get_node(&id).is_some() {
                    return Err(No::Refused("another member has this number".to_owned()));
                }
                if membership.nodes().count() >= MEMBERS_MAX {
                    return Err(No::Refused(format!("there are {MEMBERS_MAX} members already")));
                }
                let taken = ids(&membership, &peer.name);
                if !taken.is_empty() && !arrival.is_named {
                    return Err(No::Refused(format!(
                        "there is a member called {0}; `tollgate cluster replace {0}` gives a \
                         token that takes its place",
                        peer.name
                    )));
                }
                self.spend(arrival, peer, taken).await?;
            }
        }
        match membership.get_node(&peer.id) {
            None => self.add_learner(peer.clone()).await,
            Some(known) if known == peer => Ok(()),
            Some(_) => self.reshape(ChangeMembers::SetNodes(peers(peer.clone())), true).await,
        }
    }

    async fn spend(&self, arrival: &Arrival, peer: &Peer, replaces: Vec<u64>) -> Result<(), No> {
        let Arrival { token, key, expires, .. } = arrival;
        let spent = JoinToken {
            node: peer.name.clone(),
            id: peer.id,
            key: key.clone(),
            replaces,
            expires: *expires,
        };
        let (fact, expect) = (Fact::JoinToken(spent), FactExpect::Absent);
        let spend = FactChange::Set { id: token.clone(), fact, expect };
        let command = FactCommand { at: self.clock.now(), changes: vec![spend] };
        self.set_facts(command).await
    }

    /// Changes facts for a change of the members.
    pub(super) async fn set_facts(&self, command: FactCommand) -> Result<(), No> {
        let change = crate::entry::Change::Facts(command);
        match self.ask(change).await.map_err(FactError::from) {
            Ok(_) => Ok(()),
            // Another leader was faster; what it did is seen at the next look.
            Err(FactError::Rejected(cause @ FactRejected::Stale { .. })) => {
                Err(No::Unsure(cause.to_string()))
            }
            Err(FactError::Rejected(cause)) => Err(No::Refused(cause.to_string())),
            Err(FactError::Unavailable { why, .. }) => Err(No::Unsure(why)),
        }
    }
}

/// The number of the node that joins by this token. It comes from the token's random id, so that
/// no number is ever given twice, and a join that is repeated gets the same. 53 bits, which every
/// JSON reader keeps exactly.
pub(crate) fn number(token: TokenId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = token.0;
    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
    // Small numbers are those of founders.
    number.max(FOUNDERS_MAX)
}

/// Members at a time; a further one is refused. Each has a connection to the leader.
const MEMBERS_MAX: usize = 512;

const FOUNDERS_MAX: u64 = 1 << 16;
