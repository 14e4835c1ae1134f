//! `tollgate verify spend`: what gates recorded against what their ledger holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::said::Said;
use crate::harness::call::get_call;
use crate::harness::redis::Redis;
use crate::harness::{
    ADMIN_KEY, Gate, Message, Origin, Setup, Wire, at, get, text_at, tollgate, wait_for,
};

/// An origin whose answers say what they cost, a tenth of a dollar or four. It answers what is asked below `/held/` only once it is let.
fn holding() -> (Origin, &'static AtomicBool) {
    let is_let: &'static AtomicBool = Box::leak(Box::default());
    let origin = Origin::answering(move |request| {
        if request.target().starts_with("/held/") {
            wait_for("to be let", || is_let.load(Ordering::Relaxed).then_some(()));
        }
        let cost = if request.target() == "/dear" { "0.4" } else { "0.1" };
        let body = format!("{{\"cost\":{cost}}}");
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
    });
    (origin, is_let)
}

/// A gate on its own disk, in this Redis where there is one, whose calls hold a quarter of a
/// dollar.
fn gate(redis: Option<&Redis>, data: &Path, origin: &Origin) -> Gate {
    let url = redis.map(Redis::url).unwrap_or_default();
    let variables = [("REDIS_OF_TEST", &*url)];
    let arguments: &[&str] =
        if redis.is_some() { &["--redis", "$env://REDIS_OF_TEST"] } else { &[] };
    let gate = Gate::with(&Setup {
        data: Some(data),
        arguments,
        variables: &variables,
        ..Setup::default()
    });
    gate.carry(&origin.upstream(), &json!({ "plugins": { "key-auth": {} } }));
    for name in ["alice", "bob"] {
        let key = format!("{name}-key");
        let agent = json!({ "username": name, "plugins": { "key-auth": { "key": key } } });
        gate.put(&format!("consumers/{name}"), &agent);
    }
    let price = json!({
        "match": {}, "unit": "USD", "hold": { "fixed": "0.25" },
        "charge": { "from": "response", "pointer": "/cost" },
    });
    gate.put("prices/quarter", &price);
    for (id, per, unit, every) in [
        ("all", "organisation", "USD", "lifetime"),
        ("daily", "agent", "USD", "year"),
        ("calls", "agent", "requests", "lifetime"),
    ] {
        let budget =
            json!({ "per": per, "unit": unit, "amount": "100000", "period": { "every": every } });
        gate.put(&format!("budgets/{id}"), &budget);
    }
    gate
}

/// What two gates stand in.
struct Bench {
    redis: Redis,
    origin: Origin,
    is_let: &'static AtomicBool,
    places: Places,
}

impl Bench {
    /// What the command says of gates that run.
    fn live(&self, gates: &[Gate; 2]) -> Value {
        let mut command = tollgate();
        command.args(["verify", "spend", "--output", "json"]).env("TOLLGATE_ADMIN_KEY", ADMIN_KEY);
        for (node, gate) in gates.iter().enumerate() {
            let admin = format!("http://{}", gate.admin);
            command.args(["--node", &admin]).arg(self.places.records(node));
        }
        Said::by(&mut command).json()
    }
}

/// Where the records and the journals of nodes lie.
struct Places {
    data: [TempDir; 2],
}

