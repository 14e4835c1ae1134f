//! A disk is lost and replaced; an address changes.

use crate::harness::fleet::said;
use crate::harness::{Fleet, Origin, Way, at, text_at, wait_for};

#[test]
fn a_lost_disk_is_replaced_and_a_moved_node_is_found() {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    let journal = fleet.under_writes(2, &["a", "b"], |journal| {
        fleet.under_traffic(&[Way::Through("a"), Way::Through("b")], |_| {
            a_disk_is_lost(&fleet);
        });
        fleet.under_traffic(&[Way::Balanced], |traffic| {
            for name in ["c", "a", "b"] {
                moves(&fleet, name);
                journal.flows();
                traffic.flows();
            }
        });
    });
    fleet.agree();
    journal.judge(&fleet);
}

/// As `docs/cluster.md` tells it.
fn a_disk_is_lost(fleet: &Fleet) {
    let lost = fleet.node("c");
    lost.kill();
    std::fs::remove_dir_all(&lost.data).expect("the disk is lost");
    let token = text_at(&fleet.command(&["cluster", "replace", "c", "--output", "json"]), "/token");
    let joined = lost.try_join(&fleet.node("a").address(), &token);
    assert!(joined.status.success(), "{}", said(&joined));
    lost.start();
    lost.is_ready_in_time();
    wait_for("the vote to pass on", || {
        let members = fleet.node("a").members()?;
        let is_whole = members.len() == 3
            && members.iter().all(|one| at(one, "/votes") == true && at(one, "/ready") == true);
        is_whole.then_some(())
    });
    let again = lost.try_join(&fleet.node("a").address(), &token);
    assert!(!again.status.success(), "{}", said(&again));
}

/// Its old address is nobody's; it says the new one, and need not say it again.
fn moves(fleet: &Fleet, name: &str) {
    let node = fleet.node(name);
    assert!(node.stop().success());
    let address = node.moves();
    node.start_as(crate::harness::tollgate(), &["--cluster-address", &address]);
    node.is_ready_in_time();
    let is_known = || {
        let all = fleet.running();
        let mut known = all
            .iter()
            .map(|other| other.members()?.into_iter().find(|one| at(one, "/name") == name));
        known.all(|one| {
            one.is_some_and(|one| {
                at(&one, "/address") == address.as_str() && at(&one, "/error").is_null()
            })
        })
    };
    wait_for("the new address to be known", || is_known().then_some(()));
    assert!(node.stop().success());
    node.start();
    node.is_ready_in_time();
    wait_for("the address to stay", || is_known().then_some(()));
}
