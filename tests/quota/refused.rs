//! What becomes of a purchase that the upstream refuses with 429: it costs nothing, and it may be
//! made again.

use std::time::Duration;

use cloudflare_sim::{DEFAULT_TOKEN, Effect, Fault, Options, Point, Sim, When};
use serde_json::json;

use crate::command::said::Said;
use crate::harness::call::Call;
use crate::harness::{ADMIN_KEY, Gate, Message, Setup, at, root, text_at, tollgate};

/// A gate with the price list and a quota before a stand-in for Cloudflare, and an agent with a
/// few dollars.
struct Shop {
    sim: Sim,
    gate: Gate,
    _runtime: tokio::runtime::Runtime,
}

impl Shop {
    fn start(dollars: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let sim = runtime.block_on(Sim::start(Options::default())).expect("the stand-in starts");
        let variables = [("TOKEN_OF_TEST", DEFAULT_TOKEN)];
        let gate = Gate::with(&Setup { variables: &variables, ..Setup::default() });
        let upstream = json!({
            "nodes": { sim.address().to_string(): 1 }, "api": "cloudflare",
            "credential": "$env://TOKEN_OF_TEST",
        });
        gate.carry(&upstream, &json!({ "plugins": { "key-auth": {} } }));
        let agent = json!({ "username": "bot", "plugins": { "key-auth": { "key": "bot-key" } } });
        gate.put("consumers/bot", &agent);
        let lifetime = json!({ "every": "lifetime" });
        let budget =
            json!({ "per": "agent", "unit": "USD", "amount": dollars, "period": lifetime });
        gate.put("budgets/dollars", &budget);
        let server = format!("http://{}", gate.admin);
        let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
        let list = root().join("deploy/documents/cloudflare-prices.yaml");
        Said::by(tollgate().args(["apply", "-f"]).arg(list).envs(variables)).well();
        let quota = json!({
            "match": { "upstreams": ["only"] }, "quota": 1_000, "window": "10s", "block": "5m",
            "queue": { "deadline": "20s" },
        });
        gate.put("upstream_quotas/cloudflare", &quota);
        Self { sim, gate, _runtime: runtime }
    }

    /// The next purchase that arrives is refused so.
    fn refuse_one(&self, retry_after: &str) {
        let headers = vec![("retry-after".to_owned(), retry_after.to_owned())];
        let answer = Effect::Answer { status: 429, headers, body: None, at: Point::default() };
        let fault = Fault::new(answer).under(self.path()).when(When::First(1));
        self.sim.faults().inject(fault).expect("a fault");
    }

    fn path(&self) -> String {
        format!("/client/v4/accounts/{}/registrar/registrations", self.sim.account_id())
    }

    fn buy(&self, domain: &str, fields: &[&str]) -> Message {
        let body = json!({ "domain_name": domain, "years": 1 }).to_string();
        let (path, fields) = (self.path(), [&["apikey: bot-key"], fields].concat());
        let patience = Duration::from_secs(60);
        let call = Call { method: "POST", path: &path, fields: &fields, body: &body, patience };
        call.ask(&self.gate.http).expect("an answer")
    }

    /// What the card was charged.
    fn charges(&self) -> Vec<String> {
        self.sim.charges().iter().map(|charge| charge.amount.to_string()).collect()
    }

    /// What the record of the only purchase says: held and charged.
    fn paid(&self) -> (String, String) {
        let record = self.gate.audit.record(&self.path());
        let paid = at(&record, "/budgets/0");
        (text_at(paid, "/held"), text_at(paid, "/charged"))
    }
}

/// The seconds after which a refused client is asked to come back.
#[track_caller]
fn wait_of(refused: &Message) -> u64 {
    assert_eq!(refused.refusal(), (429, "quota.blocked".to_owned()));
    refused.field("retry-after").and_then(|wait| wait.parse().ok()).expect("a wait")
}

#[test]
fn a_purchase_that_was_refused_with_429_costs_nothing() {
    // Enough for one.
    let shop = Shop::start("10");
    shop.refuse_one("1");
    assert_eq!(wait_of(&shop.buy("alpha-gate.com", &[])), 1);
    assert_eq!(shop.paid(), ("8.57".to_owned(), "0".to_owned()));
    assert!(shop.charges().is_empty());
    // What was held is there again; the call waits for the end of the block.
    assert_eq!(shop.buy("alpha-gate.com", &[]).status(), 201);
    assert_eq!(shop.charges(), ["8.57"]);
}

#[test]
fn a_purchase_with_a_key_that_was_refused_with_429_is_made_once_when_it_comes_again() {
    let shop = Shop::start("10");
    shop.refuse_one("0");
    let key = ["idempotency-key: \"one\""];
    assert_eq!(wait_of(&shop.buy("alpha-gate.com", &key)), 1);
    let bought = shop.buy("alpha-gate.com", &key);
    assert_eq!((bought.status(), bought.field("idempotent-replayed")), (201, None));
    let again = shop.buy("alpha-gate.com", &key);
    assert_eq!((again.status(), again.field("idempotent-replayed")), (201, Some("true")));
    assert_eq!(shop.charges(), ["8.57"]);
}

#[test]
fn a_429_may_name_the_moment_until_which_it_lasts() {
    let shop = Shop::start("10");
    let until = jiff::Timestamp::now() + Duration::from_secs(3);
    shop.refuse_one(&until.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    // Not the five minutes that the quota says where the upstream does not.
    assert!(wait_of(&shop.buy("alpha-gate.com", &[])) <= 3);
    assert_eq!(shop.buy("alpha-gate.com", &[]).status(), 201);
}
