//! `tollgate ledger`: nodes that are gone, and money that counts once all the same.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::said::Said;
use crate::harness::redis::Redis;
use crate::harness::{ADMIN_KEY, Gate, Origin, Setup, Wire, at, get, text_at, tollgate, wait_for};

/// Two places for gates in one Redis, with one budget of sixty requests, in front of an origin
/// that answers what is below `/held/` only once it is let.
struct Bench {
    redis: Redis,
    origin: Origin,
    is_let: &'static AtomicBool,
    data: [TempDir; 2],
}

impl Bench {
    fn new() -> Self {
        let is_let: &'static AtomicBool = Box::leak(Box::default());
        let origin = Origin::answering(move |request| {
            if request.target().starts_with("/held/") {
                wait_for("to be let", || is_let.load(Ordering::Relaxed).then_some(()));
            }
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n".to_owned()
        });
        let data = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
        Self { redis: Redis::start(), origin, is_let, data }
    }

    fn place(&self, place: usize) -> &Path {
        self.data.get(place).expect("a place").path()
    }

    fn gate(&self, place: usize) -> Gate {
        let variables = [("REDIS_OF_TEST", &*self.redis.url())];
        let gate = Gate::with(&Setup {
            data: Some(self.place(place)),
            arguments: &["--redis", "$env://REDIS_OF_TEST"],
            variables: &variables,
            ..Setup::default()
        });
        gate.carry(&self.origin.upstream(), &json!({ "plugins": { "key-auth": {} } }));
        let agent = json!({ "username": "bot", "plugins": { "key-auth": { "key": "bot-key" } } });
        gate.put("consumers/bot", &agent);
        let budget = json!({
            "per": "organisation", "unit": "requests", "amount": "60",
            "period": { "every": "lifetime" },
        });
        gate.put("budgets/b", &budget);
        gate
    }

    /// Calls that the origin got.
    fn arrived(&self) -> usize {
        self.origin.arrivals().len()
    }

    /// Sends so many calls that are under way until the origin is let.
    fn hold(&self, gate: &Gate, count: usize) -> Vec<Wire> {
        let before = self.arrived();
        let send = |nth| {
            let mut wire = Wire::connect(&gate.http);
            wire.send(format!("GET /held/{nth} HTTP/1.1\r\nhost: a\r\napikey: bot-key\r\n\r\n"));
            wire
        };
        let wires = (0..count).map(send).collect();
        wait_for("the calls to have left", || (self.arrived() == before + count).then_some(()));
        wires
    }

    /// What `verify spend` says of the journals in these places, and all records.
    fn verified(&self, places: &[usize]) -> (i32, Value) {
        let mut command = tollgate();
        command.args(["verify", "spend", "--output", "json"]);
        for place in places {
            command.arg("--data").arg(self.place(*place));
        }
        command.args(self.data.each_ref().map(|data| data.path().join("audit/audit.jsonl")));
        let said = Said::by(&mut command);
        let read = serde_json::from_str(&said.out);
        (said.code, read.unwrap_or_else(|_| panic!("{said:?}")))
    }
}

/// Calls until so many have passed, or the budget is used up: how many passed.
fn spend(gate: &Gate, most: usize) -> usize {
    let mut passed = 0;
    while passed < most {
        match get(&gate.http, "/", &["apikey: bot-key"]).status() {
            200 => passed += 1,
            402 => break,
            503 => std::thread::yield_now(),
            other => panic!("{other}"),
        }
    }
    passed
}

/// A command that asks a gate.
fn ledger(gate: &Gate, arguments: &[&str]) -> Said {
    let server = format!("http://{}", gate.admin);
    let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
    Said::by(tollgate().arg("ledger").args(arguments).envs(variables))
}

fn status(gate: &Gate) -> Value {
    ledger(gate, &["status", "--output", "json"]).json()
}

fn is_open(gate: &Gate) {
    wait_for("money to be open", || (at(&status(gate), "/money") == "open").then_some(()));
}

/// What a gate knows of another.
fn state(gate: &Gate, name: &str) -> Option<String> {
    let status = status(gate);
    let nodes = at(&status, "/nodes").as_array()?;
    let node = nodes.iter().find(|node| text_at(node, "/node") == name)?;
    Some(text_at(node, "/state"))
}

/// Redis forgets everything, and a gate finds it out and waits for another.
fn forget(bench: &Bench, gate: &Gate, gone: &str) {
    bench.redis.ask(&["FLUSHALL"]);
    wait_for("the loss to be found", || {
        drop(get(&gate.http, "/", &["apikey: bot-key"]));
        (state(gate, gone).as_deref() == Some("awaited")).then_some(())
    });
    assert_eq!(at(&status(gate), "/money"), "closed");
}

