//! The replicated machine as openraft drives it: applies entries, keeps them, shows what they made.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::Error;
use crate::board::{Board, View};
use crate::entry::{Payload, Verdict};
use crate::image::Image;
use crate::log::{blocking, on_thread, size};
use crate::machine::{Draft, Machine, Step};
use crate::store::{Recovered, Store};
use crate::types::{
    Entry, EntryPayload, LogId, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
    StorageError, StoredMembership, Types, read_failed, write_failed,
};

/// A machine that several parts of the node look at, and only [`Replica`] changes.
pub(crate) type SharedMachine = Arc<Mutex<Shared>>;

/// The machine, and what is about to become of it.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) machine: Machine,
    /// The entry that this node has judged last, and what it makes of the machine.
    pub(crate) prepared: Option<Prepared>,
}

/// An entry, and what it makes of the machine that it was judged on.
pub(crate) struct Prepared {
    pub(crate) payload: Payload,
    pub(crate) draft: Draft,
}

/// The machine, the store it is kept in, and the board it is shown on.
pub(crate) struct Replica {
    store: Arc<Store>,
    machine: SharedMachine,
    board: Arc<Board>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The last snapshot: a clone of the machine, which costs what has changed since. None is kept
    /// on disk, since the machine itself is.
    frozen: Arc<Mutex<Option<Frozen>>>,
}

#[derive(Clone)]
struct Frozen {
    meta: SnapshotMeta,
    machine: Arc<Machine>,
}

impl Replica {
    pub(crate) fn new(store: Arc<Store>, recovered: Recovered, board: Arc<Board>) -> Self {
        let Recovered { machine, applied, membership } = recovered;
        let machine = Arc::new(Mutex::new(Shared { machine, prepared: None }));
        Self { store, machine, board, applied, membership, frozen: Arc::default() }
    }

    pub(crate) fn machine(&self) -> SharedMachine {
        Arc::clone(&self.machine)
    }
}

/// Applies entries, and has what they changed written.
fn apply(
    store: &Store,
    shared: &mut Shared,
    entries: Vec<Entry>,
) -> Result<Applying, Box<StorageError>> {
    let mut applying = Applying { verdicts: Vec::with_capacity(entries.len()), membership: None };
    for Entry { log_id, payload } in entries {
        let (mut verdict, mut done, mut changed) = (Verdict::Made, None, None);
        match payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(payload) => {
                let step = shared.step(log_id, &payload)?;
                verdict = step.verdict;
                done = Some(step);
            }
            EntryPayload::Membership(members) => {
                let membership = StoredMembership::new(Some(log_id), members);
                changed = Some(membership.clone());
                applying.membership = Some(membership);
            }
        }
        store.note(|write| {
            if let Some(step) = done {
                write.step(log_id, step);
            }
            if let Some(membership) = changed {
                write.membership(membership);
            }
            write.applied(log_id, &shared.machine);
        });
        applying.verdicts.push(verdict);
    }
    Ok(applying)
}

/// What came out of some entries.
struct Applying {
    verdicts: Vec<Verdict>,
    /// The newest membership among them.
    membership: Option<StoredMembership>,
}

impl Shared {
    fn step(&mut self, at: LogId, payload: &Payload) -> Result<Step, Box<StorageError>> {
        // What this node has judged itself on this very machine comes out the same again.
        if let Some(Prepared { payload: judged, draft }) = self.prepared.take()
            && judged.is(payload)
            && draft.effective == self.machine.effective
        {
            return Ok(self.machine.adopt(at.index, draft));
        }
        let batch = payload.read().map_err(|cause| out_of_step(at, &cause))?;
        self.machine.apply(at.index, &batch).map_err(|cause| out_of_step(at, &cause))
    }
}

/// The node stays out: it cannot do what the others do.
fn out_of_step(at: LogId, cause: &(dyn std::error::Error + 'static)) -> Box<StorageError> {
    tracing::error!(cause, index = at.index, "this release cannot apply an entry of the log");
    Box::new(read_failed(cause))
}

/// Runs what blocks where it may.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Box<StorageError>> + Send + 'static,
) -> Result<T, StorageError> {
    let died = || Err(Box::new(write_failed(&Error::Died)));
    on_thread(work).await.unwrap_or_else(died).map_err(|cause| *cause)
}

impl RaftStateMachine<Types> for Replica {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Verdict>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id) else { return Ok(Vec::new()) };
        let (store, shared) = (Arc::clone(&self.store), Arc::clone(&self.machine));
        let bytes: usize = entries.iter().map(size).sum();
        let work = move || {
            let mut shared = shared.lock();
            let applying = apply(&store, &mut shared, entries)?;
            Ok((applying, View::of(&shared.machine, last.index)))
        };
        let (applying, view) = if bytes > AT_ONCE_BYTES_MAX {
            run(work).await?
        } else {
            work().map_err(|cause: Box<StorageError>| *cause)?
        };
        self.applied = Some(last);
        if let Some(membership) = applying.membership {
            self.membership = membership;
        }
        self.board.show(view);
        if bytes > WRITTEN_LATER_BYTES_MAX {
            let store = Arc::clone(&self.store);
            run(move || store.flush().map_err(|cause| Box::new(write_failed(&cause)))).await?;
        }
        Ok(applying.verdicts)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let id = self.applied.map_or_else(|| "empty".to_owned(), |at| at.to_string());
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            // What stands at an entry is the same on every node, and so are its bytes.
            snapshot_id: id,
        };
        let machine = Arc::new(self.machine.lock().machine.clone());
        Builder { frozen: Frozen { meta, machine }, keep: Arc::clone(&self.frozen) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError> {
        self.store.awaits_snapshot();
        Ok(Box::new(Image::empty()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Image>,
    ) -> Result<(), StorageError> {
        let (store, shared, given) =
            (Arc::clone(&self.store), Arc::clone(&self.machine), meta.clone());
        let work = move || {
            let machine = snapshot.decode().map_err(|cause| Box::new(read_failed(&cause)))?;
            store
                .install(&machine, given.last_log_id, &given.last_membership)
                .map_err(|cause| Box::new(write_failed(&cause)))?;
            let index = given.last_log_id.map_or(0, |at| at.index);
            let view = View::of(&machine, index);
            let frozen = Frozen { meta: given, machine: Arc::new(machine.clone()) };
            *shared.lock() = Shared { machine, prepared: None };
            Ok((view, frozen))
        };
        let installed = run(work).await;
        if installed.is_err() {
            self.store.makes_no_more();
        }
        let (view, frozen) = installed?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.frozen.lock() = Some(frozen);
        self.board.show(view);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let Some(Frozen { meta, machine }) = self.frozen.lock().clone() else { return Ok(None) };
        let encoded = blocking(move || Ok(Image::encode(&machine))).await;
        let snapshot = Box::new(encoded.map_err(|cause| read_failed(&cause))?);
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

/// Keeps a machine as it was when it was asked for.
pub(crate) struct Builder {
    frozen: Frozen,
    keep: Arc<Mutex<Option<Frozen>>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let Frozen { meta, machine } = self.frozen.clone();
        *self.keep.lock() = Some(self.frozen.clone());
        Ok(Snapshot { meta, snapshot: Box::new(Image::Machine(machine)) })
    }
}

/// Entries that are applied where they arrive; more of them might hold others up.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// Entries whose effect is written together with the next ones. That of larger ones is written at
/// once: else the next change, however small, would take as long as all of it.
const WRITTEN_LATER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
