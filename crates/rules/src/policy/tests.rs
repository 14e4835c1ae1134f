//! The laws of policies.

use http::HeaderMap;
use model::{AgentId, Identity, OrganisationId, TeamId, Timestamp};

use super::{Asked, Decision, Judged, Knowledge, Memory, Policies, PolicyText, Zone};
use crate::fact::Facts;
use crate::fact::sample::Sample;
use crate::operation::{Api, Found};

mod equivalence;
mod organisation;

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const OTHER: &str = "00000000000000000000000000000001";

pub(super) fn policies(text: &str) -> Policies {
    let parsed = PolicyText::parse("p", text).unwrap_or_else(|flaws| panic!("{flaws:#?}"));
    let zone = Zone { name: "example.com".into(), id: ZONE.into(), account: Some(OTHER.into()) };
    Policies::new(parsed.policies, &[zone])
}

pub(super) fn agent(name: &str, team: &str) -> Identity {
    Identity {
        organisation: OrganisationId::new("acme"),
        team: Some(TeamId::new(team)),
        agent: AgentId::new(name),
        run: None,
        credential: None,
    }
}

/// What is asked, with a body.
pub(super) struct Ask<'a> {
    pub(super) who: Option<Identity>,
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) body: &'a str,
    pub(super) price: Option<&'a str>,
    pub(super) headers: HeaderMap,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            who: Some(agent("alice", "dns")),
            method: "GET",
            path: "/zones",
            body: "",
            price: None,
            headers: HeaderMap::new(),
        }
    }
}

/// The decision as `permit p/0`, `refuse`, `ask finance p/1`, or why something is unreadable.
pub(super) fn decide(policies: &Policies, memory: &mut Memory, ask: &Ask<'_>) -> String {
    let mut sample = Sample::new(&format!("/client/v4{}", ask.path));
    sample.headers = ask.headers.clone();
    let facts = Facts { identity: ask.who.as_ref(), ..sample.facts() };
    let found = Found::new(Api::Cloudflare, ask.method, &sample.target);
    let asked = Asked {
        facts: &facts,
        is_proven: ask.who.is_some(),
        method: ask.method,
        target: &sample.target,
        call: Some(found.of(ask.method, &sample.target)),
        api: Some(Api::Cloudflare),
        upstream: "cloudflare",
    };
    let prices: Vec<_> =
        ask.price.iter().map(|price| ("USD".to_owned(), (*price).to_owned())).collect();
    // Noon of 2025-07-01.
    let now = Timestamp::from_secs(1_751_371_200);
    let known = Knowledge { now, body: ask.body.as_bytes(), prices: &prices };
    let verdict = match policies.judge(memory, &asked) {
        Judged::Now(verdict) => (*verdict).clone(),
        Judged::Open(open) => match open.decide(&asked, &known) {
            Ok(verdict) => verdict,
            Err(why) => return why.to_string(),
        },
    };
    let mut told = told(&verdict.decision);
    if let Some(shadow) = &verdict.shadow {
        told += &format!("; shadow {}", self::told(shadow));
    }
    told
}

fn told(decision: &Decision) -> String {
    let mut words = vec![decision.as_str().to_owned()];
    if let Decision::Ask { group: Some(group), .. } = decision {
        words.push(group.to_string());
    }
    words.extend(decision.policy().map(ToString::to_string));
    words.join(" ")
}

#[track_caller]
fn check(text: &str, ask: &Ask<'_>, expected: &str) {
    let policies = policies(text);
    let mut memory = Memory::default();
    // The second time it is remembered.
    for turn in ["first", "second"] {
        let found = decide(&policies, &mut memory, ask);
        assert_eq!(found, expected, "{turn}: {text} {} {}", ask.method, ask.path);
    }
}

#[track_caller]
fn check_call(text: &str, (method, path): (&'static str, &str), expected: &str) {
    check(text, &Ask { method, path, ..Ask::default() }, expected);
}

#[track_caller]
fn check_body(text: &str, body: &str, expected: &str) {
    let path = format!("/zones/{ZONE}/dns_records");
    check(text, &Ask { method: "POST", path: &path, body, ..Ask::default() }, expected);
}

#[track_caller]
fn check_flaws(text: &str, expected: &[&str]) {
    let found = PolicyText::parse("p", text).map(|_| ()).unwrap_err();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}\n  lacks\n{expected}");
    }
}

