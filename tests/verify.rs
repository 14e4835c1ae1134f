//! `tollgate verify`: promises held against what was recorded.

mod spend;

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Gate, Origin, get, text_at, tollgate};

/// A record of a request of this agent that passed so many milliseconds after midnight.
fn record(agent: &str, millis: u64) -> String {
    let (secs, millis) = (millis / 1_000, millis % 1_000);
    let time = format!("2026-01-01T00:{:02}:{:02}.{millis:03}Z", secs / 60, secs % 60);
    let upstream = json!({ "id": "u", "tries": 1 });
    json!({ "time": time, "agent": agent, "limits": ["l"], "upstream": upstream, "status": 200 })
        .to_string()
}

/// Judges records that come by standard input: the exit code, and what is said in JSON.
fn judge(arguments: &[&str], records: &[String]) -> (Option<i32>, Value) {
    let mut child = tollgate()
        .args(["verify", "limits", "--output", "json"])
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("standard input");
    // It may have ended before it read everything.
    let _read = stdin.write_all(records.join("\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = serde_json::from_slice(&output.stdout);
    let error = || Value::from(String::from_utf8_lossy(&output.stderr).into_owned());
    (output.status.code(), said.unwrap_or_else(|_| error()))
}

/// Ten a second, and ten at once, for each agent.
const TEN: [&str; 6] = ["--rate", "10", "--burst", "10", "--per", "agent"];

#[test]
fn the_worst_window_is_named_where_the_promise_is_broken() {
    // Bob keeps it: a burst, and then a steady stream. Alice has a burst at each edge of a second.
    let mut records: Vec<String> = (0..10).map(|_| record("bob", 0)).collect();
    records.extend((1..50).map(|nth| record("bob", nth * 100)));
    let (code, said) = judge(&TEN, &records);
    assert_eq!((code, &said["kept"], &said["records"]), (Some(0), &json!(true), &json!(59)));
    records.extend((0..10).map(|_| record("alice", 950)));
    records.extend((0..10).map(|_| record("alice", 1_150)));
    let (code, said) = judge(&TEN, &records);
    assert_eq!((code, &said["kept"]), (Some(1), &json!(false)), "{said}");
    let limit = &said["limits"][0];
    // 20 in 0.2 s, where 12 may be; a tenth of a second is forgiven.
    assert_eq!((&limit["excess"], &limit["passed"]), (&json!(7), &json!(79)), "{said}");
    let worst = json!({
        "subject": "alice", "held": 20, "allowed": 13,
        "from": "2026-01-01T00:00:00.95Z", "to": "2026-01-01T00:00:01.15Z",
    });
    assert_eq!(limit["worst"], worst);
    let (_, exact) = judge(&[&TEN[..], &["--tolerance", "0"]].concat(), &records);
    assert_eq!(exact["limits"][0]["excess"], 8);
    // All agents together are another subject.
    assert_eq!(judge(&["--rate", "100", "--burst", "100"], &records).0, Some(0));
}

#[test]
fn what_was_refused_or_answered_before_drew_on_nothing() {
    let mut records: Vec<String> = (0..10).map(|_| record("bob", 0)).collect();
    let mut other: Value = serde_json::from_str(&record("bob", 0)).expect("JSON");
    let members = other.as_object_mut().expect("an object");
    members.remove("upstream");
    members.insert("status".to_owned(), json!(429));
    members.insert("refusal".to_owned(), json!("limit.exceeded"));
    records.push(other.to_string());
    other["refusal"] = Value::Null;
    other["replayed"] = json!(true);
    records.push(other.to_string());
    assert_eq!(judge(&TEN, &records).1["limits"][0]["passed"], 10);
    assert_eq!(judge(&TEN, &records).0, Some(0));
}

#[test]
fn a_line_that_a_crash_left_unfinished_says_nothing() {
    let records = [record("bob", 0), json!({ "unfinished": "{\"time" }).to_string()];
    assert_eq!(judge(&TEN, &records).1["limits"][0]["passed"], 1);
}

#[test]
fn what_cannot_be_judged_is_no_success() {
    let one = [record("bob", 60_000)];
    for (arguments, records, said) in [
        (&TEN[..], vec![], "of 0 records none passed"),
        (&TEN, vec!["{}".to_owned()], "line 1 of -: it has no `time`"),
        (&TEN, [&one[..], &["x".to_owned()]].concat(), "line 2 of -: it is no JSON"),
        (
            &[&TEN[..], &["--slack", "10s"]].concat(),
            [&one[..], &[record("bob", 0)]].concat(),
            "line 2 of -: it is older than others before it",
        ),
    ] {
        let (code, error) = judge(arguments, &records);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.as_str().is_some_and(|error| error.contains(said)), "{error}");
    }
    for arguments in [&[][..], &["--rate", "1"], &["--rate", "x", "--burst", "1"]] {
        assert_eq!(judge(arguments, &one).0, Some(64), "{arguments:?}");
    }
}

#[test]
fn a_gate_keeps_what_its_document_promises() {
    let (gate, origin) = (Gate::start(), Origin::start());
    gate.carry(&origin.upstream(), &json!({}));
    let limit = json!({ "per": "address", "rate": 20, "burst": 5 });
    gate.put("limits/l", &limit);
    let mut passed = 0;
    for _ in 0..200 {
        passed += u64::from(get(&gate.http, "/a", &[]).status() == 200);
    }
    gate.audit.records_of("/a", 200);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let judged = |limit: &Value| {
        let file = directory.path().join("document.json");
        let document = json!({ "limits": { "l": limit } });
        std::fs::write(&file, document.to_string()).expect("it is written");
        let output = tollgate()
            .args(["verify", "limits", "--output", "json", "--document"])
            .arg(&file)
            .arg(&gate.audit.file)
            .output()
            .expect("it runs");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        });
        (output.status.code(), said)
    };
    let (code, said) = judged(&limit);
    assert_eq!((code, &said["limits"][0]["passed"]), (Some(0), &json!(passed)), "{said}");
    // It is held to what the document says, not to what it did.
    let (code, said) = judged(&json!({ "per": "address", "rate": 1, "burst": 1 }));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(text_at(&said, "/limits/0/limit"), "l");
}
