//! What was acknowledged stays: over kill -9, and over a stop under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::{Demo, Gate, Setup, signal, tollgate, wait_for};

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
