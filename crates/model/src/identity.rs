//! Who acts: organisation, team, agent, run.

use crate::text_id;

text_id!(
    /// The name of an agent (in APISIX's words: a consumer's `username`).
    AgentId
);
text_id!(
    /// The name of a team (in APISIX's words: the id of a consumer group).
    TeamId
);
text_id!(
    /// The name of the organisation a team belongs to.
    OrganisationId
);
text_id!(
    /// One task of an agent, from the token's `run` claim or the `x-tollgate-run` header.
    RunId
);
text_id!(
    /// The id of the credential that proved the identity.
    CredentialId
);

/// A proven identity: what a credential said after its signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub organisation: OrganisationId,
    /// `None` for an agent outside all teams.
    pub team: Option<TeamId>,
    pub agent: AgentId,
    /// `None` when the agent names no run.
    pub run: Option<RunId>,
    /// `None` for a consumer whose credential stands in the consumer itself, and for the
    /// anonymous one.
    pub credential: Option<CredentialId>,
}
