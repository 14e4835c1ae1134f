//! Limits: whom they bind, and how a bucket fills.

use std::sync::Arc;

use model::{AgentId, Bucket, LimitId, RouteId, TeamId};

/// A limit of the document (kind `limits`).
#[derive(Clone, Debug)]
pub struct Limit {
    pub id: LimitId,
    pub per: Per,
    pub selector: Selector,
    pub bucket: Bucket,
    /// What happens when the ledger cannot answer.
    pub on_outage: OnOutage,
    /// Count and report, but let pass.
    pub shadow: bool,
}

/// Each of these has a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    Organisation,
    Team,
    Agent,
    Run,
    Route,
    /// The client's address; an IPv6 address counts by its /64.
    Address,
}

/// Which requests a limit binds. An empty list binds all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub routes: Vec<RouteId>,
    pub agents: Vec<AgentId>,
    pub teams: Vec<TeamId>,
    /// Upper-case methods.
    pub methods: Vec<Arc<str>>,
}

/// What a limit does when the ledger cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    #[default]
    Refuse,
    Allow,
}
