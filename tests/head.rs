//! Heads of every kind: whatever a client sends, what arrives upstream is what a strict reader
//! finds in it, or nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop};
use proptest::test_runner::{TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof};
use serde_json::json;

use crate::harness::{Gate, Origin, Wire};
use crate::head::reader::{End, requests};

mod lenient;
mod reader;
mod words;

/// What a client sends.
#[derive(Clone)]
struct Sent(Vec<u8>);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        let start = bytes.get(..2_000).unwrap_or(bytes);
        write!(f, "{} bytes: {}", bytes.len(), start.escape_ascii())
    }
}

/// A gate that forwards everything to a test's own upstream.
struct Bench {
    gate: Gate,
    origin: Origin,
    /// Requests that arrived, so that no law holds for want of them.
    arrived: AtomicUsize,
}

impl Bench {
    fn start() -> Self {
        let (gate, origin) = (Gate::start(), Origin::start());
        let upstream = origin.upstream();
        gate.put("routes/all", &json!({ "uri": "/*", "upstream": upstream }));
        Self { gate, origin, arrived: AtomicUsize::new(0) }
    }

    /// Sends bytes, and holds what arrived against what a strict reader finds in them.
    fn check(&self, sent: &[u8]) -> Result<(), TestCaseError> {
        let (expected, end) = requests(sent);
        let mut client = Wire::connect(&self.gate.http);
        client.offer(sent);
        // Each is answered, unless the connection is closed with one that is refused.
        let is_open = expected.iter().all(|_| client.final_answer().is_some());
        // What is no request is refused by itself; for the rest of an unfinished one it waits.
        if is_open && end == End::Malformed && client.has_heard_within(REFUSAL_MAX) {
            client.final_answer();
        }
        client.finish();
        while client.final_answer().is_some() {}
        let (arrivals, broken) = self.origin.take();
        // A body that broke off may break off there too; a head is whole and right.
        let wrong = broken.iter().find(|text| HEAD_FAULTS.iter().any(|fault| text.contains(fault)));
        prop_assert!(wrong.is_none(), "{wrong:?} arrived of {expected:?}");
        self.arrived.fetch_add(arrivals.len(), Ordering::Relaxed);
        let mut left = expected.iter();
        for arrival in arrivals {
            let is_found = left.any(|request| {
                let target = request.target.as_deref().map(without_fragment);
                target == Some(arrival.raw_target()) && request.body == arrival.body
            });
            if !is_found {
                let line = arrival.line.escape_ascii();
                return Err(TestCaseError::fail(format!("{line} is none of {expected:?} {end:?}")));
            }
        }
        Ok(())
    }

    /// Checks many, and that the node has survived them.
    fn run(&self, cases: u32, strategy: &impl Strategy<Value = Sent>) {
        let config = ProptestConfig {
            cases,
            failure_persistence: None,
            max_shrink_time: 60_000,
            ..ProptestConfig::default()
        };
        let ran = TestRunner::new(config).run(strategy, |Sent(bytes)| self.check(&bytes));
        if let Err(error) = ran {
            panic!("{error}\n{}", self.gate.log());
        }
        let mut client = Wire::connect(&self.gate.http);
        assert_eq!(client.ask("GET /alive HTTP/1.1\r\nhost: a").status(), 200);
        let log = self.gate.log();
        assert!(!log.contains("panic"), "{log}");
        let arrived = self.arrived.load(Ordering::Relaxed);
        assert!(arrived > cases as usize / 5, "hardly any arrived: {arrived}");
    }
}

/// A target holds no fragment (RFC 9112 §3.2); where one is sent all the same, it is cut off
/// before anything is judged.
fn without_fragment(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'#').next().unwrap_or_default()
}

/// A number that tells each request from all others.
fn next() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn a_target_arrives_byte_by_byte_or_not_at_all() {
    let bench = Bench::start();
    let parts = (words::METHODS.one(), words::FORMS.one(), words::PATHS.some(8));
    let sent = parts.prop_map(|(method, form, path)| {
        let number = next().to_string().into_bytes();
        let rest = b" HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        Sent([&*method, b" ", &form, &number, &path, rest].concat())
    });
    bench.run(CASES, &sent);
}

#[test]
fn one_request_is_one_request_whatever_its_head_says_of_its_length() {
    let bench = Bench::start();
    let first = (words::METHODS.one(), words::VERSIONS.one(), prop::bool::weighted(0.9));
    let sent = (first, fields(), framed_body(), fields()).prop_map(|parts| {
        let ((method, version, has_host), before, (framing, body), after) = parts;
        let target = format!(" /n{} ", next());
        let host: &[u8] = if has_host { b"Host: a\r\n" } else { b"" };
        let head = [&*method, target.as_bytes(), &version, b"\r\n", host, &before];
        let rest = [&*framing, &after, b"\r\n", &body];
        Sent([head.concat(), rest.concat()].concat())
    });
    bench.run(CASES, &sent);
}

