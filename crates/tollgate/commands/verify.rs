//! Promises, held against what was recorded.

mod order;
mod record;
pub(crate) mod spend;
mod verdict;

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use config::Kind;
use config::bundle::Bundle;
use model::{Bucket, Rate, Tokens};
use serde_json::{Value, json};

use self::order::{Merged, Source};
use self::record::{Per, Rule};
use self::verdict::{Found, Verdicts};
use crate::args::Output;
use crate::args::verify::Limits;
use crate::commands::name::Misused;

/// Judges limits by what passed them; a window that holds too much is a failure.
pub(crate) fn limits(limits: &Limits) -> Result<ExitCode> {
    let rules = rules(limits)?;
    let mut sources = Vec::new();
    for file in &limits.files {
        sources.push(Source::new(file, open(file)?, limits.slack));
    }
    let mut verdicts = Verdicts::new(&rules, limits.tolerance);
    let mut merged = Merged::new(sources, &rules);
    while let Some(take) = merged.next()? {
        verdicts.take(take)?;
    }
    let (lines, found) = (merged.lines(), verdicts.finish());
    if found.iter().all(|found| found.passed == 0) {
        bail!("of {lines} records none passed what is to be judged: nothing is shown");
    }
    let is_kept = found.iter().all(|found| found.excess == 0);
    let mut out = std::io::stdout();
    match limits.output {
        Output::Json => {
            let list: Vec<Value> = found.iter().map(Found::as_json).collect();
            let whole = json!({ "records": lines, "kept": is_kept, "limits": list });
            writeln!(out, "{whole}")?;
        }
        Output::Text => writeln!(out, "{}", told(lines, is_kept, &found))?,
    }
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(lines: u64, is_kept: bool, found: &[Found<'_>]) -> String {
    let mut table = Table::new();
    let head = ["LIMIT", "PASSED", "WORST", "FROM", "TO", "HELD", "ALLOWED", "TOO MANY"];
    table.load_style(presets::NOTHING).set_header(head);
    for one in found {
        table.add_row(one.as_row());
    }
    let verdict = if is_kept { "every window is kept" } else { "a window holds too much" };
    format!("{table}\n{lines} records: {verdict}")
}

/// What is to be judged: one rule of the command line, or the limits of a document.
fn rules(limits: &Limits) -> Result<Vec<Rule>> {
    let Some(file) = &limits.document else {
        let (Some(rate), Some(burst)) = (&limits.rate, &limits.burst) else {
            bail!(Misused(String::from("`--rate` needs `--burst`")));
        };
        let rate = Rate::parse(rate, limits.interval);
        let rate = rate.map_err(|error| Misused(format!("`--rate`: {error}")))?;
        let bucket = Bucket::new(rate, burst, Tokens(0));
        let bucket = bucket.map_err(|error| Misused(format!("`--burst`: {error}")))?;
        let per = limits.per.as_deref().map_or(Per::All, Per::of);
        return Ok(vec![Rule { id: None, bucket, per }]);
    };
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let Ok(bundle) = Bundle::parse(&text) else {
        bail!("{} has faults: see `tollgate check`", file.display());
    };
    let mut rules = Vec::new();
    for entry in bundle.entries.iter().filter(|entry| entry.key.kind == Kind::Limit) {
        let Ok(limit) = config::limit(&entry.key.id, &entry.value) else { continue };
        // What a limit in the shadow saw was not held to it.
        if !limit.shadow {
            rules.push(Rule::of(&limit));
        }
    }
    if rules.is_empty() {
        bail!("{} holds no limit that refuses", file.display());
    }
    Ok(rules)
}

fn open(file: &Path) -> Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(READ_BYTES, opened)))
}

const READ_BYTES: usize = 1 << 20;
