//! Raft's runtime: tokio's, but that chance comes from the simulation's seed.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use model::{Entropy as _, SystemEntropy};
use openraft::{AsyncRuntime, TokioRuntime};

use super::chance::Chance;
use super::turn;

thread_local! {
    /// What Raft draws from while a simulation runs on this thread.
    static DRAWS: RefCell<Option<Chance>> = const { RefCell::new(None) };
}

/// Whether a simulation runs on this thread.
pub(crate) fn is_running() -> bool {
    DRAWS.with_borrow(Option::is_some)
}

/// A simulation runs on this thread until this is dropped.
pub(crate) struct Running;

impl Running {
    pub(crate) fn start(seed: u64) -> Self {
        DRAWS.set(Some(Chance::new(seed, "raft")));
        turn::reset();
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        DRAWS.set(None);
    }
}

/// Draws from the simulation's seed; outside of one from the system.
pub(crate) struct Draw;

impl rand_core::RngCore for Draw {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        DRAWS.with_borrow_mut(|draws| match draws {
            Some(draws) => draws.next(),
            None => {
                let mut bytes = [0; 8];
                SystemEntropy.fill(&mut bytes).unwrap();
                u64::from_le_bytes(bytes)
            }
        })
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rand_core::impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// Where Raft's tasks run in this crate's own tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Draw;
    type OneshotSender<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Draw {
        Draw
    }

    fn oneshot<T: Send>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}
