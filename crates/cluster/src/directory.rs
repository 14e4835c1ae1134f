//! A node's data directory: who may use it, what lies in it, and the cluster's key.
//!
//! ```text
//! DIR/                0700 when we make it
//!   node.lock         held by the one process that uses the directory; empty
//!   cluster.key       0600, 64 hexadecimal digits: seals what the document must store of secrets
//!   document.redb     the log, and the document that it has made (see `store.rs`)
//! ```
//!
//! `cluster.key` is made on the first start only. A store without its key is an error, never a
//! reason to make a new one: what is sealed would be lost without a word.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use model::{Entropy, Secret};

use crate::Error;

/// A data directory that is ours while this value lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Closing the file gives the lock back, also when the process is killed.
    _lock: File,
}

impl Directory {
    /// Makes the directory if need be and takes its lock.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let io = |verb, path: &Path| {
            let path = path.to_path_buf();
            move |cause| Error::Io { verb, path, cause }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io("make data directory", path))?;
        let lock_path = path.join("node.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("open lock", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_path_buf() }),
            Err(TryLockError::Error(cause)) => Err(io("lock", &lock_path)(cause)),
        }
    }

    /// Keeps the key of a cluster that the node joins; says whether there was no other.
    pub(crate) fn take_key(&self, key: &ClusterKey) -> Result<bool, Error> {
        let path = self.key();
        if path.exists() {
            return Ok(read_key(&path)?.expose() == key.expose());
        }
        self.write_key(&path, key.expose())?;
        Ok(true)
    }

    /// Where the store lies.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("document.redb")
    }

    /// Where the cluster's key lies.
    pub(crate) fn key(&self) -> PathBuf {
        self.path.join(KEY)
    }

    /// Reads the cluster's key; makes it when neither it nor a store is there.
    pub(crate) fn cluster_key(&self, entropy: &dyn Entropy) -> Result<ClusterKey, Error> {
        let path = self.key();
        if path.exists() {
            return read_key(&path);
        }
        if self.store().exists() {
            return Err(Error::KeyMissing { path });
        }
        let mut key = [0_u8; KEY_BYTES];
        let purpose = "the cluster's key";
        entropy.fill(&mut key).map_err(|cause| Error::Entropy { purpose, cause })?;
        self.write_key(&path, &key)?;
        Ok(Secret::new(key))
    }

    fn write_key(&self, path: &Path, key: &[u8; KEY_BYTES]) -> Result<(), Error> {
        let text = Secret::new(hex::encode(key) + "\n");
        let path = path.to_path_buf();
        write_whole(&path, text.expose().as_bytes()).map_err(|cause| Error::Io {
            verb: "write key",
            path,
            cause,
        })
    }
}

/// The key that what is stored of secrets is sealed with.
pub(crate) type ClusterKey = Secret<[u8; KEY_BYTES]>;

/// Writes a file that only its owner may read, under another name first, so that a crash leaves the
/// old one, the new one or none, and never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    remove_if_there(&draft)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes renames and new names in a directory survive a loss of power.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes what an interrupted first start left.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The key that lies in a data directory already.
pub(crate) fn kept_key(dir: &Path) -> Result<ClusterKey, Error> {
    read_key(&dir.join(KEY))
}

fn read_key(path: &Path) -> Result<ClusterKey, Error> {
    let io = |cause| Error::Io { verb: "read key", path: path.to_path_buf(), cause };
    let file = File::open(path).map_err(io)?;
    // A group may read (Kubernetes mounts files so); it may not write, and others may do nothing.
    if file.metadata().map_err(io)?.permissions().mode() & 0o027 != 0 {
        return Err(Error::KeyExposed { path: path.to_path_buf() });
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    let text = Secret::new(text);
    let mut key = [0_u8; KEY_BYTES];
    hex::decode_to_slice(text.expose().trim(), &mut key)
        .map_err(|_| Error::KeyMalformed { path: path.to_path_buf() })?;
    Ok(Secret::new(key))
}

const KEY: &str = "cluster.key";

const KEY_BYTES: usize = 32;

/// More than a key with its line end; what lies beyond is not read and fails the check.
const KEY_FILE_BYTES_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use model::SystemEntropy;

    use super::Directory;
    use crate::Error;

    #[test]
    fn a_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::take(dir.path()).unwrap();
        assert!(matches!(Directory::take(dir.path()), Err(Error::InUse { .. })));
        drop(first);
        assert!(Directory::take(dir.path()).is_ok());
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::take(dir.path()).unwrap();
        let made = directory.cluster_key(&SystemEntropy).unwrap();
        let read = directory.cluster_key(&SystemEntropy).unwrap();
        assert_eq!(made.expose(), read.expose());
        let mode = std::fs::metadata(directory.key()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_store_without_its_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::take(dir.path()).unwrap();
        std::fs::write(directory.store(), b"x").unwrap();
        let refused = directory.cluster_key(&SystemEntropy);
        assert!(matches!(refused, Err(Error::KeyMissing { .. })));
        assert!(!directory.key().exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::take(dir.path()).unwrap();
        directory.cluster_key(&SystemEntropy).unwrap();
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(directory.key(), open).unwrap();
        let refused = directory.cluster_key(&SystemEntropy);
        assert!(matches!(refused, Err(Error::KeyExposed { .. })));
    }

    #[test]
    fn a_key_that_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::take(dir.path()).unwrap();
        directory.cluster_key(&SystemEntropy).unwrap();
        std::fs::write(directory.key(), "planted-not-hex").unwrap();
        let refused = directory.cluster_key(&SystemEntropy).unwrap_err();
        assert!(matches!(refused, Error::KeyMalformed { .. }));
        assert!(!format!("{refused:?} {refused}").contains("planted"));
    }
}
