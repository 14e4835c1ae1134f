//! The ends of holds on their way to the store.

use aws_lc_rs::digest::{SHA256, digest};
use model::Amount;
use rules::budget::Account;

use super::pack::account;
use super::{Packer, REMEMBERED, REMEMBERED_LONG, RESOLVE, Row};
use crate::fleet::batch::{number, short};
use crate::fleet::key::Organisation;
use redis::RedisError;
use redis::aio::MultiplexedConnection;

/// What is to happen to a hold, or to a row, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u128,
    pub(crate) check: [u8; 8],
    pub(crate) kind: Kind,
    /// The rows of the hold in its order, and what the call did cost of each.
    pub(crate) parts: Vec<(Row, Amount)>,
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The call did cost so much.
    Settle,
    /// The call had no effect.
    Void,
    /// Nobody knows: what was held is spent, until somebody does.
    Estimate,
    /// No hold: an operator adds so much to a row.
    Adjust,
    /// No hold: whether a row has reached a threshold by what was told or assumed.
    Look,
}

impl Kind {
    /// As `resolve.lua` and journals have it.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Settle => 1,
            Self::Void => 2,
            Self::Estimate => 3,
            Self::Adjust => 4,
            Self::Look => 5,
        }
    }
}

/// What the store answers to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Become {
    pub(crate) fate: Fate,
    pub(crate) parts: Vec<Part>,
}

/// What became of one part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The thresholds, in percent, that it was the first to reach.
    pub(crate) fired: Vec<u8>,
    /// The row afterwards, where one fired or an operator adjusts.
    pub(crate) account: Option<Account>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// It had been done, by this node.
    Known,
    /// It had been done, by another node or before the store forgot.
    Elsewhere,
    /// It was charged as an estimate, and is void now.
    Returned,
    /// An adjustment would leave the range of amounts.
    Range,
    /// The store knows no such hold.
    Unknown,
    /// It ended in another way.
    Conflict,
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// Its number, and what became of each entry.
    All(u64, Vec<Become>),
    /// The store holds another epoch, or money is closed.
    Closed,
    /// The store has lost what it had answered.
    Lost,
    Nonsense,
}

/// Whose holds they are, in which epoch, and the last number answered in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) organisation: &'a Organisation,
    pub(crate) node: &'a str,
    pub(crate) epoch: u64,
    pub(crate) answered: u64,
}

/// Sends entries to the store.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn resolve(
    connection: &mut MultiplexedConnection,
    caller: Caller<'_>,
    entries: &[Entry],
) -> Result<Resolved, RedisError> {
    let Caller { organisation, node, epoch, answered } = caller;
    let (mut packer, mut packed) = (Packer::default(), Vec::new());
    for entry in entries {
        packed.extend(packer.record(organisation, entry.id).to_le_bytes());
        packed.extend(entry.check);
        packed.push(entry.kind.number());
        packed.push(u8::try_from(entry.parts.len()).unwrap_or(u8::MAX));
        for (row, cost) in &entry.parts {
            let (row, budget) = packer.place(organisation, row);
            packed.extend(row.to_le_bytes());
            packed.extend(budget.to_le_bytes());
            packed.extend(cost.parts().to_le_bytes());
        }
    }
    let marks = [
        organisation.epoch(),
        organisation.money(),
        organisation.seen(node),
        organisation.open(node),
    ];
    let budgets = packer.budgets();
    let mut head = Vec::new();
    head.extend(short(packer.rows.len()).to_le_bytes());
    head.extend(short(packer.records.len()).to_le_bytes());
    head.extend(answered.to_le_bytes());
    for remembered in [REMEMBERED, REMEMBERED_LONG] {
        head.extend(u64::try_from(remembered.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
    }
    head.extend(digest(&SHA256, node.as_bytes()).as_ref().iter().take(8));
    let Packer { rows, records, lists, .. } = packer;
    let keys: Vec<_> = marks.into_iter().chain(rows).chain(records).chain(lists.keys).collect();
    let epoch = epoch.to_string();
    let arguments: [&[u8]; 5] = [epoch.as_bytes(), &head, &budgets, &packed, &lists.heads];
    let answer = RESOLVE.call(connection, &keys, &arguments).await?;
    Ok(match &*answer {
        [] => Resolved::Closed,
        b"R" => Resolved::Lost,
        answer => unpack(answer, entries).unwrap_or(Resolved::Nonsense),
    })
}

fn unpack(mut answer: &[u8], entries: &[Entry]) -> Option<Resolved> {
    let at = number(&mut answer)?;
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let (fate, rest) = answer.split_first()?;
        answer = rest;
        let fate = match fate {
            0 => Fate::Done,
            1 => Fate::Known,
            2 => Fate::Unknown,
            3 => Fate::Conflict,
            4 => Fate::Elsewhere,
            5 => Fate::Range,
            6 => Fate::Returned,
            _ => return None,
        };
        let parts: Option<Vec<Part>> =
            entry.parts.iter().map(|_| part(&mut answer, entry.kind)).collect();
        all.push(Become { fate, parts: parts? });
    }
    answer.is_empty().then_some(Resolved::All(at, all))
}

fn part(answer: &mut &[u8], kind: Kind) -> Option<Part> {
    let (count, rest) = answer.split_first()?;
    let (fired, rest) = rest.split_at_checked(usize::from(*count))?;
    *answer = rest;
    let has_account = !fired.is_empty() || kind == Kind::Adjust;
    let account = if has_account { Some(account(answer)?) } else { None };
    Some(Part { fired: fired.to_vec(), account })
}
