//! Routes: which one takes a request.

mod host;
mod index;
mod method;
mod network;
mod pattern;
mod tree;

use std::sync::Arc;

use model::RouteId;

use crate::expression::Expression;
use crate::fact::Facts;
use crate::plugin::Plugins;
use crate::repeat::Care;
use crate::upstream::{Timeouts, Upstream};

pub use index::{Ambiguous, RouteIndex};
pub use method::Methods;
pub use network::Network;

/// A compiled route.
#[derive(Clone, Debug)]
pub struct Route {
    pub id: RouteId,
    /// Its name for people; the id where it has none.
    pub name: Arc<str>,
    /// Lower-case host patterns, exact or with a leading `*.`; empty for every host.
    pub hosts: Vec<Arc<str>>,
    /// Path patterns as written: exact, or with `*`.
    pub uris: Vec<Arc<str>>,
    pub methods: Methods,
    /// Among routes on the same path the higher wins.
    pub priority: i64,
    /// Client networks; empty for every address.
    pub clients: Vec<Network>,
    /// Further conditions on the request.
    pub vars: Option<Expression>,
    /// `None` refuses with 503: the route names an upstream that is not there.
    pub upstream: Option<Arc<Upstream>>,
    /// The route's own deadlines, instead of the upstream's.
    pub timeouts: Option<Timeouts>,
    pub websocket: bool,
    /// Whether its requests are kept from being repeated.
    pub repeats: Care,
    pub plugins: Plugins,
    /// A reference to a secret in the route that this node could not resolve: requests are
    /// refused rather than sent with the reference as text.
    pub unresolved: Option<Arc<str>>,
}

impl Route {
    /// Whether the conditions beside host and path hold: method, client's network, `vars`.
    pub(crate) fn accepts(&self, facts: &Facts<'_>) -> bool {
        self.methods.contains(facts.method)
            && (self.clients.is_empty()
                || self.clients.iter().any(|network| network.contains(facts.address())))
            && self.vars.as_ref().is_none_or(|vars| vars.holds(facts))
    }
}
