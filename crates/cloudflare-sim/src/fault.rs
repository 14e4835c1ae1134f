//! What goes wrong on purpose: which requests a fault strikes, and what it does to them.
use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::id::Ids;

/// A fault: requests it is about, when it strikes, what it does. As JSON: `{"method": "POST",
/// "path_prefix": "/client/v4/zones", "when": {"first": 2}, "effect": {"answer": {"status": 503}}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Requests of this method only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Requests whose raw path begins so only.
    #[serde(default)]
    pub path_prefix: String,
    /// Which of those.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    pub effect: Effect,
}

impl Fault {
    /// A fault of every request.
    pub fn new(effect: Effect) -> Self {
        Self { method: None, path_prefix: String::new(), when: When::Always, effect }
    }

    /// Strikes this method only.
    #[must_use]
    pub fn method(self, method: &Method) -> Self {
        Self { method: Some(method.as_str().to_owned()), ..self }
    }

    /// Strikes only where the raw path begins with `prefix`.
    #[must_use]
    pub fn under(self, prefix: impl Into<String>) -> Self {
        Self { path_prefix: prefix.into(), ..self }
    }

    /// Strikes only then.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    fn is_about(&self, method: &Method, path: &str) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method.as_str())
            && path.starts_with(&self.path_prefix)
    }
}

