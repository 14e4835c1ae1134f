//! Records, from the call to whoever keeps them: none is lost, none is doubled, none tells a
//! secret.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::syslog::{Syslog, frame};
use crate::harness::{
    Audit, Gate, Message, Origin, Setup, SyslogServer, Wire, get, listener, text_at, wait_for,
};

/// What no record may hold: it comes with every call.
const BEARER: &str = "Bearer planted-agent-token";

/// A gate in front of an upstream, with one route and its loggers.
struct Bench {
    gate: Gate,
    origin: Origin,
}

impl Bench {
    fn start(arguments: &[&str], plugins: &Value) -> Self {
        let gate = Gate::with(&Setup { arguments, ..Setup::default() });
        let bench = Self { gate, origin: Origin::start() };
        bench.route(plugins);
        bench
    }

    fn route(&self, plugins: &Value) {
        let upstream = self.origin.upstream();
        let route = json!({ "uri": "/*", "upstream": upstream, "plugins": plugins });
        self.gate.put("routes/all", &route);
    }

    /// Calls one after the other on one connection: the ids the gate gave them.
    fn call(&self, count: usize) -> Vec<String> {
        let mut client = Wire::connect(&self.gate.http);
        let host = &self.gate.http;
        let call = |n| {
            let head = format!("GET /{n} HTTP/1.1\r\nhost: {host}\r\nauthorization: {BEARER}");
            let answer = client.ask(&head);
            assert_eq!(answer.status(), 200, "{answer:?}");
            answer.field("x-tollgate-request-id").expect("an id").to_owned()
        };
        (0..count).map(call).collect()
    }
}

fn ids(messages: &[Syslog]) -> Vec<String> {
    messages.iter().map(Syslog::id).collect()
}

#[test]
fn each_call_is_one_datagram_over_udp() {
    let server = SyslogServer::udp();
    let target = json!({
        "host": "127.0.0.1", "port": server.port, "sock_type": "udp", "inactive_timeout": 1,
    });
    let bench = Bench::start(&[], &json!({ "syslog": target }));
    let called = bench.call(20);
    let messages = server.wait(20);
    assert_eq!(ids(&messages), called);
    assert_eq!(messages[0].record["status"], 200);
    assert_eq!(messages[7].record["path"], "/7");
}

#[test]
fn a_stop_right_after_the_last_call_loses_no_record_on_its_way() {
    let server = SyslogServer::tcp(listener());
    let file = tempfile::NamedTempFile::new().unwrap();
    // With these, no record leaves by itself in the time of this test.
    let target = json!({ "host": "127.0.0.1", "port": server.port, "inactive_timeout": 600 });
    let plugins = json!({ "syslog": target, "file-logger": { "path": file.path() } });
    let mut bench = Bench::start(&[], &plugins);
    let called = bench.call(50);
    let ended = bench.gate.stop();
    assert!(ended.status.success(), "{}", bench.gate.log());
    let messages = server.wait(50);
    assert_eq!(ids(&messages), called);
    assert!(messages.iter().map(|message| message.sequence).eq(1..=50));
    let lines = std::fs::read_to_string(file.path()).unwrap();
    check_lines(&lines, &called);
    check_lines(&std::fs::read_to_string(&bench.gate.audit.file).unwrap(), &called);
}

#[test]
fn records_wait_for_a_server_that_is_away_and_each_arrives() {
    let gone = listener();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let target = json!({
        "host": "127.0.0.1", "port": port, "inactive_timeout": 1, "retry_delay": 0,
    });
    let bench = Bench::start(&[], &json!({ "syslog": target }));
    let first = bench.call(5);
    wait_for("a try that failed", || bench.gate.log().contains("server is away").then_some(()));
    let come = TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    // It takes the records, hangs up without an acknowledgement, and is away again.
    let (stream, _) = come.accept().unwrap();
    let mut stream = BufReader::new(stream);
    let taken: Vec<_> = (0..5).filter_map(|_| frame(&mut stream)).collect();
    assert_eq!(taken.len(), 5);
    drop((stream, come));
    let second = bench.call(5);
    let back = SyslogServer::tcp(TcpListener::bind(("127.0.0.1", port)).expect("the port"));
    let everything: BTreeSet<_> = first.iter().chain(&second).cloned().collect();
    let heard = || -> Vec<String> {
        let read = |message: &Vec<u8>| Syslog::read(message).id();
        taken.iter().chain(&back.messages()).map(read).collect()
    };
    wait_for("every record", || {
        heard().into_iter().collect::<BTreeSet<_>>().is_superset(&everything).then_some(())
    });
    let mut counts = BTreeMap::<_, usize>::new();
    heard().into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
    // What the broken connection took may come twice, and nothing else may.
    assert!(second.iter().all(|id| counts[id] == 1), "{counts:?}");
    assert_eq!(counts.keys().cloned().collect::<BTreeSet<_>>(), everything);
}

