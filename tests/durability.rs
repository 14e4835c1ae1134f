//! What was acknowledged stays: over kill -9, and over a stop under load.

use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use serde_json::json;

use crate::harness::{
    ADMIN_KEY, ANY, Certificate, Demo, Gate, Origin, Setup, curl, listener, signal, tollgate,
    wait_for,
};

#[test]
fn kill_9_loses_no_acknowledged_change() {
    let data = tempfile::tempdir().expect("a temporary directory");
    for round in 0..3 {
        let gate = Gate::with(&Setup { data: Some(data.path()), ..Setup::default() });
        for id in 0..=round {
            let body = json!({ "nodes": { format!("127.0.0.1:{}", 1_000 + id): 1 } });
            gate.put(&format!("upstreams/u{id}"), &body);
        }
        gate.kill();
        let gate = Gate::with(&Setup { data: Some(data.path()), ..Setup::default() });
        let list = gate.administer(&[], "/apisix/admin/upstreams");
        assert_eq!(list.json()["total"], round + 1);
        gate.kill();
    }
}

#[test]
fn a_stop_under_load_loses_no_request() {
    let demo = Demo::start();
    let limit = r#"{"uri":"/free/*","upstream_id":"free","plugins":{"proxy-rewrite":{"regex_uri":["^/free/(.*)","/$1"]}}}"#;
    let upstream = format!(
        r#"{{"scheme":"https","nodes":{{"{}":1}},"tls":{{"verify":false}}}}"#,
        demo.upstream
    );
    let put = |body: &str, path: &str| demo.administer(&["-X", "PUT", "-d", body], path).status();
    assert_eq!(put(&upstream, "/admin/upstreams/free"), 201);
    assert_eq!(put(limit, "/admin/routes/free"), 201);
    let url = format!("http://{}/free/__sim/log", demo.http);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let output = std::process::Command::new("curl")
                        .args([
                            "-s",
                            "-o",
                            "/dev/null",
                            "-w",
                            "%{http_code}",
                            "--max-time",
                            "30",
                            &url,
                        ])
                        .output()
                        .expect("curl runs");
                    match (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()) {
                        (Some(0), "200") => _ = answered.fetch_add(1, Ordering::Relaxed),
                        // 7: no connection, so no request was sent.
                        (Some(7), _) => return,
                        other => panic!("a request was lost: {other:?}"),
                    }
                }
            });
        }
        wait_for("some answers", || (answered.load(Ordering::Relaxed) > 20).then_some(()));
        signal(demo.node_pid, "TERM");
        let probe = format!("http://{}/health", demo.metrics);
        wait_for("the node to end", || {
            let asked = std::process::Command::new("curl").args(["-s", &probe]).output();
            (!asked.expect("curl runs").status.success()).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
    });
}

