//! Laws of the quota: no window holds more, turns are fair, nothing idles while somebody waits.

use proptest::prelude::*;

use super::{
    Blocked, Class, Duration, Edition, Flow, Grant, Join, Leave, NEVER, News, Past, Principal,
    Probe, Report, Ring, Room, Rule, Said, Step,
};

mod change;
mod fair;
mod feedback;
mod place;
mod window;

/// Ten calls in two seconds, in slots of ten milliseconds.
fn rule() -> Rule {
    Rule::new(10, Duration::from_secs(2), 3, 0, Duration::from_secs(5))
}

/// A call of an agent.
fn join(seq: u64, agent: &str, weight: u64) -> Join {
    let flow = Flow { class: Class::Automation, agent: agent.into() };
    Join { seq, flow, weight, patience: 60_000, room: Room { agent: 100, class: 5_000 } }
}

/// The same call, of another class.
fn of_class(class: Class, join: Join) -> Join {
    Join { flow: Flow { class, ..join.flow }, ..join }
}

/// Calls of `a` that hang up.
fn leaves(seqs: &[u64]) -> News {
    let leave = |seq: &u64| Leave { seq: *seq, flow: join(*seq, "a", 1).flow, asks: false };
    News { leaves: seqs.iter().map(leave).collect(), ..News::default() }
}

fn joins(joins: Vec<Join>) -> News {
    News { joins, ..News::default() }
}

fn report(number: u64, said: Said) -> News {
    News { reports: vec![Report { number, probe: Probe::None, said }], ..News::default() }
}

/// One node alone at an upstream, and the calls that went.
struct Bench {
    rule: Rule,
    /// Of the document that the rule was read from.
    revision: u64,
    principal: Principal,
    now: u64,
    log: Vec<(u64, Grant)>,
}

impl Bench {
    fn with(rule: Rule) -> Self {
        Self { rule, revision: 1, principal: Principal::default(), now: 1_000_000, log: Vec::new() }
    }

    fn step(&mut self, news: &News) -> Step {
        let step = self.of_node(1, news);
        self.log.extend(step.granted.iter().map(|grant| (self.now, *grant)));
        step
    }

    fn of_node(&mut self, node: u64, news: &News) -> Step {
        let edition = Edition { revision: self.revision, rule: self.rule };
        self.principal.step(&edition, self.now, node, news)
    }

    /// The numbers of the calls that went, in their order.
    fn served(&self) -> Vec<u64> {
        self.log.iter().map(|(_, grant)| grant.seq).collect()
    }

    /// Goes on as the answers say, for so long or until nobody waits.
    fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            let step = self.step(&News::default());
            if step.next == NEVER {
                return;
            }
            self.now += step.next.clamp(1, 100);
        }
    }

    fn times(&self) -> Vec<u64> {
        self.log.iter().map(|(at, _)| *at).collect()
    }
}
