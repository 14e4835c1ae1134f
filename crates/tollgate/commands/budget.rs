//! Budgets: what is left of them, and what operators make of that.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use http::Method;
use serde_json::{Value, json};

use crate::args::budget::{Adjust, Budget, List, One, Show};
use crate::args::{Output, Server};
use crate::commands::client;

/// Does what is asked.
pub(crate) async fn run(command: Budget) -> Result<()> {
    match command {
        Budget::List(List { server }) => list(&server).await,
        Budget::Show(Show { id, limit, server }) => accounts(&server, &id, limit).await,
        Budget::Adjust(Adjust { id, subject, by, why, name, server }) => {
            let mut asked = json!({ "subject": subject, "by": by, "why": why });
            if let (Some(name), Some(asked)) = (name, asked.as_object_mut()) {
                asked.insert("id".to_owned(), json!(name));
            }
            let path = format!("/admin/budgets/{id}/adjust");
            let done = client::ask(&server, Method::POST, &path, Some(&asked)).await?;
            if server.output == Output::Json {
                return Ok(writeln!(std::io::stdout(), "{done}")?);
            }
            let account = done.get("account").cloned().context("the answer holds no account")?;
            show(&server, &json!({ "accounts": [account] }), "accounts", &ACCOUNT)
        }
        Budget::History(One { id, server }) => {
            let path = format!("/admin/budgets/{id}/history");
            let found = client::ask(&server, Method::GET, &path, None).await?;
            show(&server, &found, "history", &EVENT)
        }
    }
}

/// Shows a budget's accounts, page after page.
async fn accounts(server: &Server, id: &str, limit: usize) -> Result<()> {
    let (mut all, mut from) = (Vec::new(), 0);
    let answer = loop {
        let next = (limit - all.len()).min(PAGE);
        let path = format!("/admin/budgets/{id}/accounts?limit={next}&from={from}");
        let mut answer = client::ask(server, Method::GET, &path, None).await?;
        if let Some(Value::Array(page)) = answer.get_mut("accounts").map(Value::take) {
            all.extend(page);
        }
        match answer.get("next").and_then(Value::as_u64).filter(|_| all.len() < limit) {
            Some(next) => from = next,
            None => break answer,
        }
    };
    let (mut answer, shown) = (answer, all.len());
    let total = answer.get("total").and_then(Value::as_u64).unwrap_or_default();
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("accounts".to_owned(), Value::Array(all));
    }
    show(server, &answer, "accounts", &ACCOUNT)?;
    if server.output != Output::Json && u64::try_from(shown).is_ok_and(|shown| shown < total) {
        writeln!(std::io::stdout(), "{shown} of {total} accounts; --limit shows more")?;
    }
    Ok(())
}

async fn list(server: &Server) -> Result<()> {
    let found = client::ask(server, Method::GET, "/admin/budgets", None).await?;
    let mut budgets = Vec::new();
    for found in found.get("list").and_then(Value::as_array).into_iter().flatten() {
        let mut budget = found.get("value").cloned().unwrap_or_default();
        let Some(members) = budget.as_object_mut() else { continue };
        let id = members.get("id").and_then(Value::as_str).unwrap_or_default();
        let path = format!("/admin/budgets/{id}/accounts?limit=0");
        let said = client::ask(server, Method::GET, &path, None).await?;
        let every = members.get("period").and_then(|period| period.get("every")).cloned();
        members.insert("every".to_owned(), every.unwrap_or_default());
        members.insert("accounts".to_owned(), said.get("total").cloned().unwrap_or_default());
        budgets.push(budget);
    }
    show(server, &json!({ "budgets": budgets }), "budgets", &BUDGET)
}

/// Prints the rows of an answer: as it is, or as a table.
fn show(server: &Server, answer: &Value, name: &str, columns: &[&str]) -> Result<()> {
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        return Ok(writeln!(out, "{answer}")?);
    }
    let rows = answer.get(name).and_then(Value::as_array);
    let rows = rows.with_context(|| format!("the answer holds no {name}"))?;
    let mut table = Table::new();
    let heads = columns.iter().map(|name| name.replace('_', " ").to_uppercase());
    table.load_style(presets::NOTHING).set_header(heads);
    for row in rows {
        table.add_row(columns.iter().map(|name| cell(row.get(*name).unwrap_or(&Value::Null))));
    }
    Ok(writeln!(out, "{table}")?)
}

/// A value as people read it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Accounts in one answer.
const PAGE: usize = 1_000;

const BUDGET: [&str; 6] = ["id", "per", "unit", "amount", "every", "accounts"];
const ACCOUNT: [&str; 8] =
    ["subject", "period_start", "period_end", "posted", "pending", "adjusted", "left", "fired"];
const EVENT: [&str; 8] = ["at", "what", "subject", "by", "percent", "who", "why", "id"];
