//! The fleet's money: how it stands, and what to do without a node.

use std::io::Write as _;

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use crate::args::ledger::{Gone, Ledger, Status};
use crate::args::{Output, Server};
use crate::commands::client;

/// Does what is asked.
pub(crate) async fn run(command: Ledger) -> Result<()> {
    match command {
        Ledger::Status(Status { server }) => {
            let found = client::ask(&server, Method::GET, "/admin/ledger", None).await?;
            status(&server, &found)
        }
        Ledger::Recover(gone) => without(&gone, "recover").await,
        Ledger::Reconcile(gone) => without(&gone, "reconcile").await,
    }
}

async fn without(Gone { without, server }: &Gone, what: &str) -> Result<()> {
    let (path, asked) = (format!("/admin/ledger/{what}"), json!({ "node": without }));
    let done = client::ask(server, Method::POST, &path, Some(&asked)).await?;
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        return Ok(writeln!(out, "{done}")?);
    }
    let charged = done.get("charged").and_then(Value::as_u64).unwrap_or_default();
    let done = match what {
        "recover" => format!("money goes on without {without}"),
        _ => format!("charged what {without} held: {charged} holds"),
    };
    Ok(writeln!(out, "{done}")?)
}

fn status(server: &Server, found: &Value) -> Result<()> {
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        return Ok(writeln!(out, "{found}")?);
    }
    for name in ["node", "redis", "money", "epoch", "open", "waiting"] {
        let value = found.get(name).unwrap_or(&Value::Null);
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(out, "{name:<9}{text}")?;
    }
    for node in found.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let text = |name| node.get(name).and_then(Value::as_str).unwrap_or_default();
        writeln!(out, "  {:<9}{}", text("state"), text("node"))?;
    }
    Ok(())
}
