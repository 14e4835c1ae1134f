//! Routes: which requests are taken, and what is done with them.

use std::sync::Arc;

use http::uri::PathAndQuery;
use model::RouteId;
use rules::expression::Expression;
use rules::route::{Methods, Network, Route};
use rules::target::Target;
use rules::upstream::Upstream;
use serde_json::Value;

use super::selector::method;
use super::{Link, head, repeat, upstream};
use crate::key::{Key, Kind};
use crate::plugin::{self, Side};
use crate::pointer;
use crate::reader::{Object, Reader, boolean, id, integer, matching, text, unique};

/// A route whose upstream, when it stands elsewhere, is still to be found.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its upstream is there when it stands inside the route.
    pub(crate) route: Route,
    /// The id of its upstream, when it stands elsewhere.
    pub(crate) upstream_id: Option<String>,
    /// `status`: a disabled route takes no request.
    pub(crate) enabled: bool,
}

/// Reads a route.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Document> {
    let route_id = reader.id().unwrap_or_default();
    let mut object = reader.object(value)?;
    let head = head::read(&mut object);
    for (name, why) in REFUSED {
        object.refused(name, why);
    }
    let uris = one_or_many(&mut object, ("uri", "uris"), uri).map(shared);
    if !object.has("uri") && !object.has("uris") {
        object.fault("uri", "is required, or `uris`");
    }
    let hosts = one_or_many(&mut object, ("host", "hosts"), host).map(shared);
    let clients = one_or_many(&mut object, ("remote_addr", "remote_addrs"), client);
    let methods = object.optional("methods", unique(1, LIST_MAX, method));
    let priority = object.optional("priority", integer(i64::MIN, i64::MAX));
    let vars = object.optional("vars", expression);
    let timeouts = object.optional("timeout", upstream::timeouts);
    let websocket = object.optional("enable_websocket", boolean).unwrap_or_default();
    let repeats = object.optional("idempotency", repeat::read).unwrap_or_default();
    let status = object.optional("status", one_of_numbers).unwrap_or(true);
    let place = format!("routes/{route_id}");
    let plugins = object
        .optional("plugins", |reader, value| plugin::read(reader, value, Side::Route, &place));
    // Upstreams note their own; what is unresolved so far would be sent as text.
    let unresolved = object.reader.first_unresolved().map(Arc::from);
    let upstream_id = object.optional("upstream_id", id);
    let upstream = object.optional("upstream", upstream::read_inline);
    object.exclusive("upstream", "upstream_id");
    if !["upstream", "upstream_id", "plugins"].iter().any(|name| object.has(name)) {
        object.reader.fault("needs an `upstream`, an `upstream_id` or `plugins`");
    }
    object.finish();
    let route = Route {
        id: RouteId::new(route_id),
        name: Arc::from(head.name.unwrap_or(route_id)),
        hosts: hosts.unwrap_or_default(),
        uris: uris.unwrap_or_default(),
        methods: Methods::from_names(methods.unwrap_or_default())?,
        priority: priority.unwrap_or_default(),
        clients: clients.iter().flatten().filter_map(|text| Network::parse(text)).collect(),
        vars,
        upstream: upstream.map(Arc::<Upstream>::new),
        timeouts,
        websocket,
        repeats,
        plugins: plugins.unwrap_or_default().of_route(),
        unresolved,
    };
    Some(Document { route, upstream_id, enabled: status })
}

/// What APISIX has and this release has not.
const REFUSED: [(&str, &str); 6] = [
    ("filter_func", "is refused: code in documents is not run; `vars` states conditions"),
    ("script", "is refused: code in documents is not run"),
    ("script_id", "is refused: code in documents is not run"),
    ("service_id", "is not served yet: write the service's `upstream` and `plugins` here"),
    ("plugin_config_id", "is not served yet: write the plugins here"),
    ("service_protocol", "is not served yet"),
];

/// Reads a member that is one value, or its plural that is a list of them.
fn one_or_many<'v, T: Ord>(
    object: &mut Object<'_, 'v>,
    (one, many): (&'static str, &'static str),
    item: impl Fn(&mut Reader<'v>, &'v Value) -> Option<T> + Copy,
) -> Option<Vec<T>> {
    let single = object.optional(one, item).map(|item| vec![item]);
    let several = object.optional(many, unique(1, LIST_MAX, item));
    object.exclusive(one, many);
    several.or(single)
}

