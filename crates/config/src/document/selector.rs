//! Whom a limit, a budget or a price binds, and what becomes of it in an outage.

use std::sync::Arc;

use model::{AgentId, RouteId, TeamId};
use rules::limit::OnOutage;
use rules::operation::{Api, Operations};
use rules::route::Methods;
use rules::selector::{Deed, Selector};
use serde_json::Value;

use super::Link;
use crate::key::{Key, Kind};
use crate::pointer;
use crate::reader::{Reader, choices, id, named, one_of, text, unique, unknown};

pub(crate) const ON_OUTAGE: &[(&str, OnOutage)] =
    &[("refuse", OnOutage::Refuse), ("share", OnOutage::Share), ("allow", OnOutage::Allow)];

const DEEDS: &[(&str, Deed)] =
    &[("read", Deed::Read), ("write", Deed::Write), ("unknown", Deed::Unknown)];

/// Reads a selector.
pub(crate) fn selector<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Selector> {
    let mut object = reader.object(value)?;
    let routes = object.optional("routes", unique(1, NAMES_MAX, id));
    let agents = object.optional("agents", unique(1, NAMES_MAX, named));
    let teams = object.optional("teams", unique(1, NAMES_MAX, id));
    let methods = object.optional("methods", unique(1, NAMES_MAX, method));
    let operations = object.optional("operations", operations);
    let effects = object.optional("effects", unique(1, DEEDS.len(), one_of(DEEDS, &[])));
    object.finish();
    Some(Selector {
        routes: names(routes, RouteId::new),
        agents: names(agents, AgentId::new),
        teams: names(teams, TeamId::new),
        methods: names(methods, |name| Arc::from(name)),
        operations,
        effects: effects.unwrap_or_default(),
    })
}

fn names<T>(texts: Option<Vec<String>>, name: fn(&str) -> T) -> Vec<T> {
    texts.unwrap_or_default().iter().map(|text| name(text)).collect()
}

/// A method as routes name them.
pub(crate) fn method<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    let name = value.as_str().filter(|name| Methods::NAMES.contains(name));
    if name.is_none() {
        reader.fault(format!("expected {}", choices(Methods::NAMES.into_iter())));
    }
    name.map(str::to_owned)
}

/// Reads names and patterns of operations, each of which must name one.
fn operations<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Operations> {
    let listed = unique(1, OPERATIONS_MAX, |reader: &mut Reader<'v>, value| {
        let pattern = text(1, 128)(reader, value)?;
        let found = Operations::of(pattern);
        if found.names().is_empty() {
            reader.fault(nameless(pattern));
            return None;
        }
        Some((pattern, found))
    })(reader, value)?;
    Some(Operations::union(listed.iter().map(|(_, found)| found)))
}

/// Says that a text names no operation.
fn nameless(pattern: &str) -> String {
    if pattern.contains('*') {
        return String::from("fits the name of no operation; see `tollgate operations find`");
    }
    let templates = Api::ALL.iter().flat_map(|api| api.catalogue().templates());
    let said = unknown("operation", pattern, templates.map(|template| template.operation));
    if said.ends_with('?') { said } else { said + "; see `tollgate operations find`" }
}

/// Names in one list of a selector.
pub(super) const NAMES_MAX: usize = 4_096;

/// Names and patterns of operations in one selector: each is held against the whole catalogue.
const OPERATIONS_MAX: usize = 256;

/// The routes, agents and teams that a rule names.
pub(crate) fn links(value: &Value) -> Vec<Link> {
    value.get("match").map_or_else(Vec::new, |selector| selector_links(selector, "/match"))
}

/// What a selector at this place names.
pub(super) fn selector_links(selector: &Value, at: &str) -> Vec<Link> {
    let named =
        [("routes", Kind::Route), ("agents", Kind::Consumer), ("teams", Kind::ConsumerGroup)];
    let mut links = Vec::new();
    for (name, kind) in named {
        let items = selector.get(name).and_then(Value::as_array);
        for (index, item) in items.into_iter().flatten().enumerate() {
            let id = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            let path = pointer::join(&format!("{at}/{name}"), &index.to_string());
            links.push(Link { path, key: Key::new(kind, id) });
        }
    }
    links
}
