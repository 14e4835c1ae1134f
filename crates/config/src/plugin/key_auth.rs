//! `key-auth`: API keys that prove an agent.

use std::sync::Arc;

use http::HeaderName;
use model::AgentId;
use rules::plugin::{KeyAuth, Sources};

use super::KeyProof;
use crate::reader::{Object, boolean, named, pattern, text};

/// Reads what a route asks of API keys.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<KeyAuth> {
    let sources = Sources {
        header: header(object, "apikey"),
        query: name(object, "query", "apikey"),
        cookie: None,
        hide: object.optional("hide_credentials", boolean).unwrap_or_default(),
    };
    object.refused("key", "belongs in the plugin of a consumer or a credential");
    Some(KeyAuth { sources, realm: name(object, "realm", "key"), anonymous: anonymous(object) })
}

/// Reads the API key of an agent.
pub(super) fn read_proof<'v>(object: &mut Object<'_, 'v>) -> Option<KeyProof> {
    object.required("key", |reader, value| {
        let written = text(1, 4096)(reader, value)?;
        Some(KeyProof { digest: reader.api_key(written) })
    })
}

/// Reads the name of the header that carries a credential.
pub(super) fn header(object: &mut Object<'_, '_>, default: &'static str) -> HeaderName {
    let parse = |text: &str| {
        text.parse::<HeaderName>().map_err(|_| String::from("is not the name of a header"))
    };
    let found = object.optional("header", pattern((1, 256), parse));
    found.unwrap_or_else(|| HeaderName::from_static(default))
}

/// Reads a name that has a default.
pub(super) fn name(object: &mut Object<'_, '_>, member: &'static str, default: &str) -> Arc<str> {
    // What stands in quotes in a challenge must not end them.
    let parse = |text: &str| {
        let plain = text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\' || c == ' ');
        let name = plain.then(|| Arc::from(text));
        name.ok_or_else(|| String::from("may hold only visible ASCII without quotes"))
    };
    object.optional(member, pattern((1, 256), parse)).unwrap_or_else(|| Arc::from(default))
}

/// Reads the agent that a request without a valid credential acts as.
pub(super) fn anonymous(object: &mut Object<'_, '_>) -> Option<AgentId> {
    object.optional("anonymous_consumer", named).map(|name| AgentId::new(&name))
}
