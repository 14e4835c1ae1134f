//! One node's memory of repeats: a thread that owns the file and makes many steps durable at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use model::Clock;
use rules::repeat::Landing;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::desk::{Desk, Reopen, Shared, Waiting};
use super::rows::File;
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
    shared: Arc<Shared>,
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
    Land { id: [u8; 32], flight: u64, now: u64, landing: Landing, answer: Option<Waiting> },
}

impl Store {
    pub(super) fn open(directory: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let path = directory.map(|directory| directory.join("repeats.redb"));
        let file = path.as_deref().map_or_else(File::in_memory, File::open);
        let file = file.map_err(|cause| Error::Open {
            path: path.clone().unwrap_or_default(),
            cause: Box::new(cause),
        })?;
        let reopen: Reopen = match path {
            Some(path) => Box::new(move || File::reopen(&path)),
            // Memory does not fail; and what it held would be gone.
            None => Box::new(|| Err(redb::Error::PreviousIo)),
        };
        Self::over(file, reopen, clock)
    }

    /// Over a file that is open, and the way to open it again.
    pub(super) fn over(file: File, reopen: Reopen, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (orders, taken) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::<Shared>::default();
        let desk = Desk::new(file, reopen, (Arc::clone(&clock), Arc::clone(&shared)));
        let thread = std::thread::Builder::new().name(String::from("repeats"));
        let thread = Some(thread.spawn(move || desk.run(taken)).map_err(Error::Thread)?);
        Ok(Self(Arc::new(Keeper { clock, shared, orders: Some(orders), thread })))
    }

    /// A place in the queue.
    pub(super) async fn reserve(&self) -> Result<OwnedPermit<Order>, Away> {
        if self.0.shared.is_broken.load(Ordering::Relaxed) {
            return Err(Away);
        }
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
        (mut landing, answer): (Landing, Option<Vec<u8>>),
    ) {
        let now = self.0.clock.now().as_micros();
        let answer = answer.and_then(|answer| Waiting::new(answer, &self.0.shared));
        if let (Landing::Answered(kept), None) = (&mut landing, &answer) {
            kept.whole = false;
        }
        place.send(Order::Land { id: name.id, flight, now, landing, answer });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to return; a panic of it was told by then.
            let _ended = thread.join();
        }
    }
}

/// Steps that wait to be carried out, and places that flights hold for their last one. When there
/// are as many, the next waits, and is refused after [`PATIENCE`].
const QUEUE_MAX: usize = 16_384;

/// Longest wait for the disk.
const PATIENCE: Duration = Duration::from_secs(5);
