//! What operators see of the fleet's budgets at any gate, and what they change.

use std::path::Path;

use serde_json::{Value, json};

use super::{Fleet, call, drain};
use crate::command::said::Said;
use crate::harness::{ADMIN_KEY, Gate, Message, Origin, at, text_at, tollgate, wait_for};

/// A command that asks this gate.
fn said(gate: &Gate, arguments: &[&str]) -> Said {
    let server = format!("http://{}", gate.admin);
    let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
    Said::by(tollgate().args(arguments).envs(variables))
}

/// What a gate shows of its budget, once it shows anything.
fn shown(gate: &Gate, what: &str) -> Value {
    wait_for("the budget to be shown", || {
        let answer = gate.administer(&[], &format!("/admin/budgets/b/{what}"));
        (answer.status() == 200).then(|| answer.json())
    })
}

/// The only account of the budget, once this much of it is spent.
fn account(gate: &Gate, posted: &str) -> Value {
    wait_for("so much to be spent", || {
        let shown = shown(gate, "accounts");
        (text_at(&shown, "/accounts/0/posted") == posted).then_some(shown)
    })
}

/// The history once it has so many events.
fn history(gate: &Gate, count: usize) -> Vec<Value> {
    wait_for("the history to be told", || {
        let shown = shown(gate, "history");
        let events = at(&shown, "/history").as_array().cloned().unwrap_or_default();
        (events.len() == count).then_some(events)
    })
}

/// Passes so many calls, whatever Redis was late for.
fn pass(gate: &Gate, count: usize) {
    let mut passed = 0;
    while passed < count {
        match call(gate).status() {
            200 => passed += 1,
            503 => std::thread::yield_now(),
            other => panic!("{other} after {passed}"),
        }
    }
}

#[test]
fn an_adjustment_at_one_gate_is_seen_at_the_other_and_survives_the_loss_of_redis() {
    let fleet = Fleet::of(8);
    let [one, two] = &fleet.gates;
    pass(one, 3);
    pass(two, 2);
    for gate in [one, two] {
        let shown = account(gate, "5");
        let account = at(&shown, "/accounts/0");
        let text = |name: &str| text_at(account, &format!("/{name}"));
        assert_eq!((text("subject"), text("left")), ("default".to_owned(), "3".to_owned()));
        assert_eq!((at(account, "/fired"), at(&shown, "/total")), (&json!([50]), &json!(1)));
        assert_eq!(at(&shown, "/next"), &Value::Null);
    }
    let adjust = ["budget", "adjust", "b", "--subject", "default", "--by", "4", "--id", "OPS-7"];
    let adjusted = said(one, &[&adjust[..], &["--why", "a long launch"]].concat()).well();
    assert!(adjusted.contains("default") && adjusted.contains('7'), "{adjusted}");
    // Whoever repeats it, wherever, changes nothing more.
    let again = said(two, &[&adjust[..], &["--why", "again", "--output", "json"]].concat()).well();
    assert!(again.contains("\"adjusted\":false") && again.contains("\"left\":\"7\""), "{again}");
    let other = ["budget", "adjust", "b", "--subject", "default", "--by", "5", "--id", "OPS-7"];
    said(two, &[&other[..], &["--why", "x"]].concat()).failed(1, &["409", "another adjustment"]);
    for lost in [false, true] {
        if lost {
            fleet.redis.ask(&["FLUSHALL"]);
            assert_eq!(drain(two), 7);
        }
        for gate in [one, two] {
            let account = at(&shown(gate, "accounts"), "/accounts/0").clone();
            assert_eq!(text_at(&account, "/adjusted"), "4", "{account}");
            let told = history(gate, if lost { 4 } else { 2 });
            let adjusted = told.iter().find(|event| text_at(event, "/what") == "adjusted");
            let adjusted = adjusted.expect("an adjustment");
            assert_eq!(text_at(adjusted, "/why"), "a long launch");
            assert_eq!(text_at(adjusted, "/id"), "OPS-7");
            assert_eq!(text_at(adjusted, "/who"), "command-line");
        }
    }
    let listed = said(two, &["budget", "list"]).well();
    assert!(listed.contains("requests") && listed.contains("lifetime"), "{listed}");
    let shown = said(one, &["budget", "show", "b"]).well();
    assert!(shown.contains("POSTED") && shown.contains("12"), "{shown}");
    let told = said(two, &["budget", "history", "b"]).well();
    assert!(told.contains("a long launch") && !told.contains("again"), "{told}");
}