#[test]
fn over_tls_records_go_to_a_server_that_is_vouched_for_and_to_no_other() {
    let ((known, certificate), (unknown, _)) = (SyslogServer::tls(), SyslogServer::tls());
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certificate.cert).unwrap();
    let target = |server: &SyslogServer| {
        json!({
            "host": "127.0.0.1", "port": server.port, "tls": true, "inactive_timeout": 1,
            "max_retry_count": 1, "retry_delay": 0,
        })
    };
    let arguments = ["--upstream-ca", ca.path().to_str().unwrap()];
    let bench = Bench::start(&arguments, &json!({ "syslog": target(&unknown) }));
    bench.call(3);
    let given_up = "tollgate_records_dropped_total{sink=\"syslog\"} 3";
    wait_for("the end of the tries", || bench.gate.numbers().contains(given_up).then_some(()));
    bench.route(&json!({ "syslog": target(&known) }));
    let called = bench.call(10);
    assert_eq!(ids(&known.wait(10)), called);
    assert!(unknown.messages().is_empty());
}

#[test]
fn a_file_gets_the_lines_its_route_asks_for_and_goes_on_elsewhere_when_moved() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("calls.log"), folder.path().join("moved.log"));
    let bench = Bench::start(
        &[],
        &json!({ "file-logger": {
        "path": path,
        "match": [["arg_wanted", "==", "yes"]],
        "log_format": {
            "kind": "a constant",
            "who": { "address": "$remote_addr", "token": "$http_authorization" },
            "status": "$status",
            "wanted": "$arg_wanted",
            "absent": "$http_x_absent",
        },
    } }),
    );
    let bearer = format!("authorization: {BEARER}");
    let call = |path: &str| get(&bench.gate.http, path, &[&bearer]).status();
    assert_eq!(call("/1?wanted=no"), 200);
    assert_eq!(call("/2?wanted=yes"), 200);
    let lines = |path: &Path, count: usize| {
        wait_for("the lines", || {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            (text.lines().count() >= count).then_some(text)
        })
    };
    let line: Value = serde_json::from_str(&lines(&path, 1)).expect("one JSON line");
    assert_eq!(line["kind"], "a constant");
    assert_eq!(line["who"], json!({ "address": "127.0.0.1", "token": "[secret]" }));
    assert_eq!([&line["wanted"], &line["route_id"]], ["yes", "all"]);
    assert_eq!(line["status"].to_string().trim_matches('"'), "200");
    assert!(line.get("absent").is_none(), "{line}");

    std::fs::rename(&path, &moved).unwrap();
    assert_eq!(call("/3?wanted=yes"), 200);
    lines(&moved, 2);
    bench.gate.reload();
    wait_for("a line in the new file", || {
        assert_eq!(call("/4?wanted=yes"), 200);
        path.exists().then_some(())
    });
    for path in [&path, &moved] {
        let text = lines(path, 1);
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
        assert!(!text.contains("planted"), "{text}");
    }
}

/// Each of these calls has one line in the text, whole, and no line tells a secret.
fn check_lines(text: &str, called: &[String]) {
    let mut found = BTreeMap::<String, usize>::new();
    for line in text.lines() {
        assert!(!line.contains("planted"), "{line}");
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        *found.entry(text_at(&record, "/request_id")).or_default() += 1;
    }
    let missing: Vec<_> = called.iter().filter(|id| found.get(*id) != Some(&1)).collect();
    assert!(missing.is_empty(), "lost or doubled: {missing:?}");
}

