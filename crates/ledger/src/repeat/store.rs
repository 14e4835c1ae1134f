//! One node's memory of repeats: a thread that owns the file and makes many steps durable at once.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::Clock;
use rules::repeat::{Landing, Slot, Verdict};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::rows::{Change, File, Row};
use super::{Ask, Away, Claimed, Name};

/// Why what is remembered of repeats cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        cause: Box<redb::Error>,
    },
    #[error("cannot start the thread that remembers repeats")]
    Thread(#[source] std::io::Error),
}

/// The way to the thread. Clones share it; the last one waits for its end.
#[derive(Clone, Debug)]
pub(super) struct Store(Arc<Keeper>);

struct Keeper {
    clock: Arc<dyn Clock>,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

/// What the thread is told, each with the time.
#[derive(Debug)]
pub(super) enum Order {
    Claim { ask: Ask, flight: u64, now: u64, answer: oneshot::Sender<Claimed> },
    Depart { id: [u8; 32], flight: u64, now: u64, answer: oneshot::Sender<bool> },
    Land { id: [u8; 32], flight: u64, now: u64, landing: Landing, answer: Option<Vec<u8>> },
}

impl Store {
    pub(super) fn open(directory: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let path = directory.map(|directory| directory.join("repeats.redb"));
        let file = File::open(path.as_deref()).map_err(|cause| {
            let path = path.unwrap_or_default();
            Error::Open { path, cause: Box::new(cause) }
        })?;
        let (orders, taken) = mpsc::channel(QUEUE_MAX);
        let desk = Desk { file, active: HashMap::new() };
        let thread = std::thread::Builder::new().name(String::from("repeats"));
        let thread = thread.spawn(move || desk.run(taken)).map_err(Error::Thread)?;
        Ok(Self(Arc::new(Keeper { clock, orders: Some(orders), thread: Some(thread) })))
    }

    /// A place in the queue.
    pub(super) async fn reserve(&self) -> Result<OwnedPermit<Order>, Away> {
        let orders = self.0.orders.clone().ok_or(Away)?;
        timeout(PATIENCE, orders.reserve_owned()).await.map_err(|_| Away)?.map_err(|_| Away)
    }

    pub(super) async fn claim(&self, ask: &Ask, flight: u64) -> Result<Claimed, Away> {
        let (answer, told) = oneshot::channel();
        let now = self.0.clock.now().as_micros();
        self.reserve().await?.send(Order::Claim { ask: ask.clone(), flight, now, answer });
        timeout(PATIENCE, told).await.map_err(|_| Away)?.map_err(|_| Away)
    }

    pub(super) async fn depart(&self, name: &Name, flight: u64) -> Result<(), Away> {
        let (answer, told) = oneshot::channel();
        let now = self.0.clock.now().as_micros();
        self.reserve().await?.send(Order::Depart { id: name.id, flight, now, answer });
        let may = timeout(PATIENCE, told).await.map_err(|_| Away)?.map_err(|_| Away)?;
        may.then_some(()).ok_or(Away)
    }

    pub(super) fn land(
        &self,
        place: OwnedPermit<Order>,
        name: &Name,
        flight: u64,
        (landing, answer): (Landing, Option<Vec<u8>>),
    ) {
        let now = self.0.clock.now().as_micros();
        place.send(Order::Land { id: name.id, flight, now, landing, answer });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to return; a panic of it was told by then.
            let _ended = thread.join();
        }
    }
}

/// The thread's own.
struct Desk {
    file: File,
    /// Requests with a try under way, and those that this round changes.
    active: HashMap<[u8; 32], Active>,
}

struct Active {
    row: Row,
    /// In microseconds.
    window: u64,
    /// To be written with this answer, if there is a new one.
    dirty: Option<Option<Vec<u8>>>,
}

