//! The recorder with real files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{Code, Ending, Identity, Outcome, Protocol, Scheme, SystemClock, Trace};
use proptest::prelude::*;
use rules::record::RecordShape;
use serde_json::{Value, json};

use super::*;
use crate::json::Object;
use crate::sample::{Running, entry, lines, log_format, numbers, outcome, to_file, until};
use crate::{Loggers, record};

#[tokio::test]
async fn a_record_holds_every_name_of_the_contract() {
    let running = Running::start();
    let mut given = entry(255, &Loggers::default());
    given.outcome.refusal = Some(Code::LimitExceeded);
    given.outcome.trace = Some(Trace { trace_id: 1, span_id: 2, sampled: true });
    running.record(given);
    let directory = running.drain().await;
    let expected = json!({
        "time": "2026-01-02T02:50:00.123456Z", "request_id": "000000000000000000000000000000ff",
        "node": "n1", "revision": 7, "organisation": "acme", "team": "dns", "agent": "bot",
        "client": {"ip": "192.0.2.7", "port": 4711}, "scheme": "https", "protocol": "HTTP/2.0",
        "method": "GET", "host": "api.example.com", "path": "/client/v4/zones",
        "query": "page=2&jwt=[secret]", "route": "1", "operation": "zones.list",
        "limits": ["routes/1"],
            "budgets": [
                {"budget": "acme", "unit": "requests", "per": "organisation", "subject": "acme",
                 "every": "day", "period": "2026-01-02T00:00:00.000000Z",
                 "held": "1", "charged": "1"}
            ],
        "upstream": {"id": "cloudflare", "node": "api.cloudflare.com:443",
            "address": "198.51.100.4:443", "tries": 1, "status": 200},
        "status": 200, "refusal": "limit.exceeded", "ending": "complete", "received": 0,
        "sent": 512, "latency_us": {"total": 35_123, "queued": 0, "upstream": 34_000},
        "trace_id": "00000000000000000000000000000001", "span_id": "0000000000000002",
        "user_agent": "agent/1.0",
    });
    assert_eq!(lines(directory.path()), [expected]);
}

#[tokio::test]
async fn what_waits_for_a_record_goes_on_when_that_is_written() {
    struct Waits(Arc<AtomicBool>, PathBuf);
    impl Drop for Waits {
        fn drop(&mut self) {
            let text = fs::read_to_string(&self.1).unwrap();
            self.0.store(text.contains("000000ff\""), Ordering::Relaxed);
        }
    }
    let (running, was_written) = (Running::start(), Arc::new(AtomicBool::default()));
    let file = running.directory.path().join("audit.jsonl");
    let mut given = entry(255, &Loggers::default());
    given.due = Some(Box::new(Waits(Arc::clone(&was_written), file)));
    running.record(given);
    until("the record to be written", || was_written.load(Ordering::Relaxed)).await;
}

