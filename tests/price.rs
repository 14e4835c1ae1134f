//! Prices: a call holds what it will cost, as its body or its upstream says, before it leaves.

mod hangup;
mod refuse;

use cloudflare_sim::{Arrival, DEFAULT_TOKEN, Options, Sim};
use serde_json::{Value, json};

use crate::command::said::Said;
use crate::harness::{
    ADMIN_KEY, Gate, Message, Origin, Refusing, Setup, Wire, at, root, text_at, tollgate,
};

/// A gate whose agent has some dollars, in front of an upstream.
struct Bench {
    gate: Gate,
}

impl Bench {
    fn start(upstream: &Value, dollars: &str) -> Self {
        let variables = [("TOKEN_OF_TEST", DEFAULT_TOKEN)];
        let gate = Gate::with(&Setup { variables: &variables, ..Setup::default() });
        let bench = Self { gate };
        bench.carry(upstream, &json!({}));
        let Self { gate } = &bench;
        let agent = json!({ "username": "bot", "plugins": { "key-auth": { "key": "bot-key" } } });
        gate.put("consumers/bot", &agent);
        let lifetime = json!({ "every": "lifetime" });
        let budget =
            json!({ "per": "agent", "unit": "USD", "amount": dollars, "period": lifetime });
        gate.put("budgets/dollars", &budget);
        bench
    }

    /// Carries everything to the upstream, on a route with these members too.
    fn carry(&self, upstream: &Value, members: &Value) {
        let mut route = json!({ "plugins": { "key-auth": {} } });
        let all = route.as_object_mut().expect("an object");
        all.extend(members.as_object().cloned().unwrap_or_default());
        self.gate.carry(upstream, &route);
    }

    /// With one price of every call.
    fn priced(upstream: &Value, dollars: &str, price: &Value) -> Self {
        let bench = Self::start(upstream, dollars);
        let mut whole = json!({ "match": {}, "unit": "USD" });
        let members = whole.as_object_mut().expect("an object");
        members.extend(price.as_object().cloned().unwrap_or_default());
        bench.gate.put("prices/all", &whole);
        bench
    }

    fn post(&self, path: &str, body: &str) -> Message {
        self.ask("POST", path, "", body)
    }

    /// Asks with further fields of the head, each with its end of line.
    fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Message {
        let mut wire = Wire::connect(&self.gate.http);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\napikey: bot-key\r\n{fields}");
        wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
        wire.final_answer().expect("an answer")
    }

    /// What the record of a call's path says: held and charged.
    fn paid(&self, path: &str) -> (String, String) {
        let record = self.gate.audit.record(path);
        let paid = at(&record, "/budgets/0");
        (text_at(paid, "/held"), text_at(paid, "/charged"))
    }
}

/// A stand-in for Cloudflare behind a gate that has the price list.
struct Registrar {
    bench: Bench,
    sim: Sim,
    _runtime: tokio::runtime::Runtime,
}

impl Registrar {
    fn start(dollars: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let sim = runtime.block_on(Sim::start(Options::default())).expect("the stand-in starts");
        let upstream = json!({
            "nodes": { sim.address().to_string(): 1 }, "api": "cloudflare",
            "credential": "$env://TOKEN_OF_TEST",
        });
        let bench = Bench::start(&upstream, dollars);
        let server = format!("http://{}", bench.gate.admin);
        let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
        let list = root().join("deploy/documents/cloudflare-prices.yaml");
        Said::by(tollgate().args(["apply", "-f"]).arg(list).envs(variables)).well();
        Self { bench, sim, _runtime: runtime }
    }

    fn path(&self) -> String {
        format!("/client/v4/accounts/{}/registrar/registrations", self.sim.account_id())
    }

    fn register(&self, domain: &str, years: u8) -> Message {
        let order = json!({ "domain_name": domain, "years": years });
        self.bench.post(&self.path(), &order.to_string())
    }

    /// What the card was charged.
    fn charges(&self) -> Vec<String> {
        self.sim.charges().iter().map(|charge| charge.amount.to_string()).collect()
    }

    /// What reached the stand-in under a path that ends so.
    fn arrivals(&self, end: &str) -> Vec<Arrival> {
        let all = self.sim.log().arrivals();
        all.into_iter().filter(|arrival| arrival.path.ends_with(end)).collect()
    }
}

#[test]
fn a_domain_is_bought_at_the_price_that_was_quoted_as_long_as_the_budget_pays() {
    let registrar = Registrar::start("30");
    assert_eq!(registrar.register("alpha-gate.com", 2).status(), 201);
    assert_eq!(registrar.charges(), ["17.14"]);
    let paid = registrar.bench.paid(&registrar.path());
    assert_eq!(paid, ("17.14".to_owned(), "17.14".to_owned()));
    let refused = registrar.register("beta-gate.com", 2);
    assert_eq!(refused.refusal(), (402, "budget.exhausted".to_owned()));
    assert_eq!(registrar.register("beta-gate.com", 1).status(), 201);
    assert_eq!(registrar.charges(), ["17.14", "8.57"]);
    let quotes = registrar.arrivals("/domain-check");
    assert_eq!(quotes.len(), 3);
    for quote in quotes {
        assert_eq!(quote.header("apikey"), None);
        assert_eq!(quote.header("authorization"), Some(&*format!("Bearer {DEFAULT_TOKEN}")));
    }
}

