//! Calendar periods: in which one a moment lies.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as Moment, Zoned};
use model::Timestamp;

/// Periods of one length that follow each other without a gap, for ever, both ways.
///
/// The n-th begins `n` units after the anchor on the wall clock of the time zone. A wall time that
/// a zone skips begins at the moment of the jump forward by the same step, one that it repeats at
/// its first passing (RFC 5545 §3.3.5). A day that a month lacks is the month's last.
#[derive(Clone, Debug)]
pub struct Calendar {
    every: Every,
    zone: TimeZone,
    anchor: DateTime,
}

/// The length of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Every {
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    /// One period without an end.
    Lifetime,
}

/// One period: from its beginning to, and without, its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Period {
    pub start: Timestamp,
    /// `None` when it never ends.
    pub end: Option<Timestamp>,
}

impl Every {
    /// So many periods as a span; `None` without an end.
    fn times(self, count: i64) -> Option<Span> {
        let span = Span::new();
        let made = match self {
            Self::Hour => span.try_hours(count),
            Self::Day => span.try_days(count),
            Self::Week => span.try_weeks(count),
            Self::Month => span.try_months(count),
            Self::Quarter => span.try_months(count.checked_mul(3)?),
            Self::Year => span.try_years(count),
            Self::Lifetime => return None,
        };
        made.ok()
    }
}

impl Calendar {
    /// Periods on the wall clock of a zone, counted from an anchor. Without one they begin where
    /// people expect it: at full hours, midnight, Monday, the first of a month, quarter, year.
    #[must_use]
    pub fn new(every: Every, zone: TimeZone, anchor: Option<DateTime>) -> Self {
        Self { every, zone, anchor: anchor.unwrap_or(ANCHOR) }
    }

    /// One period without an end.
    #[must_use]
    pub const fn lifetime() -> Self {
        Self { every: Every::Lifetime, zone: TimeZone::UTC, anchor: ANCHOR }
    }

    /// How long the periods are.
    #[must_use]
    pub const fn every(&self) -> Every {
        self.every
    }

    /// The period that a moment lies in.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Period {
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let found = Moment::from_microsecond(micros).ok().and_then(|now| self.find(now));
        found.unwrap_or_else(|| Period { start: Timestamp::default(), end: None })
    }

    fn find(&self, now: Moment) -> Option<Period> {
        // Too early or too late by a few at most, which the steps below mend.
        let anchor = self.zone.to_zoned(self.anchor).ok()?;
        let hours = (now.as_second() - anchor.timestamp().as_second()).div_euclid(3_600);
        let mut count = match self.every {
            Every::Lifetime => return None,
            Every::Hour => hours,
            Every::Day => hours.div_euclid(24),
            Every::Week => hours.div_euclid(7 * 24),
            Every::Month => self.months_to(now),
            Every::Quarter => self.months_to(now).div_euclid(3),
            Every::Year => self.months_to(now).div_euclid(12),
        };
        while self.start(count)?.timestamp() > now {
            count -= 1;
        }
        loop {
            let next = self.start(count + 1)?.timestamp();
            if next > now {
                let start = stamp(self.start(count)?.timestamp());
                return Some(Period { start, end: Some(stamp(next)) });
            }
            count += 1;
        }
    }

    /// How many months lie between the anchor's and a moment's.
    fn months_to(&self, now: Moment) -> i64 {
        let there = now.to_zoned(self.zone.clone()).datetime();
        let years = i64::from(there.year()) - i64::from(self.anchor.year());
        years * 12 + i64::from(there.month()) - i64::from(self.anchor.month())
    }

    fn start(&self, count: i64) -> Option<Zoned> {
        let span = self.every.times(count)?;
        if self.every == Every::Hour {
            // Hours pass alike everywhere, also while a wall clock is set.
            return self.zone.to_zoned(self.anchor).ok()?.checked_add(span).ok();
        }
        self.zone.to_zoned(self.anchor.checked_add(span).ok()?).ok()
    }
}

/// Before 1970 there is nothing to be paid.
fn stamp(moment: Moment) -> Timestamp {
    Timestamp::from_micros(u64::try_from(moment.as_microsecond()).unwrap_or_default())
}

/// A Monday, and the first of a year.
const ANCHOR: DateTime = DateTime::constant(2001, 1, 1, 0, 0, 0, 0);
