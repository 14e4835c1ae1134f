//! Whether what was recorded is what was posted: records against the ledger, row by row.

mod books;
mod judge;
mod log;
mod report;
mod tally;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Method;
use model::{Clock as _, SystemClock};
use serde_json::{Value, json};

use self::books::Books;
use self::judge::Judge;
use self::log::{Log, micros};
use self::report::{Finding, Findings};
use self::tally::{Span, Tally};
use crate::args::verify::Spend;
use crate::args::{Output, Server};
use crate::commands::client;

/// Compares records with the ledger; what disagrees is a failure.
pub(crate) async fn run(spend: Spend) -> Result<ExitCode> {
    let mut books = Books::default();
    for data in &spend.data {
        books.read(data)?;
    }
    for file in &spend.accounts {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        let shown: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", file.display()))?;
        books.show(&shown).with_context(|| format!("{}", file.display()))?;
    }
    let asked = now();
    ask(&spend, &mut books).await?;
    let read = if spend.live || !spend.node.is_empty() {
        near((asked, now()), spend.tolerance)
    } else {
        ALWAYS
    };
    let since = spend.since.and_then(micros);
    let span = Span { since: since.unwrap_or_default(), read };
    let mut files = Vec::new();
    for file in &spend.files {
        files.push((file.clone(), super::open(file)?));
    }
    let mut log = Log::new(files, span.since);
    let (tally, found) = judge(&mut log, &books, span, since)?;
    if tally.charged == 0 && found.agrees() {
        bail!("of {} records none was charged anything: nothing is shown", log.lines);
    }
    say(&spend, &log, &tally, &found)?;
    Ok(if found.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(
    log: &mut Log,
    books: &Books,
    span: Span,
    since: Option<u64>,
) -> Result<(Tally, Findings)> {
    let known = books.charges.iter().map(|charge| (charge.id.0, charge.name.clone()));
    let mut tally = Tally::new(span, known);
    while let Some(paid) = log.next()? {
        tally.note(&paid)?;
    }
    let found = Judge::new(&tally, books, since).judge();
    Ok((tally, found))
}

/// Asks nodes that run for their journals, and one for the accounts of all budgets.
async fn ask(spend: &Spend, books: &mut Books) -> Result<()> {
    for node in &spend.node {
        let server = Server { server: node.clone(), ..spend.server.clone() };
        let said = client::ask(&server, Method::GET, "/admin/ledger/journal", None).await?;
        books.hear(&said).with_context(|| format!("of {node}"))?;
    }
    if !spend.live {
        return Ok(());
    }
    let server = &spend.server;
    if !spend.node.contains(&server.server) {
        let said = client::ask(server, Method::GET, "/admin/ledger/journal", None).await?;
        books.hear_charges(&said)?;
    }
    let listed = client::ask(server, Method::GET, "/admin/budgets", None).await?;
    for budget in listed.get("list").and_then(Value::as_array).into_iter().flatten() {
        let id = budget.pointer("/value/id").and_then(Value::as_str).unwrap_or_default();
        let path = format!("/admin/budgets/{id}/accounts");
        books.show(&client::ask(server, Method::GET, &path, None).await?)?;
    }
    Ok(())
}

fn say(spend: &Spend, log: &Log, tally: &Tally, found: &Findings) -> Result<()> {
    let mut out = std::io::stdout();
    if spend.server.output == Output::Json {
        let list = |findings: &[Finding]| -> Vec<Value> {
            findings.iter().map(Finding::as_json).collect()
        };
        let whole = json!({
            "records": log.lines, "unfinished": log.unfinished, "charged": tally.charged,
            "rows": found.rows, "agrees": found.agrees(),
            "faults": list(&found.faults), "notes": list(&found.notes),
            "more_faults": found.more[0], "more_notes": found.more[1],
        });
        return Ok(writeln!(out, "{whole}")?);
    }
    for (word, list, more) in
        [("note", &found.notes, found.more[1]), ("FAULT", &found.faults, found.more[0])]
    {
        for finding in list {
            writeln!(out, "{word}  {}", finding.line())?;
        }
        if more > 0 {
            writeln!(out, "{word}  and {more} more")?;
        }
    }
    let verdict = match found.agrees() {
        true => "records and ledger agree",
        false => "records and ledger disagree",
    };
    let (charged, rows) = (tally.charged, found.rows);
    let unfinished = match log.unfinished {
        0 => String::new(),
        lines => format!(" ({lines} left unfinished by a crash)"),
    };
    Ok(writeln!(
        out,
        "{} records{unfinished}, {charged} charged, {rows} rows: {verdict}",
        log.lines
    )?)
}

/// When the ledger was read, give or take.
fn near((from, to): (u64, u64), tolerance: Duration) -> (u64, u64) {
    let tolerance = u64::try_from(tolerance.as_micros()).unwrap_or(u64::MAX);
    (from.saturating_sub(tolerance), to.saturating_add(tolerance))
}

fn now() -> u64 {
    SystemClock::start().now().as_micros()
}

/// The ledger says all that there is.
const ALWAYS: (u64, u64) = (u64::MAX, u64::MAX);
