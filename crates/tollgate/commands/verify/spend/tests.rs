//! Books that were cooked, each in one way: what is cooked is found, and nothing else is.

use ledger::{Cause, Charge, row_name};
use model::{Amount, ReservationId};
use rules::budget::RowKey;
use serde_json::{Value, json};

use super::books::{Books, Journaled};
use super::report::Kind;
use super::tally::{Span, Sum};
use super::{ALWAYS, Findings, judge, log};

/// What two nodes recorded, and what their ledger says.
struct World {
    /// By node.
    records: [Vec<Value>; 2],
    books: Books,
    since: Option<u64>,
    read: (u64, u64),
}

/// A budget of dollars of everybody for ever, one of dollars a day and one of requests of each
/// agent.
const BUDGETS: [(&str, &str, &str, &str); 3] = [
    ("all", "organisation", "USD", "lifetime"),
    ("daily", "agent", "USD", "day"),
    ("calls", "agent", "requests", "lifetime"),
];

/// The record of a call that came so many seconds after midnight, held 10 and was charged so much.
fn record(id: u128, agent: &str, second: u64, dollars: u64) -> Value {
    let budgets = BUDGETS.map(|(budget, per, unit, every)| {
        let is_dollars = unit == "USD";
        let mut paid = json!({
            "budget": budget, "unit": unit, "per": per, "every": every,
            "subject": if per == "agent" { agent } else { "acme" },
            "held": if is_dollars { "10" } else { "1" },
            "charged": if is_dollars { dollars.to_string() } else { "1".to_owned() },
        });
        if every == "day" {
            paid["period"] = json!("2026-01-02T00:00:00.000000Z");
        }
        paid
    });
    json!({
        "time": format!("2026-01-02T00:{:02}:{:02}Z", second / 60, second % 60),
        "request_id": format!("{id:032x}"), "agent": agent, "budgets": budgets,
        "latency_us": { "total": 1_000 },
    })
}

/// The rows of a record, and what it says of each in smallest parts.
fn rows(record: &Value) -> Vec<(RowKey, Sum)> {
    let text = [format!("{record}\n")];
    let paid = log::of_texts(&text).next().unwrap().unwrap();
    paid.parts.into_iter().map(|part| (part.row, part.charged.parts().into())).collect()
}

impl World {
    /// Twenty calls that went well, and one each of those that a crash had a part in.
    fn honest() -> Self {
        let mut world = Self {
            records: [Vec::new(), Vec::new()],
            books: Books { journals: Some([].into()), ..Books::default() },
            since: None,
            read: ALWAYS,
        };
        for nth in 0..20_u64 {
            let agent = ["alice", "bob"][usize::from(nth % 3 == 0)];
            let call = record(u128::from(nth), agent, nth * 40, nth % 7);
            world.post(&call, 1);
            world.records[usize::from(nth % 2 == 0)].push(call);
        }
        for (id, cause, charged, is_recorded) in [
            (100, Cause::Assumed, 10, None),
            (101, Cause::Assumed, 10, Some(4)),
            (102, Cause::Unrecorded, 3, None),
            (103, Cause::Unrecorded, 3, Some(3)),
            (104, Cause::Open, 10, None),
        ] {
            let call = record(id, "alice", 900, charged);
            for (row, amount) in rows(&call) {
                let amount = Amount::from_parts(amount.try_into().unwrap()).unwrap();
                let (name, id) = (row_name(&row), ReservationId(id));
                world.books.charges.push(Charge { cause, id, name, row: Some(row), amount });
            }
            if cause != Cause::Open {
                world.post(&call, 1);
            }
            if let Some(said) = is_recorded {
                world.records[0].push(record(id, "alice", 900, said));
            }
        }
        world.show();
        world
    }

    /// Posts what a record says, so many times, in the journals alone.
    fn post(&mut self, record: &Value, times: Sum) {
        for (row, amount) in rows(record) {
            let journals = self.books.journals.as_mut().unwrap();
            let stated = journals.entry(row_name(&row)).or_default();
            stated.posted += amount * times;
            stated.row = Some(row);
        }
    }

    /// Shows the accounts as the journals have them, with what is open as held.
    fn show(&mut self) {
        for (budget, per, unit, every) in BUDGETS {
            let open = |row: &RowKey| -> Sum {
                let open = self.books.charges.iter().filter(|charge| {
                    charge.cause == Cause::Open && charge.row.as_ref() == Some(row)
                });
                open.map(|charge| Sum::from(charge.amount.parts())).sum()
            };
            let of = |row: &&Journaled| row.row.as_ref().unwrap().budget.as_str() == budget;
            let journals = self.books.journals.as_ref().unwrap().values().filter(of);
            let accounts: Vec<Value> = journals
                .map(|Journaled { row, posted, .. }| {
                    let row = row.as_ref().unwrap();
                    let text = |sum: Sum| {
                        Amount::from_parts(sum.try_into().unwrap()).unwrap().text(&row.unit)
                    };
                    let start = rules::budget::moment_text(row.period);
                    json!({
                        "subject": row.subject.to_string(), "posted": text(*posted),
                        "pending": text(open(row)), "adjusted": "0",
                        "period_start": (every == "day").then_some(start),
                    })
                })
                .collect();
            let shown = json!({
                "budget": budget, "unit": unit, "per": per, "every": every, "amount": "1000",
                "shadow": false, "total": accounts.len(), "accounts": accounts,
            });
            self.books.show(&shown).unwrap();
        }
    }

