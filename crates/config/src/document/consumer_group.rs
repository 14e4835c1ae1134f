//! Consumer groups, in our words teams.

use model::OrganisationId;
use rules::plugin::Layer;
use serde_json::Value;

use super::head;
use crate::plugin::{self, Side};
use crate::reader::{Reader, named};

/// A team.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) organisation: OrganisationId,
    /// For the requests of its agents, over the route's.
    pub(crate) plugins: Layer,
    /// A rule of it needs a secret that is not open on this node.
    pub(crate) is_closed: bool,
}

/// The organisation of who names none.
pub(crate) const ORGANISATION: &str = "default";

/// Reads a team.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Document> {
    let place = reader.id().map_or_else(String::new, |id| format!("consumer_groups/{id}"));
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let organisation = object.optional("organisation", named);
    let plugins =
        object.optional("plugins", |reader, value| plugin::read(reader, value, Side::Team, &place));
    object.finish();
    let gathered = plugins.unwrap_or_default();
    Some(Document {
        organisation: OrganisationId::new(organisation.as_deref().unwrap_or(ORGANISATION)),
        plugins: gathered.layer,
        is_closed: gathered.is_closed,
    })
}
