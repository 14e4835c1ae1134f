//! The records that wait for one target.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rules::record::Batch;
use tokio::sync::Notify;

use super::PENDING_BYTES_MAX;
use crate::Metrics;
use crate::metrics::Sink;

/// A queue that never blocks its writer: when it is full the oldest record that is not being
/// written goes.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// There is a first record, a full batch, or a drain.
    changed: Notify,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// How many of the first are being written now.
    in_flight: usize,
    /// What the logger that wrote last asks for.
    batch: Option<Batch>,
    sequence: u32,
    is_draining: bool,
    is_closed: bool,
    is_dropping: bool,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing waits.
    Nothing,
    /// Records wait for others to come.
    Later(Batch),
    /// Send now.
    Now(Batch),
    /// Nothing waits, and nothing will come.
    Over,
}

impl Outbox {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), metrics }
    }

    /// The next number of a message: 1 to 2^31 - 1, then 1 again.
    pub(crate) fn next_sequence(&self) -> u32 {
        let mut state = self.state.lock();
        state.sequence = if state.sequence >= SEQUENCE_MAX { 1 } else { state.sequence + 1 };
        state.sequence
    }

    pub(crate) fn push(&self, message: Arc<[u8]>, batch: Batch) {
        let mut state = self.state.lock();
        state.bytes += message.len();
        state.pending.push_back(message);
        state.batch = Some(batch);
        self.metrics.pending.inc();
        let dropped = state.make_room(batch.max_pending);
        let is_news = dropped > 0 && !std::mem::replace(&mut state.is_dropping, true);
        let waiting = state.pending.len();
        drop(state);
        self.count_dropped(dropped);
        if is_news {
            tracing::error!("too many records wait for a syslog server; the oldest are given up");
        }
        if waiting == 1 || waiting >= batch.max_size as usize {
            self.changed.notify_one();
        }
    }

    pub(crate) fn due(&self) -> Due {
        let state = self.state.lock();
        match state.batch {
            Some(batch) if !state.pending.is_empty() => {
                let is_full = state.pending.len() >= batch.max_size as usize;
                if is_full || state.is_draining { Due::Now(batch) } else { Due::Later(batch) }
            }
            _ if state.is_draining => Due::Over,
            _ => Due::Nothing,
        }
    }

    /// Waits for a change that [`Outbox::due`] tells.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The next batch: at most `count` records and about `bytes` bytes, but one at least. They
    /// stay in the outbox until [`Outbox::written`].
    pub(crate) fn begin(&self, count: usize, bytes: usize) -> Vec<Arc<[u8]>> {
        let mut state = self.state.lock();
        let mut room = bytes;
        let mut taken = Vec::new();
        for message in state.pending.iter().take(count.max(1)) {
            if message.len() > room && !taken.is_empty() {
                break;
            }
            room = room.saturating_sub(message.len());
            taken.push(Arc::clone(message));
        }
        state.in_flight = taken.len();
        taken
    }

    /// The first `count` of what was begun are written; the rest is to be tried again.
    pub(crate) fn written(&self, count: usize) {
        let mut state = self.state.lock();
        state.in_flight = 0;
        state.remove_first(count);
        if state.pending.is_empty() {
            state.is_dropping = false;
        }
        self.metrics.pending.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Gives the first records up.
    pub(crate) fn give_up(&self, count: usize) -> u64 {
        let mut state = self.state.lock();
        let count = count.min(state.pending.len());
        state.in_flight = 0;
        state.remove_first(count);
        drop(state);
        self.count_dropped(count as u64);
        count as u64
    }

    /// Puts records back that were written to a connection that then broke, as far as there is
    /// room: of those that do not fit the oldest are left out, for they likely arrived.
    pub(crate) fn put_back(&self, messages: VecDeque<Arc<[u8]>>) {
        let mut state = self.state.lock();
        let room = state.batch.map_or(0, |batch| batch.max_pending as usize);
        let mut count = 0;
        for message in messages.into_iter().rev() {
            if state.pending.len() >= room || state.bytes + message.len() > PENDING_BYTES_MAX {
                break;
            }
            state.bytes += message.len();
            state.pending.push_front(message);
            count += 1;
        }
        self.metrics.pending.inc_by(count);
    }

    /// Lets everything leave at once, and the task end when it has.
    pub(crate) fn drain(&self) {
        self.state.lock().is_draining = true;
        self.changed.notify_one();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.state.lock().is_draining
    }

    /// Closes an outbox in which nothing waits; `false` when something does.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        state.is_closed = state.pending.is_empty();
        state.is_closed
    }

    /// Whether its task has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().pending.len()
    }

    fn count_dropped(&self, count: u64) {
        if count > 0 {
            self.metrics.pending.dec_by(i64::try_from(count).unwrap_or(i64::MAX));
            self.metrics.gave_up(Sink::syslog, count);
        }
    }
}

