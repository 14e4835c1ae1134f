//! Laws of prices: exact, never free by accident, and never more than was asked for.

use http::Method;
use model::{Amount, PriceId, Unit};
use proptest::prelude::*;

use super::{
    Decimal, Due, Estimate, Evidence, Formula, Needs, Piece, Pointer, Price, Quote, QuoteCall,
    Read, Recurring, Source, Tariff, Term, What,
};
use crate::operation::{Api, Found};
use crate::selector::Selector;
use crate::target::Target;
use std::sync::Arc;

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

fn usd() -> Unit {
    Unit::parse("USD").unwrap()
}

fn dollars(text: &str) -> Amount {
    Amount::parse(text, &usd()).unwrap()
}

fn read(from: Source, pointer: &str) -> Read {
    let pointers = vec![Pointer::parse(pointer).unwrap()];
    Read { from, pointers, what: What::Number, plus: Decimal::ZERO, default: None }
}

fn term(factor: &str, reads: Vec<Read>) -> Term {
    Term { factor: decimal(factor), reads }
}

/// A price of dollars that holds this, with this cap, and charges that.
fn price(hold: Vec<Term>, cap: Option<&str>, charge: Option<Vec<Term>>) -> Price {
    Price {
        id: PriceId::new("p"),
        selector: Selector::default(),
        priority: 0,
        unit: usd(),
        hold: Estimate { formula: Formula(hold), cap: cap.map(dollars) },
        charge: charge.map(Formula),
        quote: None,
        due: Due::default(),
        recurring: Recurring::Once,
    }
}

/// What a call with this body holds.
#[track_caller]
fn check_hold(price: Price, request: Option<&str>, expected: Option<&str>) {
    let evidence = Evidence { request: request.map(str::as_bytes), quotes: &[] };
    let held = Tariff::new(&Arc::new(price), &evidence).ok().map(|tariff| tariff.held());
    assert_eq!(held, expected.map(dollars), "{request:?}");
}

fn by_tokens(cap: Option<&str>) -> Price {
    price(vec![term("0.000015", vec![read(Source::Request, "/max_tokens")])], cap, None)
}

#[test]
fn a_fixed_price_needs_to_know_nothing() {
    let fixed = price(vec![term("10.44", vec![])], None, None);
    assert_eq!(fixed.needs(), Needs::default());
    check_hold(fixed, None, Some("10.44"));
}

