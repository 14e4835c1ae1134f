//! Records in the order of time: each file sorted within its slack, and all files merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::record::{Rule, passed, time};

/// One request that drew on one limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Take {
    /// In microseconds since 1970.
    pub(super) at: u64,
    /// Which of the rules.
    pub(super) rule: usize,
    pub(super) subject: Arc<str>,
}

/// The records of one node.
pub(super) struct Source {
    name: PathBuf,
    lines: Box<dyn BufRead>,
    line: u64,
    slack: u64,
    newest: u64,
    /// The takes of what was read and may still be preceded.
    waiting: BinaryHeap<Reverse<Take>>,
    is_read: bool,
    text: String,
}

impl Source {
    pub(super) fn new(name: &Path, lines: Box<dyn BufRead>, slack: Duration) -> Self {
        Self {
            name: name.to_owned(),
            lines,
            line: 0,
            slack: u64::try_from(slack.as_micros()).unwrap_or(u64::MAX),
            newest: 0,
            waiting: BinaryHeap::new(),
            is_read: false,
            text: String::new(),
        }
    }

    /// Reads until the first take is known.
    fn fill(&mut self, rules: &[Rule]) -> Result<()> {
        while !self.is_read && !self.is_settled() {
            self.text.clear();
            let read = self.lines.read_line(&mut self.text);
            if read.with_context(|| format!("cannot read {}", self.name.display()))? == 0 {
                self.is_read = true;
                return Ok(());
            }
            self.line += 1;
            if self.text.trim().is_empty() {
                continue;
            }
            self.note(rules)
                .with_context(|| format!("line {} of {}", self.line, self.name.display()))?;
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let first = self.waiting.peek();
        first.is_some_and(|first| first.0.at.saturating_add(self.slack) < self.newest)
    }

    fn note(&mut self, rules: &[Rule]) -> Result<()> {
        let record: Value = serde_json::from_str(&self.text).context("it is no JSON")?;
        // A line that a crash cut off is kept as this: nobody knows what it said.
        if record.get("unfinished").is_some() {
            return Ok(());
        }
        let at = time(&record)?;
        if at.saturating_add(self.slack) < self.newest {
            bail!("it is older than others before it by more than `--slack`");
        }
        self.newest = self.newest.max(at);
        if !passed(&record) {
            return Ok(());
        }
        for (rule, subject) in rules.iter().map(|rule| rule.subject(&record)).enumerate() {
            let Some(subject) = subject else { continue };
            self.waiting.push(Reverse(Take { at, rule, subject }));
        }
        if self.waiting.len() > WAITING_MAX {
            bail!("{WAITING_MAX} records lie within `--slack`: make it shorter");
        }
        Ok(())
    }
}

/// All sources as one.
pub(super) struct Merged<'a> {
    sources: Vec<Source>,
    rules: &'a [Rule],
}

impl<'a> Merged<'a> {
    pub(super) const fn new(sources: Vec<Source>, rules: &'a [Rule]) -> Self {
        Self { sources, rules }
    }

    /// The next take; `None` at the end of all.
    ///
    /// # Errors
    /// When a file cannot be read, or holds what is no record, with its line.
    pub(super) fn next(&mut self) -> Result<Option<Take>> {
        for source in &mut self.sources {
            source.fill(self.rules)?;
        }
        let first = self.sources.iter_mut().max_by(|one, other| {
            // `Reverse` makes the earliest the greatest, and one without any the least.
            one.waiting.peek().cmp(&other.waiting.peek())
        });
        Ok(first.and_then(|source| source.waiting.pop()).map(|take| take.0))
    }

    /// Lines read so far.
    pub(super) fn lines(&self) -> u64 {
        self.sources.iter().map(|source| source.line).sum()
    }
}

/// Takes of one file that wait to be in order: about 500 MB of them at the worst.
const WAITING_MAX: usize = 8_000_000;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::record::Per;
    use super::{Duration, Merged, Path, Rule, Source};

    /// The seconds of the merged takes of files whose records came at these seconds; `None` where
    /// they are refused.
    fn merged(files: &[&[u64]], slack: u64) -> Option<Vec<u64>> {
        let sources = files.iter().map(|times| {
            let line = |second: &u64| format!("{{\"time\":\"1970-01-01T00:00:{second:02}Z\"}}\n");
            let text: String = times.iter().map(line).collect();
            let slack = Duration::from_secs(slack);
            Source::new(Path::new("test"), Box::new(Cursor::new(text)), slack)
        });
        let bucket = model::Bucket::from_parts(1, 1, 1).unwrap();
        let rules = [Rule { id: None, bucket, per: Per::All }];
        let (mut merged, mut seconds) = (Merged::new(sources.collect(), &rules), Vec::new());
        while let Some(take) = merged.next().ok()? {
            seconds.push(take.at / 1_000_000);
        }
        Some(seconds)
    }

    #[test]
    fn files_are_merged_in_the_order_of_time() {
        assert_eq!(merged(&[&[1, 4, 5], &[2, 3, 9], &[]], 0).unwrap(), [1, 2, 3, 4, 5, 9]);
    }

    #[test]
    fn a_file_is_sorted_within_its_slack_and_refused_beyond() {
        assert_eq!(merged(&[&[3, 1, 2, 6, 4]], 2).unwrap(), [1, 2, 3, 4, 6]);
        assert_eq!(merged(&[&[4, 1]], 2), None);
    }
}
