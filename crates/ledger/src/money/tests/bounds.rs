//! Laws of what is kept, and for how long.

use std::sync::Arc;

use model::{Amount, ReservationId, Timestamp};
use rules::budget::{Budget, Calendar, Every, Hold, RowKey, zone};
use rules::plan::Subject;

use crate::Denial;
use crate::money::book::{Book, Checked};
use crate::money::sample::{budget, hold, parts};

fn make(book: &mut Book, id: u128, hold: Hold) -> Result<(), Denial> {
    let holds: Arc<[Hold]> = Arc::from([hold]);
    if let Checked::Fits(rows) = book.check(ReservationId(id), &holds)? {
        book.make(ReservationId(id), &holds, rows);
    }
    Ok(())
}

/// A budget of days, and a hold of it in the day that a moment lies in.
fn daily() -> (Arc<Budget>, impl Fn(u64) -> Hold) {
    let calendar = Calendar::new(Every::Day, zone("UTC").unwrap(), None);
    let daily = Arc::new(Budget { calendar, ..budget("daily", 10) });
    let of = Arc::clone(&daily);
    let hold = move |days: u64| {
        let period = of.calendar.at(Timestamp::from_secs(days * 86_400)).start;
        let base = hold(&of, 4);
        Hold { row: RowKey { period, ..base.row.clone() }, ..base }
    };
    (daily, hold)
}

#[test]
fn each_period_has_the_whole_amount_and_a_late_cost_goes_to_the_one_it_began_in() {
    let (mut book, (_, on)) = (Book::default(), daily());
    make(&mut book, 1, on(20_000)).unwrap();
    make(&mut book, 2, on(20_001)).unwrap();
    book.settle(ReservationId(1), &[parts(9)]);
    let posted = |days| book.row(&on(days).row).unwrap_or_default().account.posted;
    assert_eq!((posted(20_000), posted(20_001)), (parts(9), Amount::ZERO));
}

#[test]
fn a_row_is_forgotten_two_of_its_periods_after_its_end_and_no_sooner() {
    let (mut book, (_, on)) = (Book::default(), daily());
    make(&mut book, 1, on(20_000)).unwrap();
    book.settle(ReservationId(1), &[]);
    let at = |days: u64| Timestamp::from_secs(days * 86_400);
    assert!(book.prune(at(20_002)).is_empty());
    assert_eq!(book.prune(at(20_003)).len(), 1);
    assert_eq!(book.len(), 0);
}

#[test]
fn a_row_that_holds_something_is_not_forgotten() {
    let (mut book, (_, on)) = (Book::default(), daily());
    make(&mut book, 1, on(20_000)).unwrap();
    assert!(book.prune(Timestamp::from_secs(30_000 * 86_400)).is_empty());
}

#[test]
fn the_subjects_of_one_budget_leave_the_others_room() {
    let mut book = Book::default();
    let (many, other) = (Arc::new(budget("many", 10)), Arc::new(budget("other", 10)));
    let subject = |of: &Arc<Budget>, name: u128| {
        let base = hold(of, 1);
        let run = Subject::Run(Arc::from("bot"), Arc::from(name.to_string()));
        Hold { row: RowKey { subject: run, ..base.row.clone() }, ..base }
    };
    let mut made = 0_u128;
    while make(&mut book, made, subject(&many, made)).is_ok() {
        book.settle(ReservationId(made), &[]);
        made += 1;
    }
    assert!((60_000..=65_536).contains(&made), "{made}");
    let denied = make(&mut book, made, subject(&many, made));
    assert_eq!(denied, Err(Denial::Crowded { hold: 0 }));
    assert_eq!(make(&mut book, made + 1, subject(&other, 0)), Ok(()));
}

#[test]
fn what_is_void_leaves_no_row_behind() {
    let (mut book, ten) = (Book::default(), Arc::new(budget("ten", 10)));
    make(&mut book, 1, hold(&ten, 4)).unwrap();
    book.void(ReservationId(1));
    assert_eq!((book.len(), book.open()), (0, 0));
}
