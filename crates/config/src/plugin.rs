//! What each plugin may hold, in a route, an agent, a team or a credential.

use std::sync::Arc;

use rules::identity::{KeyDigest, VerifyingKey};
use rules::plugin::{JwtAuth, KeyAuth, Layer, Plugin, Plugins, Slot};
use serde_json::Value;

use crate::pointer;
use crate::reader::{Object, Reader, unknown};

mod file_logger;
mod jwt_auth;
mod key_auth;
mod limit_req;
mod meta;
mod proxy_rewrite;
mod record;
mod request_id;
mod syslog;

/// Where plugins stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Route,
    /// A consumer: an auth plugin there is a way to prove the agent, others are its rules.
    Agent,
    Team,
    Credential,
}

/// The plugins of one place.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) layer: Layer,
    jwt_auth: Slot<JwtAuth>,
    key_auth: Slot<KeyAuth>,
    pub(crate) proofs: Proofs,
    /// A rule needs a secret that is not open on this node.
    pub(crate) is_closed: bool,
}

impl Gathered {
    /// The plugins as a route's.
    pub(crate) fn of_route(&self) -> Plugins {
        let (jwt_auth, key_auth) = (self.jwt_auth.over(None), self.key_auth.over(None));
        self.layer.over(&Plugins { jwt_auth, key_auth, ..Plugins::default() })
    }
}

/// What proves an agent.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    pub(crate) jwt: Option<JwtProof>,
    pub(crate) api_key: Option<KeyProof>,
}

/// The key that signs an agent's tokens.
#[derive(Debug)]
pub(crate) struct JwtProof {
    /// What tokens name it by.
    pub(crate) name: Arc<str>,
    /// `None` while it is not open on this node.
    pub(crate) key: Option<VerifyingKey>,
    /// Seconds by which `exp` and `nbf` are forgiven.
    pub(crate) grace: u64,
}

/// An API key.
#[derive(Debug)]
pub(crate) struct KeyProof {
    /// `None` while it is not open on this node.
    pub(crate) digest: Option<KeyDigest>,
}

/// One plugin that is served.
struct Entry {
    name: &'static str,
    /// Reads it as a rule for requests.
    rule: fn(&mut Site<'_, '_, '_>, &mut Gathered),
    /// Reads it as a proof of an agent; `None` when it is no auth plugin.
    proof: Option<fn(&mut Site<'_, '_, '_>, &mut Proofs)>,
}

/// Every plugin that is served.
const TABLE: [Entry; 7] = [
    rule("limit-req", |site, all| all.layer.limit_req = site.rule(limit_req::read)),
    Entry {
        name: "jwt-auth",
        rule: |site, all| all.jwt_auth = site.rule(jwt_auth::read),
        proof: Some(|site, proofs| proofs.jwt = site.proof(jwt_auth::read_proof)),
    },
    Entry {
        name: "key-auth",
        rule: |site, all| all.key_auth = site.rule(key_auth::read),
        proof: Some(|site, proofs| proofs.api_key = site.proof(key_auth::read_proof)),
    },
    rule("proxy-rewrite", |site, all| all.layer.proxy_rewrite = site.rule(proxy_rewrite::read)),
    rule("request-id", |site, all| all.layer.request_id = site.rule(request_id::read)),
    rule("syslog", |site, all| all.layer.syslog = site.rule(syslog::read)),
    rule("file-logger", |site, all| all.layer.file_logger = site.rule(file_logger::read)),
];

const fn rule(name: &'static str, read: fn(&mut Site<'_, '_, '_>, &mut Gathered)) -> Entry {
    Entry { name, rule: read, proof: None }
}

/// Plugins of APISIX that this release knows by name only.
const NOT_SERVED: [&str; 10] = [
    "consumer-restriction",
    "http-logger",
    "limit-conn",
    "limit-count",
    "opentelemetry",
    "prometheus",
    "proxy-cache",
    "request-validation",
    "response-rewrite",
    "traffic-split",
];

/// The names of the plugins that are served.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name)
}

