//! What facts promise: single use, all or nothing, bounds.

use model::Timestamp;
use rules::outage::Epoch;

use super::{
    Fact, FactChange, FactCommand, FactExpect, FactKey, FactKind, FactRejected, Facts, JoinToken,
};

fn token(expires: u64) -> Fact {
    Fact::JoinToken(JoinToken {
        node: "two".to_owned(),
        id: 2,
        key: String::new(),
        replaces: Vec::new(),
        expires: Timestamp::from_secs(expires),
    })
}

fn set(id: &str, fact: Fact, expect: FactExpect) -> FactChange {
    FactChange::Set { id: id.to_owned(), fact, expect }
}

fn at(secs: u64, changes: Vec<FactChange>) -> FactCommand {
    FactCommand { at: Timestamp::from_secs(secs), changes }
}

#[test]
fn a_token_is_used_once() {
    let mut facts = Facts::default();
    let take = at(1, vec![set("t", token(9), FactExpect::Absent)]);
    facts.apply(&take).unwrap();
    let key = FactKey::new(FactKind::JoinToken, "t");
    assert_eq!(facts.apply(&take), Err(FactRejected::Stale { key }));
}

#[test]
fn a_refused_command_changes_nothing_at_all() {
    let mut facts = Facts::default();
    let belief = FactExpect::Is(Box::new(token(1)));
    let both = vec![set("a", token(9), FactExpect::Any), set("b", token(9), belief)];
    facts.apply(&at(1, both)).unwrap_err();
    assert_eq!(facts, Facts::default());
}

#[test]
fn at_the_bound_only_what_is_over_makes_room() {
    let mut facts = Facts::default();
    for number in 0..FactKind::JoinToken.most() {
        let change = set(&number.to_string(), token(10 + (number as u64 % 2)), FactExpect::Any);
        facts.apply(&at(1, vec![change])).unwrap();
    }
    let more = |secs| at(secs, vec![set("more", token(99), FactExpect::Any)]);
    assert_eq!(facts.apply(&more(10)), Err(FactRejected::Full { kind: FactKind::JoinToken }));
    facts.apply(&more(11)).unwrap();
    assert_eq!(facts.list(FactKind::JoinToken).count(), FactKind::JoinToken.most() / 2 + 1);
    assert!(facts.get(FactKind::JoinToken, "0").is_none());
}

#[test]
fn a_bound_of_one_kind_does_not_touch_another() {
    let mut facts = Facts::default();
    let epoch = |epoch| Fact::LedgerEpoch(Epoch { number: epoch, ..Epoch::first() });
    for number in 0..FactKind::LedgerEpoch.most() as u64 {
        facts
            .apply(&at(1, vec![set(&number.to_string(), epoch(number), FactExpect::Any)]))
            .unwrap();
    }
    let full = facts.apply(&at(1, vec![set("x", epoch(0), FactExpect::Any)]));
    assert_eq!(full, Err(FactRejected::Full { kind: FactKind::LedgerEpoch }));
    facts.apply(&at(1, vec![set("1", epoch(7), FactExpect::Any)])).unwrap();
    facts.apply(&at(1, vec![set("t", token(9), FactExpect::Absent)])).unwrap();
}

#[test]
fn what_is_too_large_is_refused() {
    let mut facts = Facts::default();
    let members = [(1, "r".repeat(20_000))].into();
    let fact = Fact::LedgerEpoch(Epoch { members, ..Epoch::first() });
    for change in [set("e", fact, FactExpect::Any), set("", token(1), FactExpect::Any)] {
        let refused = facts.apply(&at(1, vec![change])).unwrap_err();
        assert!(matches!(refused, FactRejected::Size { .. }), "{refused}");
    }
}

#[test]
fn a_name_survives_the_store() {
    for kind in FactKind::ALL {
        let key = FactKey::new(kind, "agent/alice");
        assert_eq!(FactKey::from_row(&key.row()), Some(key));
    }
    assert_eq!(FactKey::from_row("planets/x"), None);
}
