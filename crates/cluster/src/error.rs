//! What can go wrong: when a node opens its data, and when somebody proposes a change.

use std::io;
use std::path::PathBuf;

use config::{Fault, Key, Rejected};

/// Why a node's data could not be opened. Nothing was changed and nothing was reset.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory, or a file of it, cannot be made, read or written.
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// Another process holds the directory's lock.
    #[error("data directory {} is in use by another process", path.display())]
    InUse { path: PathBuf },
    /// There is a store, but not the key that its secrets are sealed with.
    #[error("key {} is missing, yet the store beside it is sealed with it", path.display())]
    KeyMissing { path: PathBuf },
    /// The key's file can be read by others or written by the group.
    #[error("key {} must be readable by its owner only (mode 0600)", path.display())]
    KeyExposed { path: PathBuf },
    /// The key's file does not hold 64 hexadecimal digits.
    #[error("key {} is not 64 hexadecimal digits", path.display())]
    KeyMalformed { path: PathBuf },
    /// The store was made under another key.
    #[error("store {} belongs to another cluster key than {}", store.display(), key.display())]
    KeyWrong { store: PathBuf, key: PathBuf },
    /// The system gave no random bytes.
    #[error("cannot draw random bytes for {purpose}")]
    Entropy {
        purpose: &'static str,
        #[source]
        cause: io::Error,
    },
    /// The store was written by a newer version of this program.
    #[error("store {} has format {found}, this version reads up to {known}", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    /// The store holds something no version of this program wrote.
    #[error("store {} is corrupt: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    /// The store cannot be opened, read or written.
    #[error("cannot {verb} store {}", path.display())]
    Store {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: Box<redb::Error>,
    },
    /// The store's thread cannot be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// The document's own rules say no.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Each resource is well formed, but the whole would not compile.
    #[error("the document would not compile ({} faults)", .0.len())]
    Faults(Vec<(Key, Fault)>),
    /// The node cannot decide now. [`Kept::No`] promises that the change was not made.
    #[error("cannot take changes: {why}")]
    Unavailable { why: String, kept: Kept },
}

impl ProposeError {
    /// A refusal that changed nothing and may be tried again.
    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), kept: Kept::No }
    }
}

/// Whether a change that could not be confirmed was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was not, and will not be.
    No,
    /// Nobody knows yet: read before trying again.
    Unknown,
}
