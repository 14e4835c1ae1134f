//! What a node brings to a step of a credential, and what the step answers.

use super::queue::{Flow, Join};
use super::rule::Rule;

/// What a node brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The number of the node's step, which only grows: a step that is overtaken by a later one on
    /// its way brings nothing.
    pub number: u64,
    /// The number of the last grant that the node was told of. Those after it are told again to
    /// calls that ask again, since their answer was lost.
    pub heard: u64,
    /// What became of earlier grants.
    pub reports: Vec<Report>,
    /// Calls that wait no longer.
    pub leaves: Vec<Leave>,
    /// Calls that want to wait. One that waits already keeps its place.
    pub joins: Vec<Join>,
}

/// A call that waits no longer. Nothing of it stays: the calls behind it move up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    pub seq: u64,
    pub flow: Flow,
    /// Its time is over, and it wants to know how long it would have had to wait still.
    pub asks: bool,
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The grant's number.
    pub number: u64,
    pub probe: Probe,
    /// What the upstream's answer said; nothing where there was none.
    pub said: Said,
}

/// What a report says of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Nothing: the call was none that finds out.
    #[default]
    None,
    /// The call that finds out was answered.
    Answered,
    /// The call that finds out had no answer: another has to.
    Lost,
}

/// What the upstream says of its quota. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Calls that are left, and for how long that holds.
    pub left: Option<(u64, u64)>,
    /// Calls it has counted in a window like ours, by whomever.
    pub used: Option<u64>,
    /// It refused (429).
    pub blocked: Option<Blocked>,
}

/// For how long an upstream that refused wants to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It does not say: for as long as the quota says.
    Unsaid,
    /// For so many milliseconds; with none, one call may find out at once.
    For(u64),
}

impl Blocked {
    /// In milliseconds, by a rule.
    #[must_use]
    pub fn millis(self, rule: &Rule) -> u64 {
        match self {
            Self::Unsaid => rule.block,
            Self::For(millis) => millis.min(BLOCKED_MAX),
        }
    }
}

/// What a step answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The node was away for so long that its calls were taken out: they have to join again.
    pub forgotten: bool,
    /// The rule that was gone by, where it is not the one that the node brought: others go by a
    /// newer document.
    pub in_force: Option<Rule>,
    /// Calls that would wait for too long or find no room, and calls that left and asked: by their
    /// numbers, with how long they would wait.
    pub refused: Vec<(u64, u64)>,
    /// Calls whose turn it is; each has a number.
    pub granted: Vec<Grant>,
    /// When a call that waits may have its turn; [`NEVER`] when none waits.
    pub next: u64,
    /// For how long the upstream is left alone.
    pub blocked: u64,
    /// Calls that count now.
    pub used: u64,
    /// Calls of others that use the same credential, as far as they are known.
    pub headroom: u64,
    /// Calls that wait.
    pub waiting: u64,
}

/// A call's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub seq: u64,
    pub number: u64,
    /// It finds out whether the upstream takes calls again.
    pub is_probe: bool,
    /// How long ago it was counted, in milliseconds: not now where it is told once more.
    pub age: u64,
}

/// No call waits.
pub const NEVER: u64 = u64::MAX;

/// No upstream keeps us away for longer than a day.
const BLOCKED_MAX: u64 = 86_400_000;
