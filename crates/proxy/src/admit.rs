//! Limits: everything a request draws on, taken in one step; a queued request waits its turn.

use std::sync::Arc;
use std::time::Duration;

use ledger::{Answer, Denial, Reservation};
use model::{Code, Custom, Exhausted, Paid, Refusal, Retry};
use rules::budget::Hold;
use rules::limit::{OnOutage, Short};
use rules::plan::{DrawRule, Plan, Subject};

use crate::bill::Bill;
use crate::core::Counted;
use crate::describe::Described;
use crate::price::Priced;
use crate::trip::Trip;

/// Proof that every limit and budget said yes. Only [`admit`] makes one.
#[derive(Debug)]
pub(crate) struct Admitted {
    priced: Priced,
    reservation: Reservation,
}

/// Proof that every limit said yes before the price was asked for. Only [`draw_first`] makes one.
#[derive(Debug)]
pub(crate) struct Drawn {
    plan: Plan,
    reservation: Reservation,
}

impl Admitted {
    pub(crate) const fn described(&self) -> &Described {
        self.priced.described()
    }

    /// What the limits have left, for the answer's `RateLimit` fields.
    pub(crate) fn into_limits(self) -> (Plan, Reservation) {
        match self.priced.into_plan() {
            (_, Some(drawn)) => (drawn.plan, drawn.reservation),
            (plan, None) => (plan, self.reservation),
        }
    }
}

/// Takes all that the request draws on and holds, or refuses it; then waits if a limit queues.
pub(crate) async fn admit(trip: &mut Trip, priced: Priced) -> Result<Admitted, Refusal> {
    // Borrowed and not taken apart, so that the future holds it once.
    let plan = priced.plan();
    trip.learnt().budgets = plan.holds.iter().map(unpaid).collect();
    if !priced.is_drawn() {
        note(trip, plan);
    }
    let reservation = take(trip, plan).await?;
    if !reservation.turn.is_zero() {
        Box::pin(wait(trip, reservation.turn)).await?;
    }
    Ok(Admitted { priced, reservation })
}

/// Draws on the limits alone, before the price is asked for; then waits if one queues.
pub(crate) async fn draw_first(trip: &mut Trip, plan: Plan) -> Result<Drawn, Refusal> {
    note(trip, &plan);
    let reservation = take(trip, &plan).await?;
    if !reservation.turn.is_zero() {
        wait(trip, reservation.turn).await?;
    }
    Ok(Drawn { plan, reservation })
}

fn note(trip: &mut Trip, plan: &Plan) {
    trip.learnt().limits = plan.draws.iter().map(|draw| draw.rule.id()).collect();
}

/// Waits for the request's turn in the queues of its limits.
async fn wait(trip: &mut Trip, turn: Duration) -> Result<(), Refusal> {
    if trip.core.shared.metrics.queued.get() >= QUEUED_MAX {
        let detail = "too many requests wait for their turn on this node";
        return Err(Refusal::new(Code::QueueFull, detail).retry(Retry::After(turn)));
    }
    let _waiting = Counted::new(&trip.core.shared.metrics.queued);
    trip.learnt().timing.queued = turn;
    tokio::time::sleep(turn).await;
    Ok(())
}

/// Takes a plan, all or nothing. What it holds the trip's end settles, whatever comes.
async fn take(trip: &mut Trip, plan: &Plan) -> Result<Reservation, Refusal> {
    let core = Arc::clone(&trip.core);
    let decided = match core.shared.ledger.take(plan, core.shared.clock.uptime()) {
        Answer::Now(decided) => decided,
        Answer::Later(pending) => pending.wait(plan).await,
    };
    let mut reservation = match decided {
        Ok(reservation) => reservation,
        Err(Denial::Away) => {
            let uncounted = refused(plan, Denial::Away);
            core.shared.ledger.note_uncounted(uncounted.is_ok());
            uncounted?
        }
        Err(denial) => refused(plan, denial)?,
    };
    trip.bill = reservation.held.take().map(|held| Box::new(Bill::new(held)));
    Ok(reservation)
}

/// What becomes of a request whose plan was not taken: refused, or let go uncounted.
fn refused(plan: &Plan, denial: Denial) -> Result<Reservation, Refusal> {
    match denial {
        Denial::Short { draw, short } => Err(exceeded(plan, draw, short)),
        Denial::Full { .. } => without_ledger(plan, NO_COUNT),
        Denial::Overdrawn { hold, .. } => Err(overdrawn(plan, hold)),
        Denial::Crowded { .. } => without_ledger(plan, NO_ACCOUNT),
        Denial::Mismatch => {
            let detail = "the request's id stands for another request's money";
            Err(Refusal::new(Code::Internal, detail).sealed())
        }
        Denial::Away => without_ledger(plan, NO_LEDGER),
    }
}

