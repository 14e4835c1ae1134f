//! Where the cluster and its counts meet: each node tells how it reaches Redis, and counts as all
//! have agreed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Confirmed, Handle};
use ledger::{Fleet, Place};
use model::Clock;
use tokio_util::sync::CancellationToken;

use crate::agree::Agreement;

/// The node's place among those that agree; `None` for one that is alone.
pub(crate) fn place(handle: &Handle, agreement: &Agreement) -> Option<Place> {
    match agreement {
        Agreement::Alone(_) => None,
        Agreement::Among(_) => Some(Place { number: handle.number(), epoch: handle.ledger() }),
    }
}

/// Keeps the counts to what is agreed on, until the node stops. A node that is alone has nobody to
/// agree with.
pub(crate) async fn follow(
    handle: Handle,
    fleet: Fleet,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    if !fleet.is_member() {
        return;
    }
    let mut known = handle.ledger();
    loop {
        let (asked, report) = (clock.uptime(), fleet.report());
        let mut telling = pin!(async {
            let told = handle.tell_ledger(&report).await;
            if let Some(Confirmed { epoch, era, age }) = told {
                if let Some(epoch) = &epoch {
                    fleet.hear(epoch);
                }
                fleet.confirm(asked, era, age);
            }
            tokio::time::sleep(BEAT).await;
        });
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut telling => break,
                () = handle.ledger_after(known.as_ref()) => {
                    known = handle.ledger();
                    if let Some(epoch) = &known {
                        fleet.hear(epoch);
                    }
                }
            }
        }
    }
}

/// How often the others are told: some times while they rely on the last.
const BEAT: Duration = Duration::from_millis(250);
