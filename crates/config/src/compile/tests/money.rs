//! From documents of budgets and prices to what a request holds, and is charged.

use std::collections::BTreeMap;

use http::HeaderMap;
use model::{AgentId, Identity, OrganisationId, PriceId, TeamId, Timestamp};
use rules::Snapshot;
use rules::fact::Facts;
use rules::operation::{Api, Found};
use rules::plan::{Draft, Plan, plan};
use rules::price::{Evidence, Tariff};
use rules::target::Target;
use serde_json::{Value, json};

use super::{compiled, facts, state};
use crate::bundle::Bundle;
use crate::command::Command;

const ACCOUNT: &str = "/client/v4/accounts/0123456789abcdef0123456789abcdef";
const ZONE: &str = "/client/v4/zones/0123456789abcdef0123456789abcdef";

/// A route of every path, beside these resources.
fn with_route(resources: &[(&str, Value)]) -> Snapshot {
    let route = json!({"uri": "/*", "upstream": {"nodes": {"a:80": 1}}});
    let all: Vec<_> = std::iter::once(("routes/all", route)).chain(resources.to_vec()).collect();
    compiled(&state(&all))
}

fn budget(members: &Value) -> Value {
    let mut budget =
        json!({"per": "agent", "unit": "USD", "amount": "100", "period": {"every": "lifetime"}});
    for (name, member) in members.as_object().unwrap() {
        budget[name] = member.clone();
    }
    budget
}

fn price(amount: &str) -> Value {
    json!({"match": {}, "unit": "USD", "hold": {"fixed": amount}})
}

/// The draft of a call of Cloudflare's API by agent `bot` of team `dns`.
fn draft(snapshot: &Snapshot, method: &str, path: &str, now: Timestamp) -> Draft {
    let target = Target::parse(&path.parse().unwrap()).unwrap();
    let headers = HeaderMap::new();
    let identity = Identity {
        organisation: OrganisationId::new("acme"),
        team: Some(TeamId::new("dns")),
        agent: AgentId::new("bot"),
        run: None,
        credential: None,
    };
    let call = Some(Found::new(Api::Cloudflare, method, &target).of(method, &target));
    let facts = Facts { identity: Some(&identity), call, ..facts(method, &target, &headers) };
    let route = snapshot.routes.find(&facts).unwrap().unwrap();
    plan(snapshot, None, route, &facts, now)
}

/// What a call with this body holds of each budget, as a decimal.
fn held(snapshot: &Snapshot, method: &str, path: &str, body: &str) -> BTreeMap<String, String> {
    let evidence = Evidence { request: Some(body.as_bytes()), quotes: &[] };
    let plan = draft(snapshot, method, path, Timestamp::from_secs(0)).price(&evidence).unwrap();
    let holds = plan.holds.iter();
    let shown = |hold: &rules::budget::Hold| hold.amount.text(&hold.budget.unit);
    holds.map(|hold| (hold.budget.id.as_str().to_owned(), shown(hold))).collect()
}

/// What a call without a body holds.
#[track_caller]
fn check(resources: &[(&str, Value)], expected: &[(&str, &str)]) {
    let found = held(&with_route(resources), "GET", ZONE, "");
    let expected = expected.iter().map(|(id, amount)| ((*id).to_owned(), (*amount).to_owned()));
    assert_eq!(found, expected.collect::<BTreeMap<_, _>>());
}

#[test]
fn a_budget_of_requests_holds_one_and_needs_no_price() {
    let requests = budget(&json!({"unit": "requests"}));
    check(&[("budgets/r", requests)], &[("r", "1")]);
}

#[test]
fn a_budget_holds_the_price_in_its_own_unit_and_nothing_without_one() {
    let all = [
        ("budgets/d", budget(&json!({}))),
        ("budgets/e", budget(&json!({"unit": "EUR"}))),
        ("budgets/t", budget(&json!({"per": "team"}))),
        ("prices/p", price("0.25")),
    ];
    check(&all, &[("d", "0.25"), ("t", "0.25")]);
    check(&all[..3], &[]);
}

