//! What the checker takes, and every kind of broken history that it does not.

use super::{Answer, Deed, History, Violation};

/// A history in words, one event each: `a+w1` client `a` calls a write of 1; `a=7` it is done at
/// revision 7. Deeds: `w1` write, `s12` swap 1 for 2 (`_` is nothing), `d` delete, `r` read.
/// Answers: `=7` or `=` done, `!` refused, `:1` saw 1 (`:1@7` at revision 7), `x` failed,
/// `?` unknown.
fn history(events: &str) -> History {
    let mut history = History::default();
    let mut calls = std::collections::BTreeMap::new();
    for event in events.split_whitespace() {
        let (client, rest) = event.split_at(1);
        let (verb, rest) = rest.split_at(1);
        let value = |text: &str| (text != "_").then(|| text.to_owned());
        if verb == "+" {
            let (deed, rest) = rest.split_at(1);
            let deed = match deed {
                "w" => Deed::Write(rest.to_owned()),
                "s" => Deed::Swap { old: value(&rest[..1]), new: rest[1..].to_owned() },
                "d" => Deed::Delete,
                _ => Deed::Read,
            };
            calls.insert(client, history.call("k", deed));
            continue;
        }
        let answer = match verb {
            "=" => Answer::Done { revision: rest.parse().ok() },
            "!" => Answer::Refused,
            "x" => Answer::Failed,
            "?" => Answer::Unknown,
            _ => {
                let (seen, revision) = rest.split_once('@').unwrap_or((rest, ""));
                Answer::Saw { value: value(seen), revision: revision.parse().ok() }
            }
        };
        history.answer(calls[client], answer);
    }
    history
}

#[track_caller]
fn holds(events: &str) {
    assert_eq!(history(events).check(), Ok(()), "{events}");
}

#[track_caller]
fn breaks(events: &str) {
    let found = history(events).check();
    assert!(matches!(found, Err(Violation::Register { .. })), "{events}: {found:?}");
}

#[track_caller]
fn breaks_revisions(events: &str) {
    let found = history(events).check();
    assert!(matches!(found, Err(Violation::Revision { .. })), "{events}: {found:?}");
}

#[test]
fn what_one_register_does_holds() {
    holds("");
    holds("a+r a:_ a+w1 a= a+r a:1 a+s12 a= a+r a:2 a+d a= a+r a:_ a+d a!");
    holds("a+s_1 a= b+s_2 b! b+s13 b= a+r a:3");
}

#[test]
fn a_read_during_a_write_sees_either() {
    holds("a+w1 a= b+w2 c+r c:1 b=");
    holds("a+w1 a= b+w2 c+r c:2 b=");
    holds("a+w1 a= b+w2 c+r c:2 d+r d:2 b=");
}

#[test]
fn two_reads_during_a_write_do_not_go_back() {
    breaks("a+w1 a= b+w2 c+r c:2 d+r d:1 b=");
}

#[test]
fn an_unknown_write_may_take_effect_late_or_never() {
    holds("a+w1 a= b+w2 b? c+r c:1 c+r c:1");
    holds("a+w1 a= b+w2 b? c+r c:1 c+r c:2");
    holds("a+w1 a= b+w2 c+r c:1 c+r c:2");
    breaks("a+w1 a= b+w2 b? c+r c:2 c+r c:1");
}

#[test]
fn a_stale_read_breaks() {
    breaks("a+w1 a= a+w2 a= b+r b:1");
    breaks("a+w1 a= a+d a= b+r b:1");
}

#[test]
fn a_lost_write_breaks() {
    breaks("a+w1 a= b+r b:_");
    breaks("a+w1 a= b+s13 b= c+r c:1");
}

#[test]
fn a_write_that_is_done_twice_breaks() {
    breaks("a+w1 a= b+w2 b= c+r c:2 c+r c:1");
    breaks("a+w1 a= b+d b= c+r c:_ c+r c:1");
    breaks("a+w1 a? b+d b= c+d c= d+r d:_");
}

#[test]
fn writes_in_another_order_break() {
    breaks("a+w1 a= b+w2 b= c+r c:1");
    breaks("a+w1 b+w2 a= b= c+r c:1 d+r d:2");
}

#[test]
fn a_value_that_nobody_wrote_breaks() {
    breaks("a+w1 a= b+r b:9");
}

#[test]
fn a_failed_write_that_is_seen_breaks() {
    breaks("a+w1 ax b+r b:1");
    holds("a+w1 ax b+r b:_");
}

#[test]
fn two_swaps_of_the_same_value_break() {
    breaks("a+w1 a= b+s12 c+s13 b= c=");
    holds("a+w1 a= b+s12 c+s13 b= c!");
}

#[test]
fn a_swap_that_was_refused_though_it_fitted_breaks() {
    breaks("a+w1 a= b+s12 b!");
    breaks("a+w1 a= b+d b!");
}

#[test]
fn revisions_follow_the_order_of_time() {
    holds("a+w1 a=1 b+w2 b=2 c+r c:2@2");
    holds("a+w1 b+w2 a=2 b=1 c+r c:1@2");
    breaks_revisions("a+w1 a=2 b+w2 b=1");
    breaks_revisions("a+w1 a=1 b+w2 b=1");
    breaks_revisions("a+w1 a=1 b+r b:1@0");
    breaks_revisions("a+w1 a? b+r b:1@5 c+w2 c=5");
}

#[test]
fn registers_are_judged_one_by_one() {
    let mut history = History::default();
    let first = history.call("a", Deed::Write("1".to_owned()));
    let second = history.call("b", Deed::Read);
    history.answer(first, Answer::Done { revision: None });
    history.answer(second, Answer::Saw { value: None, revision: None });
    assert_eq!(history.check(), Ok(()));
    assert_eq!((history.len(), history.is_empty()), (2, false));
}