#[tokio::test]
async fn a_drain_writes_everything_recorded_before_it() {
    let running = Running::start();
    for number in 0..5_000 {
        running.record(entry(number, &Loggers::default()));
    }
    let directory = running.drain().await;
    assert_eq!(numbers(&lines(directory.path())), (0..5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn there_are_as_many_seats_as_the_queue_is_long() {
    let running = Running::start_with(|options| options.queue = 2);
    let seats = [running.recorder.seat(), running.recorder.seat()];
    assert!(seats.iter().all(Option::is_some));
    assert!(running.recorder.seat().is_none());
    assert_eq!(running.metrics.refused.get(), 1);
    drop(seats);
    assert!(running.recorder.seat().is_some());
}

#[tokio::test]
async fn a_drain_waits_for_the_seats_that_are_taken() {
    let running = Running::start();
    let seat = running.recorder.seat().unwrap();
    let recorder = running.recorder.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(running.drain());
    until("the door to be closed", || recorder.seat().is_none()).await;
    seat.record(Box::new(entry(1, &Loggers::default())));
    let directory = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(numbers(&lines(directory.path())), [1]);
}

#[tokio::test]
async fn a_drain_with_a_seat_that_never_ends_is_over_at_its_deadline() {
    let running = Running::start();
    let _seat = running.recorder.seat().unwrap();
    running.record(entry(1, &Loggers::default()));
    let result = running.handle.drain(Duration::from_millis(50)).await;
    assert!(matches!(result, Err(Error::Unfinished { seats: 1, records: 0, messages: 0 })));
    assert_eq!(numbers(&lines(running.directory.path())), [1]);
}

#[tokio::test]
async fn a_full_disk_refuses_seats_and_loses_and_tears_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    symlink("/dev/full", &file).unwrap();
    let running = Running::start_in(directory, |options| options.queue = 4);
    let mut recorded = 0;
    until("the seats to run out", || {
        if let Some(seat) = running.recorder.seat() {
            seat.record(Box::new(entry(recorded, &Loggers::default())));
            recorded += 1;
        }
        let is_failing = running.metrics.errors.get_or_create(&AUDIT).get() > 0;
        is_failing && running.recorder.seat().is_none()
    })
    .await;
    fs::remove_file(&file).unwrap();
    running.recorder.reopen();
    until("a seat", || running.recorder.seat().is_some()).await;
    let directory = running.drain().await;
    assert_eq!(numbers(&lines(directory.path())), (0..recorded).collect::<Vec<_>>());
}

const AUDIT: crate::metrics::To = crate::metrics::To { sink: crate::metrics::Sink::audit };

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let running = Running::start();
    let file = running.directory.path().join("audit.jsonl");
    let moved = running.directory.path().join("moved");
    running.record(entry(1, &Loggers::default()));
    until("the first record", || fs::metadata(&file).unwrap().len() > 0).await;
    fs::rename(&file, &moved).unwrap();
    running.recorder.reopen();
    running.record(entry(2, &Loggers::default()));
    let directory = running.drain().await;
    assert_eq!(numbers(&lines(directory.path())), [2]);
    assert_eq!(fs::read_to_string(moved).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn the_recorder_ends_with_the_last_who_could_record() {
    let Running { directory, recorder, handle, metrics: _ } = Running::start();
    recorder.seat().unwrap().record(Box::new(entry(1, &Loggers::default())));
    drop((recorder, handle));
    let roots = Arc::new(rustls::RootCertStore::empty());
    let options = Options::new(directory.path().to_owned(), "", roots);
    let clock = Arc::new(SystemClock::start());
    until("the directory to be free", || {
        Recorder::start(options.clone(), clock.clone(), Metrics::default()).is_ok()
    })
    .await;
    assert_eq!(numbers(&lines(directory.path())), [1]);
}

#[tokio::test]
async fn a_route_s_file_gets_its_own_record_beside_the_audit_file() {
    let running = Running::start();
    let path = running.directory.path().join("route.log");
    running.record(entry(1, &to_file(&path, log_format(&[("id", "$request_id"), ("v", "1")]))));
    running.record(entry(2, &to_file(&path, RecordShape::default())));
    running.record(entry(3, &Loggers::default()));
    let directory = running.drain().await;
    let text = fs::read_to_string(path).unwrap();
    let route: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own = json!({"id": "00000000000000000000000000000001", "v": "1", "route_id": "1"});
    assert_eq!(route[0], own);
    let audit = lines(directory.path());
    assert_eq!((&route[1], route.len(), audit.len()), (&audit[1], 2, 3));
}

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

prop_compose! {
    fn any_outcome()(
        texts in proptest::collection::vec(text(), 12),
        numbers in proptest::collection::vec(any::<u64>(), 6),
        id: u128,
        status: u16,
        address: std::net::SocketAddr,
        is_bare: bool,
        code in proptest::sample::select(Code::ALL),
    ) -> Outcome {
        let mut made = outcome(id);
        made.node = model::NodeName::new(&texts[0]);
        made.revision = model::Revision::new(numbers[0]);
        made.started = model::Timestamp::from_micros(numbers[1]);
        made.client = address;
        made.scheme = if is_bare { Scheme::Http } else { Scheme::Https };
        made.protocol = if is_bare { Protocol::Http10 } else { Protocol::Http2 };
        made.method = texts[1].to_string().into();
        made.path = Arc::clone(&texts[2]);
        made.status = status;
        made.ending = if is_bare { Ending::ClientGone } else { Ending::Cut };
        (made.received, made.sent) = (numbers[2], numbers[3]);
        made.timing.total = Duration::from_micros(numbers[4]);
        let given = |index: usize| (!is_bare).then(|| Arc::clone(&texts[index]));
        (made.host, made.query, made.user_agent) = (given(3), given(4), given(5));
        (made.forwarded_path, made.detail) = (given(6), given(7));
        made.refusal = (!is_bare).then_some(code);
        made.client_retry = (!is_bare).then_some(status);
        made.trace = (!is_bare).then(|| Trace { trace_id: id, span_id: numbers[5], sampled: true });
        made.limits = texts[8..10].iter().map(|text| model::LimitId::new(text)).collect();
        if is_bare {
            (made.route, made.identity, made.attempt) = (None, None, None);
            made.limits.clear();
            made.budgets.clear();
        } else {
            made.route = Some(model::RouteId::new(&texts[10]));
            made.identity = Some(Identity {
                organisation: model::OrganisationId::new(&texts[0]),
                team: Some(model::TeamId::new(&texts[1])),
                agent: model::AgentId::new(&texts[2]),
                run: Some(model::RunId::new(&texts[3])),
                credential: Some(model::CredentialId::new(&texts[4])),
            });
            made.attempt.as_mut().unwrap().node = Arc::clone(&texts[11]);
        }
        made
    }
}

proptest! {
    #[test]
    fn any_outcome_is_one_line_of_json_with_names_of_the_contract(outcome in any_outcome()) {
        let mut line = Vec::new();
        let mut object = Object::begin(&mut line);
        record::write(&mut object, &outcome);
        object.end();
        prop_assert!(!line.contains(&b'\n'));
        let read: Value = serde_json::from_slice(&line).unwrap();
        let names = read.as_object().unwrap();
        prop_assert!(names.keys().all(|name| record::MEMBERS.contains(&name.as_str())));
        prop_assert_eq!(names["path"].as_str().unwrap(), &*outcome.path);
        prop_assert_eq!(names["status"].as_u64().unwrap(), u64::from(outcome.status));
    }
}
