//! What arrived, as it arrived: the stand-in's memory for tests to look into.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use jiff::Timestamp;
use parking_lot::Mutex;

/// One request. It is in the log from the moment its head was read; the body and the status follow.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Counts from 1 and never back, not even when the log is cleared.
    pub sequence: u64,
    /// When its head had been read.
    pub at: Timestamp,
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// Which connection it came on; counts from 1.
    pub connection: u64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: &'static str,
    /// The method as it came.
    pub method: String,
    /// The path as it came, escapes and all.
    pub path: String,
    /// The query as it came.
    pub query: Option<String>,
    /// Every header, names in lower case, in the order of their first appearance; a name that came
    /// again stands next to its first.
    pub headers: Vec<(String, String)>,
    /// What was read of the body.
    pub body: BodySeen,
    /// The status it was answered with; none while it is under way or when a fault took the answer.
    pub status: Option<u16>,
}

impl Arrival {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What was read of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodySeen {
    /// Bytes read.
    pub length: u64,
    /// SHA-256 of the bytes read, in hex; none until reading has ended.
    pub sha256: Option<String>,
    /// The first [`BODY_KEPT_MAX`] bytes; fewer, down to none, when the log as a whole is full.
    pub kept: Bytes,
    /// The client sent all of it and all of it was read.
    pub complete: bool,
}

/// A handle on the log; clones look at the same one.
#[derive(Debug, Clone)]
pub struct Log {
    ring: Arc<Mutex<Ring>>,
}

impl Log {
    pub(crate) fn new(entries_max: usize) -> Self {
        let ring = Ring { arrivals: VecDeque::new(), entries_max, last: 0, forgotten: 0, kept: 0 };
        Self { ring: Arc::new(Mutex::new(ring)) }
    }

    /// Every arrival remembered, oldest first.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.after(0, usize::MAX)
    }

    /// At most `limit` arrivals with a sequence over `sequence`, oldest first.
    pub fn after(&self, sequence: u64, limit: usize) -> Vec<Arrival> {
        let ring = self.ring.lock();
        let later = ring.arrivals.iter().filter(|arrival| arrival.sequence > sequence);
        later.take(limit).cloned().collect()
    }

    /// The youngest arrival.
    pub fn last(&self) -> Option<Arrival> {
        self.ring.lock().arrivals.back().cloned()
    }

    /// Arrivals there were room for no longer.
    pub fn forgotten(&self) -> u64 {
        self.ring.lock().forgotten
    }

    /// Forgets every arrival. Numbers go on.
    pub fn clear(&self) {
        let mut ring = self.ring.lock();
        ring.arrivals.clear();
        ring.kept = 0;
        ring.forgotten = 0;
    }

    /// Writes down a request's head.
    pub(crate) fn arrive(&self, at: Timestamp, line: (SocketAddr, u64), head: &Parts) -> Seat {
        let mut ring = self.ring.lock();
        ring.last += 1;
        let sequence = ring.last;
        if ring.entries_max > 0 {
            while ring.arrivals.len() >= ring.entries_max {
                ring.forget_oldest();
            }
            ring.arrivals.push_back(written(sequence, at, line, head));
        }
        Seat { log: self.clone(), sequence }
    }
}

/// One arrival's place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    log: Log,
    sequence: u64,
}

impl Seat {
    pub(crate) fn answered(&self, status: u16) {
        if let Some(arrival) = self.log.ring.lock().find(self.sequence) {
            arrival.status = Some(status);
        }
    }

    pub(crate) fn read(&self, body: BodySeen) {
        let mut ring = self.log.ring.lock();
        let length = body.kept.len();
        if let Some(arrival) = ring.find(self.sequence) {
            arrival.body = body;
            ring.kept += length;
            ring.drop_old_bodies();
        }
    }
}

#[derive(Debug)]
struct Ring {
    arrivals: VecDeque<Arrival>,
    entries_max: usize,
    last: u64,
    forgotten: u64,
    /// Bytes of bodies kept.
    kept: usize,
}

impl Ring {
    fn find(&mut self, sequence: u64) -> Option<&mut Arrival> {
        let first = self.arrivals.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.arrivals.get_mut(index)
    }

    fn forget_oldest(&mut self) {
        if let Some(arrival) = self.arrivals.pop_front() {
            self.kept = self.kept.saturating_sub(arrival.body.kept.len());
            self.forgotten += 1;
        }
    }

    fn drop_old_bodies(&mut self) {
        for arrival in &mut self.arrivals {
            if self.kept <= BODIES_KEPT_MAX {
                return;
            }
            self.kept = self.kept.saturating_sub(arrival.body.kept.len());
            arrival.body.kept = Bytes::new();
        }
    }
}

fn written(sequence: u64, at: Timestamp, line: (SocketAddr, u64), head: &Parts) -> Arrival {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let (peer, connection) = line;
    Arrival {
        sequence,
        at,
        peer,
        connection,
        version: if head.version == http::Version::HTTP_2 { "HTTP/2.0" } else { "HTTP/1.1" },
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers.iter().map(header).collect(),
        body: BodySeen::default(),
        status: None,
    }
}

/// Bytes of one body kept. The rest is counted and digested only.
pub const BODY_KEPT_MAX: usize = 64 * 1024;

/// Bytes of all bodies kept. When full, the oldest bodies are dropped; their digests stay.
const BODIES_KEPT_MAX: usize = 64 * 1024 * 1024;
