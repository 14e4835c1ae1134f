//! Nodes die, hang, and all die at once, under changes: nothing that was answered is lost, nothing
//! is there twice, and what was read could have come from one copy.

use std::time::Duration;

use super::figure;
use crate::harness::{Fleet, Origin, Way};

const ALL: [&str; 3] = ["a", "b", "c"];

#[test]
fn a_fleet_whose_leader_dies_or_hangs_loses_nothing() {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    for deed in [dies, hangs] {
        let leader = fleet.leader();
        let others: Vec<&str> = ALL.into_iter().filter(|name| *name != leader.name).collect();
        let ways: Vec<_> = others.iter().map(|name| Way::Through(name)).collect();
        let carried = fleet.under_traffic(&ways, |_| {
            let journal = fleet.under_writes(4, &ALL, |journal| {
                deed(&fleet, &leader.name, &others);
                journal.flows();
                match leader.doors() {
                    None => leader.start(),
                    Some(_) => leader.resume(),
                }
                leader.is_ready_in_time();
            });
            let gap = journal.longest_gap();
            fleet.agree();
            let changes = journal.judge(&fleet);
            figure("changes, and the longest time without one", (changes, gap));
            assert!(gap < FAILOVER_MAX, "{gap:?}");
        });
        figure("requests meanwhile", carried);
    }
}

/// Its process ends at once, and another node leads.
fn dies(fleet: &Fleet, leader: &str, others: &[&str]) {
    fleet.node(leader).kill();
    fleet.leader_among(others);
}

/// Its process stops working without an end, and another node leads.
fn hangs(fleet: &Fleet, leader: &str, others: &[&str]) {
    fleet.node(leader).pause();
    fleet.leader_among(others);
}

#[test]
fn a_fleet_that_dies_whole_has_what_was_answered() {
    let fleet = Fleet::of(3);
    let journal = fleet.under_writes(4, &ALL, |journal| {
        for _ in 0..2 {
            journal.flows();
            // Not one after the other: none may see the others go.
            for node in fleet.running() {
                node.pause();
            }
            for node in fleet.running() {
                node.kill();
            }
            for name in ALL {
                fleet.node(name).start();
            }
            fleet.all_ready();
        }
    });
    fleet.agree();
    figure("changes over two ends of all nodes", journal.judge(&fleet));
}

/// Far above what it takes, on a busy machine.
const FAILOVER_MAX: Duration = Duration::from_secs(10);
