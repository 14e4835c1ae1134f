//! Records as they say what was charged: several files at once, about in the order of time.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ledger::row_name;
use model::{Amount, BudgetId, Timestamp, Unit};
use rules::budget::{Every, RowKey};
use rules::limit::Per;
use rules::plan::Subject;
use serde::Deserialize;

/// What a record says of money.
#[derive(Debug)]
pub(super) struct Paid {
    pub(super) id: u128,
    /// When its request came, and when it had ended, in microseconds since 1970.
    pub(super) came: u64,
    pub(super) ended: u64,
    pub(super) parts: Vec<Part>,
    /// Where it stands.
    pub(super) place: String,
}

/// What it was charged of one row.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) row: RowKey,
    pub(super) held: Amount,
    pub(super) charged: Amount,
}

/// Records of several files.
pub(super) struct Log {
    files: Vec<File>,
    /// Of records of requests that came before nothing is read.
    since: u64,
    pub(super) lines: u64,
    /// Lines that a crash left unfinished.
    pub(super) unfinished: u64,
}

struct File {
    name: PathBuf,
    lines: Box<dyn BufRead>,
    line: u64,
    /// The end of the newest request so far.
    reached: u64,
    is_read: bool,
}

/// The members that count.
#[derive(Deserialize)]
struct Record {
    time: Option<String>,
    request_id: Option<String>,
    agent: Option<Arc<str>>,
    run: Option<Arc<str>>,
    #[serde(default)]
    budgets: Vec<Budget>,
    latency_us: Option<Latency>,
    unfinished: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Latency {
    total: u64,
}

#[derive(Deserialize)]
struct Budget {
    budget: String,
    unit: String,
    per: Option<String>,
    subject: Option<Arc<str>>,
    every: Option<String>,
    period: Option<String>,
    held: String,
    charged: String,
}

impl Log {
    pub(super) fn new(files: Vec<(PathBuf, Box<dyn BufRead>)>, since: u64) -> Self {
        let file = |(name, lines)| File { name, lines, line: 0, reached: 0, is_read: false };
        let files = files.into_iter().map(file).collect();
        Self { files, since, lines: 0, unfinished: 0 }
    }

    /// The next record of a request that budgets bind, of the file that is furthest behind; `None`
    /// at the end of all.
    ///
    /// # Errors
    /// When a file cannot be read, or holds what is no record, with its line.
    pub(super) fn next(&mut self) -> Result<Option<Paid>> {
        loop {
            let unread = self.files.iter_mut().filter(|file| !file.is_read);
            let Some(file) = unread.min_by_key(|file| file.reached) else { return Ok(None) };
            let mut text = String::new();
            let read = file.lines.read_line(&mut text);
            if read.with_context(|| format!("cannot read {}", file.name.display()))? == 0 {
                file.is_read = true;
                continue;
            }
            file.line += 1;
            if text.trim().is_empty() {
                continue;
            }
            self.lines += 1;
            let place = format!("line {} of {}", file.line, file.name.display());
            let read = serde_json::from_str(&text);
            if read.is_err() && !text.ends_with('\n') {
                // The node is writing it, or a crash left it.
                self.unfinished += 1;
                file.is_read = true;
                continue;
            }
            let record: Record = read.context("it is no record").with_context(|| place.clone())?;
            if record.unfinished.is_some() {
                self.unfinished += 1;
                continue;
            }
            let paid = paid(&record, self.since, place.clone()).context(place)?;
            file.reached = file.reached.max(paid.ended);
            if !paid.parts.is_empty() {
                return Ok(Some(paid));
            }
        }
    }
}

fn paid(record: &Record, since: u64, place: String) -> Result<Paid> {
    let came = moment(record.time.as_deref().context("it has no `time`")?)?;
    let total = record.latency_us.as_ref().map_or(0, |latency| latency.total);
    let mut parts = Vec::with_capacity(record.budgets.len());
    for budget in record.budgets.iter().filter(|_| came >= since) {
        parts.push(part(budget, record)?);
    }
    let id = record.request_id.as_deref().map(|id| u128::from_str_radix(id, 16));
    let id = match id {
        Some(Ok(id)) => id,
        None if parts.is_empty() => 0,
        Some(Err(_)) | None => bail!("its `request_id` is not 32 hex digits"),
    };
    Ok(Paid { id, came, ended: came.saturating_add(total), parts, place })
}

fn part(budget: &Budget, record: &Record) -> Result<Part> {
    let unit = Unit::parse(&budget.unit).context("its unit cannot be read")?;
    let amount = |text: &str| Amount::parse(text, &unit).context("its amounts cannot be read");
    let (held, charged) = (amount(&budget.held)?, amount(&budget.charged)?);
    let (Some(per), Some(subject), Some(every)) = (&budget.per, &budget.subject, &budget.every)
    else {
        bail!("it does not say which rows its budgets count in: an earlier version wrote it");
    };
    let per = Per::from_name(per).context("its `per` is unknown")?;
    let subject = match (per, &record.agent, &record.run) {
        (Per::Run, Some(agent), Some(run)) => Subject::Run(Arc::clone(agent), Arc::clone(run)),
        _ => subject_of(per, subject),
    };
    let period = budget.period.as_deref().map(moment).transpose()?;
    let row = RowKey {
        budget: BudgetId::new(&budget.budget),
        unit,
        per,
        subject,
        every: Every::from_name(every).context("its `every` is unknown")?,
        period: Timestamp::from_micros(period.unwrap_or_default()),
    };
    Ok(Part { name: row_name(&row), row, held, charged })
}

/// A subject as operators read it.
pub(super) fn subject_of(per: Per, name: &Arc<str>) -> Subject {
    match name.split_once('/').filter(|_| per == Per::Run) {
        Some((agent, run)) => Subject::Run(Arc::from(agent), Arc::from(run)),
        None => Subject::Text(Arc::clone(name)),
    }
}

fn moment(text: &str) -> Result<u64> {
    let time: jiff::Timestamp = text.parse().context("its times are none of RFC 3339")?;
    micros(time).context("its times are before 1970")
}

pub(super) fn micros(time: jiff::Timestamp) -> Option<u64> {
    u64::try_from(time.as_microsecond()).ok()
}

/// A log of texts, one a file.
#[cfg(test)]
pub(super) fn of_texts(texts: &[String]) -> Log {
    let file = |(place, text): (usize, &String)| {
        let lines: Box<dyn BufRead> = Box::new(std::io::Cursor::new(text.clone()));
        (PathBuf::from(format!("file-{place}")), lines)
    };
    Log::new(texts.iter().enumerate().map(file).collect(), 0)
}
