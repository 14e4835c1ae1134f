//! The document: checked, applied, read, deleted.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use comfy_table::{Table, presets};
use config::bundle::{Bundle, Place, PlacedFault};
use config::{Fault, Key, Kind};
use http::Method;
use serde_json::{Value, json};

use crate::args::{Apply, Check, Delete, Get, List, Output};
use crate::commands::{client, name};

/// Checks a file without a node; each fault has its line.
pub(crate) fn check(check: &Check) -> Result<ExitCode> {
    let text = read(&check.file)?;
    match (Bundle::parse(&text), check.output) {
        (Ok(bundle), Output::Text) => {
            writeln!(std::io::stdout(), "{} resources, no fault", bundle.entries.len())?;
            Ok(ExitCode::SUCCESS)
        }
        (Ok(bundle), Output::Json) => {
            let found = json!({ "resources": bundle.entries.len(), "faults": [] });
            writeln!(std::io::stdout(), "{found}")?;
            Ok(ExitCode::SUCCESS)
        }
        (Err(faults), Output::Json) => {
            let faults: Vec<Value> = faults.iter().map(as_json).collect();
            writeln!(std::io::stdout(), "{}", json!({ "faults": faults }))?;
            Ok(ExitCode::FAILURE)
        }
        (Err(faults), Output::Text) => {
            let (file, mut err) = (check.file.display(), std::io::stderr());
            for PlacedFault { place, key, fault } in &faults {
                let resource = key.as_ref().map(Key::path).unwrap_or_default();
                let Place { line, column } = place;
                let Fault { path, message } = fault;
                writeln!(err, "{file}:{line}:{column}: {resource}{path} {message}")?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn as_json(fault: &PlacedFault) -> Value {
    let PlacedFault { place: Place { line, column }, key, fault: Fault { path, message } } = fault;
    let resource = key.as_ref().map(Key::path);
    json!({
        "line": line, "column": column,
        "resource": resource, "path": path, "message": message,
    })
}

/// Makes the node's document what a file says.
pub(crate) async fn apply(apply: Apply) -> Result<ExitCode> {
    let Apply { file, prune, dry_run, base, server } = apply;
    let text = read(&file)?;
    if Bundle::parse(&text).is_err() {
        return check(&Check { file, output: server.output });
    }
    let document: Value = serde_saphyr::from_str(&text).context("the document cannot be read")?;
    let mut path = format!("/admin/apply?prune={prune}&dry_run={dry_run}");
    if let Some(base) = base {
        path.push_str("&base=");
        path.push_str(&base.to_string());
    }
    let answer = client::ask(&server, Method::POST, &path, Some(&document)).await?;
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for change in answer.get("changes").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| change.get(name).and_then(Value::as_str).unwrap_or_default();
        writeln!(out, "{:<10} {}", part("kind"), part("key"))?;
    }
    let revision = answer.get("revision").and_then(Value::as_u64).unwrap_or_default();
    let mood = if dry_run { "nothing changed; would be" } else { "now at" };
    writeln!(out, "{mood} revision {revision}")?;
    Ok(ExitCode::SUCCESS)
}

/// Shows one resource.
pub(crate) async fn get(get: Get) -> Result<()> {
    let Get { kind, id, server } = get;
    let path = name::path(kind, &id)?;
    let asked = client::ask(&server, Method::GET, &path, None).await;
    let answer = asked.map_err(|error| absent(error, kind, &id))?;
    let mut out = std::io::stdout();
    match server.output {
        Output::Json => writeln!(out, "{answer}")?,
        Output::Text => {
            let value = answer.get("value").unwrap_or(&answer);
            writeln!(out, "{}", serde_json::to_string_pretty(value)?)?;
        }
    }
    Ok(())
}

/// Lists the resources of a kind.
pub(crate) async fn list(list: List) -> Result<()> {
    let List { kind, server } = list;
    let path = format!("/admin/{}", name::plural(kind));
    let answer = client::ask(&server, Method::GET, &path, None).await?;
    let mut out = std::io::stdout();
    if server.output == Output::Json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["KEY", "NAME", "MODIFIED"]);
    for row in answer.get("list").and_then(Value::as_array).into_iter().flatten() {
        let key = row.get("key").and_then(Value::as_str).unwrap_or_default();
        let name = row.pointer("/value/name").and_then(Value::as_str).unwrap_or_default();
        let modified = row.get("modifiedIndex").and_then(Value::as_u64).unwrap_or_default();
        table.add_row([key, name, &modified.to_string()]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// Deletes a resource.
pub(crate) async fn delete(delete: Delete) -> Result<()> {
    let Delete { kind, id, force, server } = delete;
    let path = format!("{}?force={force}", name::path(kind, &id)?);
    let asked = client::ask(&server, Method::DELETE, &path, None).await;
    let answer = asked.map_err(|error| absent(error, kind, &id))?;
    let mut out = std::io::stdout();
    match server.output {
        Output::Json => writeln!(out, "{answer}")?,
        Output::Text => writeln!(out, "deleted {}/{id}", name::plural(kind))?,
    }
    Ok(())
}

/// Says what is not there, where that is why it was refused.
fn absent(error: anyhow::Error, kind: Kind, id: &str) -> anyhow::Error {
    match error.downcast_ref::<client::Refused>() {
        Some(no) if no.is_absent() => anyhow!("there is no {} `{id}`", name::word(kind)),
        _ => error,
    }
}

pub(crate) fn read(file: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
