//! The thread that remembers repeats: steps carried out in memory, and made durable many at once.
//!
//! After a write that failed the file is opened again, later and later, until one is done. Until
//! then nothing new is let go. What was to be written stays in memory and is written first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::Clock;
use rules::repeat::{Slot, Verdict};
use tokio::sync::{mpsc, oneshot};

use super::rows::{Change, File, Row};
use super::store::Order;
use super::{Ask, Claimed, Name};

/// Opens the file once more.
pub(super) type Reopen = Box<dyn Fn() -> Result<File, redb::Error> + Send>;

/// What the thread and those who ask it both see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The file cannot be written now.
    pub(super) is_broken: AtomicBool,
    /// Bytes of answers that are not written yet.
    waiting: AtomicUsize,
}

/// An answer on its way to the file, counted while it lives.
#[derive(Debug)]
pub(super) struct Waiting {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
}

impl Waiting {
    /// `None` when too many wait already.
    pub(super) fn new(bytes: Vec<u8>, shared: &Arc<Shared>) -> Option<Self> {
        let waiting = Self { bytes, shared: Arc::clone(shared) };
        let length = waiting.bytes.len();
        let before = shared.waiting.fetch_add(length, Ordering::Relaxed);
        (before.saturating_add(length) <= WAITING_BYTES_MAX).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The thread's own.
pub(super) struct Desk {
    /// `None` after it failed, until it is open again.
    file: Option<File>,
    reopen: Reopen,
    /// Before the file is opened again.
    pause: Duration,
    /// Requests with a try under way, and those of which the file has not heard.
    active: HashMap<[u8; 32], Active>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

struct Active {
    row: Row,
    /// In microseconds.
    window: u64,
    /// To be written with this answer, if there is a new one.
    dirty: Option<Option<Waiting>>,
}

/// Those who wait until it is durable that their request leaves, and whether it may.
type Departed = Vec<(oneshot::Sender<bool>, bool)>;

impl Desk {
    pub(super) fn new(
        file: File,
        reopen: Reopen,
        (clock, shared): (Arc<dyn Clock>, Arc<Shared>),
    ) -> Self {
        let (file, active, pause) = (Some(file), HashMap::new(), PAUSE_FIRST);
        Self { file, reopen, pause, active, clock, shared }
    }

    pub(super) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut round = Vec::new();
        while self.next(&mut orders, &mut round) {
            let mut departed = Departed::new();
            for order in round.drain(..) {
                self.carry_out(order, &mut departed);
            }
            let is_durable = self.write_if_due();
            for (answer, may) in departed {
                // Whoever gave up waiting lands its flight without effect.
                let _waits = answer.send(may && is_durable);
            }
            self.active.retain(|_, active| active.row.slot.is_awaited() || active.dirty.is_some());
        }
    }

    /// Waits for steps. `false` when no more can come.
    fn next(&mut self, orders: &mut mpsc::Receiver<Order>, round: &mut Vec<Order>) -> bool {
        if self.file.is_some() {
            return orders.blocking_recv_many(round, ROUND_MAX) > 0;
        }
        let is_closed = orders.is_closed();
        if !is_closed {
            std::thread::park_timeout(self.pause);
        }
        while round.len() < ROUND_MAX
            && let Ok(order) = orders.try_recv()
        {
            round.push(order);
        }
        self.mend();
        !is_closed || !round.is_empty()
    }

    /// Opens the file again, and writes what it has not heard of.
    fn mend(&mut self) {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let Ok(file) = (self.reopen)() else { return };
        self.file = Some(file);
        // A write proves that it can be written, also where there is nothing to say.
        if self.write().is_err() {
            self.file = None;
            return;
        }
        self.shared.is_broken.store(false, Ordering::Relaxed);
        tracing::info!("what is known of repeats is written again");
    }

    fn fail(&mut self, error: &redb::Error) {
        // A row that nobody can read is refused by itself.
        let is_of_a_row = matches!(error, redb::Error::Corrupted(_));
        let error = error.to_string();
        if is_of_a_row {
            return tracing::error!(error, "what is known of a repeat cannot be read");
        }
        self.file = None;
        self.shared.is_broken.store(true, Ordering::Relaxed);
        tracing::error!(
            error,
            "what is known of repeats cannot be written: requests that may be one are refused"
        );
    }

    /// Carries an order out in memory. What has to be durable first is answered later.
    fn carry_out(&mut self, order: Order, departed: &mut Departed) {
        match order {
            // One that cannot be answered is told by the closed channel.
            Order::Claim { ask, flight, now, answer } => match self.claim(&ask, flight, now) {
                Ok(Some(claimed)) => drop(answer.send(claimed)),
                Ok(None) => {}
                Err(error) => self.fail(&error),
            },
            Order::Depart { id, flight, now, answer } => {
                let is_open = self.file.is_some();
                let active = self.active.get_mut(&id).filter(|_| is_open);
                let may = active.is_some_and(|active| {
                    active.dirty.get_or_insert(None);
                    active.row.slot.depart(flight, (now, u64::MAX))
                });
                departed.push((answer, may));
            }
            Order::Land { id, flight, now, landing, answer } => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.row.slot.land(flight, landing, now);
                    // What was never written and has nothing to tell need not be.
                    let is_told = active.row.expires > 0 || active.dirty.is_some();
                    if is_told || !active.row.slot.is_empty() || answer.is_some() {
                        let kept = active.dirty.take().flatten();
                        active.dirty = Some(answer.or(kept));
                    }
                }
            }
        }
    }