#[test]
fn who_may_not_call_may_not_ask_for_quotes() {
    let registrar = Registrar::start("30");
    let gate = &registrar.bench.gate;
    gate.put("limits/few", &json!({ "per": "agent", "rate": 1, "interval": "1h", "burst": 3 }));
    let whole = json!({ "match": { "upstreams": ["only"] }, "quota": 100, "window": "300s" });
    gate.put("upstream_quotas/all", &whole);
    let bought = registrar.register("alpha-gate.com", 2);
    assert_eq!(bought.status(), 201, "{bought}");
    let left = bought.field("ratelimit").expect("what is left");
    assert!(left.contains("\"few\";r=2"), "one call, one draw: {left}");
    assert!(left.contains("\"upstream\";r=98"), "its quote has a turn of its own: {left}");
    for _ in 0..2 {
        let refused = registrar.register("beta-gate.com", 2);
        assert_eq!(refused.refusal(), (402, "budget.exhausted".to_owned()));
    }
    for _ in 0..3 {
        let refused = registrar.register("beta-gate.com", 1);
        assert_eq!(refused.refusal(), (429, "limit.exceeded".to_owned()));
    }
    assert_eq!(registrar.arrivals("/domain-check").len(), 3);
    assert_eq!(registrar.charges(), ["17.14"]);
    gate.put("limits/few", &json!({ "per": "agent", "rate": 1, "interval": "1h", "burst": 9 }));
    // What was refused holds nothing.
    assert_eq!(registrar.register("beta-gate.com", 1).status(), 201);
}

#[test]
fn a_call_whose_price_nobody_can_say_does_not_leave() {
    let registrar = Registrar::start("1000");
    for order in [r#"{"domain_name":"taken-gate.com"}"#, "{}", "no json", ""] {
        let refused = registrar.bench.post(&registrar.path(), order);
        assert_eq!(refused.refusal(), (402, "budget.price_unknown".to_owned()), "{order}");
        assert_eq!(refused.field("x-should-retry"), Some("false"));
    }
    assert!(registrar.arrivals("/registrations").is_empty() && registrar.charges().is_empty());
}

#[test]
fn an_upstream_that_is_away_is_not_taken_for_one_without_a_price() {
    let away = Refusing::start();
    let upstream = json!({ "nodes": { away.node(): 1 } });
    let price =
        json!({ "quote": { "path": "/price" }, "hold": { "from": "quote", "pointer": "" } });
    let bench = Bench::priced(&upstream, "10", &price);
    assert_eq!(bench.post("/", "{}").refusal(), (502, "upstream.unreachable".to_owned()));
}

#[test]
fn a_body_that_a_price_has_read_arrives_as_it_was_sent() {
    let origin = Origin::start();
    let price = json!({ "hold": { "from": "request", "pointer": "/n", "cap": "0.5" } });
    let bench = Bench::priced(&origin.upstream(), "10", &price);
    let long = format!(r#"{{"n":0.01,"x":"{}"}}"#, "y".repeat(2 << 20));
    for (path, body, held) in [
        ("/short", r#"{ "n" : 0.25 }"#, "0.25"),
        ("/capped", r#"{"n":99}"#, "0.5"),
        ("/twice", r#"{"n":0,"n":1}"#, "0.5"),
        ("/long", &*long, "0.5"),
    ] {
        assert_eq!(bench.post(path, body).status(), 200, "{path}");
        assert_eq!(bench.paid(path), (held.to_owned(), held.to_owned()), "{path}");
        let arrived = origin.arrivals();
        let last = arrived.last().expect("it arrived");
        assert!(last.body == body.as_bytes(), "{path}: {} bytes", last.body.len());
    }
}

#[test]
fn a_stream_is_charged_what_its_end_says_it_used() {
    let origin = Origin::answering(|_| {
        let events =
            "data: {\"usage\":null}\n\ndata: {\"usage\":{\"total\":1500}}\n\ndata: [DONE]\n\n";
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{events}",
            events.len()
        )
    });
    let price = json!({
        "hold": { "from": "request", "pointer": "/max_tokens", "per_million": "100", "cap": "0.9" },
        "charge": { "from": "response", "pointer": "/usage/total", "per_million": "100" },
    });
    let bench = Bench::priced(&origin.upstream(), "1", &price);
    assert_eq!(bench.post("/v1/chat", r#"{"max_tokens":4000}"#).status(), 200);
    assert_eq!(bench.paid("/v1/chat"), ("0.4".to_owned(), "0.15".to_owned()));
}