impl Desk {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut round = Vec::new();
        while orders.blocking_recv_many(&mut round, ROUND_MAX) > 0 {
            let (mut now, mut departed) = (0, Vec::new());
            for order in round.drain(..) {
                now = self.carry_out(order, &mut departed).max(now);
            }
            let written = self.write(now);
            if let Err(error) = &written {
                let error = error.to_string();
                tracing::error!(error, "what is known of repeats cannot be written");
            }
            for (answer, may) in departed {
                // Whoever gave up waiting lands its flight without effect.
                let _waits = answer.send(may && written.is_ok());
            }
            self.active.retain(|_, active| active.row.slot.is_awaited());
        }
    }

    /// Carries an order out in memory; answers its time. What has to be durable first is answered
    /// later.
    fn carry_out(
        &mut self,
        order: Order,
        departed: &mut Vec<(oneshot::Sender<bool>, bool)>,
    ) -> u64 {
        match order {
            Order::Claim { ask, flight, now, answer } => {
                // One that cannot be answered is told by the closed channel.
                match self.claim(&ask, flight, now) {
                    Ok(claimed) => drop(answer.send(claimed)),
                    Err(error) => {
                        let error = error.to_string();
                        tracing::error!(error, "what is known of repeats cannot be read");
                    }
                }
                now
            }
            Order::Depart { id, flight, now, answer } => {
                let active = self.active.get_mut(&id);
                let may = active.is_some_and(|active| {
                    active.dirty.get_or_insert(None);
                    active.row.slot.depart(flight, (now, u64::MAX))
                });
                departed.push((answer, may));
                now
            }
            Order::Land { id, flight, now, landing, answer } => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.row.slot.land(flight, landing, now);
                    // What was never written and has nothing to tell need not be.
                    if active.row.expires > 0 || !active.row.slot.is_empty() || answer.is_some() {
                        let kept = active.dirty.take().flatten();
                        active.dirty = Some(answer.or(kept));
                    }
                }
                now
            }
        }
    }

    fn claim(&mut self, ask: &Ask, flight: u64, now: u64) -> Result<Claimed, redb::Error> {
        let Name { id, fingerprint, .. } = &ask.name;
        if !self.active.contains_key(id) {
            let found = self.file.row(id, now)?;
            if found.is_none() && !self.file.has_room()? {
                let held = |id: &[u8; 32]| self.active.contains_key(id);
                self.file.write(&mut [], now, &held)?;
                if !self.file.has_room()? {
                    return Ok(Claimed::Full);
                }
            }
            let new = || Row { slot: Slot::new(*fingerprint), expires: 0, answer_at: 0 };
            let row = found.unwrap_or_else(new);
            self.active.insert(*id, Active { row, window: 0, dirty: None });
        }
        let Some(active) = self.active.get_mut(id) else { return Ok(Claimed::Full) };
        let verdict = active.row.slot.ask((ask.asked, fingerprint), flight, (now, u64::MAX));
        let window = u64::try_from(ask.window.as_micros()).unwrap_or(u64::MAX);
        active.window = active.window.max(window);
        Ok(match verdict {
            Verdict::Go => Claimed::Go,
            Verdict::Wait => Claimed::Wait,
            Verdict::Unknown => Claimed::Unknown,
            Verdict::Other => Claimed::Other,
            Verdict::Full => Claimed::Full,
            Verdict::Answered(kept) => {
                let new = active.dirty.clone().flatten();
                let answer = match new {
                    Some(answer) => Some(answer),
                    None if kept.whole => self.file.answer(active.row.answer_at, id)?,
                    None => None,
                };
                let whole = answer.filter(|_| kept.whole);
                whole.map_or(Claimed::Status(kept.status), |answer| {
                    Claimed::Answered(kept.status, answer)
                })
            }
        })
    }

    /// Writes what this round changed, all at once.
    fn write(&mut self, now: u64) -> Result<(), redb::Error> {
        let held: HashSet<[u8; 32]> = self.active.keys().copied().collect();
        let mut changes = Vec::new();
        for (id, active) in &mut self.active {
            let Some(answer) = active.dirty.take() else { continue };
            let expires = now.saturating_add(active.window).max(1);
            changes.push(Change { id: *id, row: &mut active.row, expires, answer });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let forgotten = self.file.write(&mut changes, now, &|id| held.contains(id))?;
        for id in forgotten {
            if let Some(active) = self.active.get_mut(&id) {
                active.row.slot.forget_answer();
            }
        }
        Ok(())
    }
}

/// Steps that wait to be carried out, and places that flights hold for their last one. When there
/// are as many, the next waits, and is refused after [`PATIENCE`].
const QUEUE_MAX: usize = 16_384;

/// Steps that are made durable at once.
const ROUND_MAX: usize = 1_024;

/// Longest wait for the disk.
const PATIENCE: Duration = Duration::from_secs(5);
