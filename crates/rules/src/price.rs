//! Prices: what a call holds of a budget before it leaves, and what it is charged afterwards.
//!
//! A price adds up terms, each a factor times what stands in the request, in a quote that was asked
//! for beforehand, or in the answer. All in exact decimals, rounded up to the unit once at the end.
//! What cannot be known is never free: without a cap the call is refused before it leaves, and a
//! call whose answer does not say its cost is charged what it held.

mod decimal;
mod events;
mod pointer;
mod quote;
mod tariff;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use model::{Amount, PriceId, Unit};

use crate::selector::{Selector, SelectorIndex, Selects};

pub use decimal::Decimal;
pub use events::Events;
pub use pointer::{Json, Pointer, Reading};
pub use quote::{Piece, Quote, QuoteCall};
pub use tariff::{Evidence, Tariff, Unpriced};

/// A price of the document (kind `prices`).
#[derive(Clone, Debug)]
pub struct Price {
    pub id: PriceId,
    pub selector: Selector,
    /// Of several prices in one unit for one call the highest counts; among equals the first id.
    pub priority: i32,
    /// Never requests: of those every call costs one.
    pub unit: Unit,
    pub hold: Estimate,
    /// `None` charges what was held.
    pub charge: Option<Formula>,
    /// What is asked before the call leaves.
    pub quote: Option<Quote>,
    pub due: Due,
    /// For people: how often the upstream itself goes on to charge.
    pub recurring: Recurring,
}

/// What a call holds: the most that it is expected to cost.
#[derive(Clone, Debug)]
pub struct Estimate {
    pub formula: Formula,
    /// No call holds more; one whose formula cannot be known holds this.
    pub cap: Option<Amount>,
}

/// Terms that are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formula(pub Vec<Term>);

/// A factor times everything that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub factor: Decimal,
    pub reads: Vec<Read>,
}

/// A number that stands somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub from: Source,
    /// The first place where something stands counts.
    pub pointers: Vec<Pointer>,
    pub what: What,
    /// Added to what is read.
    pub plus: Decimal,
    /// Counts where nothing stands.
    pub default: Option<Decimal>,
}

/// Where a number stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The body of the request.
    Request,
    /// The body of the quote's answer.
    Quote,
    /// The body of the answer, or the events it streams.
    Response,
}

/// What is taken of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum What {
    /// The number itself, or the decimal in a text.
    #[default]
    Number,
    /// How many items or members are there.
    Count,
    /// The sum of the numbers that the items there have at this place.
    Sum(Pointer),
}

/// Which answers mean that the charge is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Ranges of statuses, both ends included.
    pub statuses: Vec<(u16, u16)>,
}

/// How often the upstream charges for what a call made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Recurring {
    /// Once.
    #[default]
    Once,
    Month,
    Year,
}

impl Selects for Price {
    fn selector(&self) -> &Selector {
        &self.selector
    }
}

/// The prices of a document, findable.
pub type PriceIndex = SelectorIndex<Price>;

impl Price {
    /// What the price must know before the call leaves.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let terms = self.hold.formula.0.iter();
        let charged = self.charge.iter().flat_map(|formula| &formula.0);
        let reads = |source| {
            let mut all = terms.clone().chain(charged.clone()).flat_map(|term| &term.reads);
            all.any(|read| read.from == source)
        };
        let quoted = self.quote.as_ref();
        let asks = quoted.is_some() && reads(Source::Quote);
        let body = reads(Source::Request) || quoted.is_some_and(|quote| asks && quote.reads());
        Needs { request: body, quote: asks }
    }

    /// Whether the charge stands in the answer's body.
    #[must_use]
    pub fn reads_response(&self) -> bool {
        let terms = self.charge.iter().flat_map(|formula| &formula.0);
        terms.flat_map(|term| &term.reads).any(|read| read.from == Source::Response)
    }

    /// Of prices that bind one call, those that count: one for each unit.
    #[must_use]
    pub fn counting<'a>(binding: impl Iterator<Item = &'a Arc<Self>>) -> Vec<&'a Arc<Self>> {
        let mut counting: Vec<&Arc<Self>> = Vec::new();
        for price in binding {
            let known = counting.iter_mut().find(|known| known.unit == price.unit);
            match known {
                Some(known) if price.stands_before(known) => *known = price,
                Some(_) => {}
                None => counting.push(price),
            }
        }
        counting
    }

    fn stands_before(&self, other: &Self) -> bool {
        (-i64::from(self.priority), &self.id) < (-i64::from(other.priority), &other.id)
    }
}

/// What a price must know of a call before it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The request's body.
    pub request: bool,
    /// The answer to its quote.
    pub quote: bool,
}

impl Formula {
    /// An amount that is always the same.
    #[must_use]
    pub fn fixed(amount: Decimal) -> Self {
        Self(vec![Term { factor: amount, reads: Vec::new() }])
    }

    /// The sum, given what is read, in the order of the terms; `None` when a reading is missing or
    /// the sum cannot be kept exactly.
    fn sum(&self, mut read: impl FnMut(&Read) -> Option<Decimal>) -> Option<Decimal> {
        self.0.iter().try_fold(Decimal::ZERO, |sum, term| {
            let product =
                term.reads.iter().try_fold(term.factor, |product, of| product.times(read(of)?));
            sum.plus(product?)
        })
    }

    fn reads(&self) -> impl Iterator<Item = &Read> {
        self.0.iter().flat_map(|term| &term.reads)
    }
}

impl Read {
    /// What a text says here.
    fn find(&self, json: Json<'_>) -> Reading {
        let mut places = self.pointers.iter().map(|pointer| match &self.what {
            What::Number => json.number(pointer),
            What::Count => json.count(pointer),
            What::Sum(each) => json.sum(pointer, each),
        });
        places.find(|found| *found != Reading::Absent).unwrap_or(Reading::Absent)
    }

    /// What is counted of what was found; `None` when that cannot be said. Never below zero.
    fn value(&self, found: Reading) -> Option<Decimal> {
        match found {
            Reading::Number(number) => number.plus(self.plus).filter(|sum| !sum.is_negative()),
            Reading::Absent => self.default,
            Reading::Wrong => None,
        }
    }
}

impl Default for Due {
    /// Success; a connection that went on to speak something else; and what broke at the upstream,
    /// since nobody knows whether it had an effect.
    fn default() -> Self {
        Self { statuses: vec![(101, 101), (200, 299), (500, 599)] }
    }
}

impl Due {
    /// Whether an answer with this status is charged.
    #[must_use]
    pub fn is_due(&self, status: u16) -> bool {
        self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}
