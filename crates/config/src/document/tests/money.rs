//! What budgets and prices may and may not hold, and whom selectors may name.

use serde_json::{Value, json};

use super::check_kind;
use crate::key::Kind;

/// A value with these members put over it; `null` takes one out.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn over(mut value: Value, members: Value) -> Value {
    for (name, member) in members.as_object().unwrap() {
        if member.is_null() {
            value.as_object_mut().unwrap().remove(name);
        } else {
            value[name] = member.clone();
        }
    }
    value
}

/// The budget of the product's own example with these members put over it.
fn check_budget(members: Value, expected: &[&str]) {
    let plain = json!({"per": "organisation", "unit": "requests", "amount": "500",
        "period": {"every": "lifetime"}});
    check_kind(Kind::Budget, "1", over(plain, members), expected);
}

/// A price with these members put over it.
fn check_price(members: Value, expected: &[&str]) {
    let plain = json!({"match": {"operations": ["registrar.registrations.create"]}, "unit": "USD",
        "hold": {"fixed": "10"}});
    check_kind(Kind::Price, "1", over(plain, members), expected);
}

/// A limit with this selector.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_selector(selector: Value, expected: &[&str]) {
    check_kind(Kind::Limit, "1", json!({"per": "agent", "rate": 1, "match": selector}), expected);
}

#[test]
fn a_selector_names_operations_of_the_catalogue_and_effects() {
    check_selector(json!({"operations": ["dns.records.delete", "zones.*", "unknown"]}), &[]);
    check_selector(json!({"effects": ["read", "write", "unknown"]}), &[]);
    check_selector(
        json!({"operations": [7, "", "dns.records.delet", "dns.record.*", "quux"],
            "effects": ["delete"]}),
        &[
            "/match/effects/0: unknown value `delete`: expected `read`, `write` or `unknown`",
            "/match/operations/0: expected a string, got a number",
            "/match/operations/1: is too short",
            "/match/operations/2: unknown operation `dns.records.delet`; did you mean `dns.records.d",
            "/match/operations/3: fits the name of no operation; see `tollgate operations find`",
            "/match/operations/4: unknown operation `quux`; see `tollgate operations find`",
        ],
    );
    check_selector(
        json!({"operations": ["zones.get", "zones.get"], "effects": []}),
        &[
            "/match/effects: expected at least 1 items",
            "/match/operations/1: stands in the list already",
        ],
    );
}

#[test]
fn every_field_of_a_budget_is_checked() {
    check_budget(json!({}), &[]);
    check_budget(
        json!({"per": "run", "unit": "USD", "amount": "12.50", "period": {"every": "month",
            "zone": "Europe/Berlin", "anchor": "2026-01-15T06:00:00"}, "match": {"effects": ["write"]},
            "thresholds": [100, 50], "notify": {"webhook": "https://hooks.example.com/x"},
            "when_short": "refuse", "on_outage": "share", "durability": "store", "shadow": true}),
        &[],
    );
    check_budget(
        json!({"per": "user", "unit": "US $", "amount": "x", "period": {"every": "fortnight"},
            "thresholds": [0, 101, 50.5], "notify": {}, "on_outage": "panic", "durability": "disk",
            "shadow": 1, "limit": 5}),
        &[
            "/amount: is not a decimal number such as `12.50`",
            "/durability: unknown value `disk`: expected `store` or `journal`",
            "/limit: unknown field `limit`",
            "/notify/webhook: is required",
            "/on_outage: unknown value `panic`",
            "/per: unknown value `user`: expected `organisation`, `team`, `agent` or `run`",
            "/period/every: unknown value `fortnight`",
            "/shadow: expected a boolean",
            "/thresholds/0: expected 0 to be at least 1",
            "/thresholds/1: expected 101 to be at most 100",
            "/thresholds/2: expected an integer, got 50.5",
            "/unit: is not the name of a unit",
        ],
    );
    check_kind(
        Kind::Budget,
        "1",
        json!({}),
        &[
            "/amount: is required",
            "/per: is required",
            "/period: is required",
            "/unit: is required",
        ],
    );
}

#[test]
fn an_amount_is_a_decimal_in_quotes() {
    let quotes = "/amount: expected a decimal in quotes, such as \"500\": programs round";
    check_budget(json!({"amount": 500}), &[quotes]);
    check_budget(json!({"amount": 1e300}), &["/amount: expected a decimal in quotes"]);
    check_budget(json!({"amount": "0"}), &[]);
    check_budget(json!({"amount": "-1"}), &["/amount: is below zero"]);
    check_budget(json!({"amount": "0.5"}), &["/amount: has more decimal places than its unit"]);
    check_budget(json!({"unit": "EUR", "amount": "0.000001"}), &[]);
    check_budget(json!({"unit": "EUR", "amount": "0.0000001"}), &["/amount: has more decimal"]);
    check_budget(json!({"amount": "99999999999999999999"}), &["/amount: is too large"]);
    check_budget(json!({"amount": "1e3"}), &["/amount: is not a decimal number"]);
}