impl State {
    /// Drops the oldest until the bounds hold, but never what is being written or came last.
    fn make_room(&mut self, max: u32) -> u64 {
        let mut dropped = 0;
        let first = self.in_flight;
        while self.pending.len() > (max as usize).max(1) || self.bytes > PENDING_BYTES_MAX {
            if first + 1 >= self.pending.len() {
                break;
            }
            let Some(message) = self.pending.remove(first) else { break };
            self.bytes -= message.len();
            dropped += 1;
        }
        dropped
    }

    fn remove_first(&mut self, count: usize) {
        for message in self.pending.drain(..count.min(self.pending.len())) {
            self.bytes -= message.len();
        }
    }
}

/// RFC 5424 §7.3.1.
const SEQUENCE_MAX: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn batch(max_pending: u32) -> Batch {
        Batch {
            max_size: 10,
            inactive: Duration::from_secs(5),
            max_retries: 0,
            retry_delay: Duration::from_secs(1),
            max_pending,
        }
    }

    fn push(outbox: &Outbox, texts: &[&str], max_pending: u32) {
        for text in texts {
            outbox.push(Arc::from(text.as_bytes()), batch(max_pending));
        }
    }

    fn check(outbox: &Outbox, expected: &[&str]) {
        let pending = outbox.state.lock().pending.clone();
        let texts: Vec<&str> =
            pending.iter().map(|message| std::str::from_utf8(message).unwrap()).collect();
        assert_eq!(texts, expected);
        let bytes = expected.iter().map(|text| text.len()).sum::<usize>();
        assert_eq!(outbox.state.lock().bytes, bytes);
        assert_eq!(outbox.metrics.pending.get(), i64::try_from(expected.len()).unwrap());
    }

    #[test]
    fn a_full_outbox_gives_up_its_oldest() {
        let outbox = Outbox::new(Metrics::default());
        push(&outbox, &["a", "b", "c", "d", "e"], 3);
        check(&outbox, &["c", "d", "e"]);
    }

    #[test]
    fn what_is_being_written_is_not_given_up() {
        let outbox = Outbox::new(Metrics::default());
        push(&outbox, &["a", "b", "c"], 3);
        assert_eq!(outbox.begin(2, 1_000).len(), 2);
        push(&outbox, &["d"], 3);
        check(&outbox, &["a", "b", "d"]);
        outbox.written(2);
        check(&outbox, &["d"]);
    }

    #[test]
    fn a_batch_ends_at_its_count_and_at_its_bytes() {
        let outbox = Outbox::new(Metrics::default());
        push(&outbox, &["aaaa", "bbbb", "cccc"], 9);
        assert_eq!(outbox.begin(2, 1_000).len(), 2);
        assert_eq!(outbox.begin(9, 8).len(), 2);
        assert_eq!(outbox.begin(9, 1).len(), 1);
    }

    #[test]
    fn what_is_put_back_stands_in_front_and_in_order() {
        let outbox = Outbox::new(Metrics::default());
        push(&outbox, &["d"], 3);
        let tail = ["a", "b", "c"].into_iter().map(|text| Arc::from(text.as_bytes())).collect();
        outbox.put_back(tail);
        check(&outbox, &["b", "c", "d"]);
    }

    #[test]
    fn numbers_begin_at_one_and_again_after_the_last() {
        let outbox = Outbox::new(Metrics::default());
        assert_eq!(outbox.next_sequence(), 1);
        outbox.state.lock().sequence = SEQUENCE_MAX - 1;
        assert_eq!([outbox.next_sequence(), outbox.next_sequence()], [SEQUENCE_MAX, 1]);
    }
}
