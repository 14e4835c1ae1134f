//! The head the upstream gets, but for the real credential: what the agent must not send is out.

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use model::Refusal;
use rules::field::{remove_cookie, without_argument};
use rules::plugin::{Plugins, RequestIdAlgorithm, Sources};
use rules::upstream::Upstream;
use telemetry::context::TRACEPARENT;

use crate::describe::{Described, refusal};
use crate::head::Head;
use crate::identify::Identified;
use crate::trip::Trip;

/// What a rewrite and the route's plugins made of a head.
pub(crate) struct Dressed {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// The `Host` of a rewrite, instead of the upstream's.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) request_id: Option<(HeaderName, HeaderValue)>,
}

/// Dresses a head for its upstream. Its headers are taken.
pub(crate) fn dress(
    trip: &mut Trip,
    head: &mut Head,
    described: &Described,
    upstream: &Upstream,
) -> Result<Dressed, Refusal> {
    let identified = described.identified();
    let plugins = identified.plugins();
    let facts = trip.facts(head);
    let (mut method, mut host, mut target) = (head.method.clone(), None, None);
    let mut changed = None;
    if let Some((rewrite, rewritten)) = described.rewrite() {
        if rewrite.changes_headers() {
            // The new values are made from the old ones, so both are needed.
            let mut headers = head.headers.clone();
            strip(&mut headers, plugins, upstream.trusted);
            let done = rewrite.headers(&mut headers, &facts, &rewritten.captures);
            done.map_err(|fault| refusal(&fault))?;
            changed = Some(headers);
        }
        (host, target) = (rewrite.host.clone(), rewritten.target.as_ref());
        method = rewrite.method.clone().unwrap_or(method);
    }
    let mut headers = changed.unwrap_or_else(|| {
        let mut headers = std::mem::take(&mut head.headers);
        strip(&mut headers, plugins, upstream.trusted);
        headers
    });
    let target = target.unwrap_or(&head.target).path_and_query().clone();
    let target = without_credentials(target, plugins, upstream.trusted);
    if upstream.trusted {
        introduce(trip, &mut headers, identified);
    }
    let request_id = request_id(trip, &mut headers, plugins);
    if head.upgrade.is_some() {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if trip.bill.as_ref().is_some_and(|bill| bill.listens()) {
        // What the answer costs is read from it as it passes.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if trip.is_traced() {
        headers.insert(TRACEPARENT, trip.trace.traceparent());
    }
    if target.path() != head.target.path() {
        trip.learnt().forwarded_path = Some(target.path().into());
    }
    Ok(Dressed { method, target, headers, host, request_id })
}

/// Takes out what must not go on: what is meant for this connection, what only the gate may say,
/// and the agent's credentials.
fn strip(headers: &mut HeaderMap, plugins: &Plugins, trusted: bool) {
    remove_listed(headers);
    remove_all(headers, |name, value| is_hop_by_hop(name, value) || is_of_the_gate(name));
    strip_credentials(headers, plugins, trusted);
}

/// Takes out what is meant for one connection only (RFC 9110 §7.6.1). `te: trailers` may pass.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // Where an answer has two lengths its chunks count (RFC 9112 §6.3).
        headers.remove(CONTENT_LENGTH);
    }
    remove_listed(headers);
    remove_all(headers, is_hop_by_hop);
}

/// Trailers are fields too: what may not stand in a head may not stand there.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove_all(trailers, |name, value| is_hop_by_hop(name, value) || is_of_the_gate(name));
}

/// Takes out the fields that `connection` lists.
fn remove_listed(headers: &mut HeaderMap) {
    let mut listed: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let names = value.to_str().unwrap_or_default().split(',').map(str::trim_ascii);
        // Most connections only say how long they live.
        let names = names.filter(|name| !matches!(*name, "keep-alive" | "close" | ""));
        listed.extend(names.filter_map(|name| name.parse().ok()).filter(|name| *name != TE));
    }
    for name in listed {
        headers.remove(name);
    }
}

