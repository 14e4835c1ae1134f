//! The kill switch: suspend and resume.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use http::Method;
use serde_json::{Value, json};

use crate::args::suspension::{How, Resume, Suspend};
use crate::args::{Output, Server};
use crate::commands::client;

/// Suspends somebody, or lists who is suspended.
pub(crate) async fn suspend(command: Suspend) -> Result<()> {
    match command {
        Suspend::Agent { name, how } => stop(&format!("agent/{name}"), &how).await,
        Suspend::Team { name, how } => stop(&format!("team/{name}"), &how).await,
        Suspend::All { how } => stop("all", &how).await,
        Suspend::List { server } => list(&server).await,
    }
}

/// Lets somebody go on.
pub(crate) async fn resume(command: Resume) -> Result<()> {
    let (whom, server) = match command {
        Resume::Agent { name, server } => (format!("agent/{name}"), server),
        Resume::Team { name, server } => (format!("team/{name}"), server),
        Resume::All { server } => ("all".to_owned(), server),
    };
    let done = client::ask(&server, Method::DELETE, &path(&whom), None).await?;
    say(&server, &done, &format!("{whom} may go on"))
}

async fn stop(whom: &str, How { reason, lasting, force, server }: &How) -> Result<()> {
    let mut asked = json!({ "reason": reason });
    if let (Some(lasting), Some(asked)) = (lasting, asked.as_object_mut()) {
        asked.insert("seconds".to_owned(), json!(lasting.as_secs()));
    }
    let path = if *force { format!("{}?force=true", path(whom)) } else { path(whom) };
    let done = client::ask(server, Method::PUT, &path, Some(&asked)).await?;
    say(server, &done, &format!("{whom} is suspended"))
}

/// Says what was done, and whether the others know.
fn say(server: &Server, done: &Value, what: &str) -> Result<()> {
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        return Ok(writeln!(out, "{done}")?);
    }
    let on = match done.get("reach").and_then(Value::as_str) {
        Some("cluster") => "on every node",
        _ => "on this node; the others will hear of it when a majority can be reached",
    };
    Ok(writeln!(out, "{what}, {on}")?)
}

async fn list(server: &Server) -> Result<()> {
    let found = client::ask(server, Method::GET, "/admin/suspensions", None).await?;
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        return Ok(writeln!(out, "{found}")?);
    }
    let rows = found.get("suspensions").and_then(Value::as_array);
    let mut table = Table::new();
    let heads = COLUMNS.iter().map(|name| name.to_uppercase());
    table.load_style(presets::NOTHING).set_header(heads);
    for row in rows.context("the answer holds no suspensions")? {
        let cell = |name: &&str| row.get(*name).and_then(Value::as_str).unwrap_or("-").to_owned();
        table.add_row(COLUMNS.iter().map(cell));
    }
    Ok(writeln!(out, "{table}")?)
}

fn path(whom: &str) -> String {
    format!("/admin/suspensions/{whom}")
}

const COLUMNS: [&str; 6] = ["whom", "since", "until", "by", "reach", "reason"];
