//! What a fleet remembers of repeats: a hash a request in Redis, and its sealed answer beside.
//!
//! Each step is one call of `repeat.lua` on the link that the shard holds. It is as durable as
//! that Redis is; its memory is bounded by the windows and by the server's own `maxmemory`, at
//! which a further request is refused before anything leaves.

use std::time::Duration;

use rules::repeat::{Asked, Landing};
use tokio::time::timeout;

use super::Fleet;
use super::script::Script;
use crate::repeat::{Ask, Away, Claimed, Name};

impl Fleet {
    pub(crate) async fn claim(&self, ask: &Ask, flight: u64) -> Result<Claimed, Away> {
        let asked: &[u8] = match ask.asked {
            Asked::ByKey => b"key",
            Asked::First => b"first",
            Asked::Again => b"again",
        };
        let further = [ask.name.fingerprint.as_slice(), asked];
        let answer = self.step("ask", &ask.name, (flight, ask.window), &further).await?;
        claimed(&answer).ok_or(Away)
    }

    pub(crate) async fn depart(
        &self,
        name: &Name,
        flight: u64,
        window: Duration,
    ) -> Result<(), Away> {
        let answer = self.step("depart", name, (flight, window), &[]).await?;
        (answer == b"Y").then_some(()).ok_or(Away)
    }

    pub(crate) async fn renew(
        &self,
        name: &Name,
        flight: u64,
        window: Duration,
    ) -> Result<(), Away> {
        self.step("renew", name, (flight, window), &[]).await.map(drop)
    }

    pub(crate) async fn land(
        &self,
        name: &Name,
        flight: (u64, Duration),
        (landing, answer): (Landing, Option<Vec<u8>>),
    ) -> Result<(), Away> {
        let status;
        let mut further: Vec<&[u8]> = Vec::with_capacity(3);
        match landing {
            Landing::Grounded => further.push(b"grounded"),
            Landing::Void => further.push(b"void"),
            Landing::Unknown => further.push(b"unknown"),
            Landing::Answered(kept) => {
                status = kept.status.to_string();
                further.extend([b"answered".as_slice(), status.as_bytes()]);
                further.extend(answer.as_deref().filter(|_| kept.whole));
            }
        }
        let (mut tried, mut step) = (Err(Away), "land");
        for _ in 0..LAND_TRIES {
            // Told again it counts only if it was not taken the first time.
            tried = self.step(step, name, flight, &further).await.map(drop);
            step = "again";
            if tried.is_ok() {
                break;
            }
            tokio::time::sleep(LAND_PAUSE).await;
        }
        tried
    }

    async fn step(
        &self,
        step: &str,
        name: &Name,
        (flight, window): (u64, Duration),
        further: &[&[u8]],
    ) -> Result<Vec<u8>, Away> {
        let mut road = self.roads.borrow().clone().ok_or(Away)?;
        let [known, answer] = self.organisation.repeat(&name.id);
        let keys = [self.organisation.epoch(), known, answer];
        let window = window.as_millis().max(1).to_string();
        let (flight, lease) = (flight.to_le_bytes(), self.lease.as_micros().to_string());
        let mut arguments = vec![step.as_bytes(), &flight, window.as_bytes(), lease.as_bytes()];
        arguments.extend(further);
        let called = STEP.call(&mut road.connection, &keys, &arguments);
        let answered = timeout(self.patience, called).await.map_err(|_| Away)?;
        let answered = answered.map_err(|error| {
            tracing::warn!(%error, step, "Redis did not take a step of a repeat");
            Away
        })?;
        if answered.is_empty() {
            road.doubt();
            return Err(Away);
        }
        Ok(answered)
    }
}

/// Reads what the script says of a claim.
fn claimed(answer: &[u8]) -> Option<Claimed> {
    let (letter, rest) = answer.split_first()?;
    Some(match letter {
        b'G' => Claimed::Go,
        b'W' => Claimed::Wait,
        b'U' => Claimed::Unknown,
        b'O' => Claimed::Other,
        b'F' => Claimed::Full,
        b'S' | b'A' => {
            let (status, answer) = rest.split_first_chunk()?;
            let status = u16::from_le_bytes(*status);
            match letter {
                b'A' => Claimed::Answered(status, answer.to_vec()),
                _ => Claimed::Status(status),
            }
        }
        _ => return None,
    })
}

static STEP: Script = Script::new(include_str!("repeat.lua"));

/// How often it is tried to tell how a flight ended. After that its outcome is unknown when its
/// lease has run out.
const LAND_TRIES: u32 = 5;

/// Between two of them, a breaker's pause long.
const LAND_PAUSE: Duration = Duration::from_millis(200);
