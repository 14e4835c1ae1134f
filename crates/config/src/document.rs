//! What each kind of resource may hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::command::Rejected;
use crate::custody::{Custody, Opener, Seal, is_stored};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::pointer;
use crate::reader::{Notes, Reader, is_within};
use crate::reference::position;

mod budget;
pub(crate) mod consumer;
pub(crate) mod consumer_group;
pub(crate) mod credential;
mod head;
pub(crate) mod limit;
mod policy;
mod price;
pub(crate) mod quota;
mod repeat;
mod response;
pub(crate) mod route;
pub(crate) mod secret;
mod selector;
pub(crate) mod upstream;
mod zone;

pub(crate) use head::{CREATED, UPDATED, forbidden_times};

/// A resource that was read. Where there are faults, parts are missing.
#[derive(Debug)]
pub(crate) enum Document {
    Secret(secret::Document),
    Upstream(Arc<rules::upstream::Upstream>),
    Route(Box<route::Document>),
    ConsumerGroup(consumer_group::Document),
    Consumer(Box<consumer::Document>),
    Credential(credential::Document),
    Limit(Arc<rules::limit::Limit>),
    UpstreamQuota(Arc<rules::quota::Quota>),
    Zone(rules::policy::Zone),
    Policy(Box<policy::Document>),
    Price(Arc<rules::price::Price>),
    Budget(Arc<rules::budget::Budget>),
    Response(Arc<rules::response::Response>),
}

/// A name of another resource inside a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// JSON pointer inside the resource.
    pub(crate) path: String,
    /// What is named.
    pub(crate) key: Key,
}

/// How the resources of a kind are read, and which others they name.
struct Shape {
    read: for<'v> fn(&mut Reader<'v>, &'v Value) -> Option<Document>,
    links: fn(&Value) -> Vec<Link>,
}

const fn shape(kind: Kind) -> Shape {
    match kind {
        Kind::Secret => {
            Shape { read: |r, v| secret::read(r, v).map(Document::Secret), links: none }
        }
        Kind::Upstream => Shape {
            read: |r, v| upstream::read(r, v).map(Arc::new).map(Document::Upstream),
            links: none,
        },
        Kind::Route => Shape {
            read: |r, v| route::read(r, v).map(Box::new).map(Document::Route),
            links: route::links,
        },
        Kind::ConsumerGroup => Shape {
            read: |r, v| consumer_group::read(r, v).map(Document::ConsumerGroup),
            links: none,
        },
        Kind::Consumer => Shape {
            read: |r, v| consumer::read(r, v).map(Box::new).map(Document::Consumer),
            links: consumer::links,
        },
        Kind::Credential => {
            Shape { read: |r, v| credential::read(r, v).map(Document::Credential), links: none }
        }
        Kind::Limit => Shape {
            read: |r, v| limit::read(r, v).map(Arc::new).map(Document::Limit),
            links: selector::links,
        },
        Kind::Price => Shape {
            read: |r, v| price::read(r, v).map(Arc::new).map(Document::Price),
            links: selector::links,
        },
        Kind::Budget => Shape {
            read: |r, v| budget::read(r, v).map(Arc::new).map(Document::Budget),
            links: selector::links,
        },
        Kind::Response => Shape {
            read: |r, v| response::read(r, v).map(Arc::new).map(Document::Response),
            links: selector::links,
        },
        Kind::UpstreamQuota => Shape {
            read: |r, v| quota::read(r, v).map(Arc::new).map(Document::UpstreamQuota),
            links: quota::links,
        },
        Kind::Zone => Shape { read: |r, v| zone::read(r, v).map(Document::Zone), links: none },
        Kind::Policy => Shape {
            read: |r, v| policy::read(r, v).map(Box::new).map(Document::Policy),
            links: policy::links,
        },
    }
}

const fn none(_: &Value) -> Vec<Link> {
    Vec::new()
}