/// Which of the requests that a fault is about it strikes; they count from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// All of them.
    #[default]
    Always,
    /// That one.
    Nth(u64),
    /// That many, and then no more.
    First(u64),
    /// Every nth.
    Every(u64),
    /// Each with this chance, in parts of a million, drawn from the seed.
    Chance(u32),
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Answers so instead.
    Answer {
        /// The status.
        status: u16,
        /// Headers, in order.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body; without one, the envelope with one error whose code is the status.
        #[serde(default)]
        body: Option<String>,
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// Waits, then goes on.
    Delay {
        /// Milliseconds.
        millis: u64,
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// Never answers; ends with the connection.
    Hang {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// Closes the connection without a word.
    Close {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// Gives up this request: a reset stream on HTTP/2, a closed connection on HTTP/1.1.
    Reset {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// Writes bytes that are no HTTP and closes the connection.
    Garbage {
        /// What to write.
        text: String,
    },
    /// Sends the answer's body in pieces with a wait before each.
    Drip {
        /// Bytes in a piece, at least 1.
        bytes: usize,
        /// Milliseconds before each piece.
        millis: u64,
    },
    /// Sends that many bytes of the answer's body and closes the connection.
    CloseMidBody {
        /// Bytes sent.
        after_bytes: usize,
    },
}

impl Effect {
    /// Answers `status` before anything is done.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: None, at: Point::Head }
    }

    /// When it happens; none for effects on the answer's bytes.
    pub(crate) fn point(&self) -> Option<Point> {
        match self {
            Self::Answer { at, .. }
            | Self::Delay { at, .. }
            | Self::Hang { at }
            | Self::Close { at }
            | Self::Reset { at } => Some(*at),
            Self::Garbage { .. } => Some(Point::Done),
            Self::Drip { .. } | Self::CloseMidBody { .. } => None,
        }
    }
}

/// A point on a request's way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The head was read, the body was not. Nothing is done.
    #[default]
    Head,
    /// The body was read too. Nothing is done. The probes under `__sim` read as they answer and
    /// take this for [`Point::Done`].
    Body,
    /// The work is done, the answer has not left: the caller cannot know.
    Done,
}

/// A handle on the faults; clones share them.
#[derive(Debug, Clone)]
pub struct Faults {
    shelf: Arc<Mutex<Shelf>>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let shelf = Shelf { armed: Vec::new(), chance: Ids::new(seed ^ CHANCE_SALT) };
        Self { shelf: Arc::new(Mutex::new(shelf)) }
    }

    /// Arms a fault. Of the faults that would strike a request, the one armed first does.
    ///
    /// # Errors
    /// [`TooMany`] when [`FAULTS_MAX`] are armed already.
    pub fn inject(&self, fault: Fault) -> Result<(), TooMany> {
        let mut shelf = self.shelf.lock();
        if shelf.armed.len() >= FAULTS_MAX {
            return Err(TooMany);
        }
        shelf.armed.push(Armed { fault, seen: 0, struck: 0 });
        Ok(())
    }

    /// Disarms every fault.
    pub fn clear(&self) {
        self.shelf.lock().armed.clear();
    }

    /// Every armed fault and how often it has struck.
    pub fn armed(&self) -> Vec<(Fault, u64)> {
        self.shelf.lock().armed.iter().map(|armed| (armed.fault.clone(), armed.struck)).collect()
    }

    /// What strikes this request, if anything does.
    pub(crate) fn strike(&self, method: &Method, path: &str) -> Option<Effect> {
        let mut shelf = self.shelf.lock();
        let Shelf { armed, chance } = &mut *shelf;
        let about = armed.iter_mut().filter(|armed| armed.fault.is_about(method, path));
        let mut struck = None;
        for armed in about {
            if armed.is_due(chance) && struck.is_none() {
                armed.struck += 1;
                struck = Some(armed.fault.effect.clone());
            }
        }
        struck
    }
}

/// No room for another fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot arm more than {FAULTS_MAX} faults")]
pub struct TooMany;

#[derive(Debug)]
struct Shelf {
    armed: Vec<Armed>,
    chance: Ids,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    /// Requests it was about.
    seen: u64,
    struck: u64,
}

impl Armed {
    fn is_due(&mut self, chance: &mut Ids) -> bool {
        self.seen += 1;
        match self.fault.when {
            When::Always => true,
            When::Nth(n) => self.seen == n,
            When::First(n) => self.seen <= n,
            When::Every(n) => n > 0 && self.seen.is_multiple_of(n),
            When::Chance(parts) => chance.number() % 1_000_000 < u64::from(parts),
        }
    }
}

/// Faults armed at once; one more is refused.
pub const FAULTS_MAX: usize = 256;

/// Keeps chance apart from the identifiers made from the same seed.
const CHANCE_SALT: u64 = 0x7461_6c6c_6661_756c;

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Effect, FAULTS_MAX, Fault, Faults, TooMany, When};

    /// Strikes ten requests and writes which were hit.
    fn check(when: When, expected: &str) {
        let faults = Faults::new(7);
        faults.inject(Fault::new(Effect::status(503)).under("/a").when(when)).unwrap();
        let strike = |_| if faults.strike(&Method::GET, "/a/b").is_some() { 'x' } else { '.' };
        assert_eq!((0..10).map(strike).collect::<String>(), expected);
        assert_eq!(faults.strike(&Method::GET, "/b"), None);
    }

    #[test]
    fn each_kind_of_when_strikes_what_it_says() {
        check(When::Always, "xxxxxxxxxx");
        check(When::Nth(3), "..x.......");
        check(When::First(3), "xxx.......");
        check(When::Every(4), "...x...x..");
        check(When::Chance(0), "..........");
        check(When::Chance(1_000_000), "xxxxxxxxxx");
    }

    #[test]
    fn the_first_armed_fault_wins_and_the_others_still_count() {
        let faults = Faults::new(7);
        faults.inject(Fault::new(Effect::status(500)).when(When::First(1))).unwrap();
        faults.inject(Fault::new(Effect::status(502)).when(When::Nth(2))).unwrap();
        assert_eq!(faults.strike(&Method::GET, "/"), Some(Effect::status(500)));
        assert_eq!(faults.strike(&Method::GET, "/"), Some(Effect::status(502)));
        assert_eq!(faults.strike(&Method::GET, "/"), None);
    }

    #[test]
    fn there_is_room_for_so_many_faults_and_no_more() {
        let faults = Faults::new(7);
        for _ in 0..FAULTS_MAX {
            faults.inject(Fault::new(Effect::status(500))).unwrap();
        }
        assert_eq!(faults.inject(Fault::new(Effect::status(500))), Err(TooMany));
    }

    #[test]
    fn a_fault_reads_as_it_is_documented() {
        let text = r#"{"method": "POST", "path_prefix": "/client/v4/zones",
            "when": {"first": 2}, "effect": {"answer": {"status": 503}}}"#;
        let expected = Fault::new(Effect::status(503))
            .method(&Method::POST)
            .under("/client/v4/zones")
            .when(When::First(2));
        assert_eq!(serde_json::from_str::<Fault>(text).unwrap(), expected);
    }
}
