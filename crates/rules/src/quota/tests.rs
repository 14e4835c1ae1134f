//! Laws of the quota: no window holds more, turns are fair, nothing idles while somebody waits.

use proptest::prelude::*;

use super::{Duration, Grant, Join, NEVER, News, Principal, Probe, Report, Ring, Rule, Said, Step};

mod fair;
mod feedback;
mod window;

/// Ten calls in two seconds, in slots of ten milliseconds.
fn rule() -> Rule {
    Rule::new(10, Duration::from_secs(2), 3, 0, Duration::from_secs(5))
}

fn join(seq: u64, flow: &str, weight: u64) -> Join {
    Join { seq, flow: flow.into(), weight, is_high: false, patience: 60_000, queue_max: 100 }
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
    principal: Principal,
    now: u64,
    log: Vec<(u64, Grant)>,
}

impl Bench {
    fn with(rule: Rule) -> Self {
        Self { rule, principal: Principal::default(), now: 1_000_000, log: Vec::new() }
    }

    fn step(&mut self, news: &News) -> Step {
        let step = self.principal.step(&self.rule, self.now, 1, news);
        self.log.extend(step.granted.iter().map(|grant| (self.now, *grant)));
        step
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