    fn judged(&self) -> Findings {
        let line = |record: &Value| format!("{record}\n");
        let texts = self.records.each_ref().map(|records| records.iter().map(line).collect());
        let span = Span { since: self.since.unwrap_or_default(), read: self.read };
        judge(&mut log::of_texts(&texts), &self.books, span, self.since).unwrap().1
    }

    fn journaled(&mut self, budget: &str) -> &mut Journaled {
        let journals = self.books.journals.as_mut().unwrap().values_mut();
        let mut of = journals.filter(|row| row.row.as_ref().unwrap().budget.as_str() == budget);
        of.next().unwrap()
    }
}

/// The faults that are found once the books were cooked, each kind once.
#[track_caller]
fn check(cook: impl FnOnce(&mut World), expected: &[Kind]) {
    let mut world = World::honest();
    cook(&mut world);
    let found = world.judged();
    let mut kinds: Vec<Kind> = found.faults.iter().map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, expected, "{:#?}", found.faults);
}

fn notes(world: &World) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = world.judged().notes.iter().map(|note| note.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[test]
fn honest_books_agree_and_what_a_crash_did_is_named() {
    check(|_| {}, &[]);
    assert_eq!(notes(&World::honest()), [Kind::Assumed, Kind::Unrecorded, Kind::Open]);
}

#[test]
fn a_record_that_is_gone_is_found_in_each_of_its_rows() {
    check(|world| drop(world.records[0].remove(2)), &[Kind::NotRecorded]);
    let mut world = World::honest();
    drop(world.records[0].remove(2));
    let figures = &world.judged().faults[0].figures;
    assert_eq!([&figures[0].0, &figures[1].0], ["records", "journals"]);
    assert!(figures[0].1 < figures[1].1, "{figures:?}");
    // Three rows, each by two sources.
    assert_eq!(world.judged().faults.len(), 6);
}

#[test]
fn a_record_that_is_doubled_is_found_beside_it_and_in_another_file() {
    let double = |to: usize, at: usize| {
        move |world: &mut World| {
            let copy = world.records[0][2].clone();
            world.records[to].insert(at, copy);
        }
    };
    check(double(0, 3), &[Kind::Twice]);
    check(double(1, 3), &[Kind::Twice]);
    // Far from the other it is one more.
    check(double(0, 10), &[Kind::NotPosted]);
}

#[test]
fn an_amount_that_is_altered_is_found() {
    let alter = |budgets: std::ops::Range<usize>, to: &'static str| {
        move |world: &mut World| {
            for budget in budgets {
                world.records[0][2]["budgets"][budget]["charged"] = json!(to);
            }
        }
    };
    // It was charged five dollars of both budgets of dollars.
    check(alter(0..2, "4"), &[Kind::NotRecorded]);
    check(alter(0..2, "6"), &[Kind::NotPosted]);
    check(alter(1..2, "4"), &[Kind::NotRecorded, Kind::Uneven]);
    // Of what was assumed the record may say less; of what was charged and not yet recorded not.
    let last = |world: &mut World, charged: &str| {
        let record = world.records[0].last_mut().unwrap();
        for budget in 0..2 {
            record["budgets"][budget]["charged"] = json!(charged);
        }
    };
    check(|world| last(world, "2"), &[Kind::NotRecorded]);
}

#[test]
fn what_is_posted_without_a_record_or_recorded_without_a_posting_is_found() {
    let extra = record(200, "bob", 950, 1);
    check(
        |world| {
            world.post(&extra, 1);
            world.show();
        },
        &[Kind::NotRecorded],
    );
    check(|world| world.records[1].push(extra.clone()), &[Kind::NotPosted]);
    check(
        |world| {
            world.post(&world.records[1][0].clone(), -1);
            world.show();
        },
        &[Kind::NotPosted],
    );
}

#[test]
fn a_reservation_that_was_resolved_twice_is_found() {
    check(
        |world| {
            world.post(&world.records[1][1].clone(), 1);
            world.show();
        },
        &[Kind::NotRecorded],
    );
}

#[test]
fn journals_and_accounts_that_differ_are_found() {
    let cook = |world: &mut World| {
        world.books.accounts.values_mut().for_each(|shown| shown.posted += 1);
    };
    check(cook, &[Kind::NotRecorded, Kind::Ledgers]);
    // What the store has not heard of yet is no difference, but of the records it is one.
    let untold = |world: &mut World| {
        let journaled = world.journaled("calls");
        journaled.untold = 1;
        let name = row_name(journaled.row.as_ref().unwrap());
        world.books.accounts.get_mut(&name).unwrap().posted -= 1;
    };
    check(untold, &[Kind::NotPosted]);
}

