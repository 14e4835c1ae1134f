//! Money in the fleet's store: what calls hold of budgets, and what they did cost.
//!
//! A hold is made in the same step as the draws of its request (`hold.lua` before `take.lua`),
//! and ended off the request's path (`resolve.lua`), once, however often that is sent. The truth
//! is what each node knows of its own: its share of every row, and its open holds. The store is a
//! fast index of it. When the store forgets, money is closed until every node that ever held any
//! has told its own again (`report.lua`).

mod books;
mod herald;
mod intent;
mod keep;
mod pack;
mod purse;
mod report;
mod resolve;
mod scribe;
mod sweep;
mod view;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use model::{Amount, Timestamp};
use rules::budget::{Account, Budget, Hold, Overdraft, RowKey};
use rules::plan::Plan;

pub(crate) use self::books::Share;
pub(crate) use self::keep::{Kept, read as kept_of};
pub(crate) use self::pack::{Packer, Seen, found};
pub(crate) use self::purse::Purse;
pub use self::report::Telling;
pub(crate) use self::report::{Heard, Report, tell};
#[cfg(test)]
pub(crate) use self::resolve::Fate;
pub(crate) use self::resolve::{Become, Caller, Entry, Kind, Resolved, resolve};
pub(crate) use self::scribe::scribe;
pub(crate) use self::sweep::{excuse, held_by};
pub use self::view::Page;
#[cfg(test)]
pub(crate) use self::view::row;
pub(crate) use self::view::{View, account, events, page};
use super::key::{Organisation, name_of, row_name, row_of};
use super::script::Script;
use crate::Denial;

/// Everything a request holds, under one id.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) id: u128,
    /// Stands for the rows and the amounts: the same id with another is a mistake of the caller.
    pub(crate) check: [u8; 8],
    pub(crate) holds: Vec<Piece>,
}

/// What is held of one row.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) row: Row,
    pub(crate) amount: Amount,
    /// Held even where it is short.
    pub(crate) is_shadow: bool,
}

/// A row as the scripts take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Arc<[u8]>,
    /// What it is; `None` where nobody here can tell, since the key is a digest.
    pub(crate) is: Option<Arc<RowKey>>,
    /// Its budget's amount.
    pub(crate) amount: Amount,
    /// Milliseconds since 1970 after which the row is forgotten; 0: never.
    pub(crate) expires: u64,
    /// The budget's thresholds, in percent.
    pub(crate) percents: Arc<[u8]>,
}

/// What the script found for the holds of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundHolds {
    pub(crate) verdict: Verdict,
    /// Each row before the hold, without its thresholds.
    pub(crate) before: Vec<Account>,
    /// The epoch of the store.
    pub(crate) epoch: u64,
}

/// What became of the holds of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are made, if the draws were.
    New,
    /// They had been made.
    Known,
    /// A row is short.
    Short,
    /// The id holds other rows or amounts.
    Mismatch,
    /// They had been made, and are settled.
    Settled,
    /// They had been made, or were on their way, and are void.
    Voided,
    /// Money is closed until every node has told what it knows.
    Closed,
}

impl Verdict {
    /// Whether the id was used before, for the same.
    pub(crate) const fn is_known(self) -> bool {
        match self {
            Self::Known | Self::Settled | Self::Voided => true,
            Self::New | Self::Short | Self::Mismatch | Self::Closed => false,
        }
    }
}

impl Wanted {
    /// What a plan wants to hold; `None` where that is nothing.
    pub(crate) fn of(organisation: &Organisation, plan: &Plan) -> Option<Arc<Self>> {
        if plan.holds.is_empty() {
            return None;
        }
        let holds: Vec<Piece> =
            plan.holds.iter().map(|hold| Piece::of(organisation, hold)).collect();
        Some(Arc::new(Self { id: plan.id.0, check: check(&holds), holds }))
    }
}

impl Piece {
    fn of(organisation: &Organisation, hold: &Hold) -> Self {
        let row = Row::of(organisation, &hold.budget, &hold.row);
        Self { row, amount: hold.amount, is_shadow: hold.budget.shadow }
    }
}

impl Row {
    pub(crate) fn of(organisation: &Organisation, budget: &Budget, key: &RowKey) -> Self {
        Self {
            key: organisation.row(key).into(),
            is: Some(Arc::new(key.clone())),
            amount: budget.amount,
            expires: expires(budget, key.period),
            percents: budget.thresholds.as_slice().into(),
        }
    }

