//! The compiled, immutable rules that the gate reads.

use model::Revision;

use crate::budget::BudgetIndex;
use crate::identity::Agents;
use crate::limit::LimitIndex;
use crate::policy::Policies;
use crate::price::PriceIndex;
use crate::quota::QuotaIndex;
use crate::response::ResponseIndex;
use crate::route::RouteIndex;
use crate::upstream::HostCredential;

/// Everything a request is judged by, swapped whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The state of the document this was compiled from.
    pub revision: Revision,
    pub routes: RouteIndex,
    pub agents: Agents,
    /// The document's limits, in the order of their ids.
    pub limits: LimitIndex,
    pub budgets: BudgetIndex,
    pub prices: PriceIndex,
    /// What becomes of answers on their way back.
    pub responses: ResponseIndex,
    /// What upstreams let everybody on one credential do.
    pub quotas: QuotaIndex,
    /// What agents may do; nothing is judged by them where the document has none.
    pub policies: Policies,
    /// What this node keeps for hosts; a few, searched in turn.
    pub credentials: Vec<HostCredential>,
    /// References to secrets that this node could not resolve, by the place that names them.
    pub unresolved: Vec<Unresolved>,
}

impl Snapshot {
    /// What this node keeps for a host.
    #[must_use]
    pub fn credential_of(&self, host: &str, port: u16) -> Option<&HostCredential> {
        self.credentials.iter().find(|bound| bound.port == port && *bound.host == *host)
    }
}

/// A reference to a secret that this node could not resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The place in the document, such as `/upstreams/cloudflare/credential`.
    pub place: String,
    /// The reference itself; it names a secret and holds none.
    pub reference: String,
    /// Why, without secrets.
    pub why: String,
}