/// Every path that a lenient server might take a path for: escapes decoded once, parameters
/// dropped, backslashes turned, slashes merged, dots resolved, in any order or not at all.
fn readings(path: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::from([(path.to_vec(), false)]);
    let mut new: Vec<_> = found.iter().cloned().collect();
    while let Some((path, is_decoded)) = new.pop() {
        let mut read = vec![
            (lenient::turned(&path), is_decoded),
            (lenient::without_parameters(&path), is_decoded),
            (lenient::merged(&path), is_decoded),
            (lenient::resolved(&path), is_decoded),
        ];
        if !is_decoded {
            read.push((lenient::decoded(&path), true));
        }
        new.extend(read.into_iter().filter(|reading| found.insert(reading.clone())));
    }
    found.into_iter().map(|(path, _)| path).collect()
}

#[test]
fn no_path_that_reaches_one_route_could_be_read_as_one_of_another() {
    let gate = Gate::start();
    let sides = ["open", "closed"].map(|name| {
        let origin = Origin::start();
        let upstream = origin.upstream();
        gate.put(
            &format!("routes/{name}"),
            &json!({ "uri": format!("/{name}/*"), "upstream": upstream }),
        );
        (name, origin)
    });
    let arrived = AtomicUsize::new(0);
    let path = prop::collection::vec(prop::sample::select(words::STEPS), 0..8);
    let start = prop::sample::select(vec!["open/", "closed/", "open", "closed", ""]);
    let sent = (start, path)
        .prop_map(|(start, path)| Sent([b"/", start.as_bytes(), &path.concat()].concat()));
    let check = |Sent(path): Sent| {
        let mut client = Wire::connect(&gate.http);
        client.offer(
            [b"GET ", &*path, b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat(),
        );
        prop_assert!(client.final_answer().is_some(), "no answer");
        for (name, origin) in &sides {
            for arrival in origin.take().0 {
                arrived.fetch_add(1, Ordering::Relaxed);
                prop_assert_eq!(arrival.raw_target(), without_fragment(&path));
                let other = if *name == "open" { "closed" } else { "open" };
                let path =
                    arrival.raw_target().split(|byte| *byte == b'?').next().unwrap_or_default();
                for reading in readings(path) {
                    let first = reading.split(|byte| *byte == b'/').find(|part| !part.is_empty());
                    prop_assert_ne!(first, Some(other.as_bytes()), "{}", reading.escape_ascii());
                }
            }
        }
        Ok(())
    };
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..<_>::default() };
    TestRunner::new(config).run(&sent, check).unwrap_or_else(|error| panic!("{error}"));
    let arrived = arrived.into_inner();
    assert!(arrived > CASES as usize / 10, "hardly any arrived: {arrived}");
}

/// The fields that say how long a body is, and the body.
fn framed_body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let hidden = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let payload = prop_oneof![
        Just(Vec::new()),
        Just(hidden.to_vec()),
        Just([b"0\r\n\r\n", &hidden[..]].concat()),
        prop::collection::vec(0_u8..=255, 1..40),
    ];
    let chunked = (payload.clone(), words::EXTENSIONS.one(), words::ENDS.one());
    let chunked = chunked.prop_map(|(payload, extension, end)| {
        let size = format!("{:x}", payload.len());
        let chunk = [size.as_bytes(), &extension, &payload, b"\r\n"].concat();
        if payload.is_empty() { end } else { [chunk, end].concat() }
    });
    // Now and then each is sent as if it were the other.
    let (lengths, codings) = (words::LENGTHS.one(), words::CODINGS.one());
    let either = prop_oneof![
        4 => (lengths.clone(), payload.clone()),
        4 => (codings.clone(), chunked.clone()),
        1 => (lengths, chunked),
        1 => (codings, payload),
    ];
    either.prop_map(|(framing, body)| {
        let length = body.len().to_string();
        let parts: Vec<&[u8]> = framing.split(|byte| *byte == b'@').collect();
        (parts.join(length.as_bytes()), body)
    })
}

/// Further fields, and now and then more or larger ones than a head may have.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let huge = |size| [b"X-Huge: ", &*vec![b'h'; size], b"\r\n"].concat();
    prop_oneof![
        20 => words::FIELDS.some(3),
        1 => Just(b"X-Many: m\r\n".repeat(90)),
        1 => Just(b"X-Many: m\r\n".repeat(200)),
        1 => (1_000_usize..600_000).prop_map(huge),
    ]
}

/// What a test's upstream says of heads that are none.
const HEAD_FAULTS: [&str; 8] = [
    "a bad line",
    "a bad first line",
    "no field",
    "a bad name",
    "a bad value",
    "more than one length",
    "an unknown coding",
    "a bad length",
];

/// How long the gate may take to refuse what is no request.
const REFUSAL_MAX: Duration = Duration::from_secs(1);

/// Requests of each law.
const CASES: u32 = 3_000;
