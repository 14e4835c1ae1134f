//! Budgets: what passes is what they can pay, whatever becomes of clients, upstreams and nodes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use serde_json::{Value, json};

use crate::command::said::Said;
use crate::harness::{
    ADMIN_KEY, Gate, Message, Origin, Refusing, Setup, Wire, at, get, text_at, tollgate, wait_for,
};

/// A gate with one route, one agent, and one budget.
struct Bench {
    gate: Gate,
}

impl Bench {
    fn start(upstream: &Value, budget: &Value) -> Self {
        Self::within(None, upstream, budget)
    }

    /// On a data directory that outlives it.
    fn within(data: Option<&Path>, upstream: &Value, budget: &Value) -> Self {
        let bench = Self { gate: Gate::with(&Setup { data, ..Setup::default() }) };
        bench.gate.carry(upstream, &json!({ "plugins": { "key-auth": {} } }));
        let agent = json!({ "username": "bot", "plugins": { "key-auth": { "key": "bot-key" } } });
        bench.gate.put("consumers/bot", &agent);
        bench.gate.put("budgets/b", budget);
        bench
    }

    /// Once more, after whatever end it had.
    fn again(data: &Path) -> Self {
        Self { gate: Gate::with(&Setup { data: Some(data), ..Setup::default() }) }
    }

    fn call(&self, path: &str) -> Message {
        get(&self.gate.http, path, &["apikey: bot-key"])
    }

    /// Sends a call and waits for nothing.
    fn send(&self, path: &str) -> Wire {
        let mut wire = Wire::connect(&self.gate.http);
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\napikey: bot-key\r\n\r\n"));
        wire
    }

    fn accounts(&self) -> Value {
        self.gate.administer(&[], "/admin/budgets/b/accounts").json()
    }

    /// What is posted and held of the agent's account, once nothing is under way.
    fn settled(&self) -> (String, String) {
        wait_for("the calls to be settled", || {
            let accounts = self.accounts();
            let account = at(&accounts, "/accounts/0");
            if account.is_null() {
                return Some(("0".to_owned(), "0".to_owned()));
            }
            (text_at(account, "/pending") == "0")
                .then(|| (text_at(account, "/posted"), text_at(account, "/left")))
        })
    }

    /// A command that asks this node.
    fn run(&self, arguments: &[&str]) -> Said {
        let server = format!("http://{}", self.gate.admin);
        let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
        Said::by(tollgate().args(arguments).envs(variables))
    }
}

/// So many requests for ever.
fn requests(amount: u32) -> Value {
    json!({
        "per": "agent", "unit": "requests", "amount": amount.to_string(),
        "period": { "every": "lifetime" },
    })
}

#[test]
fn of_many_calls_at_once_exactly_those_pass_that_the_budget_pays() {
    let origin = Origin::start();
    let bench = Bench::start(&origin.upstream(), &requests(40));
    let (passed, refused, together) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(64));
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                together.wait();
                for _ in 0..2 {
                    match bench.call("/").status() {
                        200 => passed.fetch_add(1, Ordering::Relaxed),
                        402 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                }
            });
        }
    });
    assert_eq!((passed.into_inner(), refused.into_inner()), (40, 88));
    assert_eq!(origin.arrivals().len(), 40);
    assert_eq!(bench.settled(), ("40".to_owned(), "0".to_owned()));
}

#[test]
fn a_refusal_names_the_budget_and_the_end_of_its_period_and_no_amount() {
    let origin = Origin::start();
    let budget = json!({
        "per": "organisation", "unit": "requests", "amount": "0",
        "period": { "every": "year" },
    });
    let bench = Bench::start(&origin.upstream(), &budget);
    let refused = bench.call("/");
    assert_eq!(refused.refusal(), (402, "budget.exhausted".to_owned()));
    assert_eq!(refused.field("x-should-retry"), Some("false"));
    assert_eq!(refused.field("retry-after"), None);
    let body = refused.json();
    assert_eq!(
        (text_at(&body, "/budget"), text_at(&body, "/title")),
        ("b".to_owned(), "a budget is used up".to_owned())
    );
    assert!(text_at(&body, "/period_end").ends_with("-01-01T00:00:00Z"), "{body}");
    assert!(origin.arrivals().is_empty());
    let record = bench.gate.audit.record("/");
    let mut paid = at(&record, "/budgets/0").clone();
    let period = paid.as_object_mut().and_then(|paid| paid.remove("period"));
    assert!(period.is_some_and(|period| text_at(&period, "").ends_with("-01-01T00:00:00.000000Z")));
    let expected = json!({
        "budget": "b", "unit": "requests", "per": "organisation", "subject": "default",
        "every": "year", "held": "1", "charged": "0",
    });
    assert_eq!(paid, expected);
}

