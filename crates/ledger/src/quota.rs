//! Turns at upstreams: who may send now on a credential that everybody shares.
//!
//! One task of a node holds the calls that wait there, and takes their news to where the credential
//! is counted: in the node, or in the fleet's store. Turns come in one order over the whole fleet;
//! a node is given only its own.

mod desk;
mod line;
mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use model::{Clock, QuotaId, Uptime};
use rules::quota::{Edition, Join, Probe, Report, Rule, Said};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::desk::{Desk, Message};
pub use self::metrics::QuotaMetrics;
use crate::{Embedded, Fleet};

/// What is counted: a credential or an upstream, and the quota that it is counted for now. The
/// count is the subject's, whatever its quota is called.
#[derive(Clone, Debug)]
pub struct QuotaKey {
    pub(crate) quota: QuotaId,
    pub(crate) subject: Arc<str>,
}

impl QuotaKey {
    /// The count of a credential, which is told by its HMAC-SHA-256 alone.
    #[must_use]
    pub fn of_credential(quota: &QuotaId, field: &str, value: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, PURPOSE);
        let tag = hmac::sign(&key, &[field.as_bytes(), b":", value].concat());
        let subject = tag.as_ref().get(..DIGEST_BYTES).unwrap_or_default();
        let subject = Arc::from(format!("credential:{}", hex::encode(subject)));
        Self { quota: quota.clone(), subject }
    }

    /// The count of an upstream.
    #[must_use]
    pub fn of_upstream(quota: &QuotaId, upstream: &str) -> Self {
        Self { quota: quota.clone(), subject: Arc::from(format!("upstream:{upstream}")) }
    }

    /// Whether both count the same.
    #[must_use]
    pub fn counts_as(&self, other: &Self) -> bool {
        self.subject == other.subject
    }
}

/// The way to the turns. Clones share it.
#[derive(Clone, Debug)]
pub struct Quotas {
    messages: mpsc::Sender<Message>,
    metrics: QuotaMetrics,
    /// The number of the last call that asked.
    asked: Arc<AtomicU64>,
}

/// A turn that was given. A sender that has it may send one call, soon.
#[derive(Debug)]
pub struct Turn {
    key: Arc<QuotaKey>,
    /// The rule that it was given by.
    rule: Rule,
    /// What this node's document says.
    edition: Edition,
    number: u64,
    is_probe: bool,
    /// Not later than when it was counted, by the node's clock.
    at: Uptime,
    /// Calls that were left of the quota then.
    left: u64,
    messages: mpsc::Sender<Message>,
    is_answered: bool,
}

/// Why there was no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// It would come too late; then.
    Late(Duration),
    /// The upstream has refused everybody, for so long.
    Blocked(Duration),
    /// The store of the fleet cannot be asked.
    Away,
    /// Too many calls wait on this node, or too many credentials are counted.
    Full,
}

impl Quotas {
    /// Starts the task that holds who waits, on the runtime of the caller. It ends when the last
    /// clone is dropped. `node` tells nodes apart: chance, and not zero.
    #[must_use]
    pub fn start(
        (own, fleet): (Arc<Embedded>, Option<Fleet>),
        node: u64,
        metrics: QuotaMetrics,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
    ) -> Self {
        let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
        // Numbers of a store stay below 2^53.
        let node = node % (1 << 48) + 1;
        let desk = Desk::new((own, fleet), node, metrics.clone(), clock, messages.downgrade());
        tasks.spawn(desk.run(inbox));
        Self { messages, metrics, asked: Arc::default() }
    }

    /// Waits for a turn. Whoever stops waiting leaves the queue.
    ///
    /// # Errors
    /// Why there is none: at once, where that is known.
    pub async fn turn(
        &self,
        key: &Arc<QuotaKey>,
        edition: Edition,
        join: Join,
    ) -> Result<Turn, NoTurn> {
        let (answer, answered) = oneshot::channel();
        let patience = Duration::from_millis(join.patience);
        let seq = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let ask =
            Message::Ask { key: Arc::clone(key), edition, join: Join { seq, ..join }, answer };
        let waited = match self.messages.try_send(ask) {
            Err(_) => Err(NoTurn::Full),
            Ok(()) => {
                let mut waiting = Waiting { quotas: self, key, seq, is_answered: false };
                // The desk answers everybody in time; this is for a desk that has ended.
                match tokio::time::timeout(patience + GRACE, answered).await {
                    Ok(Ok(answered)) => {
                        waiting.is_answered = true;
                        answered
                    }
                    Ok(Err(_)) | Err(_) => Err(NoTurn::Away),
                }
            }
        };
        self.metrics.count(&key.quota, &waited);
        waited
    }

    /// Notes how long a call waited.
    pub fn waited(&self, waited: Duration) {
        self.metrics.waits.observe(waited.as_secs_f64());
    }

    /// Notes a call that passed or was refused because it could not be counted.
    pub fn note_uncounted(&self, key: &QuotaKey, passed: bool) {
        self.metrics.uncounted(&key.quota, passed);
    }
}

/// A call that waits. Dropping it takes the call out of the queue: its client has hung up.
struct Waiting<'a> {
    quotas: &'a Quotas,
    key: &'a Arc<QuotaKey>,
    seq: u64,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let leave = Message::Leave { key: Arc::clone(self.key), seq: self.seq };
        // Where the queue of messages is full, the desk finds out by itself, a little later.
        drop(self.quotas.messages.try_send(leave));
    }
}

impl Turn {
    /// Whether it is too old to send by: the call would reach the upstream after it counts.
    #[must_use]
    pub fn is_stale(&self, now: Uptime) -> bool {
        now.since(self.at) > self.rule.transit() / 2
    }

    /// Calls that were left when it was given, and the rule they were counted by.
    #[must_use]
    pub const fn left(&self) -> (u64, Rule) {
        (self.left, self.rule)
    }

    /// Tells everybody what the upstream said. What finds the queue full is lost: a later answer
    /// says it again, a 429 as much as what is left.
    pub fn answered(mut self, said: Said) {
        self.is_answered = true;
        if said != Said::default() || self.is_probe {
            self.report(if self.is_probe { Probe::Answered } else { Probe::None }, said);
        }
    }

    fn report(&self, probe: Probe, said: Said) {
        let report = Report { number: self.number, probe, said };
        let (key, edition) = (Arc::clone(&self.key), self.edition);
        drop(self.messages.try_send(Message::Report { key, edition, report }));
    }
}

/// A turn that comes to no answer stays counted; if everybody waits for what it would have found
/// out, another finds out.
impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_probe && !self.is_answered {
            self.report(Probe::Lost, Said::default());
        }
    }
}

/// The key of the digests. It is not secret: it keeps them apart from those that others make of
/// the same credential.
const PURPOSE: &[u8] = b"tollgate quota credential v1";

/// Of a digest: as many as no two credentials share.
const DIGEST_BYTES: usize = 16;

/// Messages that wait for the desk. When as many wait, a call is refused as [`NoTurn::Full`].
const MESSAGES_MAX: usize = 16_384;

/// What a busy machine may add to a wait before the desk is taken for dead.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
