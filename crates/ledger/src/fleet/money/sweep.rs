//! Holds that stay open in the store while nobody speaks for them.

use model::Amount;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};

use super::{Entry, Kind, Row};
use crate::fleet::batch::number;
use crate::fleet::key::Organisation;

/// Open holds of a node as the store knows them in an epoch, the oldest first: those of a page of
/// [`SWEEP_MAX`], as ends of this kind, and the next page if there is one. What was held stands for
/// what it did cost.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn held_by(
    connection: &mut MultiplexedConnection,
    organisation: &Organisation,
    (node, epoch): (&str, u64),
    (kind, page): (Kind, usize),
) -> Result<(Vec<Entry>, Option<usize>), RedisError> {
    let mut command = Cmd::new();
    let (first, last) = (page * SWEEP_MAX, (page + 1) * SWEEP_MAX - 1);
    command.arg("ZRANGE").arg(organisation.open(node)).arg(first).arg(last);
    let names: Vec<String> = command.query_async(connection).await?;
    let ids: Vec<u128> =
        names.iter().filter_map(|name| u128::from_str_radix(name, 16).ok()).collect();
    if ids.is_empty() {
        return Ok((Vec::new(), None));
    }
    let next = (names.len() == SWEEP_MAX).then_some(page + 1);
    let mut command = Cmd::new();
    command.arg("MGET");
    for id in &ids {
        command.arg(organisation.hold(*id));
    }
    let records: Vec<Option<Vec<u8>>> = command.query_async(connection).await?;
    let found = ids.iter().zip(&records);
    let found = found.filter_map(|(id, record)| entry(*id, record.as_deref()?, epoch, kind));
    Ok((found.collect(), next))
}

/// A record as `hold.lua` writes it.
fn entry(id: u128, mut record: &[u8], epoch: u64, kind: Kind) -> Option<Entry> {
    if number(&mut record)? != epoch {
        return None;
    }
    let (state, record) = record.split_first()?;
    let (check, record) = record.split_first_chunk::<8>()?;
    let (count, mut record) = record.split_first()?;
    if *state != RESERVED {
        return None;
    }
    let mut parts = Vec::new();
    for _ in 0..*count {
        let amount = Amount::from_parts(number(&mut record)?.cast_signed())?;
        let (length, rest) = record.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        record = rest;
        // Its budget is not known here: the row keeps its end, and the next end fires for it.
        let row = Row { key: key.into(), amount: Amount::LARGEST, expires: 0, percents: [].into() };
        parts.push((row, amount));
    }
    Some(Entry { id, check: *check, kind, parts })
}

/// Goes on without what a node has spent. It counts again when the node comes back. `false` where
/// the node has told something in this epoch: it would count twice.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn excuse(
    connection: &mut MultiplexedConnection,
    organisation: &Organisation,
    (node, epoch): (&str, u64),
) -> Result<bool, RedisError> {
    let mut command = Cmd::new();
    command.arg("HGET").arg(organisation.nodes()).arg(node);
    let known: Option<Vec<u8>> = command.query_async(connection).await?;
    if known.is_some_and(|known| number(&mut known.as_slice()) == Some(epoch)) {
        return Ok(false);
    }
    // No epoch, nothing told, no names on its disk.
    let mut value = [0_u8; 19];
    if let Some(whole) = value.get_mut(16) {
        *whole = EXCUSED;
    }
    let mut command = Cmd::new();
    command.arg("HSET").arg(organisation.nodes()).arg(node).arg(&value[..]);
    command.query_async::<u64>(connection).await.map(|_| true)
}

/// How `hold.lua` marks an open hold, and `report.lua` a node that is excused.
const RESERVED: u8 = 1;
const EXCUSED: u8 = 2;

/// Holds that are looked at in one go.
const SWEEP_MAX: usize = 512;
