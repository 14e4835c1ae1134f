//! A node whose machine was suspended, while it held leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Clock, SystemClock, Timestamp, Uptime};
use rules::limit::Mode;
use tokio_util::task::TaskTracker;

use super::live::{moded, quick};
use crate::Answer;
use crate::fleet::tests::store::{Store, patience};
use crate::fleet::tests::{is_up, plan, start_by};

/// The machine's clock, and for how long it was suspended.
struct Suspended(SystemClock, AtomicU64);

impl Clock for Suspended {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> Uptime {
        self.0.uptime().plus(Duration::from_micros(self.1.load(Ordering::Relaxed)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_suspended_spends_no_lease_of_before() {
    let store = Store::start();
    let clock = Arc::new(Suspended(SystemClock::start(), AtomicU64::new(0)));
    let by: Arc<dyn Clock> = Arc::<Suspended>::clone(&clock);
    let tasks = TaskTracker::new();
    let change = |options: &mut crate::fleet::Options| options.patience = Duration::from_secs(20);
    let node = start_by(by, &store.url(), change, &tasks);
    is_up(&node).await;
    let plan = plan(vec![moded("l", quick(), Mode::Leased)]);
    let leases = async {
        loop {
            match node.draw(&plan, clock.uptime()) {
                Answer::Now(decided) if decided.is_ok() => return,
                Answer::Now(_) => {}
                Answer::Later(pending) => drop(pending.wait(&plan).await),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(patience(), leases).await.expect("a lease");
    // From here on the store renews nothing.
    store.signal("STOP");
    // No lease is longer than two seconds.
    clock.1.store(2_000_000, Ordering::Relaxed);
    let late = node.draw(&plan, clock.uptime());
    assert!(!matches!(late, Answer::Now(Ok(_))), "a lease that is over is spent");
    store.signal("CONT");
}
