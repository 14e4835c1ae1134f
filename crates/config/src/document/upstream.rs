//! Upstreams: where requests go, and with which credential.

mod node;

use std::time::Duration;

use http::header::{self, AUTHORIZATION};
use http::{HeaderName, HeaderValue};
use model::UpstreamId;
use rules::operation::Api;
use rules::upstream::{Credential, KeepAlive, Node, PassHost, Timeouts, Upstream, UpstreamScheme};
use serde_json::Value;

use super::head;
use crate::credential::{BEARER, field_with};
use crate::custody::{Custody, Opened};
use crate::reader::{Object, Reader, boolean, integer, matching, one_of, pattern, seconds, text};

/// Reads an upstream that stands for itself.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Upstream> {
    let id = UpstreamId::new(reader.id().unwrap_or_default());
    let mut object = reader.object(value)?;
    head::read(&mut object);
    members(object, id)
}

/// Reads an upstream that stands inside a route; it is named after the route.
pub(crate) fn read_inline<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Upstream> {
    // An id holds no slash, so no upstream of its own has this name.
    let id = UpstreamId::new(&format!("routes/{}", reader.id().unwrap_or_default()));
    let mut object = reader.object(value)?;
    head::read_inline(&mut object);
    members(object, id)
}

fn members<'v>(mut object: Object<'_, 'v>, id: UpstreamId) -> Option<Upstream> {
    object.optional("type", one_of(TYPES, TYPES_REFUSED));
    for (name, why) in REFUSED {
        object.refused(name, why);
    }
    let scheme = object.optional("scheme", one_of(SCHEMES, SCHEMES_REFUSED));
    let scheme = if object.has("scheme") { scheme } else { Some(UpstreamScheme::Http) };
    let nodes = object.required("nodes", |reader, value| {
        node::read(reader, value, scheme.unwrap_or(UpstreamScheme::Http))
    });
    let pass_host = pass_host(&mut object, nodes.as_deref().unwrap_or_default());
    let verify = object.optional("tls", tls).unwrap_or(true);
    let timeouts = object.optional("timeout", timeouts).unwrap_or_default();
    let retries = object.optional("retries", integer(0, RETRIES_MAX));
    let retry_within = object.optional("retry_timeout", seconds(true));
    let keepalive = object.optional("keepalive_pool", keep_alive).unwrap_or_default();
    let credential = object.optional("credential", credential).unwrap_or(Credential::None);
    let api = object.optional("api", one_of(APIS, &[]));
    let trusted = object.optional("trusted", boolean).unwrap_or_default();
    let is_asked = !matches!(credential, Credential::None) && pass_host == Some(PassHost::Pass);
    if is_asked && !trusted && nodes.iter().flatten().any(is_named) {
        // Servers that share an address tell their customers apart by `Host` alone.
        object.fault(
            "pass_host",
            "would send the credential to whatever host an agent names: take `node` or `rewrite`, \
             or mark the upstream `trusted`",
        );
    }
    object.finish();
    let (nodes, pass_host) = (nodes?, pass_host?);
    let api = api.unwrap_or_else(|| api_of(&nodes, &pass_host));
    // Read here and not by the first request.
    let _catalogue = api.map(Api::catalogue);
    let further = u32::try_from(nodes.len().saturating_sub(1)).unwrap_or(u32::MAX);
    Some(Upstream {
        id,
        scheme: scheme?,
        nodes,
        pass_host,
        verify,
        timeouts,
        retries: retries.unwrap_or(further),
        retry_within: retry_within.filter(|time| *time > Duration::ZERO),
        keepalive,
        credential,
        api,
        trusted,
    })
}

const NOT_SERVED: &str = "is not served yet";

const TYPES: &[(&str, ())] = &[("roundrobin", ())];
const TYPES_REFUSED: &[(&str, &str)] =
    &[("chash", NOT_SERVED), ("ewma", NOT_SERVED), ("least_conn", NOT_SERVED)];

const SCHEMES: &[(&str, UpstreamScheme)] = &[
    ("http", UpstreamScheme::Http),
    ("https", UpstreamScheme::Https),
    ("grpc", UpstreamScheme::Grpc),
    ("grpcs", UpstreamScheme::Grpcs),
];
const SCHEMES_REFUSED: &[(&str, &str)] =
    &[("tcp", NOT_SERVED), ("tls", NOT_SERVED), ("udp", NOT_SERVED), ("kafka", NOT_SERVED)];

/// What APISIX has and this release has not.
const REFUSED: [(&str, &str); 6] = [
    ("checks", NOT_SERVED),
    ("service_name", NOT_SERVED),
    ("discovery_type", NOT_SERVED),
    ("discovery_args", NOT_SERVED),
    ("hash_on", "is not served yet: nodes take turns"),
    ("key", "is not served yet: nodes take turns"),
];

/// Reads `pass_host` and `upstream_host`. A host name is passed itself, since a client's `Host`
/// means nothing to a foreign server; behind an address is one of our own, which gets the client's.
fn pass_host(object: &mut Object<'_, '_>, nodes: &[Node]) -> Option<PassHost> {
    let host = object.optional("upstream_host", host);
    let Some(mode) = object.optional("pass_host", one_of(PASS_HOSTS, &[])) else {
        if object.has("upstream_host") && !object.has("pass_host") {
            object.fault("upstream_host", "needs `pass_host` to be `rewrite`");
        }
        let default = if nodes.iter().any(is_named) { PassHost::Node } else { PassHost::Pass };
        return (!object.has("pass_host")).then_some(default);
    };
    match mode {
        Mode::Pass => Some(PassHost::Pass),
        Mode::Node => Some(PassHost::Node),
        Mode::Rewrite => {
            if !object.has("upstream_host") {
                object.fault(
                    "upstream_host",
                    "`upstream_host` can't be empty when `pass_host` is `rewrite`",
                );
            }
            host.map(PassHost::Rewrite)
        }
    }
}