fn passes_without_ledger(hold: &Hold) -> bool {
    hold.budget.shadow
        || match hold.budget.on_outage {
            OnOutage::Allow => true,
            OnOutage::Refuse | OnOutage::Share => false,
        }
}

/// What a hold is for the record before anything is paid.
fn unpaid(hold: &Hold) -> Paid {
    let row = &hold.row;
    Paid {
        budget: row.budget.clone(),
        unit: row.unit.clone(),
        per: row.per.as_str(),
        subject: match &row.subject {
            Subject::Text(name) => Arc::clone(name),
            subject @ (Subject::Address(_) | Subject::Run(..)) => Arc::from(subject.to_string()),
        },
        every: row.every.as_str(),
        period: row.period,
        held: hold.amount,
        charged: model::Amount::ZERO,
    }
}

/// A budget cannot pay. Only its name is told, and when its period ends.
fn overdrawn(plan: &Plan, hold: usize) -> Refusal {
    let Some(hold) = plan.holds.get(hold) else {
        return Refusal::new(Code::BudgetExhausted, "a budget is used up");
    };
    let budget = hold.row.budget.clone();
    let mut refusal =
        Refusal::new(Code::BudgetExhausted, format!("the budget `{budget}` is used up"));
    let until = hold.budget.calendar.at(hold.row.period).end;
    refusal.budget = Some(Box::new(Exhausted { budget, until }));
    refusal
}

/// Nothing can be counted: the request passes if each of its limits and budgets says so.
fn without_ledger(plan: &Plan, detail: &'static str) -> Result<Reservation, Refusal> {
    let refuses = |rule: &DrawRule| !rule.is_shadow() && !rule.passes_without_ledger();
    let draw = plan.draws.iter().find(|draw| refuses(&draw.rule));
    if draw.is_none() && plan.holds.iter().all(passes_without_ledger) {
        return Ok(uncounted(plan));
    }
    let mut refusal = Refusal::new(Code::LedgerUnavailable, detail).retry(Retry::Soon);
    refusal.limit = draw.map(|draw| draw.rule.id());
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

/// What is said where nothing can be counted: there is no room for another bucket, or row; or the
/// fleet's store is away, or the journal of the budgets cannot be written.
const NO_COUNT: &str = "the ledger has no room for another count";
const NO_ACCOUNT: &str = "the ledger has no room for another account";
const NO_LEDGER: &str = "the ledger cannot count this request now";

/// Requests of a node that wait for their turn at once. When as many wait, the next is refused
/// with `gate.queue_full`.
const QUEUED_MAX: i64 = 20_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Amount, BudgetId, Timestamp, Unit};
    use rules::budget::{Budget, Calendar, Durability, Hold, RowKey, WhenShort};
    use rules::limit::{OnOutage, Per};
    use rules::plan::{Plan, Subject};
    use rules::selector::Selector;

    use super::{NO_ACCOUNT, without_ledger};

    fn hold((shadow, on_outage): (bool, OnOutage)) -> Hold {
        let budget = Budget {
            id: BudgetId::new("b"),
            per: Per::Run,
            unit: Unit::requests(),
            amount: Amount::ZERO,
            calendar: Calendar::lifetime(),
            selector: Selector::default(),
            thresholds: Vec::new(),
            webhook: None,
            when_short: WhenShort::Refuse,
            on_outage,
            durability: Durability::Journal,
            shadow,
        };
        let subject = Subject::Text(Arc::from("alice"));
        let row = RowKey::of(&budget, subject, Timestamp::default());
        Hold { row, amount: Amount::ZERO, budget: Arc::new(budget), tariff: None }
    }

    #[test]
    fn what_cannot_be_counted_passes_only_if_nobody_refuses_it() {
        let (shadow, allows) = ((true, OnOutage::Refuse), (false, OnOutage::Allow));
        let refuses = (false, OnOutage::Refuse);
        for (holds, passes) in [
            (vec![shadow], true),
            (vec![shadow, allows], true),
            (vec![shadow, refuses], false),
            (vec![refuses, allows], false),
        ] {
            let holds: Vec<Hold> = holds.into_iter().map(hold).collect();
            let plan = Plan { holds, ..Plan::default() };
            assert_eq!(without_ledger(&plan, NO_ACCOUNT).is_ok(), passes, "{:?}", plan.holds);
        }
    }
}
