//! The ends of holds on their way to the store.

use model::Amount;

use super::{Packer, REMEMBERED, RESOLVE, Row};
use crate::fleet::batch::number;
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
}

/// What the store answers to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Become {
    pub(crate) fate: Fate,
    /// For each part the thresholds that it was the first to reach, as bits.
    pub(crate) fired: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// It had been done.
    Known,
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
        packed.push(match entry.kind {
            Kind::Settle => 1,
            Kind::Void => 2,
            Kind::Estimate => 3,
            Kind::Adjust => 4,
        });
        packed.push(u8::try_from(entry.parts.len()).unwrap_or(u8::MAX));
        for (row, cost) in &entry.parts {
            let (row, budget) = packer.place(row);
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
    head.extend(u16::try_from(packer.rows.len()).unwrap_or(u16::MAX).to_le_bytes());
    head.extend(answered.to_le_bytes());
    head.extend(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
    let keys: Vec<_> = marks.into_iter().chain(packer.rows).chain(packer.records).collect();
    let epoch = epoch.to_string();
    let arguments: [&[u8]; 4] = [epoch.as_bytes(), &head, &budgets, &packed];
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
        let (fired, rest) = rest.split_at_checked(entry.parts.len())?;
        answer = rest;
        let fate = match fate {
            0 => Fate::Done,
            1 => Fate::Known,
            2 => Fate::Unknown,
            3 => Fate::Conflict,
            _ => return None,
        };
        all.push(Become { fate, fired: fired.to_vec() });
    }
    answer.is_empty().then_some(Resolved::All(at, all))
}
