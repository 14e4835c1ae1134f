//! A node's disk is full.

use std::process::Command;

use super::{mark, upstream};
use crate::harness::call::{Call, get_call};
use crate::harness::{Fleet, Origin, Way, at, wait_for};
use serde_json::{Value, json};

#[test]
fn a_node_whose_disk_is_full_carries_traffic_and_says_why_it_takes_no_change() {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    for leads in [false, true] {
        let leader = fleet.leader();
        let full = if leads { leader } else { fleet.followers().remove(0) };
        check(&fleet, &full.name);
    }
}

fn check(fleet: &Fleet, name: &str) {
    let full = fleet.node(name);
    let others: Vec<_> = fleet.running().into_iter().filter(|one| one.name != name).collect();
    let mut written = Vec::new();
    fleet.under_traffic(&[Way::Through(name)], |_| {
        let pid = full.doors().expect("it runs").pid.to_string();
        let store = std::fs::metadata(full.data.join("document.redb")).expect("a store").len();
        // Not the whole disk, but what the store may have of it: a write beyond fails.
        let limit = format!("--fsize={store}");
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(limited.expect("prlimit runs").success());
        wait_for("a full disk", || {
            for node in &others {
                let path = format!("/admin/upstreams/{name}{}", written.len());
                let answer = node.put(&path, &large(), &[]);
                if matches!(answer.status(), 200 | 201) {
                    written.push(path);
                }
            }
            let status = full.status()?;
            let why = at(&status, "/why_not_writable").as_str()?;
            why.contains("the store failed a write").then_some(())
        });
        let refused = full.put("/admin/upstreams/full", &upstream("full"), &[]);
        assert_eq!(refused.status(), 503, "{refused}");
        assert!(refused.text().contains("the store failed a write"), "{refused}");
        assert_eq!(full.get("/admin/upstreams/full").status(), 503);
        assert_eq!(full.get("/admin/upstreams/full?stale=true").status(), 404);
        assert_eq!(full.number("tollgate_document_writable"), Some(0));
        full.says("the store failed a write");
        // The others go on without it.
        for node in &others {
            let answer = node.put(&format!("/admin/upstreams/{name}"), &upstream("on"), &[]);
            assert!(matches!(answer.status(), 200 | 201), "{answer}");
        }
    });
    let stopped = full.stop();
    assert!(stopped.success(), "{stopped}");
    full.start();
    full.is_ready_in_time();
    let answer = full.put("/admin/upstreams/full", &upstream("whole"), &[]);
    assert!(matches!(answer.status(), 200 | 201), "{answer}");
    for node in &others {
        assert_eq!(mark(&node.get("/admin/upstreams/full")).as_deref(), Some("whole"));
    }
    fleet.agree();
    for path in written {
        assert_eq!(full.get(&format!("{path}?stale=true")).status(), 200, "{path}");
    }
    let deleted = full.ask(Call { method: "DELETE", ..get_call("/admin/upstreams/full", &[]) });
    assert_eq!(deleted.expect("an answer").status(), 200);
}

/// A resource that takes some room.
fn large() -> Value {
    let nodes: serde_json::Map<_, _> =
        (2_000..3_000).map(|port| (format!("127.0.0.1:{port}"), json!(1))).collect();
    json!({ "nodes": nodes })
}
