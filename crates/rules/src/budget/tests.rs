//! Laws of budgets: periods without gaps, and accounts that forget nothing.

use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{Amount, BudgetId, Timestamp, Unit};
use proptest::prelude::*;

use super::{Account, Budget, Calendar, Durability, Every, Fired, Overdraft, Period, WhenShort};
use crate::limit::{OnOutage, Per};
use crate::selector::Selector;

fn moment(text: &str) -> Timestamp {
    let moment: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_micros(moment.as_microsecond().try_into().unwrap())
}

#[track_caller]
fn check(every: Every, zone: &str, anchor: Option<&str>, at: &str, expected: (&str, &str)) {
    let anchor = anchor.map(|text| text.parse::<DateTime>().unwrap());
    let calendar = Calendar::new(every, TimeZone::get(zone).unwrap(), anchor);
    let (start, end) = (moment(expected.0), Some(moment(expected.1)));
    assert_eq!(calendar.at(moment(at)), Period { start, end }, "{every:?} in {zone} at {at}");
}

#[test]
fn periods_begin_where_people_expect_it() {
    let at = "2026-11-23T18:26:05Z";
    let utc = |every, expected| check(every, "UTC", None, at, expected);
    utc(Every::Hour, ("2026-11-23T18:00:00Z", "2026-11-23T19:00:00Z"));
    utc(Every::Day, ("2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"));
    utc(Every::Week, ("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"));
    utc(Every::Month, ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"));
    utc(Every::Quarter, ("2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"));
    utc(Every::Year, ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"));
}

#[test]
fn a_day_is_a_day_of_its_zone_however_long_it_is() {
    let day = |at, expected| check(Every::Day, "Europe/Berlin", None, at, expected);
    day("2026-03-29T12:00:00Z", ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"));
    day("2026-10-25T12:00:00Z", ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"));
}

#[test]
fn an_anchor_moves_the_beginning_and_a_short_month_has_its_last_day() {
    let anchor = Some("2026-01-31T06:00:00");
    let month = |at, expected| check(Every::Month, "UTC", anchor, at, expected);
    month("2026-02-15T00:00:00Z", ("2026-01-31T06:00:00Z", "2026-02-28T06:00:00Z"));
    month("2026-03-01T00:00:00Z", ("2026-02-28T06:00:00Z", "2026-03-31T06:00:00Z"));
    month("2025-12-31T05:59:59Z", ("2025-11-30T06:00:00Z", "2025-12-31T06:00:00Z"));
}

#[test]
fn a_lifetime_has_no_end() {
    let period = Calendar::lifetime().at(moment("2026-11-23T18:26:05Z"));
    assert_eq!(period, Period { start: Timestamp::default(), end: None });
}

proptest! {
    #[test]
    fn periods_leave_no_gap_and_do_not_overlap(
        secs in 0_u64..4_000_000_000,
        every in prop::sample::select(vec![
            Every::Hour, Every::Day, Every::Week, Every::Month, Every::Quarter, Every::Year,
        ]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]),
        anchor in prop::sample::select(vec![None, Some("2024-02-29T02:30:00"), Some("2026-12-31T23:59:59")]),
    ) {
        let anchor = anchor.map(|text| text.parse().unwrap());
        let calendar = Calendar::new(every, TimeZone::get(zone).unwrap(), anchor);
        let now = Timestamp::from_secs(secs);
        let Period { start, end } = calendar.at(now);
        let end = end.unwrap();
        prop_assert!(start <= now && now < end);
        prop_assert_eq!(calendar.at(start), Period { start, end: Some(end) });
        prop_assert_eq!(calendar.at(end).start, end);
    }
}

fn budget(amount: i64) -> Arc<Budget> {
    Arc::new(Budget {
        id: BudgetId::new("b"),
        per: Per::Organisation,
        unit: Unit::requests(),
        amount: Amount::from_parts(amount).unwrap(),
        calendar: Calendar::lifetime(),
        selector: Selector::default(),
        thresholds: vec![50, 80, 100],
        webhook: None,
        when_short: WhenShort::Refuse,
        on_outage: OnOutage::Refuse,
        durability: Durability::Journal,
        shadow: false,
    })
}

fn parts(parts: i64) -> Amount {
    Amount::from_parts(parts).unwrap()
}

#[test]
fn what_is_held_counts_against_the_amount_until_it_is_settled_or_voided() {
    let budget = budget(10);
    let held = Account::default().reserve(&budget, parts(7)).unwrap();
    assert_eq!(held.reserve(&budget, parts(4)), Err(Overdraft::Left(parts(3))));
    assert_eq!(held.void(parts(7)), Account::default());
    let settled = held.settle(parts(7), parts(5));
    assert_eq!((settled.posted, settled.pending), (parts(5), Amount::ZERO));
    assert!(settled.reserve(&budget, parts(5)).is_ok());
}

#[test]
fn an_overrun_is_booked_and_refuses_what_follows() {
    let budget = budget(10);
    let over = Account::default().reserve(&budget, parts(4)).unwrap().settle(parts(4), parts(15));
    assert_eq!(over.posted, parts(15));
    assert_eq!(over.reserve(&budget, parts(1)), Err(Overdraft::Left(parts(-5))));
    assert!(over.reserve(&budget, Amount::ZERO).is_ok());
    let granted = Account { adjusted: parts(6), ..over };
    assert!(granted.reserve(&budget, parts(1)).is_ok());
}

#[test]
fn each_threshold_fires_once_when_what_is_spent_reaches_it() {
    let budget = budget(10);
    let mut account = Account::default();
    for (spent, expected) in [(4, vec![]), (1, vec![50]), (1, vec![]), (9, vec![80, 100])] {
        account.posted = account.posted.plus(parts(spent)).unwrap();
        let (after, fired) = account.fire(&budget);
        assert_eq!(fired, expected);
        account = after;
    }
}

#[test]
fn a_threshold_that_fired_is_known_by_its_percent_when_the_list_is_edited() {
    let before = Account { posted: parts(6), ..Account::default() };
    let (fired, percents) = before.fire(&budget(10));
    assert_eq!(percents, [50]);
    let check = |thresholds: &[u8], expected: &[u8]| {
        let edited = Budget { thresholds: thresholds.to_vec(), ..(*budget(10)).clone() };
        assert_eq!(fired.fire(&edited).1, expected, "{thresholds:?}");
    };
    check(&[10, 50, 80, 100], &[10]);
    check(&[80, 100], &[]);
    check(&[60], &[60]);
}

#[test]
fn what_fired_by_place_in_an_earlier_version_is_read_by_the_list() {
    let account =
        Account { posted: parts(10), fired: Fired::of_places(0b011), ..Account::default() };
    let (after, percents) = account.fire(&budget(10));
    assert_eq!(percents, [100]);
    assert_eq!(after.fired, Fired::from_iter([50, 80, 100]));
    assert_eq!(after.fired.places(), 0);
}
