//! What a node remembers of the store over a restart: the epoch it knew.
//!
//! Without it a store that lost everything looks like one that never held anything.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::key::Organisation;

/// The file that holds the epoch.
#[derive(Debug)]
pub(crate) struct Memory {
    path: Option<PathBuf>,
    kept: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Which store it was, as a digest of its hosts: an epoch says nothing of another store.
    store: String,
    epoch: u64,
}

impl Memory {
    /// Reads what the last run knew of this store. What cannot be read is told, and taken as an
    /// epoch that no store has: an unknown past must not be taken for none.
    pub(crate) fn read(
        directory: Option<&Path>,
        address: &Address,
        organisation: &Organisation,
    ) -> Self {
        let path = directory.map(|directory| directory.join("redis-epoch.json"));
        let kept = Kept { store: name(address, organisation), epoch: 0 };
        let Some(file) = &path else { return Self { path, kept } };
        let read = match fs::read(file) {
            Ok(text) => serde_json::from_slice::<Kept>(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(kept.clone()),
            Err(error) => Err(error),
        };
        let epoch = match read {
            Ok(read) if read.store == kept.store => read.epoch,
            Ok(_) => 0,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the epoch of Redis is not known");
                UNKNOWN
            }
        };
        Self { path, kept: Kept { epoch, ..kept } }
    }

    /// The epoch known, or 0.
    pub(crate) const fn epoch(&self) -> u64 {
        self.kept.epoch
    }

    /// Remembers an epoch. Where it cannot be written that is told, and a restart knows an older
    /// one, which is safe.
    pub(crate) async fn keep(&mut self, epoch: u64) {
        if self.kept.epoch == epoch {
            return;
        }
        self.kept.epoch = epoch;
        let Some(path) = self.path.clone() else { return };
        let kept = self.kept.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &kept)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the epoch of Redis is not remembered over a restart");
        }
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(serde_json::to_string(kept)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// A store's name in the file: without its passwords, and the same in whatever order its hosts
/// stand.
fn name(address: &Address, organisation: &Organisation) -> String {
    let mut hosts = address.hosts.clone();
    hosts.sort();
    let hosts = if address.service.is_some() { Vec::new() } else { hosts };
    let named = format!("{hosts:?} {:?} {} {organisation:?}", address.service, address.database);
    hex::encode(digest(&SHA256, named.as_bytes()).as_ref())
}

/// No epoch: they are times in microseconds.
const UNKNOWN: u64 = 1;

#[cfg(test)]
mod tests {
    use super::{Address, Memory, Organisation, UNKNOWN, fs};

    fn read(directory: &std::path::Path, url: &str) -> Memory {
        let address: Address = url.parse().unwrap();
        Memory::read(Some(directory), &address, &Organisation::default())
    }

    #[tokio::test]
    async fn an_epoch_is_remembered_for_its_store_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut memory = read(directory.path(), "redis://u:p@a,b");
        assert_eq!(memory.epoch(), 0);
        memory.keep(7).await;
        assert_eq!(read(directory.path(), "redis://other:q@b,a").epoch(), 7);
        assert_eq!(read(directory.path(), "redis://c").epoch(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("redis-epoch.json"), "{").unwrap();
        assert_eq!(read(directory.path(), "redis://a").epoch(), UNKNOWN);
    }
}
