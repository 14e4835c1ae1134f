//! Nodes come and go for good while work goes on.

use serde_json::Value;

use crate::harness::{Fleet, Origin, Way, at, wait_for};

#[test]
fn nodes_join_and_leave_under_load() {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    let ways = [Way::Balanced, Way::Through("a"), Way::Through("b")];
    fleet.under_traffic(&ways, |traffic| {
        let journal = fleet.under_writes(2, &["a", "b"], |journal| {
            for name in ["d", "e"] {
                let node = fleet.join(name);
                node.is_ready_in_time();
                traffic.flows();
            }
            assert_eq!(roles(&fleet, "e"), ("learner".to_owned(), false));
            fleet.promote(&["d", "--demote", "c"]);
            assert!(roles(&fleet, "d").1 && !roles(&fleet, "c").1);
            journal.flows();
            leaves(&fleet, "c");
            journal.flows();
            fleet.promote(&["e", "--demote", "d"]);
            leaves(&fleet, "d");
        });
        assert!(fleet.node("d").stop().success());
        assert!(fleet.node("c").stop().success());
        fleet.agree();
        journal.judge(&fleet);
    });
    let members = members(&fleet);
    let names: Vec<_> = members.iter().map(|one| at(one, "/name").clone()).collect();
    assert_eq!(names, ["a", "b", "e"]);
    assert!(members.iter().all(|one| at(one, "/votes") == true), "{members:#?}");
    who_has_left_is_refused(&fleet);
}

/// Lets a node go, which must learn it, and say it to balancers.
fn leaves(fleet: &Fleet, name: &str) {
    let done = fleet.try_command(&["cluster", "leave", name]);
    assert!(done.status.success(), "{}", crate::harness::fleet::said(&done));
    let node = fleet.node(name);
    wait_for("it not to be ready", || {
        let answer = node.readiness()?;
        (answer.status() == 503 && answer.text().contains("has left")).then_some(())
    });
    // It goes on with what it has.
    assert_eq!(node.carry("/t").status(), 200);
}

fn who_has_left_is_refused(fleet: &Fleet) {
    let gone = fleet.node("c");
    gone.start();
    assert_eq!(gone.readiness().expect("an answer").status(), 503);
    assert_eq!(gone.carry("/t").status(), 200);
    let answer = gone.put("/admin/upstreams/gone", &super::upstream("gone"), &[]);
    assert_eq!(answer.status(), 503, "{answer}");
    wait_for("a refusal in a member's log", || {
        let refused = |name: &&str| fleet.node(name).log().contains("node c has left the cluster");
        ["a", "b", "e"].iter().find(|name| refused(name)).map(drop)
    });
}

fn members(fleet: &Fleet) -> Vec<Value> {
    let shown = fleet.command(&["cluster", "status", "--output", "json"]);
    at(&shown, "/members").as_array().cloned().unwrap_or_default()
}

/// A member's role, and whether it votes.
fn roles(fleet: &Fleet, name: &str) -> (String, bool) {
    let members = members(fleet);
    let member = members.iter().find(|one| at(one, "/name") == name).expect("a member");
    (at(member, "/role").as_str().unwrap_or_default().to_owned(), at(member, "/votes") == true)
}