/// What a budget of 10 requests is charged for one call.
#[track_caller]
fn check(upstream: &Value, status: u16, charged: &str) {
    let bench = Bench::start(upstream, &requests(10));
    assert_eq!(bench.call("/").status(), status);
    let (posted, _) = bench.settled();
    assert_eq!(posted, charged, "for a {status}");
    assert_eq!(text_at(&bench.gate.audit.record("/"), "/budgets/0/charged"), charged);
}

fn answering(head: &'static str) -> Origin {
    Origin::answering(move |_| format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"))
}

#[test]
fn what_was_never_sent_costs_nothing() {
    check(&json!({ "nodes": { Refusing::start().node(): 1 } }), 502, "0");
}

#[test]
fn what_the_upstream_shows_to_have_refused_costs_nothing() {
    check(&answering("429 Too Many Requests").upstream(), 429, "0");
    check(&answering("503 Service Unavailable\r\nretry-after: 1").upstream(), 503, "0");
}

#[test]
fn what_may_have_been_done_is_charged() {
    check(&answering("500 Internal Server Error").upstream(), 500, "1");
    check(&answering("503 Service Unavailable").upstream(), 503, "1");
    let silent = Origin::serving(|mut visit| drop(visit.request()));
    let upstream = json!({ "nodes": { silent.node(): 1 }, "retries": 0 });
    check(&upstream, 502, "1");
}

#[test]
fn a_client_that_hangs_up_is_charged_for_what_has_left() {
    let origin = Origin::serving(|mut visit| {
        drop(visit.request());
        visit.wire.wait_for_end();
    });
    let bench = Bench::start(&origin.upstream(), &requests(10));
    let wire = bench.send("/");
    wait_for("the call to arrive", || (origin.arrivals().len() == 1).then_some(()));
    drop(wire);
    assert_eq!(bench.settled(), ("1".to_owned(), "9".to_owned()));
}

#[test]
fn kill_9_in_mid_flight_forgets_nothing_and_spends_nothing_twice() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let is_over = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&is_over);
    let origin = Origin::serving(move |mut visit| {
        while visit.request().is_some() {
            if !release.load(Ordering::SeqCst) {
                visit.wire.wait_for_end();
                return;
            }
            visit.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let bench = Bench::within(Some(data.path()), &origin.upstream(), &requests(10));
    let wires: Vec<Wire> = (0..4).map(|_| bench.send("/")).collect();
    wait_for("the calls to arrive", || (origin.arrivals().len() == 4).then_some(()));
    bench.gate.kill();
    drop(wires);
    is_over.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let bench = Bench::again(data.path());
        assert_eq!(bench.settled(), ("4".to_owned(), "6".to_owned()));
        let history = bench.gate.administer(&[], "/admin/budgets/b/history").json();
        let events = at(&history, "/history").as_array().cloned().unwrap_or_default();
        let assumed = events.iter().filter(|event| text_at(event, "/what") == "assumed");
        assert_eq!(assumed.count(), 4, "{history}");
        bench.gate.kill();
    }
    let bench = Bench::again(data.path());
    let passed = (0..20).take_while(|_| bench.call("/").status() == 200).count();
    assert_eq!(passed, 6);
}

#[test]
fn a_stop_in_good_order_keeps_what_was_spent() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let origin = Origin::start();
    let mut bench = Bench::within(Some(data.path()), &origin.upstream(), &requests(3));
    assert_eq!(bench.call("/").status(), 200);
    assert_eq!(bench.call("/").status(), 200);
    assert!(bench.gate.stop().status.success());
    let bench = Bench::again(data.path());
    assert_eq!(bench.settled(), ("2".to_owned(), "1".to_owned()));
    assert_eq!((bench.call("/").status(), bench.call("/").status()), (200, 402));
}

#[test]
fn an_operator_s_adjustment_pays_for_more_and_is_remembered() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let origin = Origin::start();
    let bench = Bench::within(Some(data.path()), &origin.upstream(), &requests(1));
    assert_eq!((bench.call("/").status(), bench.call("/").status()), (200, 402));
    let adjust = ["budget", "adjust", "b", "--subject", "bot", "--by", "2", "--id", "t-7"];
    for why in ["the launch took longer", "asked twice"] {
        let said = bench.run(&[&adjust[..], &["--why", why]].concat()).well();
        assert!(said.contains("bot"), "{said}");
    }
    bench.gate.kill();
    let bench = Bench::again(data.path());
    let statuses = [(); 3].map(|()| bench.call("/").status());
    assert_eq!(statuses, [200, 200, 402]);
    let history = bench.run(&["budget", "history", "b"]).well();
    assert_eq!(history.matches("the launch took longer").count(), 1, "{history}");
    assert!(!history.contains("asked twice"), "{history}");
    let shown = bench.run(&["budget", "show", "b"]).well();
    assert!(shown.contains("POSTED") && shown.contains("bot"), "{shown}");
    let listed = bench.run(&["budget", "list"]).well();
    assert!(listed.contains("requests") && listed.contains("lifetime"), "{listed}");
}

