//! Three nodes in one process over a network in memory: what they promise together.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "cluster/fleet.rs"]
mod fleet;
#[path = "cluster/net.rs"]
mod net;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::{
    Fact, FactChange, FactCommand, FactExpect, FactKind, Kept, Message, MessageKind, ProposeError,
    ReadError, Role, Service,
};
use config::{Change, Command, Expect, Key, Kind, Rejected, Stamp};
use model::{NodeName, Revision, Timestamp};
use rules::outage::Epoch;
use serde_json::json;
use tokio::task::JoinSet;

use fleet::{Fleet, create, put, shown, upstream};

#[tokio::test(start_paused = true)]
async fn a_change_at_any_node_is_live_at_that_node_and_soon_at_all() {
    let fleet = Fleet::three(1).await;
    for id in 1..=3 {
        let applied = fleet.handle(id).propose(put("a", upstream(id))).await.unwrap();
        assert!(fleet.handle(id).snapshots().borrow().revision >= applied.revision);
        fleet.all_reach(applied.revision).await;
    }
    fleet.agree().await;
    fleet.stop().await;
}

/// Resources of a megabyte each.
fn large(megabytes: usize) -> Command {
    let changes = (0..megabytes).map(|number| {
        let path = |place: usize| format!("/{number}/{place}/{}", "x".repeat(2_000));
        let uris: Vec<String> = (0..512).map(path).collect();
        let value = json!({"uris": uris, "plugins": {}});
        let key = Key::new(Kind::Route, format!("large-{number}"));
        Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
    });
    Command { at: Timestamp::from_secs(1), base: None, force: false, changes: changes.collect() }
}