    /// A row of which nothing but its name is known; `name` is what its key says unless the key
    /// is a digest. It keeps its end, and no threshold of it fires.
    pub(crate) fn named(key: Arc<[u8]>, name: Option<&str>) -> Self {
        let is = name.or_else(|| name_of(&key)).and_then(row_of).map(Arc::new);
        Self { key, is, amount: Amount::LARGEST, expires: 0, percents: [].into() }
    }

    /// The same with what its budget says.
    pub(crate) fn under(self, budget: &Budget) -> Self {
        let Some(is) = &self.is else { return self };
        let expires = expires(budget, is.period);
        let percents = budget.thresholds.as_slice().into();
        Self { amount: budget.amount, expires, percents, ..self }
    }

    /// Its name, where the key does not say it.
    pub(crate) fn name(&self) -> Option<String> {
        let is = self.is.as_ref().filter(|_| name_of(&self.key).is_none());
        is.map(|is| row_name(is))
    }
}

/// Stands for rows and amounts.
fn check(holds: &[Piece]) -> [u8; 8] {
    let mut text = Vec::new();
    for piece in holds {
        text.extend(piece.amount.parts().to_le_bytes());
        text.extend(piece.row.key.len().to_le_bytes());
        text.extend(&*piece.row.key);
    }
    let mut check = [0; 8];
    check.copy_from_slice(digest(&SHA256, &text).as_ref().first_chunk::<8>().unwrap_or(&[0; 8]));
    check
}

/// Two periods after its own a row is forgotten.
fn expires(budget: &Budget, period: Timestamp) -> u64 {
    let period = budget.calendar.at(period);
    period.end.map_or(0, |end| end.plus(end.since(period.start).saturating_mul(2)).as_millis())
}

/// Why the holds of a plan were not made, by the arithmetic of the rules on the rows found;
/// `Some(None)` where they were. `None` where the script and the rules disagree.
pub(crate) fn judge(plan: &Plan, found: &FoundHolds) -> Option<Option<Denial>> {
    match found.verdict {
        Verdict::Known | Verdict::Settled | Verdict::Voided => return Some(None),
        Verdict::Mismatch => return Some(Some(Denial::Mismatch)),
        Verdict::Closed => return Some(Some(Denial::Away)),
        Verdict::New | Verdict::Short => {}
    }
    let mut short = None;
    for (place, (hold, before)) in plan.holds.iter().zip(&found.before).enumerate() {
        // A budget that only reports holds whatever is left of it.
        let has_range = before.pending.plus(hold.amount).is_some();
        let overdraft = match before.reserve(&hold.budget, hold.amount) {
            Err(_) if hold.budget.shadow && has_range => None,
            reserved => reserved.err(),
        };
        if let Some(overdraft) = overdraft {
            let left = match overdraft {
                Overdraft::Left(left) => left,
                Overdraft::Range => Amount::ZERO,
            };
            short = short.or(Some(Denial::Overdrawn { hold: place, left }));
        }
    }
    let has_agreed = (found.verdict == Verdict::New) == short.is_none();
    has_agreed.then_some(short)
}

pub(crate) static HOLD: Script = Script::new(concat!(
    include_str!("money/row.lua"),
    include_str!("money/hold.lua"),
    include_str!("epoch.lua"),
    include_str!("bucket.lua"),
    include_str!("take.lua")
));
static RESOLVE: Script =
    Script::new(concat!(include_str!("money/row.lua"), include_str!("money/resolve.lua")));
static EXCUSE: Script = Script::new(include_str!("money/excuse.lua"));
static REPORT: Script =
    Script::new(concat!(include_str!("money/row.lua"), include_str!("money/report.lua")));

static TIDY: Script = Script::new(include_str!("money/tidy.lua"));

/// Holds and what ends them, together, that a node has under way: each has a seat until the
/// store has taken its end. When no seat is free a request that would hold is answered as if the
/// store were away; nothing that is held is ever dropped.
pub(crate) const SEATS_MAX: usize = 65_536;

/// What became of a hold is remembered for so long: the same id gets the same answer meanwhile.
pub(crate) const REMEMBERED: std::time::Duration = std::time::Duration::from_hours(24);

/// What operators decided is remembered for so long: adjustments, and what was charged for a node
/// that may come back.
pub(crate) const REMEMBERED_LONG: std::time::Duration = std::time::Duration::from_hours(90 * 24);

/// A hold is overdue after so long: its node is gone, or its call hangs.
pub(crate) const GRACE: std::time::Duration = std::time::Duration::from_mins(15);
