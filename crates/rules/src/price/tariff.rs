//! A price applied to one call: what it holds, and what it is charged.

use std::sync::Arc;

use model::{Amount, PriceId};

use super::{Json, Price, Read, Reading, Source};

/// What is known of a call before it leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The request's body, where a price needs it.
    pub request: Option<&'a [u8]>,
    /// The bodies of the answers to quotes, by their prices.
    pub quotes: &'a [(PriceId, Vec<u8>)],
}

/// Why a call has no price: what it costs cannot be known, and no cap stands in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price `{0}` of this call cannot be known")]
pub struct Unpriced(pub PriceId);

/// A price applied to one call that has not been settled.
#[derive(Clone, Debug)]
pub struct Tariff {
    price: Arc<Price>,
    held: Amount,
    /// What each reading of the charge has found, in their order.
    readings: Vec<Reading>,
    /// Whether the answer, or an event that named a number, was heard.
    heard: bool,
}

impl Tariff {
    /// Applies a price.
    ///
    /// # Errors
    /// When it cannot be known what the call holds.
    pub fn new(price: &Arc<Price>, evidence: &Evidence<'_>) -> Result<Self, Unpriced> {
        let unpriced = || Unpriced(price.id.clone());
        let known = Known::of(price, evidence);
        let cap = price.hold.cap;
        let sum = price.hold.formula.sum(|read| read.value(known.find(read)));
        let held = sum.and_then(|sum| sum.amount(price.unit.places()));
        let held = held.map_or(cap, |held| Some(cap.map_or(held, |cap| held.min(cap))));
        let charged = price.charge.iter().flat_map(|formula| formula.reads());
        Ok(Self {
            held: held.ok_or_else(unpriced)?,
            readings: charged.map(|read| known.find(read)).collect(),
            price: Arc::clone(price),
            heard: false,
        })
    }

    /// What the call holds.
    #[must_use]
    pub const fn held(&self) -> Amount {
        self.held
    }

    /// The price.
    #[must_use]
    pub const fn price(&self) -> &Arc<Price> {
        &self.price
    }

    /// Whether the answer's body says what the call costs.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.price.reads_response()
    }

    /// Hears the whole body of the answer.
    pub fn hear(&mut self, body: &[u8]) {
        if let Some(json) = Json::parse(body) {
            self.note(json);
            self.heard = true;
        }
    }

    /// Hears one event of an answer that streams. Of a number that several name, the last counts.
    pub fn hear_event(&mut self, data: &[u8]) {
        if let Some(json) = Json::parse(data) {
            let named = self.note(json);
            self.heard |= named;
        }
    }

    /// What the call is charged once its answer had this status: nothing where none is due, and
    /// what was held where the answer did not say.
    #[must_use]
    pub fn cost(&self, status: u16) -> Amount {
        if !self.price.due.is_due(status) {
            return Amount::ZERO;
        }
        let Some(formula) = &self.price.charge else { return self.held };
        let mut readings = self.readings.iter();
        let sum = formula.sum(|read| match readings.next() {
            Some(Reading::Absent) if read.from == Source::Response && !self.heard => None,
            Some(found) => read.value(*found),
            None => None,
        });
        sum.and_then(|sum| sum.amount(self.price.unit.places())).unwrap_or(self.held)
    }

    /// Takes what a text of the answer says; whether it says anything.
    fn note(&mut self, json: Json<'_>) -> bool {
        let charged = self.price.charge.iter().flat_map(|formula| formula.reads());
        let mut named = false;
        for (read, known) in charged.zip(&mut self.readings) {
            if read.from != Source::Response {
                continue;
            }
            match read.find(json) {
                Reading::Absent => {}
                found => {
                    *known = found;
                    named = true;
                }
            }
        }
        named
    }
}

/// What is known before the call leaves.
struct Known<'a> {
    request: Option<Json<'a>>,
    quote: Option<Json<'a>>,
}

impl<'a> Known<'a> {
    fn of(price: &Price, evidence: &Evidence<'a>) -> Self {
        let answer = evidence.quotes.iter().find(|(of, _)| *of == price.id);
        let quote = answer.and_then(|(_, body)| Json::parse(body));
        let is_in_unit = |quote: &Json<'_>| {
            price.quote.as_ref().is_some_and(|asked| asked.is_in(*quote, &price.unit))
        };
        Self { request: evidence.request.and_then(Json::parse), quote: quote.filter(is_in_unit) }
    }

    /// What a reading finds. A text that is missing, or no JSON, says nothing that may be guessed.
    fn find(&self, read: &Read) -> Reading {
        let text = match read.from {
            Source::Request => self.request,
            Source::Quote => self.quote,
            Source::Response => return Reading::Absent,
        };
        text.map_or(Reading::Wrong, |json| read.find(json))
    }
}
