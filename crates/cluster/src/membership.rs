//! Who belongs to the cluster, and who votes. Any node is asked; the one that leads makes the
//! change. Each change says what is to be, so that one whose answer was lost can be asked again.

mod admit;
mod invite;
mod keep;
mod leave;
mod step;
mod vote;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::NodeName;
use serde::{Deserialize, Serialize};

use self::admit::Arrival;
pub use self::invite::{Invitation, Place};
pub(crate) use self::keep::keep;
use crate::Handle;
use crate::fact::{Fact, FactKind};
use crate::grpc::{Roster, Standing, is_address};
use crate::handle::Node;
use crate::lead::Leader;
use crate::transport::{MessageKind, Peer, PeerName, TransportError};
use crate::types::{ChangeMembers, Membership};

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// What is asked for cannot be, as things stand; nothing was changed.
    #[error("{why}")]
    Refused { why: String },
    /// The cluster cannot decide now. The change may have been made; asking again is safe.
    #[error("cannot change the members: {why}")]
    Unavailable { why: String },
}

/// A change on its way to the node that leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MembersAsk {
    /// A node has shown a good token.
    Admit(Arrival),
    Vote {
        promote: BTreeSet<String>,
        demote: BTreeSet<String>,
    },
    Leave {
        names: BTreeSet<String>,
        force: bool,
    },
    /// A member says where it is reached now.
    Move(Peer),
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MembersTold {
    Done,
    /// Ask who leads now; nothing was changed here.
    NotHere,
    /// It cannot be, as things stand.
    Refused {
        why: String,
    },
    /// Nobody knows; ask again.
    Unsure {
        why: String,
    },
}

/// Why the leader did not make a change.
#[derive(Debug)]
enum No {
    NotHere,
    Refused(String),
    Unsure(String),
}

impl Handle {
    /// Gives the vote to some members and takes it from others, in one step. The others keep what
    /// they have; 1, 3 or 5 voters must come out.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn vote(
        &self,
        promote: BTreeSet<NodeName>,
        demote: BTreeSet<NodeName>,
    ) -> Result<(), MembershipError> {
        let (promote, demote) = (texts(promote), texts(demote));
        self.0.change_members(&MembersAsk::Vote { promote, demote }).await
    }

    /// Lets members go for good: their certificates are worth nothing from then on. Those that
    /// have left already are passed over. An even number of voters is left only when forced.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn leave(
        &self,
        names: BTreeSet<NodeName>,
        force: bool,
    ) -> Result<(), MembershipError> {
        self.0.change_members(&MembersAsk::Leave { names: texts(names), force }).await
    }

    /// Takes a node in as a learner: it gets everything and has no vote. Only where this node
    /// leads; nothing is asked of the newcomer.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn admit_peer(&self, peer: Peer) -> Result<(), MembershipError> {
        Ok(self.0.add_learner(peer).await?)
    }

    /// Gives the vote to exactly these members, by number; voters that are left out become
    /// learners. Only where this node leads.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn set_voters(&self, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
        Ok(self.0.reshape_now(ChangeMembers::ReplaceAllVoters(voters), true).await?)
    }
}

impl Roster for Handle {
    fn standing(&self, name: &PeerName, id: u64) -> Standing {
        if self.0.lead.has(name.as_str(), id) {
            return Standing::Member;
        }
        if self.0.has_departed(name.as_str(), id) {
            return Standing::Left;
        }
        Standing::Unknown
    }
}

impl Node {
    /// Has a change made by whoever leads.
    pub(crate) async fn change_members(
        self: &Arc<Self>,
        ask: &MembersAsk,
    ) -> Result<(), MembershipError> {
        let mut why = NO_LEADER.to_owned();
        let asking = async {
            loop {
                match self.ask_members_once(ask).await {
                    MembersTold::Done => return Ok(()),
                    MembersTold::Refused { why } => return Err(MembershipError::Refused { why }),
                    MembersTold::Unsure { why: unsure } => why = unsure,
                    MembersTold::NotHere => {}
                }
                tokio::time::sleep(REST).await;
            }
        };
        let asked = tokio::time::timeout(ASK_WAIT, asking).await;
        asked.unwrap_or(Err(MembershipError::Unavailable { why }))
    }

    async fn ask_members_once(self: &Arc<Self>, ask: &MembersAsk) -> MembersTold {
        let told = match self.lead.leader() {
            Leader::Me => return self.change_members_here(ask).await,
            Leader::Peer(peer) => self.ask_members_of(&peer, ask).await,
            Leader::Nobody => MembersTold::NotHere,
        };
        if !matches!(told, MembersTold::NotHere) {
            return told;
        }
        // A member that nobody can call hears of no leader, or remembers one of long ago.
        match self.leader_by_hearsay().await {
            Some(leader) => self.ask_members_of(&leader, ask).await,
            None => MembersTold::NotHere,
        }
    }