#[test]
fn of_several_prices_the_one_of_the_highest_priority_counts() {
    let with_priority = |amount, priority| {
        let mut price = price(amount);
        price["priority"] = json!(priority);
        price
    };
    let dollars = ("budgets/d", budget(&json!({})));
    let low = ("prices/a", with_priority("1", -1));
    let high = ("prices/b", with_priority("2", 7));
    check(&[dollars.clone(), low.clone(), high], &[("d", "2")]);
    check(&[dollars, low, ("prices/c", with_priority("3", -1))], &[("d", "1")]);
}

#[test]
fn a_budget_binds_whom_its_selector_names() {
    let bound = |selector: Value| budget(&json!({"unit": "requests", "match": selector}));
    let all = [
        ("budgets/read", bound(json!({"effects": ["read"]}))),
        ("budgets/write", bound(json!({"effects": ["write", "unknown"]}))),
        ("budgets/zone", bound(json!({"operations": ["zones.*"]}))),
        ("budgets/dns", bound(json!({"operations": ["dns.records.*"]}))),
        ("budgets/route", bound(json!({"routes": ["all"], "methods": ["GET"]}))),
    ];
    check(&all, &[("read", "1"), ("route", "1"), ("zone", "1")]);
}

#[test]
fn a_call_whose_price_is_unknown_is_refused_unless_its_budget_only_reports() {
    let unknown = json!({"match": {}, "unit": "USD", "hold": {"from": "request", "pointer": "/n"}});
    let with = |members: Value| {
        with_route(&[("budgets/d", budget(&members)), ("prices/p", unknown.clone())])
    };
    let plan = |snapshot: &Snapshot| -> Result<Plan, _> {
        draft(snapshot, "GET", ZONE, Timestamp::from_secs(0)).price(&Evidence::default())
    };
    assert_eq!(plan(&with(json!({}))).unwrap_err().0, PriceId::new("p"));
    assert!(plan(&with(json!({"shadow": true}))).unwrap().holds.is_empty());
}

#[test]
fn a_row_is_named_by_the_period_that_the_call_lies_in() {
    let daily = json!({"unit": "requests", "period": {"every": "day", "zone": "Europe/Berlin"}});
    let snapshot = with_route(&[("budgets/d", budget(&daily))]);
    let start = |secs| {
        let plan = draft(&snapshot, "GET", ZONE, Timestamp::from_secs(secs));
        plan.price(&Evidence::default()).unwrap().holds[0].row.period.as_micros() / 1_000_000
    };
    // 2026-03-29 has 23 hours in Berlin.
    let (midnight, next) = (1_774_738_800, 1_774_738_800 + 23 * 3_600);
    for moment in [midnight, midnight + 1, next - 1, midnight] {
        assert_eq!(start(moment), midnight);
    }
    assert_eq!((start(midnight - 1), start(next)), (midnight - 24 * 3_600, next));
}

/// The price list that operators edit, with a budget of dollars and one of tokens.
fn price_list() -> Snapshot {
    let text = include_str!("../../../../../deploy/documents/cloudflare-prices.yaml");
    let mut state = state(&[
        ("routes/all", json!({"uri": "/*", "upstream": {"nodes": {"a:80": 1}}})),
        ("budgets/d", budget(&json!({}))),
        ("budgets/t", budget(&json!({"unit": "tokens"}))),
    ]);
    let changes = Bundle::parse(text).unwrap().changes(&state, false);
    let at = Timestamp::from_secs(2);
    state.apply(&Command { at, base: None, force: false, changes }).unwrap();
    compiled(&state)
}

#[track_caller]
fn check_listed(method: &str, path: &str, body: &str, expected: &[(&str, &str)]) {
    let found = held(&price_list(), method, path, body);
    let expected = expected.iter().map(|(id, amount)| ((*id).to_owned(), (*amount).to_owned()));
    assert_eq!(found, expected.collect::<BTreeMap<_, _>>(), "{method} {path} {body}");
}

