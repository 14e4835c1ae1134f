//! What a gate recorded.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{at, wait_for};

/// The audit file of a gate.
pub(crate) struct Audit {
    pub(crate) file: PathBuf,
}

impl Audit {
    /// The one in a data directory.
    pub(crate) fn of(data: &Path) -> Self {
        Self { file: data.join("audit/audit.jsonl") }
    }

    /// The records of requests to a path so far.
    pub(crate) fn records(&self, path: &str) -> Vec<Value> {
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("a record is JSON");
        self.text().lines().map(read).filter(|record| at(record, "/path") == path).collect()
    }

    /// The records of so many requests to a path, once they are there.
    pub(crate) fn records_of(&self, path: &str, count: usize) -> Vec<Value> {
        let records = wait_for("the records", || {
            Some(self.records(path)).filter(|records| records.len() >= count)
        });
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }

    /// The record of the only request to a path, once it is there.
    pub(crate) fn record(&self, path: &str) -> Value {
        self.records_of(path, 1).remove(0)
    }

    /// The record of the request with an id, once it is there, as it is written.
    pub(crate) fn line(&self, id: &str) -> String {
        wait_for("the record", || {
            self.text().lines().find(|line| line.contains(id)).map(str::to_owned)
        })
    }

    /// The whole lines so far: one that is still being written has no end yet.
    fn text(&self) -> String {
        let mut text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }
}
