//! Policies without a node: checked, explained, tested, listed.

mod offline;
mod test;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use model::Identity;
use rules::policy::{Outlook, Vocabulary};
use serde_json::{Value, json};

use crate::args::policy::{Check, Explain, Policy, What, Who};
use crate::args::{self, Output};
use crate::commands::name::Misused;
use crate::commands::{document, operations};
use offline::{Case, Offline, told};

pub(crate) fn run(command: &Policy) -> Result<ExitCode> {
    match command {
        Policy::Check(check) => self::check(check),
        Policy::Explain(explain) => self::explain(explain),
        Policy::Test(test) => test::run(test),
        Policy::Who(who) => self::who(who),
        Policy::What(what) => self::what(what),
    }
}

/// Says what is wrong with a document, and what its policies leave out.
fn check(check: &Check) -> Result<ExitCode> {
    let text = document::read(&check.file)?;
    if config::bundle::Bundle::parse(&text).is_err() {
        return document::check(&args::Check { file: check.file.clone(), output: Output::Text });
    }
    let offline = Offline::of(&text)?;
    let mut out = std::io::stdout();
    let policies = &offline.snapshot.policies;
    if policies.is_none() {
        writeln!(out, "the document has no policies: nothing is judged by them")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{} policies, no fault; what none permits is refused", policies.all().len())?;
    let calls = || 0..Vocabulary::get().actions().len();
    for identity in offline.agents() {
        let may = |number| policies.outlook(Some(&identity), number).0 != Outlook::Never;
        if !calls().any(may) {
            writeln!(out, "warning: the agent `{}` may do nothing", identity.agent)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what becomes of one call.
fn explain(explain: &Explain) -> Result<ExitCode> {
    let offline = Offline::read(&explain.file)?;
    let method = operations::method(&explain.method)?;
    let body = match &explain.body {
        Some(file) => {
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => Vec::new(),
    };
    let mut price = Vec::new();
    for text in &explain.price {
        let Some((unit, amount)) = text.split_once('=') else {
            bail!(Misused(format!("`{text}` is not UNIT=AMOUNT, such as USD=15.00")));
        };
        price.push((unit.to_owned(), amount.to_owned()));
    }
    let case = Case {
        agent: explain.agent.clone(),
        method: method.to_owned(),
        path: explain.path.clone(),
        body,
        price,
        ..Case::default()
    };
    let found = offline.judge(&case)?;
    let mut out = std::io::stdout();
    if explain.output == Output::Json {
        writeln!(out, "{}", found.as_json())?;
    } else {
        writeln!(out, "{}", told(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the agents that may call an operation.
fn who(who: &Who) -> Result<ExitCode> {
    let offline = Offline::read(&who.file)?;
    let Some(number) = Vocabulary::get().number(&who.operation) else {
        bail!(Misused(format!(
            "there is no operation `{}`; see `tollgate operations find`",
            who.operation
        )));
    };
    let agents = offline.agents();
    let rows = agents.map(|identity| {
        let (outlook, by) = offline.snapshot.policies.outlook(Some(&identity), number);
        (identity.agent.to_string(), outlook, by)
    });
    list(("AGENT", "agent"), rows, who.output)
}

/// Lists the operations that an agent may call.
fn what(what: &What) -> Result<ExitCode> {
    let offline = Offline::read(&what.file)?;
    let identity: Identity = offline.identity(&what.agent)?;
    let actions = Vocabulary::get().actions().iter().enumerate();
    let rows = actions.filter(|(_, action)| action.call.is_some()).map(|(number, action)| {
        let (outlook, by) = offline.snapshot.policies.outlook(Some(&identity), number);
        (action.name.clone(), outlook, by)
    });
    list(("OPERATION", "operation"), rows, what.output)
}

/// Prints who or what may, and by which policies; those that never may are left out.
fn list(
    (head, member): (&str, &str),
    rows: impl Iterator<Item = (String, Outlook, Vec<std::sync::Arc<str>>)>,
    output: Output,
) -> Result<ExitCode> {
    let rows: Vec<_> = rows.filter(|(_, outlook, _)| *outlook != Outlook::Never).collect();
    let mut out = std::io::stdout();
    if output == Output::Json {
        let list: Vec<Value> = rows
            .iter()
            .map(|(name, outlook, by)| {
                let by: Vec<&str> = by.iter().map(|id| &**id).collect();
                json!({ member: name, "may": outlook.as_str(), "policies": by })
            })
            .collect();
        writeln!(out, "{}", json!({ "total": list.len(), "list": list }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([head, "MAY", "POLICIES"]);
    for (name, outlook, by) in &rows {
        table.add_row([name.as_str(), outlook.as_str(), &by.join(", ")]);
    }
    writeln!(out, "{table}")?;
    Ok(ExitCode::SUCCESS)
}
