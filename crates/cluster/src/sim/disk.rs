//! A disk in memory that loses what was not synced when its node crashes, in part and torn.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redb::StorageBackend;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;

thread_local! {
    /// The disks of the simulation on this thread, by the path of the store that lies on each.
    static MOUNTS: RefCell<BTreeMap<PathBuf, Disk>> = const { RefCell::new(BTreeMap::new()) };
    /// How long the disks have worked since somebody waited for them.
    static DUE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// One life of a node on its disk: when the life is over nothing more is read or written.
#[derive(Clone)]
pub(crate) struct Disk {
    platter: Arc<Mutex<Platter>>,
    life: CancellationToken,
}

/// What is on the disk, whatever becomes of the node.
pub(crate) struct Platter {
    /// What reads see.
    now: Vec<u8>,
    /// What a crash leaves for certain.
    synced: Vec<u8>,
    /// Sectors that differ, or might.
    dirty: BTreeSet<usize>,
    chance: Chance,
    /// The longest that a sync may take, in milliseconds.
    pub(crate) slow: u64,
    /// The node crashes during the sync that comes after so many more.
    pub(crate) doom: Option<u64>,
    /// A fault to be found: it says that it has synced, and has not.
    pub(crate) lies: bool,
}

impl Platter {
    pub(crate) fn new(image: Vec<u8>, chance: Chance) -> Self {
        let dirty = BTreeSet::new();
        Self { now: image.clone(), synced: image, dirty, chance, slow: 1, doom: None, lies: false }
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        self.synced.clone()
    }

    pub(crate) fn replace(&mut self, image: Vec<u8>) {
        (self.now, self.synced) = (image.clone(), image);
        self.dirty.clear();
    }

    /// The power goes: of what was not synced some sectors are there, and others not.
    pub(crate) fn crash(&mut self) {
        self.doom = None;
        let kept = if self.lies { 0 } else { self.chance.one_of([0, 50, 100]) };
        if self.now.len() > self.synced.len() && self.chance.percent(kept) {
            self.synced.resize(self.now.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if self.chance.percent(kept) {
                self.persist(sector);
            }
        }
        self.now.clone_from(&self.synced);
    }

    fn sync(&mut self) {
        self.synced.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
    }

    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.now.len()).min(self.synced.len());
        if start < end {
            self.synced[start..end].copy_from_slice(&self.now[start..end]);
        }
    }
}

impl Disk {
    pub(crate) fn new(platter: Arc<Mutex<Platter>>, life: CancellationToken) -> Self {
        Self { platter, life }
    }

    /// Lays the disk under the store at a path.
    pub(crate) fn mount(&self, path: &Path) {
        MOUNTS.with_borrow_mut(|mounts| mounts.insert(path.to_path_buf(), self.clone()));
    }

    /// The platter, while the node lives.
    fn spin(&self) -> io::Result<parking_lot::MutexGuard<'_, Platter>> {
        if self.life.is_cancelled() {
            return Err(io::Error::other("the node has crashed"));
        }
        Ok(self.platter.lock())
    }
}

/// The disk under the store at a path.
pub(crate) fn mounted_at(path: &Path) -> Option<Disk> {
    MOUNTS.with_borrow(|mounts| mounts.get(path).cloned())
}

/// Forgets the disks of this thread.
pub(crate) fn unmount_all() {
    MOUNTS.take();
    DUE.take();
}

/// Does work at once, and waits for as long as the disks had to work for it. `None` when it
/// panicked.
pub(crate) async fn at_its_pace<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work)).ok();
    let due = DUE.take();
    if due.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(due).await;
    }
    done
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.spin()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.spin()?;
        let start = usize::try_from(offset).unwrap();
        let found = platter.now.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.spin()?;
        let (from, to) = (platter.now.len(), usize::try_from(len).unwrap());
        platter.now.resize(to, 0);
        // What grows is zero again, also where something lay before.
        platter.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.spin()?;
        let slow = platter.slow;
        let took = Duration::from_millis(platter.chance.below(slow + 1));
        DUE.set(DUE.get() + took);
        match platter.doom {
            Some(0) => {
                platter.crash();
                self.life.cancel();
                return Err(io::Error::other("the node crashes"));
            }
            Some(left) => platter.doom = Some(left - 1),
            None => {}
        }
        if !platter.lies {
            platter.sync();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.spin()?;
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        platter.now[start..end].copy_from_slice(data);
        platter.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;