#[test]
fn what_is_not_served_is_refused_by_its_name() {
    check_budget(json!({"when_short": "ask"}), &["/when_short: `ask` is not served yet"]);
    check_budget(json!({"durability": "peer"}), &["/durability: `peer` is not served yet"]);
    check_budget(json!({"per": "route"}), &["/per: `route` has no budget"]);
    check_budget(json!({"per": "address"}), &["/per: `address` has no budget"]);
    check_price(json!({"due": {"on": "completed"}}), &["/due/on: `completed` is not served yet"]);
}

#[test]
fn a_period_is_one_of_a_known_zone_and_begins_at_a_plain_time() {
    let check =
        |period: Value, expected: &[&str]| check_budget(json!({"period": period}), expected);
    for zone in ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"] {
        check(json!({"every": "day", "zone": zone}), &[]);
    }
    for zone in ["Berlin", "Europe/Bielefeld", "+02:00", "../../etc/passwd", "CEST"] {
        check(json!({"every": "day", "zone": zone}), &["/period/zone: is not a time zone"]);
    }
    check(json!({"every": "week", "anchor": "2026-01-15"}), &[]);
    for anchor in ["2026-02-30", "2026-01-15T06:00:00Z", "2026-01-15T06:00:00.5", "06:00", "now"] {
        check(json!({"every": "week", "anchor": anchor}), &["/period/anchor: expected a date, or"]);
    }
    let years = "/period/anchor: expected a year from 1970 to 2200";
    check(json!({"every": "week", "anchor": "1969-12-31"}), &[years]);
    check(json!({"every": "week", "anchor": "2201-01-01"}), &[years]);
    check(
        json!({"every": "lifetime", "zone": "UTC", "anchor": "2026-01-15"}),
        &["/period/anchor: means nothing for a lifetime", "/period/zone: means nothing"],
    );
}

#[test]
fn thresholds_are_a_few_different_percents() {
    check_budget(json!({"thresholds": []}), &[]);
    check_budget(json!({"thresholds": [1, 100]}), &[]);
    check_budget(json!({"thresholds": [80, 80]}), &["/thresholds/1: stands in the list already"]);
    let nine: Vec<u8> = (1..=9).collect();
    check_budget(json!({"thresholds": nine}), &["/thresholds: expected at most 8 items"]);
}

#[test]
fn a_webhook_is_an_address_or_a_reference_to_one() {
    let check = |url: &str, expected: &[&str]| {
        check_budget(json!({"notify": {"webhook": url}}), expected);
    };
    check("http://127.0.0.1:8080/x", &[]);
    check("$env://BUDGET_WEBHOOK", &[]);
    for wrong in ["hooks.example.com", "ftp://a/b", "https://", "https://a:b@c/d", "/x"] {
        check(wrong, &["/notify/webhook: is not the address of a webhook"]);
    }
}

#[test]
fn a_webhook_s_secret_is_a_text_or_a_reference_to_one() {
    let check = |secret: Value, expected: &[&str]| {
        let notify = json!({"webhook": "https://hooks.example.com/x", "secret": secret});
        check_budget(json!({"notify": notify}), expected);
    };
    check(json!("$env://BUDGET_SECRET"), &[]);
    check(json!("at-least-eight"), &[]);
    check(json!("short"), &["/notify/secret: is too short: expected at least 8 characters, got 5"]);
    check(json!(12_345_678), &["/notify/secret: expected a string"]);
    check_budget(json!({"notify": {"secret": "$env://S"}}), &["/notify/webhook: is required"]);
}

