//! What a node says of itself to operators and load balancers.

use model::{NodeName, Revision};
use rules::Unresolved;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The only node there is: it decides alone.
    Single,
}

impl Role {
    /// The name that operators read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
        }
    }
}

/// A node's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    pub node: NodeName,
    pub cluster: ClusterId,
    pub role: Role,
    /// The revision of the document that is durable.
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
