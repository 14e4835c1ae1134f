//! What a decision by policy costs with 1,000 policies of 12 teams.
//!
//! `cargo bench -p rules --profile e2e --bench policy` prints nanoseconds a decision: remembered,
//! found out anew, with a body; beside Cedar alone with all 1,000; and how long they take to read.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::str::FromStr as _;

use cedar_policy::{Authorizer, Context, Entities, EntityUid, PolicySet, Request};
use http::HeaderMap;
use http::uri::PathAndQuery;
use model::{AgentId, Clock as _, Identity, OrganisationId, Protocol, RequestId, Scheme, TeamId};
use model::{SystemClock, Timestamp};
use rules::fact::Facts;
use rules::operation::{Api, Found};
use rules::policy::{Asked, Judged, Knowledge, Memory, Policies, PolicyText};
use rules::target::Target;

fn main() {
    let clock = SystemClock::start();
    let text = text();
    let start = clock.uptime();
    let parsed = PolicyText::parse("p", &text).unwrap();
    let count = parsed.policies.len();
    let policies = Policies::new(parsed.policies, &[]);
    println!("read and judged: {count} policies in {} ms", start_to(clock, start) / 1_000);
    let identity = Identity {
        organisation: OrganisationId::new("acme"),
        team: Some(TeamId::new("team-7")),
        agent: AgentId::new("agent-7"),
        run: None,
        credential: None,
    };
    let headers = HeaderMap::new();
    let (list, create) = (target("dns_records"), target("dns_records"));
    let settings: Vec<Target> = (0..64).map(|_| target("settings/ssl")).collect();
    let bench = Bench { clock, policies: &policies, identity: &identity, headers: &headers };
    let mut memory = Memory::default();
    bench.run("remembered", ("GET", &list), &mut |asked| {
        let Judged::Now(verdict) = policies.judge(&mut memory, asked) else { unreachable!() };
        black_box(verdict);
    });
    bench.run("found out anew", ("GET", &list), &mut |asked| {
        black_box(policies.judge(&mut Memory::default(), asked));
    });
    let mut memory = Memory::default();
    let body = br#"{"type":"A","name":"www","content":"192.0.2.1","ttl":300,"proxied":true}"#;
    let known = Knowledge { now: Timestamp::from_secs(1), body, prices: &[] };
    bench.run("with a body", ("POST", &create), &mut |asked| {
        let Judged::Open(open) = policies.judge(&mut memory, asked) else { unreachable!() };
        black_box(open.decide(asked, &known).unwrap());
    });
    let mut memory = Memory::default();
    bench.run("reading the path", ("PATCH", settings.first().unwrap()), &mut |asked| {
        let Judged::Open(open) = policies.judge(&mut memory, asked) else { unreachable!() };
        black_box(open.decide(asked, &known).unwrap());
    });
    alone(clock, &text);
}

/// Cedar with all policies and the few entities of one request.
fn alone(clock: SystemClock, text: &str) {
    let set = PolicySet::from_str(text).unwrap();
    let uid = |text: &str| EntityUid::from_str(text).unwrap();
    let entities = r#"[
        {"uid":{"type":"Agent","id":"agent-7"},"attrs":{},"parents":[{"type":"Team","id":"team-7"}]},
        {"uid":{"type":"Action","id":"dns.records.list"},"attrs":{},
         "parents":[{"type":"Action","id":"dns"},{"type":"Action","id":"effect:read"}]}]"#;
    let entities = Entities::from_json_str(entities, None).unwrap();
    let request = Request::new(
        uid("Agent::\"agent-7\""),
        uid("Action::\"dns.records.list\""),
        uid("Zone::\"0123456789abcdef0123456789abcdef\""),
        Context::empty(),
        None,
    );
    let request = request.unwrap();
    let authorizer = Authorizer::new();
    let start = clock.uptime();
    for _ in 0..100 {
        black_box(authorizer.is_authorized(&request, &set, &entities));
    }
    println!("Cedar alone: {} ns a decision", start_to(clock, start) * 10);
}

struct Bench<'a> {
    clock: SystemClock,
    policies: &'a Policies,
    identity: &'a Identity,
    headers: &'a HeaderMap,
}

impl Bench<'_> {
    /// Prints the median of many rounds.
    fn run(&self, what: &str, call: (&str, &Target), decide: &mut dyn FnMut(&Asked<'_>)) {
        let (method, target) = call;
        let address = "192.0.2.7:4711".parse().unwrap();
        let facts = Facts {
            request_id: RequestId(1),
            client: address,
            server: address,
            scheme: Scheme::Https,
            protocol: Protocol::Http2,
            method,
            host: "gate",
            host_header: "gate",
            target,
            headers: self.headers,
            route: None,
            identity: Some(self.identity),
            call: None,
        };
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let start = self.clock.uptime();
            for _ in 0..DECISIONS {
                let found = Found::new(Api::Cloudflare, method, target);
                decide(&Asked {
                    facts: &facts,
                    is_proven: true,
                    method,
                    target,
                    call: Some(found.of(method, target)),
                    api: Some(Api::Cloudflare),
                    upstream: "cloudflare",
                });
            }
            times.push(start_to(self.clock, start) * 1_000 / DECISIONS);
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).unwrap();
        println!("{what}: {median} ns a decision, of {} policies", self.policies.all().len());
    }
}

/// Microseconds since then.
fn start_to(clock: SystemClock, start: model::Uptime) -> u64 {
    clock.uptime().as_micros() - start.as_micros()
}

fn target(rest: &str) -> Target {
    let path = format!("/client/v4/zones/0123456789abcdef0123456789abcdef/{rest}");
    Target::from_path_and_query(PathAndQuery::try_from(path).unwrap()).unwrap()
}

/// 1,000 policies: each team has three, and each of its agents two.
fn text() -> String {
    let mut text = String::new();
    for team in 0..12 {
        write!(
            text,
            r#"permit (principal in Team::"team-{team}", action in Action::"effect:read", resource);
            permit (principal in Team::"team-{team}", action == Action::"dns.records.create", resource)
                unless {{ context.body has type && context.body.type == "MX" }};
            forbid (principal in Team::"team-{team}", action in Action::"zones.settings", resource)
                when {{ context.path like "*/never" }};"#
        )
        .unwrap();
    }
    for agent in 0..482 {
        write!(
            text,
            r#"permit (principal == Agent::"agent-{agent}", action in Action::"zones.settings", resource);
            forbid (principal == Agent::"agent-{agent}", action == Action::"zones.delete", resource);"#
        )
        .unwrap();
    }
    text
}

const ROUNDS: usize = 15;
const DECISIONS: u64 = 2_000;