#[test]
fn the_audit_file_loses_no_line_while_it_is_moved_and_opened_anew() {
    let mut bench = Bench::start(&[], &json!({}));
    let current = bench.gate.audit.file.clone();
    let (is_over, calls) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let mut moved = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let called = bench.call(20);
                    calls.lock().unwrap().extend(called);
                }
            });
        }
        for n in 0..5 {
            let aside = bench.gate.data.join(format!("moved-{n}.jsonl"));
            wait_for("some lines", || {
                std::fs::metadata(&current).is_ok_and(|found| found.len() > 0).then_some(())
            });
            std::fs::rename(&current, &aside).unwrap();
            bench.gate.reload();
            moved.push(aside);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(bench.gate.stop().status.success());
    moved.push(current);
    let read = |path| std::fs::read_to_string(path).expect("a segment");
    check_lines(&moved.into_iter().map(read).collect::<String>(), &calls.into_inner().unwrap());
}

#[test]
fn the_audit_file_is_closed_at_its_size_and_loses_no_line_by_it() {
    let data = tempfile::tempdir().unwrap();
    let Audit { file: audit } = Audit::of(data.path());
    std::fs::create_dir_all(audit.parent().unwrap()).unwrap();
    // As good as full: a segment holds a hundred MiB.
    let filler = (100 << 20) - 10_000;
    let file = std::fs::File::create(&audit).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"\n", filler - 1).unwrap();
    let setup = Setup { data: Some(data.path()), ..Setup::default() };
    let (mut gate, origin) = (Gate::with(&setup), Origin::start());
    let upstream = origin.upstream();
    gate.put("routes/all", &json!({ "uri": "/*", "upstream": upstream }));
    let bench = |n: usize| get(&gate.http, &format!("/{n}"), &[]);
    let answers: Vec<Message> = (0..40).map(bench).collect();
    let id = |answer: &Message| answer.field("x-tollgate-request-id").expect("an id").to_owned();
    let called: Vec<_> = answers.iter().map(id).collect();
    assert!(gate.stop().status.success());
    let mut text = String::new();
    for entry in std::fs::read_dir(audit.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".jsonl") {
            continue;
        }
        let mut file = BufReader::new(std::fs::File::open(&path).unwrap());
        if name != "audit.jsonl" {
            assert!(name.starts_with("audit-00000001-"), "{name}");
            std::io::Seek::seek_relative(&mut file, i64::try_from(filler).unwrap()).unwrap();
        }
        let before = text.len();
        file.read_to_string(&mut text).unwrap();
        assert!(text.len() > before, "{name} holds no record");
    }
    check_lines(&text, &called);
    assert_eq!(text.lines().count(), 40);
}

#[test]
fn the_trace_context_comes_in_and_goes_out() {
    let bench = Bench::start(&[], &json!({}));
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let arrived = |fields: &[&str]| {
        let answer = get(&bench.gate.http, "/", fields);
        let id = answer.field("x-tollgate-request-id").expect("an id").to_owned();
        let (arrivals, broken) = bench.origin.take();
        let [arrival] = &*arrivals else { panic!("{arrivals:?} {broken:?}") };
        assert_eq!(arrival.count("traceparent"), 1);
        let parts = arrival.field("traceparent").expect("a context").split('-');
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        assert_eq!(
            [parts[0].len(), parts[1].len(), parts[2].len(), parts[3].len()],
            [2, 32, 16, 2]
        );
        let record: Value = serde_json::from_str(&bench.gate.audit.line(&id)).expect("JSON");
        assert_eq!(record["trace_id"], *parts[1]);
        (parts, arrival.field("tracestate").map(str::to_owned))
    };
    let parent = format!("traceparent: 00-{trace}-{span}-01");
    let (parts, state) = arrived(&[&parent, "tracestate: vendor=1"]);
    assert_eq!([&*parts[1], &*parts[3], &*state.unwrap()], [trace, "01", "vendor=1"]);
    // This node traces nothing, so the upstream's caller is still the client's span.
    assert_eq!(parts[2], span);
    let (others, _) = arrived(&[]);
    assert_ne!(others[1], trace);
    // What is no context begins a trace of its own (W3C Trace Context §3.2.2).
    for wrong in [
        "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned(),
        format!("traceparent: ff-{trace}-{span}-01"),
        format!("traceparent: 00-{trace}-{span}"),
        format!("traceparent: 00-{}-{span}-01", trace.to_uppercase()),
    ] {
        let (parts, _) = arrived(&[&wrong]);
        assert_ne!(parts[1].to_lowercase(), trace, "{wrong}");
    }
}
