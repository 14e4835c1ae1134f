//! What a node remembers of the store over a restart: the epoch it knew, and who held money.
//!
//! Without it a store that lost everything looks like one that never held anything.

use std::collections::BTreeSet;
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
    /// The nodes that held money: a store that forgot must hear them all.
    #[serde(default)]
    nodes: BTreeSet<String>,
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
        let store = name(address, organisation);
        let kept = Kept { store, epoch: 0, nodes: BTreeSet::new() };
        let Some(file) = &path else { return Self { path, kept } };
        let read = match fs::read(file) {
            Ok(text) => serde_json::from_slice::<Kept>(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(kept.clone()),
            Err(error) => Err(error),
        };
        let kept = match read {
            Ok(read) if read.store == kept.store => read,
            Ok(_) => kept,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the epoch of Redis is not known");
                Kept { epoch: UNKNOWN, ..kept }
            }
        };
        Self { path, kept }
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
        self.save().await;
    }

    /// The nodes that held money, as far as this one knows.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.kept.nodes.iter().cloned().collect()
    }

    /// Remembers who holds money. Nodes are forgotten when the store no longer names them.
    pub(crate) async fn know<'a>(&mut self, nodes: impl Iterator<Item = &'a String>) {
        let nodes: BTreeSet<String> = nodes.take(NODES_MAX).cloned().collect();
        if self.kept.nodes != nodes {
            self.kept.nodes = nodes;
            self.save().await;
        }
    }

    async fn save(&self) {
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

/// Nodes that are remembered: many more than a fleet has.
const NODES_MAX: usize = 1_024;

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
