//! The kill switch over a fleet: who is suspended at one node is refused at all, also by a node
//! that is cut off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::call::{Call, get_call};
use crate::harness::node::Node;
use crate::harness::{Fleet, Origin, text_at, wait_for};

/// Three nodes with one agent, alice.
fn fleet(origin: &Origin) -> Fleet {
    let fleet = Fleet::of(3);
    let node = fleet.leader();
    let put = |path: &str, body| {
        let answer = node.put(path, &body, &[]);
        assert!(matches!(answer.status(), 200 | 201), "{answer}");
    };
    put(
        "/admin/consumers/alice",
        json!({
            "username": "alice", "plugins": { "key-auth": { "key": "alice-key" } },
        }),
    );
    put(
        "/admin/routes/only?wait=all",
        json!({
            "uri": "/t", "upstream": origin.upstream(), "plugins": { "key-auth": {} },
        }),
    );
    fleet.agree();
    fleet
}

/// How alice is answered; `None` when her connection breaks off.
fn try_status(node: &Node) -> Option<u16> {
    let doors = node.doors().expect("it runs");
    let answered = get_call("/t", &["apikey: alice-key"]).ask(&doors.http);
    answered.ok().map(|answer| answer.status())
}

fn status(node: &Node) -> u16 {
    try_status(node).expect("an answer")
}

/// Suspends alice at a node; how far that has come.
fn suspend(node: &Node) -> String {
    let answer = node.put(PATH, &json!({ "reason": "incident 7" }), &[]);
    assert_eq!(answer.status(), 200, "{answer}");
    text_at(&answer.json(), "/reach")
}

fn resume(node: &Node) -> u16 {
    let patience = Duration::from_secs(20);
    let call = Call { method: "DELETE", path: PATH, fields: &[], body: "", patience };
    node.ask(call).expect("an answer").status()
}

#[test]
fn under_load_who_is_suspended_at_one_node_is_refused_at_all() {
    let origin = Origin::start();
    let fleet = fleet(&origin);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for node in fleet.running() {
            let is_over = &is_over;
            scope.spawn(move || go_on(&node, is_over));
        }
        for node in fleet.running() {
            wait_for("requests to pass", || (status(&node) == 200).then_some(()));
        }
        assert_eq!(suspend(&fleet.followers().remove(0)), "cluster");
        for node in fleet.running() {
            wait_for("a refusal", || (status(&node) == 403).then_some(()));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let arrived = origin.arrivals().len();
    for node in fleet.running() {
        assert_eq!(status(&node), 403);
    }
    assert_eq!(origin.arrivals().len(), arrived);
    assert_eq!(resume(&fleet.leader()), 200);
    for node in fleet.running() {
        wait_for("requests to pass again", || (status(&node) == 200).then_some(()));
    }
}

/// Calls as alice, who never passes again once she was refused.
fn go_on(node: &Node, is_over: &AtomicBool) {
    let mut is_refused = false;
    while !is_over.load(Ordering::SeqCst) || !is_refused {
        match try_status(node) {
            Some(200) => assert!(!is_refused, "through {} after a refusal", node.name),
            Some(403) => is_refused = true,
            // It was under way when it was ended.
            None => {}
            Some(other) => panic!("{other} through {}", node.name),
        }
    }
}

#[test]
fn a_node_that_is_cut_off_suspends_by_itself_and_tells_the_others_later() {
    let origin = Origin::start();
    let fleet = fleet(&origin);
    let alone = fleet.followers().remove(0);
    let others: Vec<_> =
        fleet.running().into_iter().filter(|node| node.name != alone.name).collect();
    for other in &others {
        fleet.mesh.cut(&alone.name, &other.name);
        fleet.mesh.cut(&other.name, &alone.name);
    }
    assert_eq!(suspend(&alone), "node");
    assert_eq!(status(&alone), 403);
    for other in &others {
        assert_eq!(status(other), 200, "nobody has told {}", other.name);
    }
    // It knows even after a restart, and before it hears of anybody.
    assert!(alone.stop().success());
    alone.start();
    assert_eq!(status(&alone), 403);
    fleet.mesh.heal();
    for other in &others {
        wait_for("the others to hear of it", || (status(other) == 403).then_some(()));
    }
    assert_eq!(resume(&others[0]), 200);
    for node in fleet.running() {
        wait_for("everybody to go on", || (status(&node) == 200).then_some(()));
    }
}

#[test]
fn what_the_cluster_has_agreed_on_ends_by_its_agreement_only() {
    let origin = Origin::start();
    let fleet = fleet(&origin);
    let alone = fleet.followers().remove(0);
    assert_eq!(suspend(&alone), "cluster");
    wait_for("everybody to know", || {
        fleet.running().iter().all(|node| status(node) == 403).then_some(())
    });
    for other in fleet.running().iter().filter(|node| node.name != alone.name) {
        fleet.mesh.cut(&alone.name, &other.name);
        fleet.mesh.cut(&other.name, &alone.name);
    }
    assert_eq!(resume(&alone), 503);
    assert_eq!(status(&alone), 403);
    fleet.mesh.heal();
    wait_for("an agreement", || (resume(&alone) == 200).then_some(()));
}

const PATH: &str = "/admin/suspensions/agent/alice";