/// Whether a node is a host name, not an address.
fn is_named(node: &Node) -> bool {
    node.host.parse::<std::net::IpAddr>().is_err()
}

/// The API of the host that is asked for; of any node's where that is each one's own.
fn api_of(nodes: &[Node], pass_host: &PassHost) -> Option<Api> {
    match pass_host {
        PassHost::Rewrite(host) => {
            let host = host.to_str().unwrap_or_default();
            Api::of_host(host.split(':').next().unwrap_or_default())
        }
        PassHost::Pass | PassHost::Node => nodes.iter().find_map(|node| Api::of_host(&node.host)),
    }
}

const APIS: &[(&str, Option<Api>)] =
    &[(Api::Cloudflare.as_str(), Some(Api::Cloudflare)), ("none", None)];

#[derive(Clone, Copy)]
enum Mode {
    Pass,
    Node,
    Rewrite,
}

const PASS_HOSTS: &[(&str, Mode)] =
    &[("pass", Mode::Pass), ("node", Mode::Node), ("rewrite", Mode::Rewrite)];

/// A host with or without a port.
pub(crate) fn host<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<HeaderValue> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._:[]".contains(letter);
    let what = "a host, and a port behind `:`";
    let text = matching((1, 262), allowed, what)(reader, value)?;
    if text.parse::<http::uri::Authority>().is_err() {
        reader.fault("is not a host");
        return None;
    }
    HeaderValue::from_str(&text.to_ascii_lowercase()).ok()
}

fn tls<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<bool> {
    let mut object = reader.object(value)?;
    let verify = object.optional("verify", boolean);
    for name in ["client_cert", "client_key", "client_cert_id"] {
        object.refused(name, NOT_SERVED);
    }
    object.finish();
    Some(verify.unwrap_or(true))
}

/// Reads the three deadlines, all of which must be there.
pub(crate) fn timeouts<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Timeouts> {
    let mut object = reader.object(value)?;
    let connect = object.required("connect", seconds(false));
    let send = object.required("send", seconds(false));
    let read = object.required("read", seconds(false));
    object.finish();
    Some(Timeouts { connect: connect?, send: send?, read: read? })
}

fn keep_alive<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<KeepAlive> {
    let default = KeepAlive::default();
    let mut object = reader.object(value)?;
    let size = object.optional("size", integer(1, i64::from(u32::MAX)));
    let idle = object.optional("idle_timeout", seconds(true));
    let requests = object.optional("requests", integer(1, i64::from(u32::MAX)));
    object.finish();
    Some(KeepAlive {
        size: size.unwrap_or(default.size),
        idle: idle.unwrap_or(default.idle),
        requests: requests.unwrap_or(default.requests),
    })
}

/// Reads the real credential: a secret, sent as `Authorization: Bearer SECRET`, or a header with
/// a prefix that stands in front of the secret as written.
fn credential<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Credential> {
    if value.is_string() {
        return secret(reader, value, &AUTHORIZATION, BEARER);
    }
    let Value::Object(_) = value else {
        reader.expected("a string or an object", value);
        return None;
    };
    let mut object = reader.object(value)?;
    let header = object.optional("header", pattern((1, 256), field));
    let named = if object.has("header") { header } else { Some(AUTHORIZATION) };
    let prefix = object.optional("prefix", text(0, 256));
    let name = named.clone().unwrap_or(AUTHORIZATION);
    let prefix = prefix.unwrap_or(if name == AUTHORIZATION { BEARER } else { "" });
    let credential =
        object.required("secret", |reader, value| secret(reader, value, &name, prefix));
    object.finish();
    named.and(credential)
}

fn secret<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    header: &HeaderName,
    prefix: &str,
) -> Option<Credential> {
    let written = text(1, 16_384)(reader, value)?;
    let opened = match reader.secret(written, Custody::Seal) {
        Opened::Text(secret) => match field_with(header, prefix, &secret) {
            Some(ready) => return Some(ready),
            None => reader.unusable(written, String::from("holds what no header field takes")),
        },
        closed @ Opened::Closed(_) => closed,
    };
    match opened {
        Opened::Closed(reference) => Some(Credential::Unresolved { reference }),
        Opened::Text(_) => None,
    }
}

/// The name of a field that may be set on requests.
pub(crate) fn field(name: &str) -> Result<HeaderName, String> {
    let name: HeaderName =
        name.parse().map_err(|_| String::from("invalid field character in header"))?;
    if FRAMING.contains(&name) || FRAMING_NAMES.contains(&name.as_str()) {
        return Err(format!("`{name}` belongs to the connection and cannot be set"));
    }
    Ok(name)
}

/// Fields that frame a message or belong to one connection (RFC 9110 §7.6.1).
static FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];
const FRAMING_NAMES: [&str; 2] = ["keep-alive", "proxy-connection"];

/// Further tries of one request.
const RETRIES_MAX: i64 = 100;
