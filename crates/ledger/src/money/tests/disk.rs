//! A disk in memory that remembers every write, so that it can be seen as a crash at any of them
//! would have left it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    now: Vec<u8>,
    log: Vec<Deed>,
    is_full: bool,
}

enum Deed {
    Write(usize, Vec<u8>),
    Len(usize),
    Sync,
}

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsynced {
    Kept,
    Lost,
    /// Every other one is lost, and the last one is torn.
    Torn,
}

impl Disk {
    /// A disk that holds this already.
    pub(crate) fn of(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { now: image, ..Inner::default() })))
    }

    /// How many deeds the disk has done.
    pub(crate) fn deeds(&self) -> usize {
        self.0.lock().log.len()
    }

    /// Makes every further write fail, or no longer.
    pub(crate) fn fill(&self, is_full: bool) {
        self.0.lock().is_full = is_full;
    }

    /// The disk as it is.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.0.lock().now.clone()
    }

    /// The disk after a crash that came when so many deeds were done.
    pub(crate) fn crashed(&self, deeds: usize, unsynced: Unsynced) -> Vec<u8> {
        let inner = self.0.lock();
        let done = &inner.log[..deeds];
        let synced = done.iter().rposition(|deed| matches!(deed, Deed::Sync)).unwrap_or(0);
        let mut image = Vec::new();
        for (place, deed) in done.iter().enumerate() {
            let is_last = place + 1 == deeds;
            match (deed, unsynced) {
                (Deed::Sync, _) => {}
                (Deed::Len(len), _) => image.resize(*len, 0),
                (Deed::Write(..), Unsynced::Lost) if place > synced => {}
                (Deed::Write(at, data), Unsynced::Torn) if place > synced => {
                    let kept = if is_last { data.len() / 2 } else { data.len() };
                    if is_last || place % 2 == 0 {
                        image[*at..at + kept].copy_from_slice(&data[..kept]);
                    }
                }
                (Deed::Write(at, data), _) => image[*at..at + data.len()].copy_from_slice(data),
            }
        }
        image
    }

    fn done(&self, deed: Deed) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match &deed {
            Deed::Write(at, data) => inner.now[*at..at + data.len()].copy_from_slice(data),
            Deed::Len(len) => inner.now.resize(*len, 0),
            Deed::Sync => {}
        }
        inner.log.push(deed);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock();
        let start = usize::try_from(offset).unwrap();
        let found = inner.now.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.done(Deed::Len(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.done(Deed::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.done(Deed::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}
