//! What a node says of itself to operators and load balancers.

use model::{NodeName, Revision};
use rules::Unresolved;
use serde::{Deserialize, Serialize};

use crate::transport::Peer;

/// The id a cluster is given on its first start: 128 random bits, printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The only node there is: it decides alone.
    Single,
    /// It judges changes, and the others follow.
    Leader,
    /// It has a vote, and follows.
    Follower,
    /// It has a vote, and stands for election: nobody leads that it can hear.
    Candidate,
    /// It has no vote: it follows, and carries traffic.
    Learner,
    /// It takes part no more: its disk has failed, or it is stopping.
    Stopped,
}

impl Role {
    /// The name that operators read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        }
    }
}

/// A node's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    pub node: NodeName,
    pub cluster: ClusterId,
    pub role: Role,
    /// The revision of the document that this node knows to be agreed on.
    pub revision: Revision,
    /// The revision that requests are judged by; behind `revision` while that does not compile.
    pub live: Revision,
    /// Why traffic should go elsewhere; empty when the node is ready.
    pub why_not_ready: Vec<String>,
    /// Why no change can be made; `None` when changes can be made. Traffic goes on regardless.
    pub why_not_writable: Option<String>,
    /// References to secrets that this node could not resolve; requests that need them are
    /// refused, the others are not touched.
    pub unresolved: Vec<Unresolved>,
}

impl Status {
    /// Whether the node judges requests by the newest revision it has.
    #[must_use]
    pub const fn ready(&self) -> bool {
        self.why_not_ready.is_empty()
    }
}

/// One node of the cluster, as another one sees it.
#[derive(Clone, Debug)]
pub struct Member {
    pub peer: Peer,
    /// Whether it has a vote.
    pub votes: bool,
    /// What it says of itself; or why it could not be asked.
    pub said: Result<MemberStatus, String>,
}

/// On how many members a change is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub on: usize,
    /// How many members there are, those that cannot be reached too.
    pub of: usize,
}

/// What a node says of itself to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    pub role: Role,
    /// The index of the last entry of the log that it has applied.
    pub applied: u64,
    pub revision: u64,
    /// The revision that requests are judged by.
    pub live: u64,
    pub why_not_ready: Vec<String>,
    pub why_not_writable: Option<String>,
    /// Whom it believes to lead.
    pub leader: Option<Peer>,
    /// As whom it knows the node that asks.
    pub you: Option<Peer>,
    /// The version of the program that it runs.
    pub release: String,
}
