//! What a command names: a kind, an id. Both are read before anything is asked.

use anyhow::{Result, bail};
use config::{Key, Kind};

/// What is asked for cannot be asked: it ends with 64.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misused(pub(crate) String);

/// Reads a kind: APISIX's name or ours.
pub(crate) fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| {
        let all: Vec<&str> = Kind::ALL.iter().copied().map(plural).collect();
        format!("there is no kind `{text}`; the kinds are {}", all.join(", "))
    })
}

/// Reads the name of an agent, as the document takes it.
pub(crate) fn agent(text: &str) -> Result<String, String> {
    if config::is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not 1 to 256 letters, digits, `-` and `_`"))
}

/// The path of a resource in the Admin API.
///
/// # Errors
/// [`Misused`] when nothing of this kind can have that id.
pub(crate) fn path(kind: Kind, id: &str) -> Result<String> {
    let misused = |why: &str| Misused(format!("no {} can have this name: {why}", word(kind)));
    let (parent, own) = match (kind, id.split_once('/')) {
        (Kind::Credential, None) => bail!(misused(&format!("`{id}` is not AGENT/ID"))),
        (Kind::Secret, None) => bail!(misused(&format!("`{id}` is not MANAGER/ID"))),
        (Kind::Credential | Kind::Secret, Some((parent, own))) => (Some(parent), own),
        (
            Kind::Upstream
            | Kind::Route
            | Kind::ConsumerGroup
            | Kind::Consumer
            | Kind::Limit
            | Kind::UpstreamQuota
            | Kind::Response
            | Kind::Zone
            | Kind::Policy
            | Kind::Price
            | Kind::Budget,
            _,
        ) => (None, id),
    };
    let named = match (kind, parent) {
        (Kind::Consumer, _) => agent(own).map(|_| ()),
        (Kind::Credential, Some(parent)) => agent(parent).and_then(|_| segment(own)),
        (_, parent) => parent.map_or(Ok(()), segment).and_then(|()| segment(own)),
    };
    if let Err(why) = named {
        bail!(misused(&why));
    }
    let own_path = Key::new(kind, id).path();
    Ok(own_path.replacen("/apisix/", "/admin/", 1))
}

/// Our name of a collection.
pub(crate) fn plural(kind: Kind) -> &'static str {
    kind.alias().unwrap_or_else(|| kind.plural())
}

/// Our name of one of them in a sentence.
pub(crate) fn word(kind: Kind) -> &'static str {
    kind.alias().and_then(|alias| alias.strip_suffix('s')).unwrap_or_else(|| kind.words())
}

fn segment(text: &str) -> Result<(), String> {
    if config::is_segment(text) {
        return Ok(());
    }
    Err(format!("`{text}` is not 1 to 64 letters, digits, `-`, `_` and `.`"))
}