    /// `None` while nothing can be known.
    fn claim(&mut self, ask: &Ask, flight: u64, now: u64) -> Result<Option<Claimed>, redb::Error> {
        let Some(file) = &self.file else { return Ok(None) };
        let Name { id, fingerprint, .. } = &ask.name;
        if !self.active.contains_key(id) {
            let found = file.row(id, now)?;
            if found.is_none() && !file.has_room()? {
                let held = |id: &[u8; 32]| self.active.contains_key(id);
                file.write(&mut [], now, &held)?;
                if !file.has_room()? {
                    return Ok(Some(Claimed::Full));
                }
            }
            let new = || Row { slot: Slot::new(*fingerprint), expires: 0, answer_at: 0 };
            let row = found.unwrap_or_else(new);
            self.active.insert(*id, Active { row, window: 0, dirty: None });
        }
        let Some(active) = self.active.get_mut(id) else { return Ok(Some(Claimed::Full)) };
        let verdict = active.row.slot.ask((ask.asked, fingerprint), flight, (now, u64::MAX));
        let window = u64::try_from(ask.window.as_micros()).unwrap_or(u64::MAX);
        active.window = active.window.max(window);
        Ok(Some(match verdict {
            Verdict::Go => Claimed::Go,
            Verdict::Wait => Claimed::Wait,
            Verdict::Unknown => Claimed::Unknown,
            Verdict::Other => Claimed::Other,
            Verdict::Full => Claimed::Full,
            Verdict::Answered(kept) => {
                let new = active.dirty.as_ref().and_then(Option::as_ref);
                let answer = match new {
                    Some(answer) => Some(answer.bytes.clone()),
                    None if kept.whole => file.answer(active.row.answer_at, id)?,
                    None => None,
                };
                let whole = answer.filter(|_| kept.whole);
                whole.map_or(Claimed::Status(kept.status), |answer| {
                    Claimed::Answered(kept.status, answer)
                })
            }
        }))
    }

    /// Writes what the file has not heard of. Whether it has heard of everything then.
    fn write_if_due(&mut self) -> bool {
        if self.file.is_none() {
            return false;
        }
        if self.active.values().all(|active| active.dirty.is_none()) {
            return true;
        }
        match self.write() {
            Ok(()) => {
                self.pause = PAUSE_FIRST;
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Writes, all at once. Where it fails everything stays to be written.
    fn write(&mut self) -> Result<(), redb::Error> {
        let Self { file: Some(file), active, clock, .. } = self else {
            return Err(redb::Error::PreviousIo);
        };
        let now = clock.now().as_micros();
        let held: HashSet<[u8; 32]> = active.keys().copied().collect();
        let mut changes = Vec::new();
        for (id, Active { row, window, dirty }) in active.iter_mut() {
            let Some(answer) = dirty else { continue };
            let expires = now.saturating_add(*window).max(1);
            let answer = answer.as_ref().map(|answer| &*answer.bytes);
            changes.push(Change { id: *id, row, expires, answer });
        }
        let forgotten = file.write(&mut changes, now, &|id| held.contains(id))?;
        active.values_mut().for_each(|active| active.dirty = None);
        for id in forgotten {
            if let Some(active) = active.get_mut(&id) {
                active.row.slot.forget_answer();
            }
        }
        Ok(())
    }
}

/// Steps that are made durable at once.
const ROUND_MAX: usize = 1_024;

/// Bytes of answers that wait to be written. When there are as many, of a further answer the
/// status alone is kept.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Before the file is opened again, doubled each time that it fails; shorter than anybody waits.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
