//! When a shard may call its store, and whether what it finds there is what its cluster counts in.

use std::pin::pin;
use std::time::Duration;

use redis::{Cmd, RedisError};
use rules::outage::Reach;
use tokio::time::{Instant, sleep_until, timeout};

use super::key::Organisation;
use super::link::Link;
use super::shard::{Shard, Unasked};

impl Shard {
    /// Waits until the store may be called: with which number, and which life of it is known to
    /// count. Whoever asks meanwhile learns at once that there is none.
    pub(crate) async fn may_call(&mut self) -> Result<(u64, u64), Unasked> {
        loop {
            if let Some(agreed) = self.outage.call() {
                return Ok(agreed);
            }
            self.outage.reaches(Reach::Waits);
            self.breaker.half_open();
            let Self { asks, outage, .. } = self;
            tokio::select! {
                () = outage.turns() => {}
                ask = asks.recv() => drop(ask.ok_or(Unasked)?),
            }
        }
    }

    /// Waits until the cluster counts in what was found. `false` when another call has to be made
    /// first.
    pub(crate) async fn is_agreed_on(&mut self, link: &Link) -> Result<bool, Unasked> {
        let (mut beat, told_at) = (Instant::now() + BEAT, Instant::now() + TELL_AFTER);
        let mut is_told = false;
        loop {
            if self.outage.counts(link.epoch) {
                return Ok(true);
            }
            if self.outage.call() != Some(link.agreed) {
                return Ok(false);
            }
            if !is_told && Instant::now() >= told_at {
                is_told = true;
                tracing::warn!(
                    host = %link.host,
                    life = link.epoch,
                    "this Redis is not used: the cluster has not agreed on counting in it"
                );
            }
            let (call_max, organisation) = (self.call_max, self.dialer.organisation.clone());
            let Self { asks, outage, .. } = self;
            let mut turns = pin!(outage.turns());
            tokio::select! {
                () = &mut turns => {}
                ask = asks.recv() => drop(ask.ok_or(Unasked)?),
                () = sleep_until(beat) => {
                    beat = Instant::now() + BEAT;
                    match timeout(call_max, epoch_of(link, &organisation)).await {
                        Ok(Ok(epoch)) if epoch == Some(link.epoch) => {}
                        // Another node has begun another life.
                        Ok(Ok(_)) => return Ok(false),
                        Ok(Err(_)) | Err(_) => {
                            outage.reaches(Reach::Away);
                            return Ok(false);
                        }
                    }
                }
            }
        }
    }

    /// The nodes that held money, as far as this one or its cluster knows.
    pub(crate) fn known(&self) -> Vec<String> {
        let mut known = self.dialer.memory.nodes();
        for name in self.outage.names() {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        known
    }
}

/// The life that a store is in now.
async fn epoch_of(link: &Link, organisation: &Organisation) -> Result<Option<u64>, RedisError> {
    let mut command = Cmd::new();
    command.arg("GET").arg(organisation.epoch());
    let value: Option<Vec<u8>> = command.query_async(&mut link.connection.clone()).await?;
    Ok(value.and_then(|value| Some(u64::from_le_bytes(*value.first_chunk()?))))
}

/// How often a store that is not used yet is tried.
const BEAT: Duration = Duration::from_millis(250);

/// When operators are told that it is not.
const TELL_AFTER: Duration = Duration::from_secs(10);
