//! Limits: everything a request draws on, taken in one step; a queued request waits its turn.

use std::sync::Arc;

use ledger::{Answer, Denial, Reservation};
use model::{Code, Custom, Refusal, Retry};
use rules::fact::Facts;
use rules::limit::Short;
use rules::plan::{DrawRule, Plan, plan};
use rules::price::{Evidence, Unpriced};

use crate::core::Counted;
use crate::describe::Described;
use crate::head::Head;
use crate::trip::Trip;

/// Proof that every limit said yes. Only [`admit`] makes one.
#[derive(Debug)]
pub(crate) struct Admitted {
    described: Described,
    plan: Plan,
    reservation: Reservation,
}

impl Admitted {
    pub(crate) const fn described(&self) -> &Described {
        &self.described
    }

    /// What the limits have left, for the answer's `RateLimit` fields.
    pub(crate) fn into_limits(self) -> (Plan, Reservation) {
        (self.plan, self.reservation)
    }
}

/// Takes all that the request draws on, or refuses it; then waits if a limit queues.
pub(crate) async fn admit(
    trip: &mut Trip,
    head: &Head,
    described: Described,
) -> Result<Admitted, Refusal> {
    let identified = described.identified();
    let limit_req = identified.plugins().limit_req.as_ref();
    let facts = Facts { call: described.call(head), ..trip.facts(head) };
    let now = trip.core.shared.clock.now();
    let draft = plan(&trip.snapshot, limit_req, identified.route(), &facts, now);
    let plan = draft.price(&Evidence::default()).map_err(|unpriced| unknown(&unpriced))?;
    trip.learnt().limits = plan.draws.iter().map(|draw| draw.rule.id()).collect();
    let core = Arc::clone(&trip.core);
    let decided = match core.shared.ledger.take(&plan, core.shared.clock.uptime()) {
        Answer::Now(decided) => decided,
        Answer::Later(pending) => pending.wait(&plan).await,
    };
    let reservation = match decided {
        Ok(reservation) => reservation,
        Err(Denial::Short { draw, short }) => return Err(exceeded(&plan, draw, short)),
        Err(Denial::Full { draw }) => without_room(&plan, draw)?,
        Err(Denial::Away) => {
            let uncounted = without_store(&plan);
            core.shared.ledger.note_uncounted(uncounted.is_ok());
            uncounted?
        }
    };
    if !reservation.turn.is_zero() {
        if core.shared.metrics.queued.get() >= QUEUED_MAX {
            let detail = "too many requests wait for their turn on this node";
            return Err(Refusal::new(Code::QueueFull, detail).retry(Retry::After(reservation.turn)));
        }
        let _waiting = Counted::new(&core.shared.metrics.queued);
        trip.learnt().timing.queued = reservation.turn;
        tokio::time::sleep(reservation.turn).await;
    }
    Ok(Admitted { described, plan, reservation })
}

/// What the call costs cannot be known, so no budget can say that it pays.
fn unknown(unpriced: &Unpriced) -> Refusal {
    Refusal::new(Code::BudgetPriceUnknown, unpriced.to_string())
}

/// The ledger has no room for a bucket: what the limit's author wants then.
fn without_room(plan: &Plan, draw: usize) -> Result<Reservation, Refusal> {
    if plan.draws.get(draw).is_some_and(|draw| draw.rule.passes_without_ledger()) {
        return Ok(uncounted(plan));
    }
    let detail = "the ledger has no room for another count";
    Err(Refusal::new(Code::LedgerUnavailable, detail).retry(Retry::Soon))
}

/// The fleet's store is away: the request passes if each of its limits says so.
fn without_store(plan: &Plan) -> Result<Reservation, Refusal> {
    let refuses = |rule: &DrawRule| !rule.is_shadow() && !rule.passes_without_ledger();
    let Some(draw) = plan.draws.iter().find(|draw| refuses(&draw.rule)) else {
        return Ok(uncounted(plan));
    };
    let detail = "the ledger of the fleet cannot be reached";
    let mut refusal = Refusal::new(Code::LedgerUnavailable, detail).retry(Retry::Soon);
    refusal.limit = Some(draw.rule.id());
    Err(refusal)
}

/// Nothing was counted, and the request passes.
fn uncounted(plan: &Plan) -> Reservation {
    Reservation { taken: vec![None; plan.draws.len()], ..Reservation::default() }
}

fn exceeded(plan: &Plan, draw: usize, short: Short) -> Refusal {
    let (code, retry) = match short {
        Short::For(wait) => (Code::LimitExceeded, Retry::After(wait)),
        Short::Never => (Code::LimitNever, Retry::Never),
    };
    let Some(draw) = plan.draws.get(draw) else {
        return Refusal::new(code, "a limit is used up").retry(retry);
    };
    let detail = format!("the limit `{}` is used up", draw.rule.name());
    let mut refusal = Refusal::new(code, detail).retry(retry);
    refusal.limit = Some(draw.rule.id());
    if let DrawRule::LimitReq(plugin) = &draw.rule {
        return refusal.custom(Custom {
            status: Some(plugin.rule.rejected_code),
            message: plugin.rule.rejected_msg.clone(),
            body: plugin.refusal_body(),
            challenge: None,
        });
    }
    refusal
}

/// Requests of a node that wait for their turn at once. When as many wait, the next is refused
/// with `gate.queue_full`.
const QUEUED_MAX: i64 = 20_000;