#[tokio::test(start_paused = true)]
async fn a_large_change_reaches_all_from_any_node_and_a_learner_is_sent_it_whole() {
    let mut fleet = Fleet::three(11).await;
    let leader = fleet.leader().await;
    let follower = (1..=3_u64).find(|id| *id != leader).unwrap();
    let applied = fleet.handle(follower).propose(large(8)).await.unwrap();
    assert_eq!(applied.effects.len(), 8);
    fleet.all_reach(applied.revision).await;
    // The entry is cut from the log, so that whoever joins is sent the document.
    for number in 0..150 {
        fleet.handle(leader).propose(put("a", upstream(number))).await.unwrap();
    }
    fleet.join(4).await;
    fleet.agree().await;
    assert_eq!(fleet.handle(4).state().count(Kind::Route), 8);
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejection_reads_the_same_at_every_node() {
    let fleet = Fleet::three(2).await;
    fleet.handle(1).propose(put("a", upstream(1))).await.unwrap();
    for id in 1..=3 {
        let missing = fleet.handle(id).propose(fleet::delete("absent")).await.unwrap_err();
        assert!(matches!(missing, ProposeError::Rejected(Rejected::Missing { .. })), "{missing}");
    }
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_under_writes_loses_no_answered_change_and_repeats_none() {
    for seed in 1..=3 {
        let mut fleet = Fleet::three(seed).await;
        let leader = fleet.leader().await;
        let mut writers = JoinSet::new();
        for id in (1..=3).filter(|id| *id != leader) {
            for writer in 0..4 {
                let handle = fleet.handle(id).clone();
                writers.spawn(async move {
                    let mut made = Vec::new();
                    for number in 0..15 {
                        let name = format!("n{id}-w{writer}-{number}");
                        // A POST: were it made twice, there would be two.
                        if handle.propose(create(named(&name))).await.is_ok() {
                            made.push(name);
                        }
                    }
                    made
                });
            }
        }
        fleet.some_are_made(20).await;
        fleet.kill(leader).await;
        let mut made = Vec::new();
        while let Some(done) = writers.join_next().await {
            made.extend(done.unwrap());
        }
        assert!(made.len() >= 100, "seed {seed}: {} of 120", made.len());
        fleet.revive(leader).await;
        fleet.agree().await;
        let state = fleet.handle(leader).state();
        let found: Vec<String> = state.list(Kind::Upstream).map(|(_, it)| name(it)).collect();
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(found.len(), distinct.len(), "seed {seed}: something was made twice");
        assert!(made.iter().all(|name| distinct.contains(name)), "seed {seed}");
        fleet.stop().await;
    }
}

fn named(name: &str) -> serde_json::Value {
    let mut value = upstream(1);
    value.as_object_mut().unwrap().insert("desc".to_owned(), name.into());
    value
}

fn name(stored: &config::Stored) -> String {
    stored.value.get("desc").and_then(|name| name.as_str()).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_minority_refuses_changes_and_still_serves_its_snapshot() {
    let fleet = Fleet::three(4).await;
    let before = fleet.handle(1).propose(put("a", upstream(1))).await.unwrap().revision;
    fleet.all_reach(before).await;
    let leader = fleet.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    fleet.net.part(&[leader], &others);
    let alone = fleet.handle(leader);
    let refused = alone.propose(put("b", upstream(2))).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Unavailable { kept: Kept::Unknown, .. }), "{refused}");
    let refused = alone.propose(put("b", upstream(3))).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Unavailable { kept: Kept::No, .. }), "{refused}");
    assert!(matches!(alone.read().await, Err(ReadError::NoMajority)));
    assert_eq!(alone.snapshots().borrow().revision, before);
    fleet.handle(others[0]).propose(put("c", upstream(4))).await.unwrap();
    assert!(alone.state().get(&fleet::key("c")).is_none());
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_healed_partition_agrees_on_what_the_majority_took() {
    let fleet = Fleet::three(5).await;
    let leader = fleet.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    fleet.net.part(&[leader], &others);
    let alone = fleet.handle(leader).clone();
    let mut asked = JoinSet::new();
    asked.spawn(async move { alone.propose(put("lost", upstream(1))).await });
    let kept = fleet.handle(others[0]).propose(put("kept", upstream(2))).await.unwrap();
    fleet.net.heal();
    let lost = asked.join_next().await.unwrap().unwrap();
    fleet.all_reach(kept.revision).await;
    fleet.agree().await;
    let state = fleet.handle(leader).read().await.unwrap();
    assert!(state.get(&fleet::key("kept")).is_some());
    assert_eq!(state.get(&fleet::key("lost")).is_some(), lost.is_ok());
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_proposal_whose_answers_are_lost_has_its_effect_once() {
    for seed in 6..=8 {
        let fleet = Fleet::three(seed).await;
        let follower = (1..=3).find(|id| fleet.handle(*id).status().role == Role::Follower);
        fleet.net.lose_answers(60);
        let mut writers = JoinSet::new();
        for number in 0..12 {
            let handle = fleet.handle(follower.unwrap()).clone();
            writers.spawn(async move { handle.propose(create(upstream(number))).await });
        }
        let mut made = BTreeSet::new();
        while let Some(done) = writers.join_next().await {
            match done.unwrap() {
                Ok(applied) => drop(made.insert(applied.revision)),
                Err(ProposeError::Unavailable { kept: Kept::Unknown, .. }) => {}
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        fleet.net.lose_answers(0);
        let state = fleet.handle(1).read().await.unwrap();
        assert!(made.len() >= 6, "seed {seed}: {made:?}");
        assert_eq!(state.count(Kind::Upstream), 12, "seed {seed}");
        assert_eq!(state.revision(), Revision::new(12), "seed {seed}");
        fleet.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_another_overtook_before_its_answer_arrived_is_told_as_made_and_not_as_the_other()
 {
    let fleet = Fleet::three(12).await;
    let leader = fleet.leader().await;
    let follower = (1..=3_u64).find(|id| *id != leader).unwrap();
    for overtaking in [fleet::delete("a"), put("a", upstream(2))] {
        fleet.net.lose_answers(100);
        let slow = fleet.handle(follower).clone();
        let before = fleet.handle(leader).read().await.unwrap().revision();
        let mut slowly = JoinSet::new();
        slowly.spawn(async move { slow.propose(put("a", upstream(1))).await });
        fleet.all_reach(before.next()).await;
        let overtaken = fleet.handle(leader).propose(overtaking).await.unwrap();
        fleet.net.lose_answers(0);
        let made = slowly.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!((before.next(), made.revision.next()), (made.revision, overtaken.revision));
        assert_eq!(made.effects[0].stored, None);
    }
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_anywhere_sees_every_change_that_was_answered() {
    for seed in 9..=11 {
        let fleet = Fleet::three(seed).await;
        fleet.net.trouble(3, Duration::from_millis(40));
        for round in 0..12 {
            let (writer, reader) = (round % 3 + 1, (round + round / 3) % 3 + 1);
            let made = fleet.handle(writer).propose(put("a", upstream(round))).await.unwrap();
            let seen = fleet.handle(reader).read().await.unwrap();
            assert!(seen.revision() >= made.revision, "seed {seed}, round {round}");
        }
        fleet.net.trouble(0, Duration::ZERO);
        fleet.agree().await;
        fleet.stop().await;
    }
}

fn epoch(number: u64) -> FactCommand {
    let fact = Fact::LedgerEpoch(Epoch { number, ..Epoch::first() });
    let change = FactChange::Set { id: "redis".to_owned(), fact, expect: FactExpect::Any };
    FactCommand { at: Timestamp::from_secs(number), changes: vec![change] }
}

#[tokio::test(start_paused = true)]
async fn a_learner_that_is_far_behind_is_sent_everything() {
    let mut fleet = Fleet::three(12).await;
    let leader = fleet.leader().await;
    let behind = leader % 3 + 1;
    let voters = (1..=3).filter(|id| *id != behind).collect();
    fleet.handle(leader).set_voters(voters).await.unwrap();
    fleet.kill(behind).await;
    fleet.handle(leader).propose(put("a", upstream(7))).await.unwrap();
    // More entries than the log keeps.
    for number in 0..300 {
        fleet.handle(leader).propose_facts(epoch(number)).await.unwrap();
    }
    fleet.revive(behind).await;
    fleet.agree().await;
    let found = fleet.handle(behind);
    assert!(found.state().get(&fleet::key("a")).is_some());
    assert_eq!(shown(found), shown(fleet.handle(leader)));
    let facts = found.facts();
    let Some(Fact::LedgerEpoch(kept)) = facts.get(FactKind::LedgerEpoch, "redis") else {
        panic!("{facts:?}");
    };
    assert_eq!(kept.number, 299);
    assert_eq!(found.status().role, Role::Learner);
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_an_old_cluster_is_sent_everything() {
    let mut fleet = Fleet::three(16).await;
    for number in 0..30 {
        fleet.handle(1).propose(put(&format!("u{number}"), upstream(number))).await.unwrap();
    }
    fleet.join(4).await;
    fleet.agree().await;
    assert_eq!(fleet.handle(4).state().count(Kind::Upstream), 30);
    assert_eq!(fleet.handle(4).status().role, Role::Learner);
    fleet.handle(4).propose(put("from-4", upstream(1))).await.unwrap();
    assert!(fleet.handle(1).read().await.unwrap().get(&fleet::key("from-4")).is_some());
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_does_not_start_on_the_data_of_another_cluster() {
    let fleet = Fleet::three(17).await;
    let mut other = Fleet::three(18).await;
    other.kill(2).await;
    let refused = other.open_as_member_of(2, fleet.handle(1)).await.unwrap_err();
    assert!(matches!(refused, cluster::Error::Foreign { .. }), "{refused}");
    other.revive(2).await;
    fleet.stop().await;
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_gets_nothing_judged_and_learns_nothing() {
    let fleet = Fleet::three(19).await;
    for kind in [MessageKind::Propose, MessageKind::ReadIndex, MessageKind::Members] {
        let message = Message { kind, version: 1, body: "null".into() };
        let from = NodeName::new("stranger");
        let refused = fleet.handle(1).answer(&from, message).await.unwrap_err();
        assert!(refused.why.contains("stranger is not a member"), "{refused}");
    }
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_leader_is_replaced_within_two_seconds() {
    for seed in 20..=29 {
        let fleet = Fleet::three(seed).await;
        let leader = fleet.leader().await;
        let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
        fleet.net.part(&[leader], &others);
        let lost = tokio::time::Instant::now();
        for id in others {
            fleet.handle(id).propose(put("a", upstream(id))).await.unwrap();
            assert!(lost.elapsed() <= Duration::from_secs(2), "seed {seed}: {:?}", lost.elapsed());
        }
        fleet.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_loses_its_power_at_once_loses_no_answered_change() {
    let mut fleet = Fleet::three(13).await;
    for number in 0..20 {
        let name = format!("u{number}");
        fleet.handle(number % 3 + 1).propose(put(&name, upstream(number))).await.unwrap();
    }
    for id in 1..=3 {
        fleet.kill(id).await;
    }
    for id in 1..=3 {
        fleet.revive(id).await;
    }
    assert_eq!(fleet.handle(1).read().await.unwrap().count(Kind::Upstream), 20);
    fleet.agree().await;
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_node_tells_of_all() {
    let fleet = Fleet::three(14).await;
    let revision = fleet.handle(1).propose(put("a", upstream(1))).await.unwrap().revision;
    fleet.all_reach(revision).await;
    let members = fleet.handle(2).members().await;
    assert_eq!(members.len(), 3);
    for member in &members {
        let said = member.said.as_ref().unwrap();
        assert!(member.votes && said.revision == revision.number(), "{member:?}");
    }
    fleet.net.part(&[2], &[3]);
    let members = fleet.handle(2).members().await;
    assert_eq!(members.iter().filter(|member| member.said.is_ok()).count(), 2);
    fleet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_newer_or_none_of_ours_is_refused() {
    let fleet = Fleet::three(15).await;
    let from = NodeName::new("node-2");
    let kinds = [
        MessageKind::Append,
        MessageKind::Vote,
        MessageKind::Snapshot,
        MessageKind::Propose,
        MessageKind::Members,
        MessageKind::Ledger,
    ];
    for kind in kinds {
        for (version, body) in [(2, "{}"), (1, "planted"), (1, "")] {
            let message = Message { kind, version, body: body.into() };
            let refused = fleet.handle(1).answer(&from, message).await.unwrap_err();
            assert!(!refused.why.contains("planted"), "{refused}");
        }
    }
    fleet.handle(1).propose(put("a", upstream(1))).await.unwrap();
    fleet.stop().await;
}
