//! Whole nodes over real sockets: one founds a cluster, others join it by tokens, all agree; nodes
//! move, are replaced and leave.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Change, Command, Expect, Key, Kind, Stamp};
use model::{Clock as _, NodeName, SystemClock, SystemEntropy};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::super::{Station, open_member};
use super::bench::{SOON, wait_for};
use crate::ca::{Authority, NodeKey};
use crate::tls::Passport;
use crate::token::JoinToken;
use crate::{
    Error, Fact, FactChange, FactCommand, FactExpect, FactKind, Handle, Home, HomeError, Member,
    MembershipError, Options, Place, Role, Sign,
};

/// A node with its listener; all of it ends when this is dropped.
struct Whole {
    handle: Handle,
    station: Station,
    address: String,
    dir: TempDir,
}

fn options(dir: &Path, name: &str) -> Options {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Options {
        dir: dir.to_owned(),
        node: NodeName::new(name),
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
        environment: Arc::new(|_| None),
        vault_tls: Arc::new(tls),
        credentials: Vec::new(),
    }
}

async fn socket() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    (socket, address)
}

fn sign(name: &str, address: &str) -> Sign {
    Sign { name: NodeName::new(name), address: address.to_owned(), brought: None }
}

/// Starts the member that a directory holds.
async fn start(dir: TempDir, (socket, address): (TcpListener, String)) -> Whole {
    let home = Home::read(dir.path()).expect("readable").expect("a member's");
    let options = options(dir.path(), home.name.as_str());
    let opened = open_member(options, &home, &address, socket).await;
    let (handle, station) = opened.expect("a member");
    Whole { handle, station, address, dir }
}

async fn founder(name: &str) -> Whole {
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, address) = socket().await;
    let now = SystemClock::start().now();
    Home::found(dir.path(), &sign(name, &address), now).expect("founded");
    start(dir, (socket, address)).await
}

/// A token as operators carry it.
fn token(member: &Whole, place: Place) -> JoinToken {
    let invited = member.handle.invite(place, Duration::from_secs(60)).expect("a token");
    JoinToken::parse(invited.token.expose()).expect("a token")
}

async fn join(name: &str, member: &Whole, token: &JoinToken) -> Result<Whole, HomeError> {
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, address) = socket().await;
    Home::join(dir.path(), &sign(name, &address), &member.address, token).await?;
    Ok(start(dir, (socket, address)).await)
}

async fn joiner(name: &str, member: &Whole) -> Whole {
    join(name, member, &token(member, Place::Any)).await.expect("let in")
}

fn put(id: &str) -> Command {
    let value = json!({"type": "roundrobin", "nodes": {"10.0.0.1:80": 1}});
    let key = Key::new(Kind::Upstream, id);
    let change = Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now };
    Command { at: SystemClock::start().now(), base: None, force: false, changes: vec![change] }
}

fn names(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::new(name)).collect()
}

