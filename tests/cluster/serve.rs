//! What a fleet that is whole promises, and one that lacks a node.

use serde_json::json;

use super::{mark, revision, upstream};
use crate::harness::call::{Call, get_call};
use crate::harness::{Fleet, Origin, at, wait_for};

#[test]
fn a_fleet_is_one_document() {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    a_change_at_any_node_is_served_by_every_node(&fleet, &origin);
    conditions_hold_across_nodes(&fleet);
    a_base_holds_across_nodes(&fleet);
    each_node_shows_all(&fleet);
    a_change_waits_only_for_those_who_are_there(&fleet);
}

fn a_change_at_any_node_is_served_by_every_node(fleet: &Fleet, origin: &Origin) {
    for node in fleet.running() {
        let name = &node.name;
        let route = json!({ "uri": format!("/{name}"), "upstream_id": "only" });
        let answer = node.put(&format!("/admin/routes/{name}?wait=all"), &route, &[]);
        assert_eq!(
            (answer.status(), answer.field("x-tollgate-live")),
            (201, Some("3/3")),
            "{answer}"
        );
        for other in fleet.running() {
            assert_eq!(other.carry(&format!("/{name}")).status(), 200, "{name} {}", other.name);
            let read = other.get(&format!("/admin/routes/{name}"));
            assert_eq!(read.status(), 200, "{read}");
            assert!(revision(&read) >= revision(&answer), "{read}");
        }
    }
    assert_eq!(origin.arrivals().len(), 9);
}

fn conditions_hold_across_nodes(fleet: &Fleet) {
    let [a, b, c] = ["a", "b", "c"].map(|name| fleet.node(name));
    let path = "/admin/upstreams/tagged";
    for round in 0..5 {
        let first = a.put(path, &upstream(&format!("first {round}")), &[]);
        let stale = first.field("etag").expect("a tag").to_owned();
        assert_eq!(stale, format!("\"{}\"", revision(&first)), "{first}");
        // At once, and where it may not have arrived yet.
        let second = b.put(path, &upstream("second"), &[&format!("if-match: {stale}")]);
        assert_eq!(second.status(), 200, "{second}");
        assert_eq!(mark(&c.get(path)).as_deref(), Some("second"));
        for node in [&c, &a, &b] {
            let refused = node.put(path, &upstream("third"), &[&format!("if-match: {stale}")]);
            assert_eq!(refused.status(), 412, "{refused}");
        }
        let call = Call { method: "DELETE", ..get_call(path, &[]) };
        assert_eq!(c.ask(call).expect("an answer").status(), 200);
        assert_eq!(a.get(path).status(), 404);
    }
}

fn a_base_holds_across_nodes(fleet: &Fleet) {
    let [a, b, c] = ["a", "b", "c"].map(|name| fleet.node(name));
    let base = revision(&a.put("/admin/upstreams/based", &upstream("0"), &[]));
    let body = json!({ "upstreams": { "based": upstream("1") } }).to_string();
    let path = format!("/admin/apply?base={base}");
    let call = Call { method: "POST", path: &path, body: &body, ..get_call("", &[]) };
    let applied = b.ask(call).expect("an answer");
    assert_eq!(applied.status(), 200, "{applied}");
    for node in [c, a, b] {
        let refused = node.ask(call).expect("an answer");
        assert_eq!(refused.status(), 409, "{refused}");
    }
}

fn each_node_shows_all(fleet: &Fleet) {
    fleet.agree();
    for node in fleet.running() {
        let status = node.get("/admin/status").json();
        let members = at(&status, "/members").as_array().cloned().unwrap_or_default();
        let names: Vec<_> = members.iter().map(|one| at(one, "/name").clone()).collect();
        assert_eq!(names, ["a", "b", "c"], "{status}");
        for member in &members {
            let is_whole = at(member, "/votes") == true
                && at(member, "/ready") == true
                && at(member, "/lag") == 0
                && at(member, "/revision") == at(&status, "/revision")
                && at(member, "/live") == at(&status, "/live");
            assert!(is_whole, "{member}");
        }
        let leaders = members.iter().filter(|one| at(one, "/role") == "leader").count();
        assert_eq!(leaders, 1, "{status}");
        for (name, value) in [("members", 3), ("voters", 3), ("has_leader", 1)] {
            let name = format!("tollgate_cluster_{name}");
            assert_eq!(node.number(&name), Some(value), "{name}");
        }
        assert_eq!(node.number("tollgate_document_writable"), Some(1));
    }
}

fn a_change_waits_only_for_those_who_are_there(fleet: &Fleet) {
    let gone = fleet.followers().into_iter().next().expect("a follower");
    assert!(gone.stop().success());
    for node in fleet.running() {
        let path = format!("/admin/upstreams/without-{}?wait=all", node.name);
        let answer = node.put(&path, &upstream("2/3"), &[]);
        assert_eq!(
            (answer.status(), answer.field("x-tollgate-live")),
            (201, Some("2/3")),
            "{answer}"
        );
    }
    let shown = fleet.command(&["cluster", "status", "--output", "json"]);
    let members = at(&shown, "/members").as_array().cloned().unwrap_or_default();
    let silent = members.iter().filter(|one| at(one, "/error").is_string());
    let silent: Vec<_> = silent.map(|one| at(one, "/name").as_str()).collect();
    assert_eq!(silent, [Some(gone.name.as_str())], "{shown}");
    gone.start();
    gone.is_ready_in_time();
    let revision = fleet.agree();
    wait_for("the node to have caught up", || {
        (at(&gone.status()?, "/live") == revision).then_some(())
    });
}