const ALL: &str = "permit (principal, action, resource);";

#[test]
fn nothing_is_permitted_unless_a_policy_permits_it() {
    check_call("", ("GET", "/zones"), "refuse");
    check_call(ALL, ("GET", "/zones"), "permit p/0");
}

#[test]
fn forbid_wins_over_ask_and_ask_over_permit() {
    let ask = r#"@ask("finance") permit (principal, action, resource);"#;
    check_call(&format!("{ALL}{ask}"), ("GET", "/zones"), "ask finance p/1");
    let no = "@id(\"no\") forbid (principal, action, resource);";
    check_call(&format!("{ALL}{ask}{no}"), ("GET", "/zones"), "refuse p/no");
}

#[test]
fn an_agent_is_in_its_team_and_its_team_in_the_organisation() {
    for (scope, expected) in [
        (r#"principal == Agent::"alice""#, "permit p/0"),
        (r#"principal in Team::"dns""#, "permit p/0"),
        (r#"principal is Agent in Organisation::"acme""#, "permit p/0"),
        (r#"principal == Agent::"bob""#, "refuse"),
        (r#"principal in Team::"web""#, "refuse"),
        ("principal is Anonymous", "refuse"),
    ] {
        check_call(&format!("permit ({scope}, action, resource);"), ("GET", "/zones"), expected);
    }
    let nobody = Ask { who: None, ..Ask::default() };
    check("permit (principal is Anonymous, action, resource);", &nobody, "permit p/0");
    check("permit (principal is Agent, action, resource);", &nobody, "refuse");
}

#[test]
fn a_zone_is_its_id_in_its_name_and_its_account() {
    let own = format!("/zones/{ZONE}/dns_records");
    let upper = own.replace("e105f4ecef8ad9ca31a8372d0c", "E105F4ECEF8AD9CA31A8372D0C");
    let other = format!("/zones/{OTHER}/dns_records");
    for scope in [
        r#"resource in Zone::"example.com""#.to_owned(),
        format!(r#"resource == Zone::"{ZONE}""#),
        format!(r#"resource in Account::"{OTHER}""#),
    ] {
        let text = format!("permit (principal, action, {scope});");
        check_call(&text, ("GET", &own), "permit p/0");
        check_call(&text, ("GET", &other), "refuse");
        // Whichever the catalogue says, it is not another zone's.
        let policies = policies(&text);
        let ask = Ask { path: &upper, ..Ask::default() };
        let found = decide(&policies, &mut Memory::default(), &ask);
        assert!(["permit p/0", "ask"].contains(&&*found), "{found}");
    }
    check_call(
        r#"permit (principal, action, resource in Api::"cloudflare");"#,
        ("GET", &own),
        "permit p/0",
    );
}

#[test]
fn an_action_is_in_its_products_and_tags() {
    let path = format!("/zones/{ZONE}");
    for (action, expected) in [
        (r#"action == Action::"zones.delete""#, "permit p/0"),
        (r#"action in Action::"zones""#, "permit p/0"),
        (r#"action in [Action::"dns", Action::"danger:irreversible"]"#, "permit p/0"),
        (r#"action in Action::"effect:write""#, "permit p/0"),
        (r#"action in Action::"effect:read""#, "refuse"),
        (r#"action in Action::"dns""#, "refuse"),
    ] {
        check_call(
            &format!("permit (principal, {action}, resource);"),
            ("DELETE", &path),
            expected,
        );
    }
    let unless = r#"permit (principal, action, resource) unless { action in Action::"zones" };"#;
    check_call(unless, ("DELETE", &path), "refuse");
    check_call(unless, ("GET", "/accounts"), "permit p/0");
}

#[test]
fn unknown_calls_have_a_class_of_their_own() {
    let (read, write) = (("GET", "/nowhere"), ("POST", "/nowhere"));
    check_call(ALL, read, "ask");
    check_call(ALL, write, "refuse");
    let named = r#"permit (principal, action in Action::"unknown", resource);"#;
    check_call(named, read, "permit p/0");
    check_call(named, write, "permit p/0");
    let reads = r#"permit (principal, action == Action::"unknown:read", resource);"#;
    check_call(reads, read, "permit p/0");
    check_call(reads, write, "refuse");
    let forbidden = r#"forbid (principal, action in Action::"effect:write", resource);"#;
    check_call(&format!("{named}{forbidden}"), write, "refuse p/1");
    check_call(&format!("{ALL}forbid (principal, action, resource);"), read, "refuse p/1");
    let of_zone = format!("/zones/{ZONE}/nowhere");
    let fenced = r#"forbid (principal, action, resource in Zone::"example.com");"#;
    check_call(&format!("{named}{fenced}"), ("POST", &of_zone), "refuse p/1");
    check(ALL, &Ask { who: None, path: "/nowhere", ..Ask::default() }, "refuse");
}

#[test]
fn a_body_is_read_as_it_is_used() {
    let text = r#"permit (principal, action, resource)
        unless { context.body has type && context.body.type == "MX" };"#;
    check_body(text, r#"{"type":"A"}"#, "permit p/0");
    check_body(text, r#"{"type":"MX"}"#, "refuse");
    check_body(text, "", "permit p/0");
    check_body(text, r#"{"type":1}"#, "`type` in the body is not a text");
    check_body(text, "type=MX", "the body is not JSON");
    let nested = r#"permit (principal, action, resource) when {
        context.body has data.priority && context.body.data.priority > 5 &&
        context.body has tags && context.body.tags.contains("a") &&
        context.body has content && context.body.content.isInRange(ip("10.0.0.0/8")) };"#;
    let body = r#"{"data":{"priority":6},"tags":["b","a"],"content":"10.1.2.3"}"#;
    check_body(nested, body, "permit p/0");
    check_body(nested, &body.replace("10.1", "11.1"), "refuse");
}

#[test]
fn two_policies_may_read_one_member_in_two_ways() {
    let text = r#"
        permit (principal, action, resource) when { context.body has n && context.body.n == 1 };
        forbid (principal, action, resource) when { context.body has n && context.body has m };"#;
    check_body(text, r#"{"n":1}"#, "permit p/0");
    check_body(text, r#"{"n":1,"m":null}"#, "refuse p/1");
    check_body(text, r#"{"n":"1"}"#, "`n` in the body is not a number");
}

#[test]
fn a_forbid_without_conditions_reads_no_body() {
    let text = r#"
        permit (principal, action, resource) when { context.body has n && context.body.n == 1 };
        forbid (principal, action, resource);"#;
    check_body(text, "no json", "refuse p/1");
    let text = r#"
        forbid (principal, action, resource) when { context.body has n && context.body.n == 1 };"#;
    check_body(text, "no json", "refuse");
}

#[test]
fn what_else_is_in_the_context_is_what_was_sent() {
    let text = r#"permit (principal, action == Action::"dns.records.list", resource) when {
        context.method == "GET" && context.path like "/client/v4/zones/*" &&
        context.parameters.zone_id like "0*" &&
        context.client.isInRange(ip("192.0.2.0/24")) &&
        context.now > datetime("2025-01-01") && context.now < datetime("2026-01-01") &&
        context.query has type && context.query.type == "A B" &&
        context.headers has "x-a" && context.headers["x-a"] == "1" };"#;
    let headers = || HeaderMap::from_iter([("x-a".parse().unwrap(), "1".parse().unwrap())]);
    let path = format!("/zones/{ZONE}/dns_records?t%79pe=A+%42");
    check(text, &Ask { path: &path, headers: headers(), ..Ask::default() }, "permit p/0");
    let twice = format!("{path}&type=MX");
    let said = "the query names `type` more than once, or not in text";
    check(text, &Ask { path: &twice, headers: headers(), ..Ask::default() }, said);
    let mut double = headers();
    double.append("x-a", "2".parse().unwrap());
    let said = "the header `x-a` stands more than once, or is not text";
    check(text, &Ask { path: &path, headers: double, ..Ask::default() }, said);
}

#[test]
fn a_price_is_compared_as_a_decimal() {
    let text = r#"
        permit (principal, action, resource) when
            { context.price has USD && context.price.USD.lessThanOrEqual(decimal("15.00")) };
        @ask("finance") permit (principal, action, resource) when
            { context.price has USD && context.price.USD.greaterThan(decimal("15.00")) };"#;
    for (price, expected) in
        [(Some("15"), "permit p/0"), (Some("15.01"), "ask finance p/1"), (None, "refuse")]
    {
        check(text, &Ask { price, ..Ask::default() }, expected);
    }
}

#[test]
fn a_shadow_is_told_and_not_obeyed() {
    let no = "@shadow forbid (principal, action, resource);";
    check_call(&format!("{ALL}{no}"), ("GET", "/zones"), "permit p/0; shadow refuse p/1");
    let yes = "@shadow permit (principal, action, resource);";
    check_call(yes, ("GET", "/zones"), "refuse; shadow permit p/0");
    check_call(&format!("{ALL}{yes}"), ("GET", "/zones"), "permit p/0");
}

#[test]
fn a_policy_that_cannot_be_evaluated_permits_nothing() {
    let text = r#"permit (principal, action, resource);
        forbid (principal, action, resource) when
            { context.body has n && context.body.n * 9223372036854775807 == 4 };"#;
    check_body(text, r#"{"n":2}"#, "failed p/1");
    check_body(text, r#"{"n":0}"#, "permit p/0");
}

#[test]
fn an_agent_that_changes_its_team_is_judged_anew() {
    let policies = policies(r#"permit (principal in Team::"dns", action, resource);"#);
    let mut memory = Memory::default();
    for (team, expected) in [("dns", "permit p/0"), ("web", "refuse"), ("dns", "permit p/0")] {
        let ask = Ask { who: Some(agent("alice", team)), ..Ask::default() };
        assert_eq!(decide(&policies, &mut memory, &ask), expected);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    check_flaws("permit (principal, action, resource)", &["line 1:37: unexpected end of input"]);
    check_flaws(
        "permit (principal,\n  action == Action::\"dns.record.delete\", resource);",
        &["line 2:21: there is no action `dns.record.delete`; did you mean `dns.records.delete`?"],
    );
    check_flaws(
        "\npermit (principal, action, resource) when { context.bdy has x };",
        &["line 2:45"],
    );
    check_flaws(
        "permit (principal is Robot, action, resource);",
        &["line 1:22: unrecognized entity"],
    );
    check_flaws(
        "permit (principal, action, resource) when { context.body.n == 1 };",
        &["`context.body has n && ..`"],
    );
    check_flaws(
        "permit (principal, action, resource) when
            { context.body has n && (context.body.n == 1 || context.body.n == \"x\") };",
        &["`context.body.n` is used as number and as text"],
    );
    check_flaws(
        r#"permit (principal, action, resource == Zone::"example.com");"#,
        &[r#"write `in Zone::"example.com"`"#],
    );
    check_flaws("@reasn(\"x\") permit (principal, action, resource);", &["no annotation `@reasn`"]);
    check_flaws(
        "@ask forbid (principal, action, resource);",
        &["names the group", "on a permit only"],
    );
    check_flaws("permit (principal == ?principal, action, resource);", &["templates"]);
    check_flaws(
        r#"@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);"#,
        &["`p/a` is the id of another policy, too"],
    );
    check_flaws(
        r#"permit (principal, action, resource) when { context.headers has "X-A" };"#,
        &["names in lower case"],
    );
    check_flaws(
        r#"permit (principal, action, resource) when { context.body == {} };"#,
        &["`context.body` can be read member by member only"],
    );
}

#[test]
fn a_policy_that_can_never_apply_is_a_fault() {
    check_flaws(
        r#"forbid (principal == Team::"dns", action, resource);"#,
        &["policy is impossible"],
    );
    check_flaws(
        r#"forbid (principal, action == Action::"zones.delete", resource is Account);"#,
        &["policy is impossible"],
    );
}

#[test]
fn a_parameter_that_a_call_always_has_needs_no_question() {
    let one = r#"permit (principal, action == Action::"dns.records.delete", resource)
        when { context.parameters.dns_record_id == "x" };"#;
    assert!(PolicyText::parse("p", one).is_ok());
    check_flaws(&one.replace("dns_record_id", "record_id"), &["did you mean `dns_record_id`?"]);
    check_flaws(
        &one.replace("== Action::\"dns.records.delete\"", "in Action::\"dns\""),
        &["attribute `parameters.dns_record_id`"],
    );
}
