//! Calendar periods: in which one a moment lies.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp as Moment, Zoned};
use model::Timestamp;

/// Periods of one length that follow each other without a gap, for ever, both ways.
///
/// The n-th begins `n` units after the anchor on the wall clock of the time zone. A wall time that
/// a zone skips begins at the moment of the jump forward by the same step, one that it repeats at
/// its first passing (RFC 5545 §3.3.5). A day that a month lacks is the month's last.
#[derive(Debug)]
pub struct Calendar {
    every: Every,
    zone: TimeZone,
    /// In whole seconds.
    anchor: DateTime,
    /// The period that was found last: asked for each request, it changes with each period.
    last: Last,
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

/// The time zone of an IANA name, from the database that the program brings: the machine's own may
/// be of another version than those of other nodes.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

impl Every {
    /// The name in documents and stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
            Self::Lifetime => "lifetime",
        }
    }

    /// What has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(named, _)| *named == name).map(|(_, every)| *every)
    }

    /// Each, with its name.
    pub const NAMED: &'static [(&'static str, Self)] = &[
        Self::Hour.named(),
        Self::Day.named(),
        Self::Week.named(),
        Self::Month.named(),
        Self::Quarter.named(),
        Self::Year.named(),
        Self::Lifetime.named(),
    ];

    const fn named(self) -> (&'static str, Self) {
        (self.as_str(), self)
    }

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
        let anchor = anchor.unwrap_or(ANCHOR);
        let anchor = anchor.with().subsec_nanosecond(0).build().unwrap_or(ANCHOR);
        Self { every, zone, anchor, last: Last::default() }
    }

    /// One period without an end.
    #[must_use]
    pub const fn lifetime() -> Self {
        let last = Last(AtomicU64::new(0));
        Self { every: Every::Lifetime, zone: TimeZone::UTC, anchor: ANCHOR, last }
    }

    /// How long the periods are.
    #[must_use]
    pub const fn every(&self) -> Every {
        self.every
    }

    /// The period that a moment lies in. A search only once a period; else a few nanoseconds.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Period {
        const ENDLESS: Period = Period { start: Timestamp::from_secs(0), end: None };
        if self.every == Every::Lifetime {
            return ENDLESS;
        }
        if let Some(known) = self.last.around(now) {
            return known;
        }
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let found = Moment::from_microsecond(micros).ok().and_then(|now| self.find(now));
        found.inspect(|found| self.last.note(*found)).unwrap_or(ENDLESS)
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

impl Clone for Calendar {
    fn clone(&self) -> Self {
        let Self { every, zone, anchor, last: _ } = self;
        Self { every: *every, zone: zone.clone(), anchor: *anchor, last: Last::default() }
    }
}

/// A period in one word, so that it is read and replaced whole: where it starts in seconds, in 34
/// bits, and how long it is, in 30. Zero is none.
#[derive(Debug, Default)]
struct Last(AtomicU64);

impl Last {
    /// The period, if the moment lies in it.
    fn around(&self, now: Timestamp) -> Option<Period> {
        let word = self.0.load(Relaxed);
        let (start, length) = (word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1));
        let (start, end) = (Timestamp::from_secs(start), Timestamp::from_secs(start + length));
        (start <= now && now < end).then_some(Period { start, end: Some(end) })
    }

    /// Keeps a period that fits; another is searched again each time.
    fn note(&self, Period { start, end }: Period) {
        let Some(end) = end else { return };
        let (start, end) = (start.as_micros() / SECOND, end.as_micros() / SECOND);
        let length = end.saturating_sub(start);
        if start < 1 << (64 - LENGTH_BITS) && length < 1 << LENGTH_BITS {
            self.0.store(start << LENGTH_BITS | length, Relaxed);
        }
    }
}

/// 34 years.
const LENGTH_BITS: u32 = 30;

/// In microseconds.
const SECOND: u64 = 1_000_000;

/// A moment as people read it: `2026-12-01T00:00:00Z` (RFC 3339).
#[must_use]
pub fn moment_text(moment: Timestamp) -> String {
    let micros = i64::try_from(moment.as_micros()).unwrap_or(i64::MAX);
    Moment::from_microsecond(micros).unwrap_or(Moment::MAX).to_string()
}

/// Before 1970 there is nothing to be paid.
fn stamp(moment: Moment) -> Timestamp {
    Timestamp::from_micros(u64::try_from(moment.as_microsecond()).unwrap_or_default())
}

/// A Monday, and the first of a year.
const ANCHOR: DateTime = DateTime::constant(2001, 1, 1, 0, 0, 0, 0);
