//! Test files of policies: calls, and what is to become of each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::offline::{Case, Offline, told};
use crate::args::policy::Test;
use crate::commands::{document, operations};

/// A test file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cases: Vec<Written>,
}

/// One case as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    agent: Option<String>,
    /// `METHOD PATH`.
    call: String,
    /// JSON, or a text that is sent as it is.
    body: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What it costs, by unit.
    #[serde(default)]
    price: BTreeMap<String, String>,
    /// RFC 3339.
    now: Option<String>,
    /// `permit`, `refuse`, `ask`, `failed` or `unreadable`.
    expect: Expected,
    /// The policy that is to decide, such as `dns-team/no-mx`.
    policy: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Permit,
    Refuse,
    Ask,
    Failed,
    Unreadable,
}

impl Expected {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Refuse => "refuse",
            Self::Ask => "ask",
            Self::Failed => "failed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Runs every case; one that fails makes the command fail.
pub(super) fn run(test: &Test) -> Result<ExitCode> {
    let offline = Offline::read(&test.file)?;
    let text = document::read(&test.cases)?;
    let file: File = serde_saphyr::from_str(&text)
        .with_context(|| format!("{} is no file of cases", test.cases.display()))?;
    let mut out = std::io::stdout();
    let count = file.cases.len();
    let mut failed = 0;
    for written in file.cases {
        let (expected, policy) = (written.expect.as_str(), written.policy.clone());
        let name = written.name.clone().unwrap_or_else(|| written.call.clone());
        let found = offline.judge(&case(written).with_context(|| name.clone())?)?;
        let is_right = found.decision == expected
            && policy.as_ref().is_none_or(|policy| found.policy.as_ref() == Some(policy));
        if !is_right {
            failed += 1;
            let by = policy.map(|policy| format!(" by {policy}")).unwrap_or_default();
            writeln!(out, "FAILED {name}\n  expected {expected}{by}\n  found    {}", told(&found))?;
        }
    }
    writeln!(out, "{count} cases, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn case(written: Written) -> Result<Case> {
    let Written { name: _, agent, call, body, headers, price, now, expect: _, policy: _ } = written;
    let (method, path) =
        call.split_once(' ').ok_or_else(|| anyhow!("`{call}` is not METHOD PATH"))?;
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        fields.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let body = match body {
        None => Vec::new(),
        Some(Value::String(text)) => text.into_bytes(),
        Some(value) => value.to_string().into_bytes(),
    };
    let now = now.map(|now| now.parse::<jiff::Timestamp>()).transpose()?;
    let now = now.map(|now| u64::try_from(now.as_microsecond()).unwrap_or_default());
    let now = now.map(Timestamp::from_micros);
    Ok(Case {
        agent,
        method: operations::method(method)?.to_owned(),
        path: path.trim().to_owned(),
        body,
        headers: fields,
        price: price.into_iter().collect(),
        now,
    })
}