#[test]
fn the_list_prices_what_cloudflare_charges_for() {
    let under = |account: &str| format!("{ACCOUNT}{account}");
    let credits = under("/ai-gateway/billing/topup");
    check_listed("POST", &credits, r#"{"amount":2500}"#, &[("d", "25")]);
    check_listed("PUT", &format!("{ZONE}/subscription"), "{}", &[("d", "250")]);
    check_listed("PATCH", ZONE, r#"{"paused":true}"#, &[("d", "0")]);
    check_listed("PATCH", ZONE, r#"{"plan":{"id":"x"}}"#, &[("d", "250")]);
    let bulk = under("/storage/kv/namespaces/0123456789abcdef0123456789abcdef/bulk");
    check_listed("PUT", &bulk, r#"[{"key":"a"},{"key":"b"}]"#, &[("d", "0.00001")]);
    let upload = under("/stream/direct_upload");
    check_listed("POST", &upload, r#"{"maxDurationSeconds":3600}"#, &[("d", "0.300001")]);
    let model = under("/ai/run/@cf/meta/llama-3.1-8b-instruct");
    let asked = r#"{"prompt":"x","max_tokens":1000}"#;
    check_listed("POST", &model, asked, &[("d", "0.0049"), ("t", "1000")]);
    check_listed("POST", &model, r#"{"prompt":"x"}"#, &[("d", "0.05"), ("t", "16000")]);
    check_listed("GET", ZONE, "", &[]);
}

/// The tariff of a call that the list prices, its quote answered like this.
fn listed(path: &str, body: &str, quote: Option<&str>) -> Result<Tariff, PriceId> {
    let snapshot = price_list();
    let draft = draft(&snapshot, "POST", path, Timestamp::from_secs(0));
    let prices = draft.quoted().into_iter().map(|price| price.id.clone());
    let answers = prices.zip(quote.map(|quote| quote.as_bytes().to_vec()));
    let quotes: Vec<_> = answers.collect();
    let evidence = Evidence { request: Some(body.as_bytes()), quotes: &quotes };
    let plan = draft.price(&evidence).map_err(|unpriced| unpriced.0)?;
    Ok(plan.holds.into_iter().next().unwrap().tariff.unwrap())
}

#[test]
fn a_domain_costs_what_its_registrar_says_for_all_its_years() {
    let quote = r#"{"result":{"domains":[{"name":"a.com","registrable":true,"pricing":
        {"currency":"USD","registration_cost":"8.57","renewal_cost":"10.44"}}]}}"#;
    let path = format!("{ACCOUNT}/registrar/registrations");
    let cost = |body, quote| {
        let tariff = listed(&path, body, quote)?;
        Ok::<_, PriceId>(tariff.cost(202).text(&tariff.price().unit))
    };
    assert_eq!(cost(r#"{"domain_name":"a.com"}"#, Some(quote)).unwrap(), "8.57");
    assert_eq!(cost(r#"{"domain_name":"a.com","years":2}"#, Some(quote)).unwrap(), "19.01");
    let none = r#"{"result":{"domains":[{"name":"a.com","registrable":false}]}}"#;
    for quote in [None, Some(none), Some("")] {
        let refused = Err(PriceId::new("cf-domain-registration"));
        assert_eq!(cost(r#"{"domain_name":"a.com"}"#, quote), refused, "{quote:?}");
    }
    let draft = draft(&price_list(), "POST", &path, Timestamp::from_secs(0));
    let target = Target::parse(&path.parse().unwrap()).unwrap();
    let call = Found::new(Api::Cloudflare, "POST", &target).of("POST", &target).call();
    let quote = draft.quoted()[0].quote.as_ref().unwrap();
    let asked = quote.call(call.as_ref(), Some(br#"{"domain_name":"a.com"}"#)).unwrap();
    assert_eq!(asked.path, format!("{ACCOUNT}/registrar/domain-check"));
    assert_eq!(asked.body.unwrap(), r#"{"domains":["a.com"]}"#);
}

#[test]
fn rows_of_every_statement_of_a_query_are_charged() {
    let path = format!("{ACCOUNT}/d1/database/01234567-89ab-4cde-8f01-23456789abcd/query");
    let mut tariff = listed(&path, "{}", None).unwrap();
    tariff.hear(
        br#"{"result":[{"meta":{"rows_read":1000000,"rows_written":2}},
            {"meta":{"rows_read":0,"rows_written":3}}]}"#,
    );
    assert_eq!(tariff.cost(200).text(&tariff.price().unit), "0.001005");
}