/// Starts a node on free ports but for one, and returns the code of its end and what it said.
fn fails_to_start(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tollgate();
    command.args(["run", "--announce", "--data"]).arg(data);
    for door in ["--http", "--admin", "--metrics"] {
        if !arguments.contains(&door) {
            command.args([door, ANY]);
        }
    }
    command.args(arguments).env("TOLLGATE_ADMIN_KEY", ADMIN_KEY);
    let output = command.stdin(std::process::Stdio::null()).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_start_that_fails_leaves_the_counts_as_they_were_saved() {
    let (data, origin) = (tempfile::tempdir().expect("a temporary directory"), Origin::start());
    let setup = Setup { data: Some(data.path()), ..Setup::default() };
    let mut gate = Gate::with(&setup);
    let limit = json!({ "rate": 0.001, "burst": 3, "key": "remote_addr", "nodelay": true, "rejected_code": 429 });
    gate.carry(&origin.upstream(), &json!({ "plugins": { "limit-req": limit } }));
    assert_eq!(gate.ask(&[], "/t").status(), 200);
    assert!(gate.stop().status.success());
    let taken = listener();
    let address = taken.local_addr().expect("an address").to_string();
    for door in ["--metrics", "--admin", "--http"] {
        let (code, said) = fails_to_start(data.path(), &[door, &address]);
        assert_eq!(code, Some(1), "{door}: {said}");
        assert!(said.contains(&address), "{door}: {said}");
    }
    let gate = Gate::with(&setup);
    let passed = (0..9).take_while(|_| gate.ask(&[], "/t").status() == 200).count();
    assert_eq!(passed, 3, "four at once, of which one was taken before");
    assert!(!gate.log().contains("was not clean"), "{}", gate.log());
    // The counts of a node that is killed are lost, and it says so.
    gate.kill();
    let gate = Gate::with(&setup);
    wait_for("the warning", || gate.log().contains("the last stop was not clean").then_some(()));
    assert_eq!(gate.ask(&[], "/t").status(), 429);
}

/// What a probe is answered, and its text.
fn probe(gate: &Gate, path: &str) -> (u16, String) {
    let answer = curl(&[&format!("http://{}{path}", gate.metrics)]);
    (answer.status(), answer.text())
}

/// Waits until the gate says that it is going.
fn wait_until_leaving(gate: &Gate) {
    let said = wait_for("readiness to end", || {
        let (status, text) = probe(gate, "/ready");
        (status == 503).then_some(text)
    });
    assert!(said.contains("the node is stopping"), "{said}");
    assert_eq!(probe(gate, "/health").0, 200);
}

#[test]
fn a_stopping_node_says_so_while_it_still_takes_connections() {
    let settings = json!({ "notice_seconds": 600 });
    let gate = Gate::with(&Setup { settings: Some(&settings), ..Setup::default() });
    assert_eq!(probe(&gate, "/ready").0, 200);
    signal(gate.pid, "TERM");
    wait_until_leaving(&gate);
    // No route, but an answer.
    assert_eq!(gate.ask(&[], "/t").status(), 404);
    gate.kill();
}

#[test]
fn a_draining_node_is_alive_and_not_ready_until_its_last_request_has_ended() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let origin = Origin::serving(move |mut visit| {
        if visit.request().is_some() && gone.lock().expect("a lock").recv().is_ok() {
            visit.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let settings = json!({ "notice_seconds": 0 });
    let mut gate = Gate::with(&Setup { settings: Some(&settings), ..Setup::default() });
    gate.carry(&origin.upstream(), &json!({}));
    let url = gate.url("/t");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| curl(&[&url]).text());
        wait_for("the request", || (origin.accepted() == 1).then_some(()));
        signal(gate.pid, "TERM");
        wait_until_leaving(&gate);
        wait_for("the door to close", || TcpStream::connect(&gate.http).err());
        wait_until_leaving(&gate);
        go.send(()).expect("the origin waits");
        assert_eq!(asking.join().expect("an answer"), "ok");
    });
    assert!(gate.wait().success());
}

#[test]
fn settings_that_name_what_cannot_be_used_end_with_64_and_make_nothing() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (data, file) = (place.path().join("data"), place.path().join("settings.yaml"));
    let (cert, _) = Certificate::of(&["localhost"]).write(place.path());
    let other = tempfile::tempdir().expect("a temporary directory");
    let (_, key) = Certificate::of(&["localhost"]).write(other.path());
    let pair = json!({ "cert": cert, "key": key });
    for (settings, reason) in [
        (json!({ "upstream_ca": "/nope" }), "/nope"),
        (json!({ "tls": { "cert": "/nope", "key": "/nope" } }), "/nope"),
        (json!({ "tls": pair }), "does not fit"),
        (json!({ "admin_tls": { "cert": "/nope", "key": "/nope" } }), "/nope"),
        (json!({ "admin_tls": pair }), "does not fit"),
        (json!({ "admin_keys": [{ "name": "ci", "role": "admin", "key": "abc" }] }), "`ci`"),
        (json!({ "log": { "filter": "=====" } }), "log filter"),
        (json!({ "notice_seconds": -1 }), "notice_seconds"),
        (json!({ "notice_seconds": 1e300 }), "notice_seconds"),
    ] {
        std::fs::write(&file, settings.to_string()).expect("the file is written");
        let file = file.to_str().expect("a path in text");
        let (code, said) = fails_to_start(&data, &["--settings", file]);
        assert_eq!(code, Some(64), "{settings}: {said}");
        assert!(said.contains(reason), "{settings}: {said}");
        assert!(!data.exists(), "{settings}");
    }
    let (code, said) = fails_to_start(&data, &["--http", "none"]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("no agent could come in"), "{said}");
}