#[test]
fn without_redis_the_operator_is_told_so_and_nothing_is_adjusted() {
    let mut fleet = Fleet::of(8);
    pass(&fleet.gates[0], 1);
    fleet.redis.kill();
    let [one, _] = &fleet.gates;
    wait_for("the gate to find it out", || (call(one).status() == 503).then_some(()));
    for what in ["accounts", "history"] {
        let answer = one.administer(&[], &format!("/admin/budgets/b/{what}"));
        assert_eq!(answer.status(), 503, "{answer}");
    }
    let asked = json!({ "subject": "default", "by": "5", "why": "more", "id": "OPS-1" });
    let arguments = ["-X", "POST", "-d", &asked.to_string()];
    assert_eq!(one.administer(&arguments, "/admin/budgets/b/adjust").status(), 503);
    fleet.redis.restart();
    let shown = account(&fleet.gates[1], "1");
    assert_eq!(text_at(&shown, "/accounts/0/adjusted"), "0");
}

/// What a webhook was told: the body, and the parts of its signature.
fn told(arrival: &Message) -> (Value, String, String) {
    let signature = arrival.field("x-tollgate-signature").expect("it is signed");
    let (at, tag) = signature.split_once(',').expect("two parts");
    let part = |text: &str, name: &str| text.strip_prefix(name).expect("its name").to_owned();
    (arrival.json(), part(at, "t="), part(tag, "v1="))
}

/// The HMAC-SHA256 as OpenSSL makes it.
fn signed(secret: &str, text: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("it is written");
    let path: &Path = file.path();
    let made = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret])
        .arg(path)
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8(made.stdout).expect("text");
    said.trim().rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_threshold_is_told_once_by_the_gate_whose_call_reaches_it_and_signed() {
    let hook = Origin::start();
    let notify = json!({
        "webhook": format!("http://{}/hook", hook.node()), "secret": "$env://HOOK_SECRET",
    });
    let budget = super::budget(8, &json!({ "thresholds": [25, 50, 100], "notify": notify }));
    let fleet = Fleet::with(&budget, &[("HOOK_SECRET", "a planted secret")]);
    let [one, two] = &fleet.gates;
    pass(one, 3);
    account(one, "3");
    pass(two, 5);
    account(one, "8");
    let arrivals = wait_for("the webhook to be told", || {
        let arrivals = hook.arrivals();
        (arrivals.len() >= 3).then_some(arrivals)
    });
    let mut percents: Vec<u64> = Vec::new();
    for arrival in &arrivals {
        let (body, at_secs, tag) = told(arrival);
        percents.extend(at(&body, "/percent").as_u64());
        assert_eq!(text_at(&body, "/subject"), "default");
        assert_eq!(tag, signed("a planted secret", &format!("{at_secs}.{}", arrival.text())));
    }
    percents.sort_unstable();
    assert_eq!(percents, [25, 50, 100]);
    // The list is edited: what has fired is known by its percent.
    for gate in [one, two] {
        let edited = json!({ "thresholds": [10, 25, 50, 75, 100], "notify": notify });
        gate.put("budgets/b", &super::budget(9, &edited));
    }
    pass(two, 1);
    let arrivals = wait_for("the new ones to be told", || {
        let arrivals = hook.arrivals();
        (arrivals.len() >= 5).then_some(arrivals)
    });
    let new = arrivals.iter().skip(3);
    let mut percents: Vec<u64> =
        new.filter_map(|arrival| at(&told(arrival).0, "/percent").as_u64()).collect();
    percents.sort_unstable();
    assert_eq!(percents, [10, 75]);
    let numbers = fleet.gates.each_ref().map(Gate::numbers);
    let sum = |name: &str| -> u64 {
        let lines = numbers.iter().flat_map(|numbers| numbers.lines());
        lines.filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).sum()
    };
    assert_eq!(sum("tollgate_budget_thresholds_total "), 5);
    assert_eq!(sum("tollgate_budget_holds_total{result=\"held\"} "), 9);
    assert_eq!(sum("tollgate_budget_reservations_ended_total{how=\"settled\"} "), 9);
    assert_eq!(sum("tollgate_budget_reservations "), 0);
    assert_eq!(sum("tollgate_budget_accounts "), 2);
    // A loss tells nothing again.
    fleet.redis.ask(&["FLUSHALL"]);
    assert_eq!(drain(one), 0);
    assert_eq!(history(two, 5).len(), 5);
    assert_eq!(hook.arrivals().len(), 5);
    for gate in &fleet.gates {
        assert!(!gate.log().contains("planted"), "a secret stands in the log");
    }
}