#[test]
fn a_parent_without_what_went_through_it_is_found() {
    check(
        |world| {
            world.journaled("all").posted -= 1;
            world.show();
        },
        &[Kind::NotPosted, Kind::Children],
    );
}

#[test]
fn more_than_the_amount_and_less_held_than_open_are_found() {
    let over = |world: &mut World| {
        let shown = world.books.shown.values_mut();
        shown.for_each(|head| head.amount = 5_000_000);
    };
    check(over, &[Kind::Beyond]);
    let free = |world: &mut World| {
        world.books.accounts.values_mut().for_each(|shown| shown.pending = 0);
    };
    check(free, &[Kind::Pending]);
}

#[test]
fn what_a_crash_left_open_may_be_charged_by_an_operator_once() {
    let reconcile = |times: Sum| {
        move |world: &mut World| {
            for charge in world.books.charges.iter().filter(|charge| charge.cause == Cause::Open) {
                let shown = world.books.accounts.get_mut(&charge.name).unwrap();
                shown.posted += times * Sum::from(charge.amount.parts());
                shown.pending = 0;
            }
        }
    };
    check(reconcile(1), &[]);
    check(reconcile(2), &[Kind::NotRecorded, Kind::Ledgers]);
    // One that had no effect is recorded so; its journal did not hear of it in time.
    let void = |world: &mut World| {
        world.records[0].push(record(104, "alice", 900, 0));
        for paid in world.records[0].last_mut().unwrap()["budgets"].as_array_mut().unwrap() {
            paid["charged"] = json!("0");
        }
        world.books.accounts.values_mut().for_each(|shown| shown.pending = 0);
    };
    check(void, &[]);
}

#[test]
fn what_is_booked_beyond_its_hold_is_no_fault() {
    let mut world = World::honest();
    let dear = record(300, "bob", 950, 30);
    world.post(&dear, 1);
    world.records[1].push(dear);
    world.show();
    let posted = world.books.accounts.values().map(|shown| shown.posted).max().unwrap();
    let overrun = 20_000_000;
    world.books.shown.values_mut().for_each(|head| head.amount = posted - overrun);
    assert_eq!(world.judged().faults, []);
    assert!(notes(&world).contains(&Kind::Overrun));
    world.books.shown.values_mut().for_each(|head| head.amount -= 1);
    assert!(world.judged().faults.iter().all(|fault| fault.kind == Kind::Beyond));
}

#[test]
fn what_was_posted_before_the_log_is_told_apart_and_what_is_missing_is_not() {
    let noon = 1_767_312_000_000_000 + 60_000_000;
    let mut world = World::honest();
    world.since = Some(noon);
    assert_eq!(world.judged().faults, []);
    assert!(notes(&world).contains(&Kind::Before));
    let extra = record(200, "bob", 950, 1);
    (0..9).for_each(|_| world.post(&record(201, "bob", 950, 6), -1));
    world.records[1].push(extra);
    world.show();
    assert!(world.judged().faults.iter().any(|fault| fault.kind == Kind::NotPosted));
}

#[test]
fn calls_that_end_while_a_node_is_asked_may_be_posted_or_not() {
    let mut world = World::honest();
    let last = 1_767_312_000_000_000 + 760_000_000;
    world.read = (last, last + 200_000_000);
    assert_eq!(world.judged().faults, [], "it is posted");
    for (row, amount) in rows(&record(19, "alice", 760, 5)) {
        let name = row_name(&row);
        world.books.accounts.get_mut(&name).unwrap().posted -= amount;
        world.books.journals.as_mut().unwrap().get_mut(&name).unwrap().posted -= amount;
    }
    assert_eq!(world.judged().faults, [], "it is not posted yet");
    world.read.0 += 200_000_000;
    assert!(!world.judged().faults.is_empty(), "it had ended long before");
}

#[test]
fn a_line_that_a_crash_left_is_counted_and_one_of_an_earlier_version_refused() {
    let mut world = World::honest();
    world.records[0].insert(2, json!({ "unfinished": "{\"time\":\"20" }));
    assert_eq!(world.judged().faults, []);
    let mut torn = log::of_texts(&[format!("{}\n{{\"time", record(1, "bob", 1, 1))]);
    assert!(torn.next().unwrap().is_some() && torn.next().unwrap().is_none());
    assert_eq!(torn.unfinished, 1);
    let mut old = record(400, "bob", 1, 1);
    old["budgets"][0].as_object_mut().unwrap().remove("per");
    let text = [format!("\n{old}\n")];
    let refused = log::of_texts(&text).next().unwrap_err();
    let said = format!("{refused:#}");
    assert!(said.contains("line 2 of file-0") && said.contains("earlier version"), "{said}");
}