/// Waits until the members are what a test wants them to be.
async fn members(node: &Whole, wanted: impl Fn(&[Member]) -> bool) -> Vec<Member> {
    let mut found = Vec::new();
    let looking = async {
        loop {
            found = node.handle.members().await;
            if wanted(&found) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let looked = tokio::time::timeout(2 * SOON, looking).await;
    assert!(looked.is_ok(), "{found:#?}");
    found
}

/// Three voters; the first leads.
async fn three() -> [Whole; 3] {
    let a = founder("a").await;
    a.handle.propose(put("first")).await.expect("made");
    let (b, c) = (joiner("b", &a).await, joiner("c", &a).await);
    c.handle.vote(names(&["b", "c"]), names(&[])).await.expect("three voters");
    [a, b, c]
}

async fn stop(node: Whole) -> TempDir {
    node.station.stop().await;
    node.dir
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_joined_by_token_agree_over_real_sockets() {
    let [a, b, c] = three().await;
    let applied = c.handle.propose(put("second")).await.expect("made by a follower");
    for node in [&a, &b, &c] {
        let revision = || node.handle.status().live;
        wait_for(|| revision() >= applied.revision, || format!("{:?}", revision())).await;
        let all = members(node, |all| all.iter().all(|one| one.votes && one.said.is_ok())).await;
        assert_eq!(all.iter().map(|one| &*one.peer.name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(node.handle.status().ready(), "{:?}", node.handle.status());
    }
    let read = b.handle.read().await.expect("a linearizable read");
    assert_eq!(read.list(Kind::Upstream).count(), 2);
    assert_eq!(a.handle.facts().list(FactKind::JoinToken).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_away_is_replaced_and_nothing_is_lost() {
    let [a, b, c] = three().await;
    a.handle.propose(put("second")).await.expect("made");
    drop(stop(a).await);
    let again = async { while b.handle.propose(put("third")).await.is_err() {} };
    tokio::time::timeout(2 * SOON, again).await.expect("another leader");
    let read = c.handle.read().await.expect("a linearizable read");
    assert_eq!(read.list(Kind::Upstream).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_door_once_and_only_for_its_node() {
    let a = founder("a").await;
    let first = token(&a, Place::Any);
    let b = join("b", &a, &first).await.expect("let in");
    let check = async |name: &str, token: &JoinToken, why: &str| {
        let refused = join(name, &b, token).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    };
    check("c", &first, "used already").await;
    check("c", &token(&a, Place::Named(NodeName::new("d"))), "is for node d").await;
    check("b", &token(&a, Place::Any), "cluster replace b").await;
    let stranger = founder("x").await;
    check("c", &token(&stranger, Place::Any), "cannot speak").await;
    assert_eq!(a.handle.members().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_operators_certify_nodes_each_brings_its_own_certificate() {
    let now = SystemClock::start().now();
    let authority = Authority::make(now).expect("an authority");
    let brought = |name: &str, address: &str| {
        let key = NodeKey::generate().expect("a key");
        let passport = Passport::certified(&authority, &key, &NodeName::new(name), now);
        Sign { brought: Some(passport.expect("a passport")), ..sign(name, address) }
    };
    let dir = tempfile::tempdir().expect("a directory");
    let (listening, address) = socket().await;
    Home::found(dir.path(), &brought("a", &address), now).expect("founded");
    let a = start(dir, (listening, address)).await;
    let refused = join("b", &a, &token(&a, Place::Any)).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("bring their own certificates"), "{refused}");
    assert_eq!(a.handle.members().await.len(), 1);
    let (dir, token) = (tempfile::tempdir().expect("a directory"), token(&a, Place::Any));
    let (listening, address) = socket().await;
    let certified = brought("x", &address);
    let other = Sign { name: NodeName::new("b"), ..certified.clone() };
    let other = Home::join(dir.path(), &other, &a.address, &token).await;
    assert!(matches!(other, Err(HomeError::OtherName { .. })), "{other:?}");
    Home::join(dir.path(), &certified, &a.address, &token).await.expect("let in");
    let x = start(dir, (listening, address)).await;
    wait_for(|| x.handle.status().ready(), || format!("{:?}", x.handle.status())).await;
    x.handle.propose(put("by-x")).await.expect("made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_interrupted_is_the_same_join_again() {
    let a = founder("a").await;
    let token = token(&a, Place::Any);
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, address) = socket().await;
    Home::join(dir.path(), &sign("b", &address), &a.address, &token).await.expect("let in");
    // As if the node had died before it knew its place.
    std::fs::remove_file(dir.path().join("cluster/place.json")).expect("removed");
    Home::join(dir.path(), &sign("b", &address), &a.address, &token).await.expect("let in again");
    let again = Home::join(dir.path(), &sign("b", &address), &a.address, &token).await;
    assert!(matches!(again, Err(HomeError::Already { .. })), "{again:?}");
    let b = start(dir, (socket, address)).await;
    wait_for(|| b.handle.status().ready(), || format!("{:?}", b.handle.status())).await;
    assert_eq!(a.handle.members().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_document_is_not_ready() {
    let a = founder("a").await;
    let token = token(&a, Place::Any);
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, address) = socket().await;
    Home::join(dir.path(), &sign("b", &address), &a.address, &token).await.expect("let in");
    let (a_dir, a_address) = (a.dir, a.address);
    a.station.stop().await;
    let b = start(dir, (socket, address)).await;
    assert!(!b.handle.status().ready());
    let home = Home::read(a_dir.path()).expect("readable").expect("a member's");
    let socket = TcpListener::bind(&a_address).await.expect("the same port");
    let options = options(a_dir.path(), "a");
    let (_handle, _station) =
        open_member(options, &home, &a_address, socket).await.expect("it starts again");
    wait_for(|| b.handle.status().ready(), || format!("{:?}", b.handle.status())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_becomes_the_first_of_several_with_what_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let (handle, task) = crate::open(options(dir.path(), "Alone_1")).await.expect("a node");
    handle.propose(put("before")).await.expect("made");
    task.stop().await;
    drop(handle);
    let (socket, address) = socket().await;
    let now = SystemClock::start().now();
    Home::found(dir.path(), &sign("a", &address), now).expect("founded");
    let a = start(dir, (socket, address)).await;
    let b = joiner("b", &a).await;
    let has_it = || b.handle.state().count(Kind::Upstream) == 1;
    wait_for(has_it, || format!("{:?}", b.handle.status())).await;
    let all = members(&b, |all| all.len() == 2 && all.iter().all(|one| one.said.is_ok())).await;
    assert_eq!(all[0].peer.name, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_three_or_five_vote_and_only_those_who_are_there() {
    let [a, b, c] = three().await;
    let check = async |promote: &[&str], demote: &[&str], why: &str| {
        let refused = b.handle.vote(names(promote), names(demote)).await.unwrap_err();
        assert!(matches!(&refused, MembershipError::Refused { .. }), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
    };
    let d = joiner("d", &c).await;
    check(&["d"], &[], "4 voters").await;
    check(&[], &["c"], "2 voters").await;
    check(&["x"], &["c"], "no member called x").await;
    check(&["d"], &["d"], "cannot get the vote and lose it").await;
    check(&[], &["a", "b", "c"], "0 voters").await;
    drop(stop(d).await);
    check(&["d"], &["c"], "does not answer").await;
    b.handle.vote(names(&["b"]), names(&["d"])).await.expect("as it is");
    c.handle.vote(names(&[]), names(&["b", "c"])).await.expect("one voter");
    let all = members(&a, |all| all.iter().filter(|one| one.votes).count() == 1).await;
    assert_eq!(all.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_is_told_and_heard_no_more() {
    let [a, b, c] = three().await;
    let d = joiner("d", &a).await;
    let refused = a.handle.leave(names(&["c"]), false).await.unwrap_err();
    assert!(refused.to_string().contains("2 voters"), "{refused}");
    wait_for(|| d.handle.status().ready(), || format!("{:?}", d.handle.status())).await;
    a.handle.vote(names(&["d"]), names(&["c"])).await.expect("d for c");
    c.handle.leave(names(&["c"]), false).await.expect("gone");
    a.handle.leave(names(&["c"]), false).await.expect("gone already");
    let left = || c.handle.status().why_not_ready.iter().any(|why| why.contains("has left"));
    wait_for(left, || format!("{:?}", c.handle.status())).await;
    let all = members(&b, |all| all.iter().filter(|one| one.votes).count() == 3).await;
    assert_eq!(all.iter().map(|one| &*one.peer.name).collect::<Vec<_>>(), ["a", "b", "d"]);
    b.handle.propose(put("after")).await.expect("the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_may_leave() {
    let [a, b, c] = three().await;
    let all = members(&b, |all| all.iter().filter(|one| leads(one)).count() == 1).await;
    let leader = all.iter().find(|one| leads(one)).expect("a leader").peer.name.clone();
    let node = [&a, &b, &c].into_iter().find(|node| name(node) == leader).expect("one of them");
    node.handle.leave(names(&[&leader]), true).await.expect("gone");
    let rest = [&a, &b, &c].into_iter().find(|node| name(node) != leader).expect("another");
    let again = async { while rest.handle.propose(put("third")).await.is_err() {} };
    tokio::time::timeout(4 * SOON, again).await.expect("another leader");
    members(rest, |all| all.len() == 2).await;
}

fn leads(member: &Member) -> bool {
    member.said.as_ref().is_ok_and(|said| said.role == Role::Leader)
}

fn name(node: &Whole) -> String {
    node.handle.status().node.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moved_is_found_again() {
    let [a, b, c] = three().await;
    let mut running = Vec::new();
    for node in [a, b] {
        let moved = name(&node);
        let dir = stop(node).await;
        let again = start(dir, socket().await).await;
        let there = |all: &[Member]| {
            let found = all.iter().find(|one| one.peer.name == moved).expect("a member");
            found.peer.address == again.address && found.said.is_ok()
        };
        members(&c, there).await;
        again.handle.propose(put(&moved)).await.expect("made");
        running.push(again);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_replaced_and_the_vote_passes_on() {
    let [a, b, c] = three().await;
    let lost = c.handle.0.lead.me();
    drop(stop(c).await);
    let unknown = a.handle.invite(Place::Of(NodeName::new("x")), SOON).unwrap_err();
    assert!(unknown.to_string().contains("no member called x"), "{unknown}");
    b.handle.propose(put("meanwhile")).await.expect("made");
    let token = token(&b, Place::Of(NodeName::new("c")));
    let c = join("c", &a, &token).await.expect("let in");
    let all = members(&a, |all| all.len() == 3 && all.iter().all(|one| one.votes)).await;
    assert!(all.iter().all(|one| one.peer.id != lost && one.said.is_ok()), "{all:#?}");
    wait_for(|| c.handle.status().ready(), || format!("{:?}", c.handle.status())).await;
    assert_eq!(c.handle.state().count(Kind::Upstream), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_can_be_replaced_before_and_after_it_has_its_place() {
    let [a, b, c] = three().await;
    drop(stop(c).await);
    let of_c = || Place::Of(NodeName::new("c"));
    // One that never starts.
    let dir = tempfile::tempdir().expect("a directory");
    let (unused, address) = socket().await;
    let first = token(&a, of_c());
    Home::join(dir.path(), &sign("c", &address), &a.address, &first).await.expect("let in");
    drop(unused);
    let second = join("c", &b, &token(&b, of_c())).await.expect("let in");
    let is = |node: &Whole| {
        let id = node.handle.0.lead.me();
        move |all: &[Member]| {
            let named: Vec<_> = all.iter().filter(|one| one.peer.name == "c").collect();
            matches!(named.as_slice(), [one] if one.peer.id == id && one.votes && one.said.is_ok())
        }
    };
    members(&a, is(&second)).await;
    let third = join("c", &a, &token(&a, of_c())).await.expect("let in");
    members(&b, is(&third)).await;
    let gone = || second.handle.status().why_not_ready.iter().any(|why| why.contains("has left"));
    wait_for(gone, || format!("{:?}", second.handle.status())).await;
    third.handle.propose(put("third")).await.expect("made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_was_broken_off_after_the_goodbye_keeps_the_vote() {
    let [a, b, c] = three().await;
    let lost = c.handle.0.lead.me();
    drop(stop(c).await);
    let dir = tempfile::tempdir().expect("a directory");
    let (listening, address) = socket().await;
    let of_c = token(&a, Place::Of(NodeName::new("c")));
    Home::join(dir.path(), &sign("c", &address), &a.address, &of_c).await.expect("let in");
    // As a leader leaves it that stops in the middle.
    let forget = SystemClock::start().now().plus(Duration::from_secs(3_600));
    let fact = Fact::Departure(crate::Departure { ids: vec![lost], forget });
    let (id, expect) = ("c".to_owned(), FactExpect::Any);
    let changes = vec![FactChange::Set { id, fact, expect }];
    let command = FactCommand { at: SystemClock::start().now(), changes };
    a.handle.propose_facts(command).await.expect("made");
    let c = start(dir, (listening, address)).await;
    let has_vote = |all: &[Member]| {
        all.len() == 3 && all.iter().all(|one| one.votes && one.said.is_ok() && one.peer.id != lost)
    };
    members(&b, has_vote).await;
    c.handle.propose(put("by-c")).await.expect("made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_moved_finds_a_leader_it_has_never_heard_of() {
    let [a, b, c] = three().await;
    let d = joiner("d", &a).await;
    wait_for(|| d.handle.status().ready(), || format!("{:?}", d.handle.status())).await;
    let dir = stop(d).await;
    // Whoever led when it stopped leads no more when it comes back.
    let leader = members(&a, |all| all.iter().any(leads)).await;
    let leader = leader.iter().find(|one| leads(one)).expect("a leader").peer.name.clone();
    let mut rest = Vec::new();
    for node in [a, b, c] {
        if name(&node) == leader { drop(stop(node).await) } else { rest.push(node) }
    }
    members(&rest[0], |all| all.iter().any(leads)).await;
    let d = start(dir, socket().await).await;
    let there = |all: &[Member]| {
        let found = all.iter().find(|one| one.peer.name == "d").expect("a member");
        found.peer.address == d.address && found.said.is_ok()
    };
    members(&rest[1], there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_votes_that_was_broken_off_is_brought_to_its_end() {
    let [a, _b, _c] = three().await;
    let one = BTreeSet::from([a.handle.0.lead.me()]);
    let begun = a.handle.0.lead.raft.change_membership(one.clone(), true);
    // Asked for, and not waited for: the second half is never asked for.
    drop(tokio::time::timeout(Duration::ZERO, begun).await);
    let now =
        || a.handle.0.lead.metrics().membership_config.membership().get_joint_config().clone();
    wait_for(|| now() == [one.clone()], || format!("{:?}", now())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_leaves_voters_of_whom_too_few_are_there() {
    let [a, b, c] = three().await;
    drop(stop(c).await);
    let refused = a.handle.vote(names(&[]), names(&["a", "b"])).await.unwrap_err().to_string();
    assert!(refused.contains("silent: c"), "{refused}");
    let refused = b.handle.leave(names(&["b"]), true).await.unwrap_err().to_string();
    assert!(refused.contains("silent: c"), "{refused}");
    assert!(b.handle.status().ready(), "{:?}", b.handle.status());
    a.handle.propose(put("after")).await.expect("made");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_at_which_nobody_answers_is_not_taken() {
    let [a, b, c] = three().await;
    let (name, old) = (name(&b), b.address.clone());
    let dir = stop(b).await;
    let home = Home::read(dir.path()).expect("readable").expect("a member's");
    let (listening, _) = socket().await;
    let (unused, wrong) = socket().await;
    drop(unused);
    let opened = open_member(options(dir.path(), &name), &home, &wrong, listening).await;
    let (handle, station) = opened.expect("a member");
    let move_it = || async {
        let peer =
            crate::Peer { id: handle.0.lead.me(), name: name.clone(), address: wrong.clone() };
        handle.0.change_members(&crate::membership::MembersAsk::Move(peer)).await
    };
    let refused = move_it().await.unwrap_err().to_string();
    assert!(refused.contains("does not answer"), "{refused}");
    station.stop().await;
    let socket = TcpListener::bind(&old).await.expect("the old port");
    let b = start(dir, (socket, old)).await;
    members(&a, |all| all.iter().all(|one| one.said.is_ok())).await;
    b.handle.propose(put("again")).await.expect("made");
    drop(c);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_does_not_come_back_by_the_same_token() {
    let a = founder("a").await;
    let token = token(&a, Place::Any);
    let b = join("b", &a, &token).await.expect("let in");
    let address = b.address.clone();
    wait_for(|| b.handle.status().ready(), || format!("{:?}", b.handle.status())).await;
    let dir = stop(b).await;
    a.handle.leave(names(&["b"]), false).await.expect("gone");
    let home = Home::read(dir.path()).expect("readable").expect("a member's");
    // Let go while it was down: nobody tells it, but nobody speaks to it.
    let listening = TcpListener::bind(&address).await.expect("the port");
    let opened = open_member(options(dir.path(), "b"), &home, &address, listening).await;
    let (handle, station) = opened.expect("it starts");
    let told = || handle.status().why_not_ready.iter().any(|why| why.contains("has left"));
    wait_for(told, || format!("{:?}", handle.status())).await;
    station.stop().await;
    for file in ["cluster/place.json", "document.redb"] {
        std::fs::remove_file(dir.path().join(file)).expect("removed");
    }
    let again = Home::join(dir.path(), &sign("b", &address), &a.address, &token).await;
    let refused = again.map(drop).unwrap_err().to_string();
    assert!(refused.contains("used already"), "{refused}");
    assert_eq!(a.handle.members().await.len(), 1);
    let fresh = self::token(&a, Place::Any);
    let b = join("b", &a, &fresh).await.expect("let in anew");
    wait_for(|| b.handle.status().ready(), || format!("{:?}", b.handle.status())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_cluster_is_found_before_a_token_is_spent() {
    let a = founder("a").await;
    let (dir, token) = (tempfile::tempdir().expect("a directory"), token(&a, Place::Any));
    let alone = crate::open(options(dir.path(), "alone")).await.expect("a node");
    alone.1.stop().await;
    drop(alone.0);
    std::fs::remove_file(dir.path().join("document.redb")).expect("removed");
    let refused = Home::join(dir.path(), &sign("b", "b:9480"), &a.address, &token).await;
    assert!(matches!(refused, Err(HomeError::OtherKey { .. })), "{refused:?}");
    assert_eq!(a.handle.members().await.len(), 1);
    join("b", &a, &token).await.expect("the token is good yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_says_that_it_can_change_nothing() {
    let [a, b, c] = three().await;
    let leader = members(&a, |all| all.iter().any(leads)).await;
    let leader = leader.iter().find(|one| leads(one)).expect("a leader").peer.name.clone();
    let (mut rest, mut others) = (Vec::new(), Vec::new());
    for node in [a, b, c] {
        if name(&node) == leader { rest.push(node) } else { others.push(node) }
    }
    for other in others {
        drop(stop(other).await);
    }
    let left = rest.pop().expect("the leader");
    let silent = || left.handle.status().why_not_writable.is_some();
    wait_for(silent, || format!("{:?}", left.handle.status())).await;
    assert!(left.handle.status().ready(), "{:?}", left.handle.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_node_is_not_taken() {
    let [a, b, _c] = three().await;
    let (a_dir, b_dir) = (stop(a).await, stop(b).await);
    std::fs::copy(a_dir.path().join("document.redb"), b_dir.path().join("document.redb"))
        .expect("copied");
    let home = Home::read(b_dir.path()).expect("readable").expect("a member's");
    let (socket, address) = socket().await;
    let opened = open_member(options(b_dir.path(), "b"), &home, &address, socket).await;
    let refused = opened.map(drop).unwrap_err();
    let is_foreign = matches!(&refused, super::super::StationError::Data(Error::Foreign { .. }));
    assert!(is_foreign, "{refused}");
}
