//! References to secrets that this node cannot resolve: said when they come, and when they go.

use std::collections::BTreeSet;
use std::sync::Arc;

use rules::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A place and the reference that stands there, never what it leads to.
type Reference = (String, String);

/// Says what is new in each snapshot, until told to stop. `told` is what was said before.
pub(crate) async fn watch(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    mut told: BTreeSet<Reference>,
    stop: CancellationToken,
) {
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        told = tell(&snapshot, &told);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
    }
}

/// Says what a snapshot cannot resolve beyond what was said, and returns all of it.
pub(crate) fn tell(snapshot: &Snapshot, told: &BTreeSet<Reference>) -> BTreeSet<Reference> {
    let found = references(snapshot);
    for (place, reference) in found.difference(told) {
        tracing::warn!(
            place,
            reference,
            "a reference to a secret cannot be resolved: requests that need it are refused"
        );
    }
    for (place, reference) in told.difference(&found) {
        tracing::info!(place, reference, "a reference to a secret is no longer unresolved");
    }
    found
}

fn references(snapshot: &Snapshot) -> BTreeSet<Reference> {
    let unresolved = snapshot.unresolved.iter();
    unresolved.map(|it| (it.place.clone(), it.reference.clone())).collect()
}