#[test]
fn a_node_that_was_given_up_counts_once_when_it_is_back() {
    let bench = Bench::new();
    let (stays, goes) = (bench.gate(0), bench.gate(1));
    [&stays, &goes].into_iter().for_each(is_open);
    let (own, gone) = (text_at(&status(&stays), "/node"), text_at(&status(&goes), "/node"));
    let mut passed = spend(&stays, 10) + spend(&goes, 7);
    let held = bench.hold(&goes, 3);
    passed += 3;
    wait_for("what was void to be told", || {
        let status = status(&goes);
        (at(&status, "/open") == 3 && at(&status, "/waiting") == 0).then_some(())
    });
    goes.kill();
    drop(held);
    // While Redis remembers nobody waits for it: its calls are charged, once.
    let without = |command, name: &str| ledger(&stays, &[command, "--without", name]);
    without("recover", &gone).failed(1, &["409", "`reconcile` charges what it holds"]);
    let charged = without("reconcile", &gone).well();
    assert!(charged.starts_with("charged what ") && charged.ends_with(": 3 holds\n"), "{charged}");
    wait_for("its holds to be charged", || {
        let said = without("reconcile", &gone).well();
        said.ends_with(": 0 holds\n").then_some(())
    });
    for command in ["recover", "reconcile"] {
        without(command, &own).failed(1, &["is this node"]);
        without(command, "nobody").failed(1, &["no node `nobody` has ever held money"]);
    }
    // When Redis forgets, it is missed until somebody decides.
    forget(&bench, &stays, &gone);
    assert_eq!(get(&stays.http, "/", &["apikey: bot-key"]).status(), 503);
    let said = without("recover", &gone).well();
    assert_eq!(said, format!("money goes on without {gone}\n"));
    is_open(&stays);
    assert_eq!(state(&stays, &gone).as_deref(), Some("excused"));
    let shown = ledger(&stays, &["status"]).well();
    assert!(shown.contains(&format!("excused  {gone}\n")), "{shown}");
    passed += spend(&stays, 5);
    // Back with its disk it counts what it did, and what was under way.
    bench.is_let.store(true, Ordering::Relaxed);
    let goes = bench.gate(1);
    is_open(&goes);
    wait_for("it to have told", || (state(&stays, &gone).as_deref() == Some("told")).then_some(()));
    // What is lost of the budget is no call's, and none passes beyond it.
    wait_for("the budget to be used up", || {
        passed += spend(&goes, usize::MAX) + spend(&stays, usize::MAX);
        (passed == 60).then_some(())
    });
    assert_eq!(bench.arrived(), 60);
    for mut gate in [stays, goes] {
        assert!(gate.stop().status.success());
    }
    let (code, said) = bench.verified(&[0, 1]);
    assert_eq!((code, at(&said, "/faults")), (0, &json!([])), "{said:#}");
    let notes = at(&said, "/notes").as_array().expect("notes").iter();
    assert_eq!(notes.filter(|note| at(note, "/found") == "assumed").count(), 3, "{said:#}");
}

#[test]
fn what_a_node_spent_whose_disk_is_gone_is_found_missing_to_the_unit() {
    let bench = Bench::new();
    let (mut stays, goes) = (bench.gate(0), bench.gate(1));
    [&stays, &goes].into_iter().for_each(is_open);
    let gone = text_at(&status(&goes), "/node");
    assert_eq!((spend(&stays, 10), spend(&goes, 7)), (10, 7));
    goes.audit.records_of("/", 7);
    goes.kill();
    let lost = bench.place(1).join("ledger");
    std::fs::remove_dir_all(&lost).expect("its journal is gone");
    // Its records are elsewhere.
    forget(&bench, &stays, &gone);
    ledger(&stays, &["recover", "--without", &gone]).well();
    is_open(&stays);
    // Seven of the sixty are spent a second time: that is what was decided.
    let mut passed = 17;
    wait_for("the budget to be used up", || {
        passed += spend(&stays, usize::MAX);
        (passed == 67).then_some(())
    });
    assert!(stays.stop().status.success());
    let (code, said) = bench.verified(&[0]);
    let faults = at(&said, "/faults").as_array().expect("faults");
    assert_eq!((code, faults.len()), (1, 1), "{said:#}");
    assert_eq!(at(&faults[0], "/found"), "not_posted");
    let figures = json!([
        { "source": "records", "amount": "67" }, { "source": "journals", "amount": "60" },
    ]);
    assert_eq!(at(&faults[0], "/figures"), &figures, "{said:#}");
}

/// Where a gate counts alone there is nobody to go on without.
#[test]
fn a_gate_without_redis_says_that_it_counts_alone() {
    let gate = Gate::start();
    for arguments in [&["status"][..], &["recover", "--without", "b"]] {
        ledger(&gate, arguments).failed(1, &["404", "this node counts alone"]);
    }
}