impl Places {
    fn new() -> Self {
        Self { data: [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory")) }
    }

    fn of(&self, node: usize) -> &Path {
        self.data.get(node).expect("a place").path()
    }

    fn records(&self, node: usize) -> PathBuf {
        self.of(node).join("audit/audit.jsonl")
    }

    /// Changes the lines of a node's records.
    fn cook(&self, node: usize, cook: impl FnOnce(&mut Vec<String>)) {
        let text = std::fs::read_to_string(self.records(node)).expect("records");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        cook(&mut lines);
        std::fs::write(self.records(node), lines.join("\n")).expect("they are written");
    }

    /// What the command says of the journals of all nodes: its code, and its JSON.
    fn verified(&self) -> (i32, Value) {
        let mut command = tollgate();
        command.args(["verify", "spend", "--output", "json"]);
        for node in 0..2 {
            command.arg("--data").arg(self.of(node)).arg(self.records(node));
        }
        let said = Said::by(&mut command);
        let read = serde_json::from_str(&said.out);
        (said.code, read.unwrap_or_else(|_| panic!("{said:?}")))
    }
}

/// What is found, each kind once.
fn kinds(said: &Value, list: &str) -> Vec<String> {
    let found = at(said, list).as_array().expect("a list").iter();
    let mut kinds: Vec<String> = found.map(|finding| text_at(finding, "/found")).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Agents call until the end, at whichever gate is there.
fn spend(doors: &[Mutex<Option<String>>; 2], is_over: &AtomicBool, passed: &AtomicUsize) {
    std::thread::scope(|scope| {
        for nth in 0..6 {
            scope.spawn(move || {
                let key = if nth % 2 == 0 { "apikey: alice-key" } else { "apikey: bob-key" };
                while !is_over.load(Ordering::Relaxed) {
                    let door = doors.iter().cycle().nth(nth % 3).expect("a door");
                    let door = door.lock().expect("a door").clone();
                    let path = if nth == 5 { "/dear" } else { "/" };
                    let asked = door.and_then(|door| get_call(path, &[key]).ask(&door).ok());
                    match asked.as_ref().map(Message::status) {
                        Some(200) => _ = passed.fetch_add(1, Ordering::Relaxed),
                        // The gate is killed, or Redis is late.
                        None | Some(503) => std::thread::yield_now(),
                        Some(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
}

/// Two gates spend, and one is killed and starts again meanwhile.
fn spent_through_a_crash(bench: &Bench) -> [Gate; 2] {
    let start = |node: usize| gate(Some(&bench.redis), bench.places.of(node), &bench.origin);
    let (first, second) = (start(0), start(1));
    let doors = [&first, &second].map(|gate| Mutex::new(Some(gate.http.clone())));
    let (is_over, passed) = (AtomicBool::default(), AtomicUsize::default());
    let more = |count| {
        let enough = passed.load(Ordering::Relaxed) + count;
        wait_for("calls", || (passed.load(Ordering::Relaxed) >= enough).then_some(()));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| spend(&doors, &is_over, &passed));
        more(100);
        // Some calls are certain to be under way.
        let held: Vec<Wire> = (0..3).map(|nth| send(&first, &format!("/held/{nth}"))).collect();
        wait_for("the calls to have left", || {
            let arrivals = bench.origin.arrivals();
            let held = arrivals.iter().filter(|request| request.target().starts_with("/held/"));
            (held.count() == 3).then_some(())
        });
        *doors[0].lock().expect("a door") = None;
        first.kill();
        bench.is_let.store(true, Ordering::Relaxed);
        drop(held);
        more(50);
        let again = start(0);
        *doors[0].lock().expect("a door") = Some(again.http.clone());
        more(100);
        is_over.store(true, Ordering::Relaxed);
        [again, second]
    })
}

#[test]
fn what_two_gates_recorded_is_what_they_posted_though_one_was_killed() {
    let (origin, is_let) = holding();
    let bench = Bench { redis: Redis::start(), origin, is_let, places: Places::new() };
    let gates = spent_through_a_crash(&bench);
    assert_eq!(kinds(&bench.live(&gates), "/faults"), Vec::<String>::new());
    let rows = wait_for("nothing to be held", || {
        let rows = rows_in(&bench.redis);
        rows.values().all(|(_, pending)| *pending == 0).then_some(rows)
    });
    gates.into_iter().for_each(|mut gate| assert!(gate.stop().status.success()));
    let (code, said) = bench.places.verified();
    assert_eq!((code, at(&said, "/faults")), (0, &json!([])), "{said:#}");
    assert!(kinds(&said, "/notes").contains(&"overrun".to_owned()), "{said:#}");
    let notes = at(&said, "/notes").as_array().expect("notes");
    let of_calls = |note: &&Value| at(note, "/row/budget") == "calls";
    let count = |found: &str| {
        notes.iter().filter(of_calls).filter(|note| at(note, "/found") == found).count()
    };
    assert!(count("assumed") >= 3, "{said:#}");
    let recorded = at(&said, "/charged").as_u64().and_then(|count| count.try_into().ok());
    let recorded: usize = recorded.expect("a count");
    assert!(recorded >= 250, "{said:#}");
    // Redis says the same, and the origin got what was charged, but for what may not have left.
    let least = recorded + count("unrecorded");
    let range = least..=least + count("assumed");
    let arrived = bench.origin.arrivals().len();
    assert!(range.contains(&arrived), "{arrived} not in {range:?}: {said:#}");
    let calls = rows.iter().filter(|(name, _)| name.contains(":calls:"));
    let posted: usize = calls.map(|(_, (posted, _))| *posted).sum();
    assert!(range.contains(&posted), "{posted} not in {range:?}: {said:#}");
    // Of what is taken away from the records each row knows.
    bench.places.cook(1, |lines| {
        let is_paid = |line: &String| line.contains("alice") && line.contains("\"charged\":\"1\"");
        lines.remove(lines.iter().position(is_paid).expect("a call of alice"));
    });
    let (code, said) = bench.places.verified();
    assert_eq!((code, kinds(&said, "/faults")), (1, vec!["not_recorded".to_owned()]), "{said:#}");
    let faults = at(&said, "/faults").as_array().expect("faults");
    assert_eq!(faults.len(), 3, "{said:#}");
    assert!(faults.iter().all(|fault| at(fault, "/row/subject") != "bob"), "{said:#}");
    assert_eq!(at(&faults[0], "/figures/0/source"), "records");
}

/// What Redis has posted and holds, by the rows' names.
fn rows_in(redis: &Redis) -> BTreeMap<String, (usize, usize)> {
    let script = "local all = {} \
        for _, key in ipairs(redis.call('KEYS', '{default}:row:*')) do \
          local _, posted, pending = struct.unpack('<I8i8i8', redis.call('GET', key)) \
          all[#all + 1] = key .. ' ' .. posted .. ' ' .. pending \
        end \
        return table.concat(all, '\\n')";
    let said = redis.ask(&["EVAL", script, "0"]);
    let row = |line: &str| {
        let mut parts = line.rsplitn(3, ' ');
        let mut number = || parts.next()?.parse::<usize>().ok();
        let (pending, posted) = (number()?, number()?);
        Some((parts.next()?.to_owned(), (posted, pending)))
    };
    said.lines().filter_map(row).collect()
}

/// Sends a call of alice and waits for nothing.
fn send(gate: &Gate, path: &str) -> Wire {
    let mut wire = Wire::connect(&gate.http);
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\napikey: alice-key\r\n\r\n"));
    wire
}

/// A gate that counts alone is asked while it runs, and its books are read once it does not.
#[test]
fn a_gate_that_counts_alone_is_checked_while_it_runs_and_afterwards() {
    let ((origin, _), places) = (holding(), Places::new());
    let mut gate = gate(None, places.of(0), &origin);
    for nth in 0..20 {
        let key = if nth % 2 == 0 { "apikey: alice-key" } else { "apikey: bob-key" };
        assert_eq!(get(&gate.http, "/", &[key]).status(), 200);
    }
    gate.audit.records_of("/", 20);
    let server = format!("http://{}", gate.admin);
    let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
    let verify = |source: &[&str], records: &Path| {
        let mut command = tollgate();
        command.args(["verify", "spend"]).args(source).arg(records).envs(variables);
        Said::by(&mut command)
    };
    let (own, data) = (places.records(0), places.of(0).to_str().expect("a path"));
    let said = verify(&["--live", "--node", &server], &own).well();
    assert!(said.ends_with("20 records, 20 charged, 5 rows: records and ledger agree\n"), "{said}");
    let shown = places.of(0).join("shown.json");
    let accounts = tollgate()
        .args(["budget", "show", "all", "--output", "json"])
        .envs(variables)
        .output()
        .expect("it runs");
    std::fs::write(&shown, &accounts.stdout).expect("it is written");
    verify(&["--accounts", shown.to_str().expect("a path")], &own).well();
    verify(&["--data", data], &own).failed(1, &["whose node must not run"]);
    assert!(gate.stop().status.success());
    verify(&["--data", data], &own).well();
    // A record that was doubled, and one that was made less of.
    places.cook(0, |lines| lines.insert(3, lines[3].clone()));
    let said = verify(&["--data", data], &own);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("FAULT  all, organisation"), "{said:?}");
    assert!(said.out.contains("is recorded twice (request "), "{said:?}");
    places.cook(0, |lines| {
        lines.remove(3);
        lines[5] = lines[5].replace("\"charged\":\"0.1\"", "\"charged\":\"0.05\"");
    });
    let said = verify(&["--data", data], &own);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("records: 1.95, journals: 2"), "{said:?}");
    verify(&[], &own).failed(64, &[]);
    verify(&["--data", "/nowhere"], &own).failed(1, &["holds no journals"]);
}
