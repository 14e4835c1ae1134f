//! What a request holds of its budgets, and what it is charged when it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use ledger::{DispatchError, Standing, Unrecorded};
use model::{Amount, Code, Ending, Outcome, Refusal, Retry};
use rules::price::{Events, Tariff};

use crate::held::Held;
use crate::metrics::Guarded;

/// The money of one request on its way; boxed where it travels, since few requests have any.
///
/// It ends with its trip, however that ends: void as long as nothing has left or the upstream has
/// shown that nothing was done, else charged. What is not known is charged as it was held.
#[derive(Debug)]
pub(crate) struct Bill {
    held: Box<ledger::Held>,
    /// The tariffs that hear the answer, by the place of their hold.
    listeners: Vec<(usize, Tariff)>,
    heard: Heard,
    /// The whole answer was heard, whoever has it.
    is_whole: bool,
    /// Something of the request may have left.
    is_sent: Arc<AtomicBool>,
    /// The upstream says that it did nothing.
    is_declined: bool,
}

/// What was heard of the answer's body.
#[derive(Debug, Default)]
enum Heard {
    /// Nobody listens, or it cannot be read.
    #[default]
    Nothing,
    /// So far; the whole of it is one text.
    Text(Held),
    /// A stream of events.
    Events(Box<Events>),
}

impl Bill {
    pub(crate) fn new(held: Box<ledger::Held>) -> Self {
        let tariffs = held.holds().iter().map(|hold| hold.tariff.as_ref()).enumerate();
        let listeners = tariffs.filter_map(|(place, tariff)| Some((place, tariff?.clone())));
        let listeners = listeners.filter(|(_, tariff)| tariff.listens()).collect();
        let (heard, is_sent) = (Heard::Nothing, Arc::default());
        Self { held, listeners, heard, is_whole: false, is_sent, is_declined: false }
    }

    /// Whether the answer says what the request costs.
    pub(crate) fn listens(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Whether the answer says anything of what the request costs: its status, or more.
    pub(crate) fn is_priced(&self) -> bool {
        self.held.holds().iter().any(|hold| hold.tariff.is_some())
    }

    /// Whether what is still to come of the answer says what the request costs. Of a stream of
    /// events nobody waits for the end: it may go on for as long as somebody listens.
    pub(crate) const fn wants_more(&self) -> bool {
        matches!(self.heard, Heard::Text(_))
    }

    /// Says whether something of the request may have left, as long as it is on its way.
    pub(crate) fn departure(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_sent)
    }

    /// Makes durable that the request leaves.
    pub(crate) async fn dispatch(&mut self) -> Result<(), Refusal> {
        self.held.dispatch().await.map_err(|error| match error {
            DispatchError::Late => {
                let detail = "the budgets of this request cannot be written";
                Refusal::new(Code::LedgerUnavailable, detail).retry(Retry::Soon)
            }
            DispatchError::Ended => Refusal::new(Code::Internal, error.to_string()).sealed(),
        })
    }

    /// Notes whether something of the request may have left; answers what was noted before.
    pub(crate) fn mark_sent(&self, is_sent: bool) -> bool {
        self.is_sent.swap(is_sent, Ordering::Relaxed)
    }

    /// Notes the head of the upstream's answer.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>, counts: &Guarded) {
        let (status, headers) = (response.status(), response.headers());
        self.is_declined = status == StatusCode::TOO_MANY_REQUESTS
            || (status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(RETRY_AFTER));
        let is_plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        if self.listens() && is_plain {
            let is_stream = content_type(headers).eq_ignore_ascii_case("text/event-stream");
            self.heard = if is_stream {
                Heard::Events(Box::default())
            } else {
                Heard::Text(Held::new(counts))
            };
        }
    }

    /// Hears a piece of the answer's body.
    pub(crate) fn hear(&mut self, data: &[u8]) {
        let Self { heard, listeners, .. } = self;
        match heard {
            Heard::Nothing => {}
            Heard::Text(text) => {
                let is_short = text.as_slice().len() + data.len() <= HEARD_BYTES_MAX;
                if !is_short || text.keep(data).is_err() {
                    *heard = Heard::Nothing;
                }
            }
            Heard::Events(events) => events.feed(data, |event| {
                listeners.iter_mut().for_each(|(_, tariff)| tariff.hear_event(event));
            }),
        }
    }

    /// Ends the reservation, and says in the outcome what was charged. Answers what waits for the
    /// record of that.
    pub(crate) fn end(mut self, outcome: &mut Outcome) -> Option<Unrecorded> {
        let is_sent = self.is_sent.load(Ordering::Relaxed);
        if self.held.standing() != Standing::Dispatched || !is_sent || self.is_declined {
            self.held.void();
            return None;
        }
        self.hear_the_end();
        let status = outcome.attempt.as_ref().and_then(|attempt| attempt.status);
        let is_whole = self.is_whole || outcome.ending == Ending::Complete;
        let costs: Vec<Amount> =
            (0..self.held.holds().len()).map(|place| self.cost(place, status, is_whole)).collect();
        for (paid, cost) in outcome.budgets.iter_mut().zip(&costs) {
            paid.charged = *cost;
        }
        Some(self.held.settle(&costs))
    }

    /// Notes that the answer was heard to its end.
    pub(crate) fn heard_all(&mut self) {
        self.hear_the_end();
        self.is_whole = true;
    }

    fn hear_the_end(&mut self) {
        match std::mem::take(&mut self.heard) {
            Heard::Nothing => {}
            Heard::Text(text) => {
                self.listeners.iter_mut().for_each(|(_, tariff)| tariff.hear(text.as_slice()));
            }
            Heard::Events(mut events) => events.end(|event| {
                self.listeners.iter_mut().for_each(|(_, tariff)| tariff.hear_event(event));
            }),
        }
    }

    /// What a hold comes to. An answer that nobody has, or that broke off before it said what the
    /// call costs, costs what was held.
    fn cost(&self, place: usize, status: Option<u16>, is_whole: bool) -> Amount {
        let Some(hold) = self.held.holds().get(place) else { return Amount::ZERO };
        let Some(status) = status else { return hold.amount };
        match self.listeners.iter().find(|(of, _)| *of == place) {
            Some((_, tariff)) if is_whole => tariff.cost(status),
            Some((_, tariff)) if tariff.price().due.is_due(status) => hold.amount,
            Some(_) => Amount::ZERO,
            None => hold.cost(status),
        }
    }
}

/// The media type without its parameters.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

/// Bytes of an answer that are kept to read what it costs. A longer one costs what was held.
const HEARD_BYTES_MAX: usize = 1 << 20;