fn shared(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Arc::from).collect()
}

/// A path pattern.
fn uri<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    let uri = text(1, 4096)(reader, value)?;
    if !uri.starts_with('/') && uri != "*" {
        reader.fault("expected a path that starts with `/`");
        return None;
    }
    if uri.contains(['?', '#']) || uri.chars().any(char::is_control) {
        reader
            .fault("is matched with paths only: it may hold no `?`, no `#`, no control character");
        return None;
    }
    if uri != "*" && !is_normal(uri) {
        reader.fault("is not in normal form, so that no request would ever match it");
        return None;
    }
    Some(uri.to_owned())
}

/// Whether a path of this pattern can be one that the gate matches: paths are matched in their
/// normal form, without dot segments, doubled slashes or needless escapes.
fn is_normal(pattern: &str) -> bool {
    // What a `*` stands for completes the last segment.
    let path =
        pattern.strip_suffix('*').map_or_else(|| pattern.to_owned(), |open| format!("{open}x"));
    let escaped: String = path.chars().map(escaped).collect();
    let target = PathAndQuery::try_from(escaped).ok().map(Target::from_path_and_query);
    matches!(target, Some(Ok(target)) if target.normal() == path)
}

/// A character as a request line may hold it.
fn escaped(character: char) -> String {
    if character.is_ascii_graphic() && !"\"<>\\^`{|}".contains(character) {
        return character.to_string();
    }
    let mut buffer = [0; 4];
    let bytes = character.encode_utf8(&mut buffer).bytes();
    bytes.map(|byte| format!("%{byte:02X}")).collect()
}

/// A host pattern: exact, or with a leading `*`.
fn host<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._*:[]".contains(letter);
    let what = "letters, digits, `-`, `.`, `_`, `:`, brackets and a leading `*`";
    let host = matching((1, 256), allowed, what)(reader, value)?;
    if host.rfind('*').is_some_and(|at| at > 0) {
        reader.fault("may hold `*` at its beginning only");
        return None;
    }
    Some(host.to_ascii_lowercase())
}

/// An address or a network.
fn client<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    let text = text(2, 64)(reader, value)?;
    if Network::parse(text).is_none() {
        reader.fault("is neither an IP address nor a network (CIDR)");
        return None;
    }
    Some(text.to_owned())
}

/// A condition in the `vars` language.
pub(crate) fn expression<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Expression> {
    match Expression::compile(value) {
        Ok(expression) => Some(expression),
        Err(faults) => {
            for fault in faults {
                reader.fault_below(&fault.path, fault.message);
            }
            None
        }
    }
}

/// `1` for on, `0` for off.
fn one_of_numbers<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<bool> {
    integer::<i64>(0, 1)(reader, value).map(|status| status == 1)
}

/// Patterns, hosts, networks or methods of one route.
const LIST_MAX: usize = 1_024;

/// The upstream a route names, and the agents its plugins name.
pub(crate) fn links(value: &Value) -> Vec<Link> {
    let upstream = head::link(value, "upstream_id");
    let upstream = upstream.map(|(path, id)| Link { path, key: Key::new(Kind::Upstream, id) });
    let plugins = value.get("plugins").and_then(Value::as_object);
    let served = plugins.into_iter().flatten().filter(|(_, plugin)| !plugin::is_off(plugin));
    let anonymous = served.filter_map(|(name, plugin)| {
        let agent = plugin.get("anonymous_consumer")?.as_str()?;
        let path = pointer::join("/plugins", name) + "/anonymous_consumer";
        Some(Link { path, key: Key::new(Kind::Consumer, agent) })
    });
    upstream.into_iter().chain(anonymous).collect()
}

#[cfg(test)]
mod tests {
    use super::is_normal;

    fn check(pattern: &str, expected: bool) {
        assert_eq!(is_normal(pattern), expected, "{pattern}");
    }

    #[test]
    fn a_pattern_is_what_a_path_in_normal_form_can_be() {
        for pattern in ["/", "/a/*", "/a/b*", "/a/*/c", "/.well-known/*", "/ä/ö", "/a b", "/a%2Fb"]
        {
            check(pattern, true);
        }
    }

    #[test]
    fn a_pattern_that_no_path_matches_is_refused() {
        for pattern in ["/a//b", "/a/../b", "/a/./b", "/%41", "/a%2fb", "/%zz", "/a\\b", "/.."] {
            check(pattern, false);
        }
    }
}
