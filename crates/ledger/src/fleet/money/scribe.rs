//! Tells the store what happened at this node besides calls, so that every node can show it.
//!
//! The truth is each node's journal. What the store has of it is told again when it has forgotten,
//! in whatever order: an event that it knows is the same event.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisError};
use tokio::time::timeout;

use super::Purse;
use crate::fleet::key::Organisation;
use crate::fleet::road::{Road, Roads};
use crate::money::{Event, event_bytes};

/// Tells what happens, until nobody can ask the store any more.
pub(crate) async fn scribe(purse: Arc<Purse>, mut roads: Roads, organisation: Organisation) {
    let (mut epoch, mut next) = (0, 0);
    loop {
        let road = roads.borrow_and_update().clone();
        let told = match road {
            Some(mut road) if purse.is_used() => {
                if road.epoch != epoch {
                    (epoch, next) = (road.epoch, 0);
                }
                tell(&purse, &mut road, &organisation, &mut next).await
            }
            Some(_) | None => true,
        };
        let pause = if told { IDLE } else { RETRY };
        tokio::select! {
            changed = roads.changed() => if changed.is_err() { return },
            () = purse.told.notified(), if told => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tells all events from the next one on. `false` when the store did not take them.
async fn tell(purse: &Purse, road: &mut Road, organisation: &Organisation, next: &mut u64) -> bool {
    loop {
        let events = purse.events(*next);
        let Some((last, _)) = events.last() else { return true };
        let after = *last + 1;
        match timeout(CALL_MAX, put(road, organisation, &events)).await {
            Ok(Ok(())) => *next = after,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the history of the budgets was not told");
                return false;
            }
            Err(_) => return false,
        }
    }
}

async fn put(
    road: &mut Road,
    organisation: &Organisation,
    events: &[(u64, Event)],
) -> Result<(), RedisError> {
    let mut keys = BTreeSet::new();
    let mut calls = Pipeline::new();
    for (_, event) in events {
        let key = organisation.events(&event.row.budget);
        calls.cmd("ZADD").arg(&key).arg(event.at.as_micros()).arg(event_bytes(event)).ignore();
        keys.insert(key);
    }
    for key in &keys {
        calls.cmd("PEXPIRE").arg(key).arg(KEPT.as_millis().to_string()).ignore();
        calls.cmd("ZRANGE").arg(key).arg(0).arg(-EVENTS_MAX - 1);
    }
    let beyond: Vec<Vec<Vec<u8>>> = calls.query_async(&mut road.connection).await?;
    let mut calls = Pipeline::new();
    for (key, beyond) in keys.iter().zip(beyond).filter(|(_, beyond)| !beyond.is_empty()) {
        calls.cmd("ZREM").arg(key).arg(beyond).ignore();
    }
    if calls.is_empty() { Ok(()) } else { calls.query_async(&mut road.connection).await }
}

/// Events of one budget in the store. When as many are there, the oldest is forgotten there; the
/// node's own journal has its newest 16,384 of all budgets.
const EVENTS_MAX: i64 = 4_096;

/// The store forgets what happened to a budget to which nothing has happened for so long.
const KEPT: Duration = Duration::from_hours(400 * 24);

/// For one call.
const CALL_MAX: Duration = Duration::from_secs(2);

/// Before a call that failed is made again, and how often it is looked for what nobody rang for.
const RETRY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);
