//! Names of the places a request passes.

use crate::text_id;

text_id!(
    /// The id of a route.
    RouteId
);
text_id!(
    /// The id of an upstream; one that stands inside a route is named after the route.
    UpstreamId
);
text_id!(
    /// The name of a gateway node.
    NodeName
);

/// The number of a state of the document. Grows by one with every change; never repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision of an empty document.
    pub const ZERO: Self = Self(0);

    /// Wraps a number that a store or a client gave.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