#[test]
fn each_threshold_is_told_once() {
    let (origin, hook) = (Origin::start(), Origin::start());
    let mut budget = requests(4);
    let members = budget.as_object_mut().expect("an object");
    let url = format!("http://{}/hook?key=1", hook.node());
    members.insert("notify".to_owned(), json!({ "webhook": url }));
    members.insert("thresholds".to_owned(), json!([50, 100]));
    let bench = Bench::start(&origin.upstream(), &budget);
    let passed = (0..6).filter(|_| bench.call("/").status() == 200).count();
    assert_eq!(passed, 4);
    let told = wait_for("the webhook to be told", || {
        let told: Vec<Value> = hook.arrivals().iter().map(Message::json).collect();
        (told.len() == 2).then_some(told)
    });
    let mut percents: Vec<Value> = told.iter().map(|told| at(told, "/percent").clone()).collect();
    percents.sort_by_key(Value::as_u64);
    assert_eq!(percents, [json!(50), json!(100)]);
    assert_eq!(text_at(&told[0], "/subject"), "bot");
    assert_eq!(at(&bench.accounts(), "/accounts/0/fired"), &json!([50, 100]));
    let numbers = bench.gate.numbers();
    for line in [
        "tollgate_budget_thresholds_total 2",
        "tollgate_budget_holds_total{result=\"overdrawn\"} 2",
        "tollgate_budget_reservations_ended_total{how=\"settled\"} 4",
        "tollgate_budget_reservations 0",
    ] {
        assert!(numbers.contains(line), "{line} is not in {numbers}");
    }
}

#[test]
fn a_bad_adjustment_changes_nothing() {
    let origin = Origin::start();
    let bench = Bench::start(&origin.upstream(), &requests(1));
    for body in [
        json!({}),
        json!({ "subject": "bot", "by": 5, "why": "a number is no decimal" }),
        json!({ "subject": "bot", "by": "0.5", "why": "half a request" }),
        json!({ "subject": "bot", "by": "0", "why": "nothing" }),
        json!({ "subject": "bot", "by": "1", "why": " " }),
        json!({ "subject": "", "by": "1", "why": "nobody" }),
    ] {
        let arguments = ["-X", "POST", "-d", &body.to_string()];
        let answer = bench.gate.administer(&arguments, "/admin/budgets/b/adjust");
        assert_eq!(answer.status(), 400, "{body}: {answer}");
    }
    let missing = bench.gate.administer(&[], "/admin/budgets/none/accounts");
    assert_eq!(missing.status(), 404);
    assert_eq!(at(&bench.accounts(), "/total"), &json!(0));
}

/// What one call is charged whose answer says how many tokens it used.
#[track_caller]
fn check_tokens(answer: &'static str, charged: &str) {
    let origin = Origin::answering(move |_| answer.to_owned());
    let budget = json!({
        "per": "agent", "unit": "tokens", "amount": "1000", "period": { "every": "month" },
    });
    let bench = Bench::start(&origin.upstream(), &budget);
    let price = json!({
        "match": { "routes": ["only"] }, "unit": "tokens", "hold": { "fixed": "100" },
        "charge": { "from": "response", "pointer": "/usage/total_tokens" },
    });
    bench.gate.put("prices/p", &price);
    assert_eq!(bench.call("/").status(), 200);
    assert_eq!(bench.settled().0, charged, "{answer}");
    let record = bench.gate.audit.record("/");
    assert_eq!(text_at(&record, "/budgets/0/held"), "100");
    assert_eq!(text_at(&record, "/budgets/0/charged"), charged);
}

#[test]
fn what_the_answer_says_it_did_cost_is_charged() {
    check_tokens(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n\
         {\"usage\":{\"total_tokens\":742}}",
        "742",
    );
}

#[test]
fn what_the_end_of_a_stream_says_it_did_cost_is_charged() {
    check_tokens(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
         content-length: 71\r\n\r\ndata: {\"text\":\"a\"}\n\n\
         data: {\"usage\":{\"total_tokens\":31}}\n\ndata: [DONE]\n\n",
        "31",
    );
}

#[test]
fn an_answer_that_does_not_say_costs_what_was_held() {
    check_tokens("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "100");
    check_tokens(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 30\r\n\r\n\
         {\"usage\":{\"total_tokens\":742}}",
        "100",
    );
}

#[test]
fn a_budget_that_counts_something_else_begins_anew_and_the_old_spend_is_not_read_as_the_new() {
    let origin = Origin::start();
    let bench = Bench::start(&origin.upstream(), &requests(2));
    assert_eq!([(); 3].map(|()| bench.call("/").status()), [200, 200, 402]);
    let mut of_all = requests(1);
    of_all["per"] = json!("organisation");
    bench.gate.put("budgets/b", &of_all);
    assert_eq!([(); 2].map(|()| bench.call("/").status()), [200, 402]);
    let accounts = bench.accounts();
    assert_eq!(at(&accounts, "/total"), 1, "{accounts}");
    bench.gate.put("budgets/b", &requests(3));
    assert_eq!([(); 2].map(|()| bench.call("/").status()), [200, 402]);
}