/// Every fault of a document, shape and plugins, all at once.
///
/// With an id ([`Key::id`]), the id itself is checked too, and that the document names no other.
#[must_use]
pub fn check(kind: Kind, id: Option<&str>, value: &Value) -> Vec<Fault> {
    examine(kind, id, value).0
}

/// Every fault of a document as [`check`] finds them, and the places of it whose secrets are not
/// stored as they are.
pub(crate) fn examine(kind: Kind, id: Option<&str>, value: &Value) -> (Vec<Fault>, Vec<Seal>) {
    let mut reader = Reader::new(id);
    drop((shape(kind).read)(&mut reader, value));
    let mut notes = reader.finish();
    if notes.faults.is_empty() {
        notes.faults = strays(value, &notes);
    }
    (notes.faults, stored_otherwise(notes.seals))
}

/// Reads a document without opening its secrets.
pub(crate) fn read(key: &Key, value: &Value) -> Result<Document, Vec<Fault>> {
    let mut reader = Reader::new(Some(&key.id));
    let document = (shape(key.kind).read)(&mut reader, value);
    whole(document, reader.finish()).map(|(document, _)| document)
}

/// The limit that a document says.
///
/// # Errors
/// Every fault of it.
pub fn limit(id: &str, value: &Value) -> Result<Arc<rules::limit::Limit>, Vec<Fault>> {
    let mut reader = Reader::new(Some(id));
    let limit = limit::read(&mut reader, value);
    let faults = reader.finish().faults;
    limit.filter(|_| faults.is_empty()).map(Arc::new).ok_or(faults)
}

/// Reads a document and opens its secrets on this node.
pub(crate) fn open(opener: Opener<'_>, value: &Value) -> Result<(Document, Notes), Vec<Fault>> {
    let mut reader = Reader::opening(opener);
    let document = (shape(opener.key.kind).read)(&mut reader, value);
    whole(document, reader.finish())
}

fn whole(document: Option<Document>, notes: Notes) -> Result<(Document, Notes), Vec<Fault>> {
    match document {
        Some(document) if notes.faults.is_empty() => Ok((document, notes)),
        _ => Err(notes.faults),
    }
}

/// The places of a document whose secrets are not stored as they are.
pub(crate) fn seals(kind: Kind, value: &Value) -> Vec<Seal> {
    let mut reader = Reader::new(None);
    drop((shape(kind).read)(&mut reader, value));
    stored_otherwise(reader.finish().seals)
}

fn stored_otherwise(mut seals: Vec<Seal>) -> Vec<Seal> {
    seals.retain(|seal| seal.custody != Custody::Plain);
    seals
}

/// The other resources that a document names.
pub(crate) fn links(kind: Kind, value: &Value) -> Vec<Link> {
    (shape(kind).links)(value)
}

/// A resource that names another one which is not there.
pub(crate) fn dangling(key: &Key, link: Link) -> Rejected {
    Rejected::Dangling { key: key.clone(), path: link.path, missing: link.key }
}

/// References and stored secrets in places that would take them for plain text.
fn strays(value: &Value, notes: &Notes) -> Vec<Fault> {
    let mut faults = Vec::new();
    let known: BTreeSet<&str> = notes.seals.iter().map(|seal| seal.pointer.as_str()).collect();
    pointer::texts(value, "", &mut |at, text| {
        let is_prose = PROSE.iter().any(|name| at.strip_prefix('/') == Some(*name));
        if is_prose || known.contains(at) {
            return;
        }
        if is_stored(text) {
            faults.push(Fault::new(at, "holds a sealed secret where none may stand"));
        } else if position(text).is_some() && !is_within(at, &notes.forgiven) {
            faults.push(Fault::new(at, "holds a reference to a secret where none is resolved"));
        }
    });
    faults
}

/// Members that people write for people: what looks like a reference there is none.
const PROSE: [&str; 2] = ["desc", "name"];

#[cfg(test)]
pub(crate) mod tests;
