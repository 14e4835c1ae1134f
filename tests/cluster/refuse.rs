//! What a node or a cluster does not take, and that nothing changes by it.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock as _, SystemClock};

use crate::harness::fleet::said;
use crate::harness::node::Node;
use crate::harness::{Fleet, tollgate, wait_for};

#[test]
fn what_does_not_belong_is_refused_by_name() {
    let (fleet, other) = (Fleet::of(1), Fleet::of(1));
    let founder = fleet.node("a");
    tokens(&fleet, &founder, &other);
    places(&fleet, &founder);
    settings(&fleet);
    strangers(&fleet, &founder, &other);
    let members = founder.members().expect("an answer");
    assert_eq!(members.len(), 2, "{members:#?}");
}

/// It ends with this code, for this reason.
#[track_caller]
fn ends(output: &Output, code: i32, why: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(why), "no {why:?} in {said}");
}

/// A member says in its log why it let nobody in.
fn says(member: &Node, why: &str) {
    wait_for(why, || member.log().contains(why).then_some(()));
}

fn tokens(fleet: &Fleet, founder: &Arc<Node>, other: &Fleet) {
    let address = founder.address();
    let used = fleet.token(&[]);
    let b = fleet.add("b");
    ends(&b.try_join(&address, &used), 0, "b");
    let c = fleet.add("c");
    ends(&c.try_join(&address, &used), 1, "used already");
    says(founder, "used already");
    ends(&c.try_join(&address, &fleet.token(&["--node", "d"])), 1, "for node d");
    says(founder, "for node d");
    let mut forged = fleet.token(&[]);
    let last = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.pop();
    forged.push(last);
    let refused = c.try_join(&address, &forged);
    assert!(!refused.status.success(), "{}", said(&refused));
    ends(&c.try_join(&address, "nonsense"), 64, "token");
    // Not even the connection comes about: the member shows no certificate that the token names.
    ends(&c.try_join(&address, &other.token(&[])), 1, "certificate");
    let short = fleet.token(&["--ttl", "1s"]);
    let clock = SystemClock::start();
    let over = clock.uptime().plus(Duration::from_secs(1));
    wait_for("the token to expire", || (clock.uptime() > over).then_some(()));
    ends(&c.try_join(&address, &short), 1, "expired");
    says(founder, "expired");
    let taken = fleet.try_command(&["cluster", "token", "--node", "b"]);
    ends(&taken, 1, "cluster replace b");
}

fn places(fleet: &Fleet, founder: &Arc<Node>) {
    let b = fleet.node("b");
    ends(&b.try_init(&[]), 1, "already that of the member b");
    ends(&b.try_join(&founder.address(), &fleet.token(&[])), 1, "already that of the member b");
    let alone = fleet.add("alone");
    std::fs::create_dir(&alone.data).expect("a directory");
    std::fs::copy(founder.data.join("document.redb"), alone.data.join("document.redb"))
        .expect("copied");
    let refused = alone.try_join(&founder.address(), &fleet.token(&[]));
    ends(&refused, 1, "holds a document of its own");
}

/// Settings that do not fit what is there end with 64, before anything is made or changed.
fn settings(fleet: &Fleet) {
    let b = fleet.node("b");
    let check = |node: &Node, arguments: &[&str], why: &str| {
        let (code, said) = node.fails_to_start(arguments);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(why), "no {why:?} in {said}");
    };
    check(&b, &["--node", "x"], "that of the member b");
    check(&b, &["--cluster-address", "nowhere"], "not HOST:PORT");
    let alone = fleet.add("no-member");
    check(&alone, &[], "is no member's");
    assert!(!alone.data.exists());
    for (name, address, why) in
        [("UPPER", "127.0.0.1:1", "lower case"), ("x", "nowhere", "HOST:PORT"), ("x", "", "HOST")]
    {
        let site = ["cluster", "init", "--node", name, "--address", address, "--data"];
        let output = tollgate().args(site).arg(&alone.data).output().expect("it runs");
        ends(&output, 64, why);
    }
    assert!(!alone.data.join("cluster/place.json").exists());
}

/// Whoever has other data, or another cluster's certificate, is told apart.
fn strangers(fleet: &Fleet, founder: &Arc<Node>, other: &Fleet) {
    let nobody = fleet.add("nobody");
    let refused = nobody.try_join(&nobody.address(), &fleet.token(&[]));
    ends(&refused, 1, "cannot speak to the member");
    let (b, foreign) = (fleet.node("b"), other.node("a"));
    let store = b.data.join("document.redb");
    std::fs::copy(foreign.data.join("document.redb"), &store).expect("copied");
    std::fs::rename(b.data.join("cluster.key"), b.data.join("cluster.key.own")).expect("moved");
    std::fs::copy(foreign.data.join("cluster.key"), b.data.join("cluster.key")).expect("copied");
    let (code, said) = b.fails_to_start(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("belongs to another node"), "{said}");
    std::fs::remove_file(store).expect("removed");
    std::fs::rename(b.data.join("cluster.key.own"), b.data.join("cluster.key")).expect("moved");
    // The same name, certified by another cluster's authority.
    let namesake = other.add("b");
    namesake.init();
    let own = b.data.join("cluster");
    let kept = b.data.join("cluster.own");
    std::fs::create_dir(&kept).expect("a directory");
    for file in std::fs::read_dir(&own).expect("a directory").flatten() {
        std::fs::copy(file.path(), kept.join(file.file_name())).expect("copied");
        let foreign = namesake.data.join("cluster").join(file.file_name());
        if file.file_name() != "place.json" && foreign.exists() {
            std::fs::copy(foreign, file.path()).expect("copied");
        }
    }
    let (heard, told) = (founder.log().len(), b.log().len());
    b.start();
    wait_for("both to say why", || {
        let cannot = founder.log()[heard..].contains("invalid peer certificate");
        let refused = b.log()[told..].contains("UnknownCA");
        (cannot && refused).then_some(())
    });
    assert_eq!(b.readiness().expect("an answer").status(), 503);
    assert!(b.stop().success());
    // With its own it is whole.
    for file in std::fs::read_dir(&kept).expect("a directory").flatten() {
        std::fs::copy(file.path(), own.join(file.file_name())).expect("copied");
    }
    b.start();
    b.is_ready_in_time();
}