#[test]
fn a_hold_follows_the_request_up_to_its_cap() {
    assert_eq!(by_tokens(None).needs(), Needs { request: true, quote: false });
    check_hold(by_tokens(None), Some(r#"{"max_tokens":1000}"#), Some("0.015"));
    check_hold(by_tokens(Some("0.01")), Some(r#"{"max_tokens":1000}"#), Some("0.01"));
    check_hold(by_tokens(Some("0.02")), Some(r#"{"max_tokens":1000}"#), Some("0.015"));
}

#[test]
fn what_cannot_be_known_is_refused_or_holds_the_cap() {
    let unknown = [
        None,
        Some(""),
        Some("{}"),
        Some("{"),
        Some(r#"{"max_tokens":-1}"#),
        Some(r#"{"max_tokens":"many"}"#),
        Some(r#"{"max_tokens":1e80}"#),
        Some(r#"{"max_tokens":1e29}"#),
        Some(r#"{"max_tokens":1,"max_tokens":9}"#),
    ];
    for request in unknown {
        check_hold(by_tokens(None), request, None);
        check_hold(by_tokens(Some("0.5")), request, Some("0.5"));
    }
}

#[test]
fn a_default_stands_in_for_what_is_absent_and_for_nothing_else() {
    let with_default = || {
        let years = Read {
            plus: decimal("-1"),
            default: Some(Decimal::ZERO),
            ..read(Source::Request, "/years")
        };
        price(vec![term("8", vec![]), term("9", vec![years])], None, None)
    };
    check_hold(with_default(), Some("{}"), Some("8"));
    check_hold(with_default(), Some(r#"{"years":null}"#), Some("8"));
    check_hold(with_default(), Some(r#"{"years":3}"#), Some("26"));
    for wrong in ["", "{", r#"{"years":0}"#, r#"{"years":"x"}"#, r#"{"years":1,"years":1}"#] {
        check_hold(with_default(), Some(wrong), None);
    }
}

/// A price of tokens as language models have it: 5 USD held, 3 and 15 USD for a million.
fn model_price(cached: bool) -> Price {
    let mut charge = vec![
        term("0.000003", vec![read(Source::Response, "/usage/in")]),
        term("0.000015", vec![read(Source::Response, "/usage/out")]),
    ];
    if cached {
        let read = Read { default: Some(Decimal::ZERO), ..read(Source::Response, "/usage/cached") };
        charge.push(term("-0.000002", vec![read]));
    }
    price(vec![term("5", vec![])], None, Some(charge))
}

/// What a call is charged whose answer has this body, or streams these events.
#[track_caller]
fn check_charge(price: Price, status: u16, bodies: &[&str], expected: &str) {
    let mut tariff = Tariff::new(&Arc::new(price), &Evidence::default()).unwrap();
    match bodies {
        [body] => tariff.hear(body.as_bytes()),
        events => events.iter().for_each(|event| tariff.hear_event(event.as_bytes())),
    }
    assert_eq!(tariff.cost(status), dollars(expected), "{status} {bodies:?}");
}

#[test]
fn a_charge_is_what_the_answer_says() {
    check_charge(model_price(false), 200, &[r#"{"usage":{"in":1000,"out":"100"}}"#], "0.0045");
    check_charge(model_price(true), 200, &[r#"{"usage":{"in":1000,"out":0}}"#], "0.003");
    let cached = r#"{"usage":{"in":1000,"out":0,"cached":1000}}"#;
    check_charge(model_price(true), 200, &[cached], "0.001");
}

#[test]
fn a_charge_is_rounded_up_once() {
    check_charge(model_price(false), 200, &[r#"{"usage":{"in":0.1,"out":0.01}}"#], "0.000001");
    check_charge(model_price(false), 200, &[r#"{"usage":{"in":0,"out":0}}"#], "0");
}

#[test]
fn an_answer_that_does_not_say_its_cost_is_charged_what_was_held() {
    let unclear = [
        "",
        "{}",
        "no json",
        r#"{"usage":{"in":1000}}"#,
        r#"{"usage":{"in":1000,"out":-5}}"#,
        r#"{"usage":{"in":1000,"out":true}}"#,
        r#"{"usage":{"in":1000,"out":5,"cached":true}}"#,
        r#"{"usage":{"in":0,"out":0,"cached":7}}"#,
        r#"{"usage":{"in":1000,"out":5}"#,
    ];
    for body in unclear {
        check_charge(model_price(true), 200, &[body], "5");
    }
    check_charge(model_price(true), 200, &[], "5");
}

#[test]
fn the_last_event_that_names_a_number_counts() {
    let start = r#"{"type":"start","usage":{"in":1000,"out":1}}"#;
    let delta = r#"{"usage":null}"#;
    let last = r#"{"usage":{"out":100}}"#;
    check_charge(model_price(true), 200, &[start, delta, last, "[DONE]"], "0.0045");
    check_charge(model_price(true), 200, &[delta, "[DONE]"], "5");
}

#[test]
fn nothing_is_due_for_a_refused_call_and_something_for_a_broken_one() {
    let body = r#"{"usage":{"in":1000,"out":100}}"#;
    for status in [200, 201, 299, 500, 503] {
        check_charge(model_price(false), status, &[body], "0.0045");
    }
    for status in [100, 302, 400, 409, 429, 499] {
        check_charge(model_price(false), status, &[body], "0");
    }
    // What is spoken then says nothing of a cost: it is what was held.
    check_charge(model_price(false), 101, &[], "5");
    let free_errors = Price { due: Due { statuses: vec![(200, 200)] }, ..model_price(false) };
    check_charge(free_errors.clone(), 201, &[body], "0");
    check_charge(free_errors, 500, &[body], "0");
}

/// The price of a domain, as a registrar quotes it.
fn domain() -> Price {
    let further = Read {
        plus: decimal("-1"),
        default: Some(Decimal::ZERO),
        ..read(Source::Request, "/years")
    };
    let hold = vec![
        term("1", vec![read(Source::Quote, "/price")]),
        term("1", vec![read(Source::Quote, "/renewal"), further]),
    ];
    let piece = |text: &str| Piece::Text(Arc::from(text));
    let slot = Piece::Slot(Pointer::parse("/name").unwrap());
    let quote = Quote {
        method: Method::POST,
        path: vec![piece("/accounts/"), Piece::Slot("account_id"), piece("/check")],
        body: Some(vec![Piece::Text(Arc::from("[")), slot, Piece::Text(Arc::from("]"))]),
        currency: Some(Pointer::parse("/currency").unwrap()),
    };
    Price { quote: Some(quote), ..price(hold, None, None) }
}

#[track_caller]
fn check_quoted(answer: &str, request: &str, expected: Option<&str>) {
    let quotes = [(PriceId::new("p"), answer.as_bytes().to_vec())];
    let evidence = Evidence { request: Some(request.as_bytes()), quotes: &quotes };
    let held = Tariff::new(&Arc::new(domain()), &evidence).ok().map(|tariff| tariff.held());
    assert_eq!(held, expected.map(dollars), "{answer} {request}");
}

#[test]
fn a_quote_is_worth_what_it_says_in_the_price_s_own_unit() {
    let answer = r#"{"price":"8.57","renewal":"10.44","currency":"USD"}"#;
    check_quoted(answer, "{}", Some("8.57"));
    check_quoted(answer, r#"{"years":3}"#, Some("29.45"));
    check_quoted(r#"{"price":"8.57","renewal":"1","currency":"EUR"}"#, "{}", None);
    check_quoted(r#"{"price":"8.57","renewal":"1"}"#, "{}", None);
    check_quoted(r#"{"renewal":"1","currency":"USD"}"#, "{}", None);
    check_quoted("", "{}", None);
    assert_eq!(domain().needs(), Needs { request: true, quote: true });
}

/// The quote of a call, by its path and its body.
fn quoted(path: &str, body: &str) -> Option<QuoteCall> {
    let target = Target::parse(&path.parse().unwrap()).unwrap();
    let call = Found::new(Api::Cloudflare, "POST", &target).of("POST", &target).call();
    domain().quote.unwrap().call(call.as_ref(), Some(body.as_bytes()))
}

#[test]
fn a_quote_s_call_is_filled_in_from_the_priced_one() {
    let account = "0123456789abcdef0123456789abcdef";
    let path = format!("/client/v4/accounts/{account}/registrar/registrations");
    let expected = QuoteCall {
        method: Method::POST,
        path: format!("/accounts/{account}/check"),
        body: Some(r#"["a\",\"b"]"#.to_owned()),
    };
    assert_eq!(quoted(&path, r#"{"name":"a\",\"b"}"#), Some(expected));
    assert_eq!(quoted(&path, "{}"), None);
    assert_eq!(quoted(&path, r#"{"name":1,"name":2}"#), None);
    assert_eq!(quoted("/client/v4/user", r#"{"name":"a"}"#), None);
}

#[test]
fn one_price_of_each_unit_counts() {
    let of = |id: &str, unit: &str, priority| {
        Arc::new(Price {
            id: PriceId::new(id),
            unit: Unit::parse(unit).unwrap(),
            priority,
            ..model_price(false)
        })
    };
    let all = [of("b", "USD", 0), of("a", "USD", 0), of("z", "USD", 1), of("t", "tokens", -1)];
    let counting = |all: &[Arc<Price>]| -> Vec<String> {
        Price::counting(all.iter()).iter().map(|price| price.id.as_str().to_owned()).collect()
    };
    assert_eq!(counting(&all), ["z", "t"]);
    assert_eq!(counting(&all[..2]), ["a"]);
}

proptest! {
    #[test]
    fn tokens_are_charged_to_the_part(tokens in 0_u64..1_000_000_000_000, millionths in 0_u64..1_000_000) {
        // A price of so many millionths of a dollar for a million.
        let factor = format!("{millionths}e-12");
        let charge = vec![term(&factor, vec![read(Source::Response, "/t")])];
        let mut tariff =
            Tariff::new(&Arc::new(price(vec![], None, Some(charge))), &Evidence::default()).unwrap();
        tariff.hear(format!(r#"{{"t":{tokens}}}"#).as_bytes());
        let exact = (u128::from(tokens) * u128::from(millionths)).div_ceil(1_000_000);
        prop_assert_eq!(u128::try_from(tariff.cost(200).parts()).unwrap(), exact);
    }

    #[test]
    fn no_answer_makes_a_call_free_unless_it_says_so(body in any::<Vec<u8>>(), text in "[\\[{\":a-z0-9,}\\]]{0,24}") {
        for answer in [body, text.into_bytes()] {
            let mut tariff =
                Tariff::new(&Arc::new(model_price(true)), &Evidence::default()).unwrap();
            tariff.hear(&answer);
            tariff.hear_event(&answer);
            prop_assert_eq!(tariff.cost(200), dollars("5"));
        }
    }

    #[test]
    fn no_hold_is_above_its_cap(tokens in "-?[0-9]{1,40}(\\.[0-9]{1,20})?(e-?[0-9]{1,3})?") {
        let request = format!(r#"{{"max_tokens":{tokens}}}"#);
        let evidence = Evidence { request: Some(request.as_bytes()), quotes: &[] };
        let tariff = Tariff::new(&Arc::new(by_tokens(Some("0.5"))), &evidence).unwrap();
        prop_assert!(tariff.held() <= dollars("0.5") && tariff.held() >= Amount::ZERO);
    }
}
