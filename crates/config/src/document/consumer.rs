//! Consumers, in our words agents.

use std::sync::Arc;

use model::{AgentId, OrganisationId, TeamId};
use rules::plugin::Layer;
use serde_json::Value;

use super::{Link, head};
use crate::key::{Key, Kind};
use crate::plugin::{self, Proofs, Side};
use crate::reader::{Object, Reader, id, named};

/// An agent.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) id: AgentId,
    pub(crate) team: Option<TeamId>,
    /// Of an agent outside all teams; one in a team belongs to the team's organisation.
    pub(crate) organisation: Option<OrganisationId>,
    pub(crate) custom_id: Option<Arc<str>>,
    /// For its requests, over its team's and the route's.
    pub(crate) plugins: Layer,
    /// What proves it, beside its credentials.
    pub(crate) proofs: Proofs,
    /// A rule of it needs a secret that is not open on this node.
    pub(crate) is_closed: bool,
}

/// Reads an agent.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Document> {
    let mut object = reader.object(value)?;
    let (name, head) = head::read_named(&mut object);
    let team = team(&mut object);
    let organisation = object.optional("organisation", named);
    if TEAM.iter().any(|name| object.has(name)) && object.has("organisation") {
        object.fault(
            "organisation",
            "excludes a team: an agent of a team belongs to the team's organisation",
        );
    }
    let place = format!("consumers/{}", name.as_deref().unwrap_or_default());
    let plugins = object
        .optional("plugins", |reader, value| plugin::read(reader, value, Side::Agent, &place));
    object.finish();
    let plugins = plugins.unwrap_or_default();
    Some(Document {
        id: AgentId::new(&name?),
        team: team.as_deref().map(TeamId::new),
        organisation: organisation.as_deref().map(OrganisationId::new),
        custom_id: head.custom_id.map(Arc::from),
        plugins: plugins.layer,
        proofs: plugins.proofs,
        is_closed: plugins.is_closed,
    })
}

/// Reads the team, under either name.
fn team(object: &mut Object<'_, '_>) -> Option<String> {
    let [theirs, ours] = TEAM.map(|name| object.optional(name, id));
    if theirs.is_some() && ours.is_some() && theirs != ours {
        object.fault("team", "is another team than `group_id`: they are two names of one thing");
    }
    ours.or(theirs)
}

/// The member that names the team: in APISIX's words and in ours.
const TEAM: [&str; 2] = ["group_id", "team"];

/// The team an agent names.
pub(crate) fn links(value: &Value) -> Vec<Link> {
    let named = TEAM.iter().filter_map(|name| head::link(value, name));
    named.map(|(path, id)| Link { path, key: Key::new(Kind::ConsumerGroup, id) }).collect()
}
