//! A node that is far behind is sent the document whole.

use super::{mark, upstream};
use crate::harness::call::{Call, connect, get_call};
use crate::harness::node::{Node, WRITE_PATIENCE};
use crate::harness::{ADMIN_KEY, Fleet, at, wait_for};

#[test]
fn a_learner_that_was_away_for_long_is_sent_the_document_whole() {
    let fleet = Fleet::swift();
    let learner = fleet.join("b");
    learner.is_ready_in_time();
    let leader = fleet.node("a");
    leader.put("/admin/upstreams/gone", &upstream("gone"), &[]);
    fleet.agree();
    assert!(learner.stop().success());
    let deleted = leader.ask(Call { method: "DELETE", ..get_call("/admin/upstreams/gone", &[]) });
    assert_eq!(deleted.expect("an answer").status(), 200);
    write_on_and_on(&leader, ENTRIES);
    let before = learner.log().len();
    learner.start();
    wait_for("the learner to have caught up", || {
        let status = learner.status()?;
        (at(&status, "/live").as_u64()? > ENTRIES).then_some(())
    });
    learner.is_ready_in_time();
    fleet.agree();
    assert_eq!(learner.get("/admin/upstreams/gone?stale=true").status(), 404);
    let last = learner.get("/admin/upstreams/counted?stale=true");
    assert_eq!(mark(&last), Some(format!("{}", ENTRIES - 1)));
    // And it is one of them again.
    let answer = learner.put("/admin/upstreams/after", &upstream("after"), &[]);
    assert_eq!(answer.status(), 201, "{answer}");
    assert!(!learner.log()[before..].contains("ERROR"), "{}", learner.log());
}

/// Writes the same resource so often, each time by an entry of its own.
fn write_on_and_on(node: &Node, times: u64) {
    let doors = node.doors().expect("it runs");
    let key = format!("x-api-key: {ADMIN_KEY}");
    let mut wire = connect(&doors.admin, WRITE_PATIENCE).expect("a connection");
    for nth in 0..times {
        let body = upstream(&nth.to_string()).to_string();
        let call = Call {
            method: "PUT",
            path: "/admin/upstreams/counted",
            fields: &[&key],
            body: &body,
            patience: WRITE_PATIENCE,
        };
        let answer = call.ask_on(&mut wire, &doors.admin, "keep-alive").expect("an answer");
        assert!(matches!(answer.status(), 200 | 201), "{answer}");
    }
}

/// More than the log keeps: it is cut at 5,000 entries, down to 2,000.
const ENTRIES: u64 = 5_200;
