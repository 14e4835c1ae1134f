//! What operators see of the fleet's money: the rows of a budget, and what happened to them.

use model::{BudgetId, Timestamp};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};
use rules::budget::{Account, Budget, Fired, RowKey};

use super::pack;
use crate::fleet::key::{Organisation, row_of};
use crate::money::{Event, Listed, event_of};

/// Some of a budget's rows: those of the newest period first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Listed>,
    /// How many there are.
    pub total: u64,
    /// How many rows are before the next page; `None` when this is the last. A row that comes
    /// meanwhile moves others to the next page, which then shows some again and misses none.
    pub next: Option<u64>,
}

/// Where and when somebody looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) organisation: &'a Organisation,
    pub(crate) epoch: u64,
    pub(crate) now: Timestamp,
}

/// A page of a budget's rows, behind so many.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn page(
    connection: &mut MultiplexedConnection,
    view: View<'_>,
    budget: &Budget,
    (from, limit): (u64, usize),
) -> Result<Page, RedisError> {
    let View { organisation, now, .. } = view;
    let subject = rules::plan::Subject::Text("".into());
    let list = organisation.rows(&RowKey::of(budget, subject, Timestamp::default()));
    let over = format!("({}", now.as_millis());
    let mut command = Cmd::new();
    command.arg("ZCOUNT").arg(&list).arg(&over).arg("+inf");
    let total: u64 = command.query_async(connection).await?;
    let mut command = Cmd::new();
    command.arg("ZRANGE").arg(&list).arg("+inf").arg(&over).arg("BYSCORE").arg("REV");
    command.arg("LIMIT").arg(from).arg(limit);
    let names: Vec<String> = command.query_async(connection).await?;
    let keys: Vec<RowKey> = names.iter().filter_map(|name| row_of(name)).collect();
    let found = accounts(connection, view, &keys).await?;
    let listed = keys.into_iter().zip(found).filter_map(|(row, account)| {
        let end = budget.calendar.at(row.period).end;
        Some(Listed { account: account?.1, row, end })
    });
    let next = from + u64::try_from(names.len()).unwrap_or(u64::MAX);
    let next = Some(next).filter(|next| !names.is_empty() && *next < total);
    Ok(Page { rows: listed.collect(), total, next })
}

/// A row as the store has it; nothing of what was never held.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn account(
    connection: &mut MultiplexedConnection,
    view: View<'_>,
    row: &RowKey,
) -> Result<Account, RedisError> {
    let found = accounts(connection, view, std::slice::from_ref(row)).await?;
    Ok(found.into_iter().next().flatten().map(|(_, account)| account).unwrap_or_default())
}

async fn accounts(
    connection: &mut MultiplexedConnection,
    View { organisation, epoch, .. }: View<'_>,
    rows: &[RowKey],
) -> Result<Vec<Option<(u64, Account)>>, RedisError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = Cmd::new();
    command.arg("MGET");
    rows.iter().for_each(|row| _ = command.arg(organisation.row(row)));
    let found: Vec<Option<Vec<u8>>> = command.query_async(connection).await?;
    let read = |found: Option<Vec<u8>>| row(&found?).filter(|(of, _)| *of == epoch);
    Ok(found.into_iter().map(read).collect())
}

/// A row as `row.lua` writes it, with its epoch.
pub(crate) fn row(mut value: &[u8]) -> Option<(u64, Account)> {
    let epoch = crate::fleet::batch::number(&mut value)?;
    let account = pack::account(&mut value)?;
    let (places, fired) = value.split_first()?;
    let fired = Fired::of_places(*places).and(fired.iter().copied().collect());
    Some((epoch, Account { fired, ..account }))
}

/// What happened to a budget's rows besides calls, oldest first.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn events(
    connection: &mut MultiplexedConnection,
    organisation: &Organisation,
    budget: &BudgetId,
) -> Result<Vec<Event>, RedisError> {
    let mut command = Cmd::new();
    command.arg("ZRANGE").arg(organisation.events(budget)).arg(0).arg(-1);
    let told: Vec<Vec<u8>> = command.query_async(connection).await?;
    Ok(told.iter().filter_map(|told| event_of(told)).collect())
}