#[test]
fn every_field_of_a_price_is_checked() {
    check_price(json!({}), &[]);
    check_price(
        json!({"priority": 7, "recurring": "year", "due": {"statuses": [201, "4xx"], "on": "accepted"},
            "hold": {"from": "request", "pointer": ["/a", "/b"], "what": "count", "plus": "-1",
                "default": "0", "times": "2.5", "by": {"from": "request", "pointer": "/c"}, "cap": "9"},
            "charge": {"sum": [{"fixed": "1"}, {"from": "response", "pointer": "", "each": "/n",
                "per_million": "0.3"}]}}),
        &[],
    );
    check_price(
        json!({"priority": 1.5, "unit": "requests", "recurring": "weekly", "match": null,
            "due": {"statuses": [99, "6xx", "2x"]}, "hold": {"fixed": "-1", "cap": 5},
            "charge": {"from": "body", "pointer": "a", "times": "x", "extra": 1}}),
        &[
            "/charge/extra: unknown field `extra`",
            "/charge/from: unknown value `body`: expected `request`, `quote` or `response`",
            "/charge/pointer: is not a JSON pointer",
            "/charge/times: is not a decimal number such as `12.50`",
            "/due/statuses/0: expected 99 to be at least 100",
            "/due/statuses/1: expected a status, such as 201, or a class of them",
            "/due/statuses/2: expected a status, such as 201, or a class of them",
            "/hold/cap: expected a decimal in quotes",
            "/hold/fixed: is below zero",
            "/match: is required",
            "/priority: expected an integer",
            "/recurring: unknown value `weekly`: expected `once`, `month` or `year`",
            "/unit: needs no price: every call is one of the `requests`",
        ],
    );
}

#[test]
fn a_formula_says_one_thing() {
    let check = |hold: Value, expected: &[&str]| check_price(json!({"hold": hold}), expected);
    check(json!({}), &["/hold/from: is required", "/hold/pointer: is required"]);
    check(json!({"fixed": 5}), &["/hold/fixed: expected a decimal in quotes, such as \"5\""]);
    check(json!({"fixed": "1", "times": "2"}), &["/hold/times: unknown field `times`"]);
    check(
        json!({"fixed": "1", "from": "request", "pointer": ""}),
        &["/hold/from: excludes `fixed`: give one of them"],
    );
    check(json!({"sum": []}), &["/hold/sum: expected at least 1 items"]);
    check(json!({"sum": [{"fixed": "1"}], "fixed": "2"}), &["/hold/fixed: unknown field `fixed`"]);
    let read = |more: Value| over(json!({"from": "request", "pointer": "/a"}), more);
    check(
        read(json!({"times": "1", "per_million": "1"})),
        &["/hold/per_million: excludes `times`"],
    );
    check(read(json!({"what": "count", "each": "/b"})), &["/hold/each: excludes `what`"]);
    check(read(json!({"default": "-1"})), &["/hold/default: is below zero"]);
    check(read(json!({"times": "1e3"})), &["/hold/times: is not a decimal number"]);
    check(
        read(json!({"from": "response"})),
        &["/hold/from: cannot be read before the call leaves: expected `request` or `quote`"],
    );
}

#[test]
fn a_quote_is_a_read_that_something_is_read_from() {
    let check = |quote: Value, expected: &[&str]| {
        let hold = json!({"from": "quote", "pointer": "/a"});
        check_price(json!({"quote": quote, "hold": hold}), expected);
    };
    let domain_check = "/client/v4/accounts/{account_id}/registrar/domain-check";
    check(json!({"method": "POST", "path": domain_check, "body": {"domains": ["{/name}"]}}), &[]);
    check(json!({"path": "/own/prices"}), &[]);
    check(
        json!({"path": "/client/v4/accounts/{account}/x"}),
        &["/quote/path: has the parameter `account`: the priced calls have `account_id`"],
    );
    check(
        json!({"method": "POST", "path": "/client/v4/accounts/{account_id}/registrar/registrations"}),
        &["/quote/path: is `registrar.registrations.create`, which may change something"],
    );
    check(json!({"path": domain_check}), &["/quote/path: is no call of the API `cloudflare`"]);
    check(json!({"path": "/a?b=c"}), &["/quote/path: expected a path that begins with `/`"]);
    check(json!({"path": "/a/../b"}), &["/quote/path: is not a path that could be sent"]);
    check(json!({"path": "/a", "body": {}}), &["/quote/body: has no place in a GET"]);
    check(
        json!({"method": "DELETE", "path": "/a", "body": ["{/~}"]}),
        &[
            "/quote/body/0: is not a JSON pointer in braces",
            "/quote/method: unknown value `DELETE`",
        ],
    );
    check_price(json!({"quote": {"path": "/a"}}), &["/quote: is asked for nothing"]);
    check_price(
        json!({"hold": {"from": "quote", "pointer": ""}}),
        &["/quote: is required: something is read `from` it"],
    );
    check_price(
        json!({"match": {}, "quote": {"path": "/{id}"}, "hold": {"from": "quote", "pointer": ""}}),
        &["/quote/path: has the parameter `id`, but `match` names no `operations`"],
    );
}
