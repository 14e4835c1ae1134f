//! Holds that stay open in the store while nobody speaks for them.

use model::Amount;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};

use super::{EXCUSE, Entry, Kind, Row, TIDY};
use crate::fleet::batch::number;
use crate::fleet::key::Organisation;

/// Open holds of a node as the store knows them in an epoch, the oldest first: those of a page of
/// [`SWEEP_MAX`], as ends of this kind, and the next page if there is one. What was held stands for
/// what it did cost. To its node a hold is open too that somebody has charged for it: it may know
/// that nothing left by it.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn held_by(
    connection: &mut MultiplexedConnection,
    organisation: &Organisation,
    (node, epoch): (&str, u64),
    (kind, page): (Kind, usize),
) -> Result<(Vec<Entry>, Option<usize>), RedisError> {
    let list = organisation.open(node);
    let mut command = Cmd::new();
    match kind {
        // What was charged before stands at the end, out of the way.
        Kind::Estimate => {
            let last = format!("({CHARGED}");
            command.arg("ZRANGE").arg(&list).arg("-inf").arg(last);
            command.arg("BYSCORE").arg("LIMIT").arg(0).arg(SWEEP_MAX);
        }
        Kind::Settle | Kind::Void | Kind::Adjust | Kind::Look => {
            let (first, last) = (page * SWEEP_MAX, (page + 1) * SWEEP_MAX - 1);
            command.arg("ZRANGE").arg(&list).arg(first).arg(last);
        }
    }
    let names: Vec<String> = command.query_async(connection).await?;
    let ids: Vec<u128> =
        names.iter().filter_map(|name| u128::from_str_radix(name, 16).ok()).collect();
    if ids.is_empty() {
        return Ok((Vec::new(), None));
    }
    let mut command = Cmd::new();
    command.arg("MGET");
    for id in &ids {
        command.arg(organisation.hold(*id));
    }
    let records: Vec<Option<Vec<u8>>> = command.query_async(connection).await?;
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for (id, record) in ids.into_iter().zip(&records) {
        match record.as_deref().and_then(|record| entry(id, record, epoch, kind)) {
            Some((state, entry)) if state == RESERVED || kind != Kind::Estimate => {
                found.push(entry);
            }
            Some(_) | None => others.push(organisation.hold(id)),
        }
    }
    if !others.is_empty() {
        let keys = [vec![organisation.epoch(), list], others].concat();
        let (epoch, charged) = (epoch.to_string(), CHARGED.to_string());
        TIDY.call(connection, &keys, &[epoch.as_bytes(), charged.as_bytes()]).await?;
    }
    let is_last = names.len() < SWEEP_MAX;
    // Whoever charges sees others at the same place next.
    let next = if kind == Kind::Estimate { 0 } else { page + 1 };
    Ok((found, (!is_last).then_some(next)))
}

/// A record as `hold.lua` writes it, and its state: it is open, or was charged for its node.
fn entry(id: u128, mut record: &[u8], epoch: u64, kind: Kind) -> Option<(u8, Entry)> {
    if number(&mut record)? != epoch {
        return None;
    }
    let (state, record) = record.split_first()?;
    let (check, record) = record.split_first_chunk::<8>()?;
    let (count, mut record) = record.split_first()?;
    if !matches!(*state, RESERVED | ESTIMATED) {
        return None;
    }
    let mut parts = Vec::new();
    for _ in 0..*count {
        let amount = Amount::from_parts(number(&mut record)?.cast_signed())?;
        let (length, rest) = record.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        record = rest;
        parts.push((Row::named(key.into(), None), amount));
    }
    Some((*state, Entry { id, check: *check, kind, parts }))
}

/// Goes on without what a node has spent. It counts again when the node comes back. `false` where
/// the node has told all of it in this epoch: it would count twice. `None` where the store holds
/// another epoch.
///
/// # Errors
/// What the store or the connection says.
pub(crate) async fn excuse(
    connection: &mut MultiplexedConnection,
    organisation: &Organisation,
    (node, epoch): (&str, u64),
) -> Result<Option<bool>, RedisError> {
    let keys = [organisation.epoch(), organisation.nodes()];
    let epoch = epoch.to_string();
    let answer = EXCUSE.call(connection, &keys, &[epoch.as_bytes(), node.as_bytes()]).await?;
    Ok(answer.first().map(|answer| *answer == b'1'))
}

/// How `hold.lua` marks an open hold, and `resolve.lua` one that was charged.
const RESERVED: u8 = 1;
const ESTIMATED: u8 = 4;

/// Later than every deadline: where holds stand that were charged for a node that is gone, until
/// it comes back or they are forgotten.
const CHARGED: u64 = 1 << 60;

/// Holds that are looked at in one go.
const SWEEP_MAX: usize = 512;
