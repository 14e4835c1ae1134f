//! Join tokens for new nodes.

use std::time::Duration;

use model::{NodeName, Secret, Timestamp};

use super::{MembershipError, ids};
use crate::ca::node_name;
use crate::token::LIFETIME_MAX;
use crate::{Handle, Peer};

/// A join token, and where it can be shown.
#[derive(Debug)]
pub struct Invitation {
    /// Good once, until it expires.
    pub token: Secret<String>,
    pub expires: Timestamp,
    /// The members, any of which takes it.
    pub members: Vec<Peer>,
}

/// Whose place a new node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of its own, whatever its name.
    Any,
    /// One of its own, under this name.
    Named(NodeName),
    /// That of the member with this name, which is forgotten when the new node has caught up.
    Of(NodeName),
}

impl Handle {
    /// Makes a join token that is good for so long, a day at most.
    ///
    /// # Errors
    /// [`MembershipError::Refused`] where the name or the time cannot be used, or the node is alone.
    pub fn invite(&self, place: Place, life: Duration) -> Result<Invitation, MembershipError> {
        let refused = |why: String| MembershipError::Refused { why };
        let node = &*self.0;
        if life > LIFETIME_MAX {
            return Err(refused("a join token is good for a day at most".to_owned()));
        }
        let alone = || refused(ALONE.to_owned());
        let mint = node.mint.get().ok_or_else(alone)?;
        let membership = node.membership();
        let is_member = |name: &NodeName| !ids(&membership, name.as_str()).is_empty();
        let name = match place {
            Place::Any => None,
            Place::Named(name) if is_member(&name) => {
                return Err(refused(format!(
                    "there is a member called {name}; `tollgate cluster replace {name}` gives a \
                     token that takes its place"
                )));
            }
            Place::Of(name) if !is_member(&name) => {
                return Err(refused(format!("there is no member called {name}")));
            }
            Place::Named(name) | Place::Of(name) => Some(name),
        };
        if let Some(name) = &name {
            node_name(name.as_str()).map_err(|cause| refused(cause.to_string()))?;
        }
        let now = node.clock.now();
        let issued = mint.issue(name, life, now, &*node.entropy).map_err(|_| {
            MembershipError::Unavailable { why: "there are no random bytes".to_owned() }
        })?;
        let members = membership.nodes().map(|(_, peer)| peer.clone()).collect();
        Ok(Invitation { token: issued.encode(), expires: issued.terms.expires, members })
    }
}

/// What is said where there is no cluster to join.
const ALONE: &str = "this node is alone; `tollgate cluster init` makes it the first of several";
