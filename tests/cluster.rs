//! Several nodes, one document: a fleet of real processes, and what may happen to it.

use serde_json::{Value, json};

use crate::harness::Message;

mod disk;
mod join;
mod loss;
mod outage;
mod partition;
mod refuse;
mod replace;
mod restart;
mod serve;
mod snapshot;
mod suspend;

/// A small resource.
fn upstream(mark: &str) -> Value {
    json!({ "nodes": { "127.0.0.1:9": 1 }, "desc": mark })
}

/// The revision that an answer names.
fn revision(answer: &Message) -> u64 {
    let revision = answer.field("x-tollgate-revision").and_then(|it| it.parse().ok());
    revision.unwrap_or_else(|| panic!("no revision: {answer}"))
}

/// The mark of the resource in an answer.
fn mark(answer: &Message) -> Option<String> {
    match answer.status() {
        200 => Some(crate::harness::text_at(&answer.json(), "/value/desc")),
        404 => None,
        _ => panic!("neither there nor not: {answer}"),
    }
}

/// Says a figure that was measured, for who reads along (`--nocapture`).
fn figure(what: &str, value: impl std::fmt::Debug) {
    let told = format_args!("{what}: {value:?}\n").to_string();
    let _told = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
}
