//! The network between nodes breaks, both ways or one way, and heals.

use std::sync::Arc;
use std::time::Duration;

use super::{figure, mark, upstream};
use crate::harness::call::get_call;
use crate::harness::node::Node;
use crate::harness::{Fleet, Origin, Way, at, wait_for};

#[test]
fn a_node_that_is_cut_off_carries_traffic_and_changes_nothing() {
    // Two fleets side by side, since most of it is waiting.
    std::thread::scope(|scope| {
        scope.spawn(|| check(&[(both_ways, false), (both_ways, true)]));
        check(&[(mute, true), (deaf, false), (deaf, true)]);
    });
}

/// What stands between a node and another.
type Cut = fn(&Fleet, &str, &str);

/// Neither hears the other.
fn both_ways(fleet: &Fleet, alone: &str, other: &str) {
    deaf(fleet, alone, other);
    mute(fleet, alone, other);
}

/// It hears nothing, and is heard.
fn deaf(fleet: &Fleet, alone: &str, other: &str) {
    fleet.mesh.cut(other, alone);
}

/// It is not heard, and hears.
fn mute(fleet: &Fleet, alone: &str, other: &str) {
    fleet.mesh.cut(alone, other);
}

/// Cuts followers or leaders off, one after the other.
fn check(cuts: &[(Cut, bool)]) {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    for (cut, leads) in cuts {
        let leader = fleet.leader();
        let alone = if *leads { leader } else { fleet.followers().remove(0) };
        check_one(&fleet, &alone, *cut);
    }
}

fn check_one(fleet: &Fleet, alone: &Arc<Node>, cut: Cut) {
    let others: Vec<_> =
        fleet.running().into_iter().filter(|node| node.name != alone.name).collect();
    let names: Vec<&str> = others.iter().map(|node| node.name.as_str()).collect();
    let before = alone.put(PATH, &upstream("before"), &[]);
    assert!(matches!(before.status(), 200 | 201), "{before}");
    fleet.agree();
    let carried = fleet.under_traffic(&[Way::Through(&alone.name)], |_| {
        for name in &names {
            cut(fleet, &alone.name, name);
        }
        std::thread::scope(|scope| {
            // Side by side, since each takes its time to be sure.
            let minority =
                [refuses_reads, refuses_changes].map(|law| scope.spawn(move || law(alone)));
            majority_goes_on(fleet, &names, &others);
            for refused in minority {
                refused.join().expect("it refuses");
            }
        });
        fleet.mesh.heal();
        wait_for("the change to arrive", || {
            let answer = alone.ask(get_call(PATH, &[])).ok().filter(|it| it.status() == 200)?;
            (mark(&answer).as_deref() == Some("after")).then_some(())
        });
    });
    figure("requests through a node that was cut off", carried);
    fleet.leader();
    fleet.agree();
    let again = alone.put(PATH, &upstream("again"), &[]);
    assert_eq!(again.status(), 200, "{again}");
}

fn majority_goes_on(fleet: &Fleet, names: &[&str], others: &[Arc<Node>]) {
    fleet.leader_among(names);
    for node in others {
        let answer = node.put(PATH, &upstream("after"), &[]);
        assert_eq!(answer.status(), 200, "{answer}");
        assert_eq!(mark(&node.get(PATH)).as_deref(), Some("after"));
    }
}

/// What it cannot know it does not say, but for those who take what it has.
fn refuses_reads(alone: &Node) {
    wait_for("a refusal to read", || (alone.get(PATH).status() == 503).then_some(()));
    let stale = alone.get(&format!("{PATH}?stale=true"));
    assert_eq!(mark(&stale).as_deref(), Some("before"), "{stale}");
    let readiness = alone.readiness().expect("an answer");
    assert_eq!(readiness.status(), 200, "{readiness}");
    wait_for("a reason", || at(&alone.status()?, "/why_not_writable").as_str().map(str::to_owned));
    assert_eq!(alone.number("tollgate_document_writable"), Some(0));
}

/// What nobody has agreed on it does not do.
fn refuses_changes(alone: &Node) {
    let refused = alone.put(PATH, &upstream("alone"), &[]);
    assert_eq!(refused.status(), 503, "{refused}");
    assert!(refused.text().contains("majority"), "{refused}");
}

#[test]
fn connections_that_break_and_a_slow_network_lose_nothing() {
    let fleet = Fleet::of(3);
    let all = ["a", "b", "c"];
    let journal = fleet.under_writes(3, &all, |journal| {
        for (from, to) in [("a", "b"), ("b", "a"), ("c", "a")] {
            fleet.mesh.delay(from, to, Duration::from_millis(40));
        }
        journal.flows();
        for name in all {
            fleet.node(name).break_off();
            journal.flows();
        }
        fleet.mesh.heal();
    });
    fleet.agree();
    journal.judge(&fleet);
}

const PATH: &str = "/admin/upstreams/cut";
