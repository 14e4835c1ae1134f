//! What the replicated step promises: all or nothing, once, and never a guess.

use config::{Command, Expect, Key, Kind, Stamp};
use model::{Revision, Timestamp};
use serde_json::json;

use super::{Divergence, Machine};
use crate::entry::{Batch, Change, Proposal, ProposalId, Verdict};
use crate::fact::{Fact, FactChange, FactCommand, FactExpect, FactKind};

fn put(id: u8, name: &str) -> Proposal {
    let key = Key::new(Kind::Upstream, name);
    let value = json!({"nodes": {format!("10.0.0.{id}:80"): 1}});
    let change = config::Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now };
    let at = Timestamp::from_secs(1);
    let command = Command { at, base: None, force: false, changes: vec![change] };
    Proposal { id: ProposalId([id; 16]), change: Change::Document(command) }
}

fn epoch(id: u8, expect: FactExpect) -> Proposal {
    let fact = Fact::LedgerEpoch(rules::outage::Epoch::first());
    let change = FactChange::Set { id: "redis".to_owned(), fact, expect };
    let command = FactCommand { at: Timestamp::from_secs(1), changes: vec![change] };
    Proposal { id: ProposalId([id; 16]), change: Change::Facts(command) }
}

fn batch(base: u64, after: u64, proposals: Vec<Proposal>) -> Batch {
    Batch { base: Revision::new(base), after: Revision::new(after), proposals }
}

#[test]
fn an_entry_makes_all_of_its_changes() {
    let mut machine = Machine::default();
    let entry = batch(0, 2, vec![put(1, "a"), epoch(2, FactExpect::Absent), put(3, "b")]);
    let step = machine.apply(1, &entry).unwrap();
    assert_eq!((step.verdict, step.rows.len(), step.facts.len()), (Verdict::Made, 2, 1));
    assert_eq!(machine.state.revision(), Revision::new(2));
    assert!(machine.facts.get(FactKind::LedgerEpoch, "redis").is_some());
    assert_eq!(step.done.unwrap().len(), 3);
}

#[test]
fn an_entry_that_was_judged_elsewhere_makes_nothing() {
    let mut machine = Machine::default();
    machine.apply(1, &batch(0, 1, vec![put(1, "a")])).unwrap();
    let step = machine.apply(2, &batch(0, 1, vec![put(2, "b")])).unwrap();
    assert_eq!((step.verdict, step.rows.len()), (Verdict::Outrun, 0));
    assert_eq!(machine.state.revision(), Revision::new(1));
    assert!(!machine.recent.holds(ProposalId([2; 16])));
}

#[test]
fn a_repeated_proposal_has_its_effect_once() {
    let mut machine = Machine::default();
    let entry = batch(0, 0, vec![epoch(1, FactExpect::Absent)]);
    machine.apply(1, &entry).unwrap();
    let step = machine.apply(2, &entry).unwrap();
    assert_eq!((step.verdict, step.facts.len()), (Verdict::Made, 0));
}

#[test]
fn rules_that_come_out_elsewhere_change_nothing_and_are_named() {
    let mut machine = Machine::default();
    let elsewhere = machine.apply(1, &batch(0, 7, vec![put(1, "a")])).unwrap_err();
    assert!(matches!(elsewhere, Divergence::Revision { .. }), "{elsewhere}");
    let mut bad = put(2, "b");
    if let Change::Document(command) = &mut bad.change {
        command.base = Some(Revision::new(9));
    }
    let rejected = machine.apply(1, &batch(0, 1, vec![bad])).unwrap_err();
    assert!(matches!(rejected, Divergence::Rejected(_)), "{rejected}");
    assert!(machine.state.is_empty() && machine.recent.batches().next().is_none());
}
