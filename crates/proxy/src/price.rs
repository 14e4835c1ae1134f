//! What a request draws on and holds: its price is found out before anything is taken.
//!
//! Most requests hold what their head alone says. Where a price reads the body, the body is read
//! first, to a bound; where it asks for a quote, the upstream is asked. What is not learnt so is not
//! known, and the price decides what that means.

use std::future::ready;
use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use model::{Code, PriceId, Refusal};
use rules::fact::Facts;
use rules::plan::{Draft, Plan, plan};
use rules::price::{Evidence, Needs, Price, QuoteCall, Unpriced};
use tokio_util::either::Either;

use crate::admit::{Drawn, draw_first};
use crate::body::Content;
use crate::describe::Described;
use crate::forward::ask;
use crate::head::Head;
use crate::held::{Bounds, Held, Read};
use crate::permit::{Pending, Permitted};
use crate::trip::Trip;

/// Proof that it is known what a request draws on and holds. Only this file makes one.
#[derive(Debug)]
pub(crate) struct Priced {
    described: Described,
    plan: Plan,
    /// Where the price had to be asked for: what was drawn before; the plan only holds then.
    drawn: Option<Box<Drawn>>,
}

impl Priced {
    pub(crate) const fn described(&self) -> &Described {
        &self.described
    }

    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the limits were drawn on already.
    pub(crate) const fn is_drawn(&self) -> bool {
        self.drawn.is_some()
    }

    /// What is taken now, and what was before.
    pub(crate) fn into_plan(self) -> (Plan, Option<Box<Drawn>>) {
        (self.plan, self.drawn)
    }
}

/// A request whose price its head alone does not say.
#[derive(Debug)]
struct Open {
    described: Described,
    draft: Draft,
    content: Content,
    /// Policies that wait for the price.
    pending: Option<Box<Pending>>,
}

/// Plans everything that the request draws on. Waits only where its head does not say it all, in a
/// box: what is rare takes no room in every request's future.
pub(crate) fn price<'a>(
    trip: &'a mut Trip,
    head: &'a Head,
    permitted: Permitted,
    content: Content,
) -> impl Future<Output = Result<(Priced, Content), Refusal>> + 'a {
    let (described, pending) = permitted.into_parts();
    let identified = described.identified();
    let limit_req = identified.plugins().limit_req.as_ref();
    let facts = Facts { call: described.call(head), ..trip.facts(head) };
    let now = trip.core.shared.clock.now();
    let draft = plan(&trip.snapshot, limit_req, identified.route(), &facts, now);
    if draft.needs() != Needs::default() || pending.is_some() {
        let open = Open { described, draft, content, pending };
        return Either::Left(Box::pin(learn(trip, head, open)));
    }
    let plan = draft.price(&Evidence::default()).map_err(|unpriced| unknown(&unpriced));
    Either::Right(ready(plan.map(|plan| (Priced { described, plan, drawn: None }, content))))
}

/// Learns what the prices need to know.
async fn learn(trip: &mut Trip, head: &Head, open: Open) -> Result<(Priced, Content), Refusal> {
    let Open { described, mut draft, mut content, pending } = open;
    let judged = pending.as_ref().map_or(&[][..], |pending| pending.prices());
    if draft.needs().request || judged.iter().any(|price| price.needs().request) {
        content = read(trip, head, (&described, BODY_MAX), content).await?;
    }
    let request = content.whole();
    let quoted = draft.quoted().into_iter().chain(judged);
    let calls = calls(head, &described, quoted, request.as_deref());
    let (mut quotes, mut weights, mut failed) = (Vec::new(), Vec::new(), None);
    // A quote is a call too. Who may not call may not ask either, however often.
    let drawn =
        if calls.is_empty() { None } else { Some(draw_first(trip, draft.take_draws()).await?) };
    for (price, call) in calls {
        match ask(trip, head, &described, call).await {
            Ok(Some((answer, weight))) => {
                quotes.push((price, answer));
                weights.push(weight);
            }
            Ok(None) => {}
            Err(refusal) => failed = Some(refusal),
        }
    }
    let evidence = Evidence { request: request.as_deref(), quotes: &quotes };
    if let Some(pending) = &pending {
        let judged = pending.judge(trip, (head, &described), &evidence);
        // An upstream that does not say its price because it is away may do so later.
        judged.map_err(|refusal| match (refusal.code, failed.take()) {
            (Code::BudgetPriceUnknown, Some(away)) => away,
            (_, _) => refusal,
        })?;
    }
    let plan = draft.price(&evidence);
    let plan = plan.map_err(|unpriced| failed.unwrap_or_else(|| unknown(&unpriced)))?;
    Ok((Priced { described, plan, drawn: drawn.map(Box::new) }, content))
}

/// The quotes to ask for, each once, as far as the request says enough.
fn calls<'a>(
    head: &Head,
    described: &Described,
    quoted: impl Iterator<Item = &'a Arc<Price>>,
    request: Option<&[u8]>,
) -> Vec<(PriceId, QuoteCall)> {
    let call = described.call(head).and_then(|named| named.call());
    let mut asked: Vec<(PriceId, QuoteCall)> = Vec::new();
    for price in quoted.filter(|price| price.needs().quote) {
        let quote = price.quote.as_ref().filter(|_| asked.iter().all(|(id, _)| *id != price.id));
        let asks = quote.and_then(|quote| quote.call(call.as_ref(), request));
        asked.extend(asks.map(|asks| (price.id.clone(), asks)));
    }
    asked
}

/// Reads the whole body, if it is not read already and not too long.
pub(crate) async fn read(
    trip: &mut Trip,
    head: &Head,
    (described, max): (&Described, usize),
    content: Content,
) -> Result<Content, Refusal> {
    let Content { ahead: None, rest: Some(body) } = content else { return Ok(content) };
    let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > max) {
        return Ok(Content { ahead: None, rest: Some(body) });
    }
    let route = described.identified().route();
    let of_upstream = route.upstream.as_ref().map(|upstream| upstream.timeouts);
    let Some(timeouts) = route.timeouts.or(of_upstream) else {
        return Ok(Content { ahead: None, rest: Some(body) });
    };
    let mut held = Held::new(&trip.core.shared.metrics.guarded);
    let bounds = Bounds { bytes: max, pause: timeouts.send, until: None, passes: false };
    let read = held.read(body, bounds).await.map_err(|fault| fault.of_request())?;
    trip.learnt().received = held.as_slice().len() as u64;
    let rest = match read {
        Read::Whole => None,
        Read::Part(rest) => Some(rest),
    };
    Ok(Content::begun(held.into_bytes(), rest))
}

/// What the call costs cannot be known, so no budget can say that it pays.
pub(crate) fn unknown(unpriced: &Unpriced) -> Refusal {
    Refusal::new(Code::BudgetPriceUnknown, unpriced.to_string())
}

/// Bytes of a body that prices read. Of a longer one they know nothing; it is sent on all the same.
const BODY_MAX: usize = 1 << 20;