    async fn ask_members_of(&self, leader: &Peer, ask: &MembersAsk) -> MembersTold {
        match self.call(leader, MessageKind::Members, ask, FORWARD_WAIT).await {
            Ok(told) => told,
            Err(cause @ (TransportError::Late { .. } | TransportError::Broken { .. })) => {
                MembersTold::Unsure { why: cause.to_string() }
            }
            Err(cause) => {
                tracing::debug!(%cause, "the leader did not take a change of the members");
                MembersTold::NotHere
            }
        }
    }

    /// Makes a change, if this node leads. One at a time: each begins where the last ended.
    pub(crate) async fn change_members_here(self: &Arc<Self>, ask: &MembersAsk) -> MembersTold {
        let (node, ask) = (Arc::clone(self), ask.clone());
        let until = self.stop.clone();
        // What was begun is carried on though nobody waits for the answer any more: a change of the
        // votes that is broken off in the middle would be in the way of the next.
        let made = self
            .tasks
            .spawn(async move { until.run_until_cancelled(node.change_members_now(&ask)).await });
        match made.await {
            Ok(Some(told)) => told,
            Ok(None) => MembersTold::NotHere,
            Err(_) => MembersTold::Unsure { why: "the change met a defect".to_owned() },
        }
    }

    async fn change_members_now(self: &Arc<Self>, ask: &MembersAsk) -> MembersTold {
        let _turn = self.members_turn.lock().await;
        let made = match ask {
            MembersAsk::Admit(arrival) => self.admit_here(arrival).await,
            MembersAsk::Vote { promote, demote } => self.vote_here(promote, demote).await,
            MembersAsk::Leave { names, force } => self.leave_here(names, *force).await,
            MembersAsk::Move(peer) => self.move_here(peer).await,
        };
        match made {
            Ok(()) => MembersTold::Done,
            Err(No::NotHere) => MembersTold::NotHere,
            Err(No::Refused(why)) => MembersTold::Refused { why },
            Err(No::Unsure(why)) => MembersTold::Unsure { why },
        }
    }

    /// A member that a peer asks to change the members for, or to move itself.
    pub(crate) async fn change_members_for(
        self: &Arc<Self>,
        from: &PeerName,
        ask: &MembersAsk,
    ) -> MembersTold {
        match ask {
            MembersAsk::Move(peer) if peer.name != from.as_str() => {
                MembersTold::Refused { why: format!("{from} cannot speak for {}", peer.name) }
            }
            _ if self.lead.leader() == Leader::Me => self.change_members_here(ask).await,
            _ => MembersTold::NotHere,
        }
    }

    /// Everybody, as far as this node's log goes.
    fn membership(&self) -> Membership {
        self.lead.metrics().membership_config.membership().clone()
    }

    /// Whether this very node has left.
    pub(crate) fn has_departed(&self, name: &str, id: u64) -> bool {
        match self.board.fact(FactKind::Departure, name) {
            Some(Fact::Departure(departure)) => departure.ids.contains(&id),
            Some(_) | None => false,
        }
    }
}

/// The numbers of the members with this name: two while one of them is being replaced.
fn ids(membership: &Membership, name: &str) -> Vec<u64> {
    let named = membership.nodes().filter(|(_, peer)| peer.name == name);
    named.map(|(id, _)| *id).collect()
}

/// The one number of the member with this name.
fn id(membership: &Membership, name: &str) -> Result<u64, No> {
    match *ids(membership, name).as_slice() {
        [id] => Ok(id),
        [] => Err(No::Refused(format!("there is no member called {name}"))),
        [..] => Err(No::Refused(format!("{name} is being replaced; wait until that is done"))),
    }
}

fn voters(membership: &Membership) -> BTreeSet<u64> {
    membership.voter_ids().collect()
}

/// Two nodes at one address would each answer for the other.
fn check_address(membership: &Membership, peer: &Peer) -> Result<(), No> {
    if !is_address(&peer.address) {
        return Err(No::Refused(format!("`{}` is not HOST:PORT", peer.address)));
    }
    let taken = membership
        .nodes()
        .find(|(_, other)| other.address == peer.address && other.name != peer.name);
    match taken {
        None => Ok(()),
        Some((_, other)) => Err(No::Refused(format!(
            "the address {} is that of the member {}",
            peer.address, other.name
        ))),
    }
}

fn peers(peer: Peer) -> BTreeMap<u64, Peer> {
    BTreeMap::from([(peer.id, peer)])
}

fn texts(names: BTreeSet<NodeName>) -> BTreeSet<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

impl From<No> for MembershipError {
    fn from(no: No) -> Self {
        match no {
            No::NotHere => Self::Unavailable { why: "this node does not lead".to_owned() },
            No::Refused(why) => Self::Refused { why },
            No::Unsure(why) => Self::Unavailable { why },
        }
    }
}

/// What is said while nobody leads.
const NO_LEADER: &str = "no majority of the nodes can be reached";

/// How long a change may take altogether: an election may come in between.
const ASK_WAIT: Duration = Duration::from_secs(25);

/// How long the leader may take for another node's change.
const FORWARD_WAIT: Duration = Duration::from_secs(18);

/// How long to wait before asking again.
const REST: Duration = Duration::from_millis(100);
