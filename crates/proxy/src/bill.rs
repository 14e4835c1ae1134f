//! What a request holds of its budgets, and what it is charged when it has ended.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use ledger::{DispatchError, Held, Standing};
use model::{Amount, Code, Ending, Outcome, Refusal, Retry};
use rules::price::{Events, Tariff};

/// The money of one request on its way; boxed where it travels, since few requests have any.
///
/// It ends with its trip, however that ends: void as long as nothing has left or the upstream has
/// shown that nothing was done, else charged. What is not known is charged as it was held.
#[derive(Debug)]
pub(crate) struct Bill {
    held: Box<Held>,
    /// The tariffs that hear the answer, by the place of their hold.
    listeners: Vec<(usize, Tariff)>,
    heard: Heard,
    /// Something of the request may have left.
    is_sent: bool,
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
    Text(Vec<u8>),
    /// A stream of events.
    Events(Box<Events>),
}

impl Bill {
    pub(crate) fn new(held: Box<Held>) -> Self {
        let tariffs = held.holds().iter().map(|hold| hold.tariff.as_ref()).enumerate();
        let listeners = tariffs.filter_map(|(place, tariff)| Some((place, tariff?.clone())));
        let listeners = listeners.filter(|(_, tariff)| tariff.listens()).collect();
        Self { held, listeners, heard: Heard::Nothing, is_sent: false, is_declined: false }
    }

    /// Whether the answer says what the request costs.
    pub(crate) fn listens(&self) -> bool {
        !self.listeners.is_empty()
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
    pub(crate) const fn mark_sent(&mut self, is_sent: bool) -> bool {
        std::mem::replace(&mut self.is_sent, is_sent)
    }

    /// Notes the head of the upstream's answer.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        let (status, headers) = (response.status(), response.headers());
        self.is_declined = status == StatusCode::TOO_MANY_REQUESTS
            || (status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(RETRY_AFTER));
        let is_plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
        if self.listens() && is_plain {
            let is_stream = content_type(headers).eq_ignore_ascii_case("text/event-stream");
            self.heard =
                if is_stream { Heard::Events(Box::default()) } else { Heard::Text(Vec::new()) };
        }
    }

    /// Hears a piece of the answer's body.
    pub(crate) fn hear(&mut self, data: &[u8]) {
        let Self { heard, listeners, .. } = self;
        match heard {
            Heard::Nothing => {}
            Heard::Text(text) if text.len() + data.len() > HEARD_BYTES_MAX => {
                *heard = Heard::Nothing;
            }
            Heard::Text(text) => text.extend_from_slice(data),
            Heard::Events(events) => events.feed(data, |event| {
                listeners.iter_mut().for_each(|(_, tariff)| tariff.hear_event(event));
            }),
        }
    }

    /// Ends the reservation, and says in the outcome what was charged.
    pub(crate) fn end(mut self, outcome: &mut Outcome) {
        if self.held.standing() != Standing::Dispatched || !self.is_sent || self.is_declined {
            self.held.void();
            return;
        }
        self.hear_the_end();
        let status = outcome.attempt.as_ref().and_then(|attempt| attempt.status);
        let is_whole = outcome.ending == Ending::Complete;
        let costs: Vec<Amount> =
            (0..self.held.holds().len()).map(|place| self.cost(place, status, is_whole)).collect();
        for (paid, cost) in outcome.budgets.iter_mut().zip(&costs) {
            paid.charged = *cost;
        }
        self.held.settle(&costs);
    }

    fn hear_the_end(&mut self) {
        match std::mem::take(&mut self.heard) {
            Heard::Nothing => {}
            Heard::Text(text) => {
                self.listeners.iter_mut().for_each(|(_, tariff)| tariff.hear(&text));
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