#[test]
fn a_reference_that_cannot_be_resolved_is_said_once() {
    let arguments = ["--credential", "api.example.com=$env://PLANTED_ABSENT"];
    let gate = Gate::with(&Setup { arguments: &arguments, ..Setup::default() });
    let count = |what: &str| gate.log().matches(what).count();
    wait_for("the warning", || (count("env://PLANTED_ABSENT") == 1).then_some(()));
    let credential = json!({ "secret": "$env://PLANTED_TOO" });
    let upstream = json!({ "nodes": { "a.example:80": 1 }, "credential": credential });
    gate.put("upstreams/u", &upstream);
    wait_for("another", || (count("env://PLANTED_TOO") == 1).then_some(()));
    assert_eq!(count("env://PLANTED_ABSENT"), 1, "{}", gate.log());
    assert!(gate.log().contains("/upstreams/u/credential"), "{}", gate.log());
}

#[test]
fn without_clear_text_a_node_listens_for_tls_alone() {
    let arguments = ["--https", ANY, "--admin", ANY, "--metrics", ANY, "--http", "none"];
    let mut command = tollgate();
    let data = tempfile::tempdir().expect("a temporary directory");
    command.args(["run", "--announce", "--data"]).arg(data.path()).args(arguments);
    // The end of its standard input stops it.
    let output = command.env("TOLLGATE_ADMIN_KEY", ADMIN_KEY).stdin(std::process::Stdio::null());
    let output = output.output().expect("it runs");
    assert!(output.status.success());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line");
    assert!(said["http"].is_null() && said["https"].is_string(), "{said}");
}

#[test]
fn a_second_demo_in_the_same_place_leaves_the_first_one_alone() {
    let demo = Demo::start();
    let kept = |name: &str| std::fs::read(demo.data().join(name)).expect("a file");
    let before = (kept("stand-in.pem"), kept("node.log"));
    let second = tollgate()
        .args(["demo", "--ports", "auto", "--data"])
        .arg(demo.data())
        .env_remove("CLOUDFLARE_API_TOKEN")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another demo runs"), "{said}");
    assert_eq!(before.0, kept("stand-in.pem"));
    assert!(kept("node.log").starts_with(&before.1));
    assert_eq!(demo.ask(&[], "/user/tokens/verify").status(), 200);
}

#[test]
fn bad_settings_end_with_64_and_name_the_place() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let file = data.path().join("settings.yaml");
    for (text, place) in
        [("http: nonsense\n", "line 1"), ("\nunknown: 1\n", "unknown"), ("cores: 0\n", "cores")]
    {
        std::fs::write(&file, text).expect("the file is written");
        let output = tollgate().args(["run", "--settings"]).arg(&file).output().expect("it runs");
        assert_eq!(output.status.code(), Some(64), "{text}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(place), "{text}: {said}");
    }
    let output = tollgate().args(["run", "--http", "nowhere"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    // Who puts the token itself where its place should stand must not find it in a log.
    let command = ["run", "--credential", "api.cloudflare.com=planted"];
    let output = tollgate().args(command).output().expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("api.cloudflare.com") && !said.contains("planted"), "{said}");
}

#[test]
fn the_demo_ends_well_when_it_is_told_to() {
    let mut demo = Demo::start();
    let ended = demo.stop();
    assert!(ended.success(), "{ended}");
}