/// Removes such fields. A walk over the few fields of a head is cheaper than a search for each of
/// the many names.
fn remove_all(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    let unwanted = |headers: &HeaderMap| {
        let mut fields = headers.iter();
        fields.find(|(name, value)| is_unwanted(name, value)).map(|(name, _)| name.clone())
    };
    while let Some(name) = unwanted(headers) {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName, value: &HeaderValue) -> bool {
    match name.as_str() {
        "te" => value.as_bytes() != b"trailers",
        "connection"
        | "keep-alive"
        | "proxy-authenticate"
        | "proxy-authentication-info"
        | "proxy-authorization"
        | "proxy-connection"
        | "transfer-encoding"
        | "upgrade" => true,
        _ => false,
    }
}

/// What only the gate may say of an agent, and what it alone reads: whole families of names, as
/// servers that turn `-` into `_` spell them too.
fn is_of_the_gate(name: &HeaderName) -> bool {
    let name = name.as_str();
    if name == "forwarded" {
        return true;
    }
    let Some((b'x', b'-' | b'_')) = name.as_bytes().first_chunk().map(|[x, dash]| (*x, *dash))
    else {
        return false;
    };
    let starts = |family: &str| {
        let mut bytes = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        family.bytes().all(|byte| bytes.next() == Some(byte))
    };
    ["x-consumer-", "x-credential-", "x-forwarded-", "x-tollgate-", "x-real-ip"]
        .into_iter()
        .any(starts)
}

/// The places where a route's credentials may stand: not only the one that counted.
fn sources(plugins: &Plugins) -> impl Iterator<Item = &Sources> {
    let jwt = plugins.jwt_auth.as_ref().map(|plugin| &plugin.rule.sources);
    let key = plugins.key_auth.as_ref().map(|plugin| &plugin.rule.sources);
    jwt.into_iter().chain(key)
}

fn strip_credentials(headers: &mut HeaderMap, plugins: &Plugins, trusted: bool) {
    for sources in sources(plugins).filter(|sources| sources.hide || !trusted) {
        headers.remove(&sources.header);
        if let Some(cookie) = &sources.cookie
            && headers.contains_key(COOKIE)
        {
            remove_cookie(headers, cookie);
        }
    }
}

/// A target without the credentials that its query holds.
pub(crate) fn without_credentials(
    target: PathAndQuery,
    plugins: &Plugins,
    trusted: bool,
) -> PathAndQuery {
    let mut target = target;
    for sources in sources(plugins).filter(|sources| sources.hide || !trusted) {
        let Some(query) = target.query() else { return target };
        let Some(kept) = without_argument(query, &sources.query) else { continue };
        let mark = if kept.is_empty() { "" } else { "?" };
        // Taking bytes out of a target leaves a target.
        if let Ok(shorter) = PathAndQuery::try_from(format!("{}{mark}{kept}", target.path())) {
            target = shorter;
        }
    }
    target
}

/// Tells an upstream of our own who acts (apisix: `X-Consumer-*`).
fn introduce(trip: &Trip, headers: &mut HeaderMap, identified: &Identified) {
    headers.insert(HeaderName::from_static("x-tollgate-request-id"), trip.request_id());
    let mut set = |name: &'static str, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-forwarded-for", &trip.outcome().client.ip().to_canonical().to_string());
    set("x-forwarded-proto", trip.outcome().scheme.as_str());
    let Some(identity) = &trip.outcome().identity else { return };
    set("x-consumer-username", identity.agent.as_str());
    if let Some(credential) = &identity.credential {
        set("x-credential-identifier", credential.as_str());
    }
    if let Some(custom_id) = identified.custom_id() {
        set("x-consumer-custom-id", custom_id);
    }
}

/// `request-id`: the client's own if it brings one, else a new one.
fn request_id(
    trip: &Trip,
    headers: &mut HeaderMap,
    plugins: &Plugins,
) -> Option<(HeaderName, HeaderValue)> {
    let rule = &plugins.request_id.as_ref()?.rule;
    let brought = headers.get(&rule.header).filter(|value| !value.is_empty()).cloned();
    let value = match brought {
        Some(value) => value,
        None => HeaderValue::try_from(new_id(trip, &rule.algorithm)).ok()?,
    };
    headers.insert(rule.header.clone(), value.clone());
    rule.in_response.then(|| (rule.header.clone(), value))
}

fn new_id(trip: &Trip, algorithm: &RequestIdAlgorithm) -> String {
    let draw = |characters: &str, length: usize| {
        let characters: Vec<char> = characters.chars().collect();
        let count = u128::try_from(characters.len().max(1)).unwrap_or(1);
        let mut id = String::with_capacity(length);
        while id.len() < length {
            let mut chance = trip.core.ids().request;
            for _ in 0..16.min(length - id.len()) {
                let index = usize::try_from(chance % count).unwrap_or_default();
                id.push(characters.get(index).copied().unwrap_or('0'));
                chance /= count;
            }
        }
        id
    };
    match algorithm {
        RequestIdAlgorithm::Uuid => {
            uuid::Builder::from_random_bytes(trip.outcome().request_id.0.to_be_bytes())
                .into_uuid()
                .to_string()
        }
        RequestIdAlgorithm::Nanoid => draw(URL_SAFE, 21),
        RequestIdAlgorithm::RangeId { characters, length } => draw(characters, *length),
        // A KSUID sorts by its first characters, which count seconds since May 2014.
        RequestIdAlgorithm::Ksuid => {
            let secs = trip.outcome().started.as_secs().saturating_sub(1_400_000_000);
            format!("{}{}", base62(secs, 6), draw(BASE62, 21))
        }
    }
}

fn base62(number: u64, width: usize) -> String {
    let digit = |place: usize| {
        let power = 62_u64.saturating_pow(u32::try_from(width - 1 - place).unwrap_or(u32::MAX));
        let index = usize::try_from(number / power % 62).unwrap_or_default();
        BASE62.chars().nth(index).unwrap_or('0')
    };
    (0..width).map(digit).collect()
}

const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const URL_SAFE: &str = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
