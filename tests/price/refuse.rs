//! Calls that are refused after they hold something: nothing stays held, and nothing is charged.

use super::{Bench, Origin, Refusing, Value, at, json};
use crate::harness::Message;

/// What the budget has spent and holds.
fn account(bench: &Bench) -> (String, String) {
    let told = bench.gate.administer(&[], "/admin/budgets/dollars/accounts").json();
    let of = |member: &str| {
        let account = at(&told, "/accounts/0");
        at(account, member).as_str().map(str::to_owned).expect("an amount")
    };
    (of("/posted"), of("/pending"))
}

/// A call that is refused so, on a route with these members, to an upstream with these.
#[track_caller]
fn check(upstream: &Value, route: &Value, refuse: impl Fn(&Bench) -> Message, refusal: &str) {
    let bench = Bench::priced(upstream, "10", &json!({ "hold": { "fixed": "1" } }));
    // One call that is paid for, so that there is an account.
    let origin = Origin::start();
    bench.carry(&origin.upstream(), &json!({}));
    assert_eq!(bench.post("/paid", "").status(), 200);
    bench.paid("/paid");
    bench.carry(upstream, route);
    let refused = refuse(&bench);
    assert_eq!(refused.refusal().1, refusal, "{refused}");
    assert_eq!(account(&bench), ("1".to_owned(), "0".to_owned()), "{refusal}");
}

fn post(bench: &Bench) -> Message {
    bench.post("/", "")
}

#[test]
fn whatever_refuses_a_call_gives_back_what_it_held() {
    let (origin, refusing) = (Origin::start(), Refusing::start());
    let away = json!({ "nodes": { refusing.node(): 1 } });
    check(&away, &json!({}), post, "upstream.unreachable");
    check(&json!({ "nodes": {} }), &json!({}), post, "upstream.absent");
    let locked = json!({ "nodes": { origin.node(): 1 }, "credential": "$env://NOT_THERE" });
    check(&locked, &json!({}), post, "secret.unresolved");
    let guarded = json!({ "idempotency": true });
    let keyed = |bench: &Bench| bench.ask("POST", "/", "idempotency-key: a\r\n", "");
    check(&away, &guarded, keyed, "upstream.unreachable");
    let quota = |bench: &Bench| {
        let one = json!({
            "match": { "upstreams": ["only"] }, "quota": 1, "window": "1h",
            "queue": { "deadline": "1s" },
        });
        bench.gate.put("upstream_quotas/one", &one);
        bench
            .gate
            .put("prices/all", &json!({ "match": {}, "unit": "EUR", "hold": { "fixed": "1" } }));
        assert_eq!(bench.post("/", "").status(), 200);
        let price = json!({ "match": {}, "unit": "USD", "hold": { "fixed": "1" } });
        bench.gate.put("prices/all", &price);
        bench.post("/", "")
    };
    check(&origin.upstream(), &json!({}), quota, "quota.exceeded");
}