/// The pointer and the text of what identifies an agent by an auth plugin.
pub(crate) fn identities(value: &Value) -> impl Iterator<Item = (&'static str, String, &str)> {
    let plugins = value.get("plugins");
    TABLE.iter().filter(|entry| entry.proof.is_some()).filter_map(move |entry| {
        let key = plugins?.get(entry.name)?.get("key")?.as_str()?;
        Some((entry.name, pointer::join("/plugins", entry.name) + "/key", key))
    })
}

/// Reads the plugins of a place such as `routes/1`.
pub(crate) fn read<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    side: Side,
    place: &str,
) -> Option<Gathered> {
    let Value::Object(map) = value else {
        reader.expected("an object", value);
        return None;
    };
    let place = Arc::from(place);
    let mut gathered = Gathered::default();
    for (name, value) in map {
        reader.at(name, |reader| {
            let mut site = Site { reader, value, place: &place };
            site.read(name, side, &mut gathered);
        });
    }
    Some(gathered)
}

/// One plugin in its place.
struct Site<'r, 'v, 'p> {
    reader: &'r mut Reader<'v>,
    value: &'v Value,
    place: &'p Arc<str>,
}

impl<'v> Site<'_, 'v, '_> {
    fn read(&mut self, name: &str, side: Side, gathered: &mut Gathered) {
        let Some(entry) = TABLE.iter().find(|entry| entry.name == name) else {
            let message = if NOT_SERVED.contains(&name) {
                format!("the plugin `{name}` is not served yet")
            } else {
                unknown("plugin", name, names())
            };
            self.reader.fault(message);
            return;
        };
        match (side, entry.proof) {
            (Side::Agent | Side::Credential, Some(proof)) => proof(self, &mut gathered.proofs),
            (Side::Team, Some(_)) => {
                self.reader.fault("has no effect in a team: it belongs in routes and consumers");
            }
            (Side::Credential, None) => {
                self.reader.fault("only supports auth type plugins in consumer credential");
            }
            (Side::Route, Some(_)) | (Side::Route | Side::Agent | Side::Team, None) => {
                let before = self.reader.unresolved_count();
                (entry.rule)(self, gathered);
                gathered.is_closed |= self.reader.unresolved_count() > before;
            }
        }
    }

    /// Reads a rule and what `_meta` says of it.
    fn rule<T>(&mut self, read: impl FnOnce(&mut Object<'_, 'v>) -> Option<T>) -> Slot<T> {
        if is_off(self.value) {
            let value = self.value;
            self.reader.forgive(value, |reader| members(reader, value, meta::read, read));
            return Slot::Off;
        }
        let Some((meta, Some(rule))) = members(self.reader, self.value, meta::read, read) else {
            // The fault is noted.
            return Slot::Open;
        };
        let meta::Meta { filter, error_response } = meta.unwrap_or_default();
        let place = Arc::clone(self.place);
        Slot::Rule(Arc::new(Plugin { place, filter, error_response, rule }))
    }

    /// Reads a proof of an agent. Of `_meta` only `disable` makes sense there.
    fn proof<T>(&mut self, read: impl FnOnce(&mut Object<'_, 'v>) -> Option<T>) -> Option<T> {
        let value = self.value;
        if is_off(value) {
            self.reader.forgive(value, |reader| members(reader, value, meta::read_bare, read));
            return None;
        }
        members(self.reader, value, meta::read_bare, read)?.1
    }
}

/// Reads `_meta` and the plugin's own members, and refuses all others.
fn members<'v, M, T>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    meta: impl FnOnce(&mut Reader<'v>, &'v Value) -> Option<M>,
    read: impl FnOnce(&mut Object<'_, 'v>) -> Option<T>,
) -> Option<(Option<M>, Option<T>)> {
    let mut object = reader.object(value)?;
    let meta = object.optional("_meta", meta);
    let rule = read(&mut object);
    object.finish();
    Some((meta, rule))
}

/// Whether a plugin is switched off. As in APISIX, whatever else it holds is taken then.
pub(crate) fn is_off(plugin: &Value) -> bool {
    plugin.pointer("/_meta/disable") == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests;
