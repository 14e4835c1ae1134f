//! What happened in a simulation, in order, and a digest of all of it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Every event goes into the digest; the last [`LINES_MAX`] are kept to be read.
pub(crate) struct Trace {
    start: Instant,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    lines: VecDeque<String>,
    digest: DefaultHasher,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), told: Mutex::default() }
    }

    pub(crate) fn tell(&self, what: &str) {
        let line = format!("{:>6} {what}", self.start.elapsed().as_millis());
        let mut told = self.told.lock();
        told.digest.write(line.as_bytes());
        if told.lines.len() == LINES_MAX {
            told.lines.pop_front();
        }
        told.lines.push_back(line);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.told.lock().digest.finish()
    }

    /// The last events, oldest first.
    pub(crate) fn tail(&self) -> String {
        self.told.lock().lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Events that are kept; the oldest goes first.
const LINES_MAX: usize = 400;
