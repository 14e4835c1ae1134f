//! What can go wrong: when a node opens its data, and when somebody proposes a change.

use std::io;
use std::path::PathBuf;

use config::{Fault, Key, Rejected};

use crate::ClusterId;
use crate::ask::Refusal;
use crate::fact::FactRejected;

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
    /// The store holds a record that a newer version of this program wrote.
    #[error("store {} holds a newer record: {record} has version {found}", path.display())]
    NewerRecord { path: PathBuf, record: String, found: u32 },
    /// The store belongs to another cluster, or to another node of this one.
    #[error("store {} belongs to another node, of cluster {found}", path.display())]
    Foreign { path: PathBuf, found: ClusterId },
    /// The store's library met damage or a defect, and gave up.
    #[error("the store's library gave up")]
    Died,
    /// The log cannot be taken up again.
    #[error("cannot take up the log of {}: {why}", path.display())]
    Log { path: PathBuf, why: String },
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

/// Why facts were not changed.
#[derive(Debug, thiserror::Error)]
pub enum FactError {
    /// The command does not fit the facts.
    #[error(transparent)]
    Rejected(#[from] FactRejected),
    /// The cluster cannot decide now. [`Kept::No`] promises that the change was not made.
    #[error("cannot change facts: {why}")]
    Unavailable { why: String, kept: Kept },
}

/// Why the newest document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody leads, or who leads cannot be reached, or cannot reach a majority.
    #[error("no majority of the nodes could be asked in time")]
    NoMajority,
    /// Raft has ended on this node: its disk has failed, most likely.
    #[error("this node takes part in no agreement any more; restart it")]
    Ended,
    /// The newest document is known to others, and did not arrive in time.
    #[error("this node is too far behind")]
    Behind,
}

/// Why nobody judged a change in time, or why it was judged and not made.
#[derive(Debug)]
pub(crate) enum AskError {
    Refused(Refusal),
    Unavailable { why: String, kept: Kept },
}

impl From<AskError> for ProposeError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => refusal.into(),
            AskError::Unavailable { why, kept } => Self::Unavailable { why, kept },
        }
    }
}

impl From<Refusal> for ProposeError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejected) => Self::Rejected(rejected),
            Refusal::Faults(faults) => Self::Faults(faults),
            Refusal::Facts(rejected) => Self::unavailable(rejected.to_string()),
            Refusal::Oversized { bytes } => Self::unavailable(oversized(bytes)),
            Refusal::Defect => Self::unavailable(DEFECT),
        }
    }
}

impl From<AskError> for FactError {
    fn from(error: AskError) -> Self {
        let unavailable = |why: String| Self::Unavailable { why, kept: Kept::No };
        match error {
            AskError::Unavailable { why, kept } => Self::Unavailable { why, kept },
            AskError::Refused(Refusal::Facts(rejected)) => Self::Rejected(rejected),
            AskError::Refused(Refusal::Rejected(rejected)) => unavailable(rejected.to_string()),
            AskError::Refused(Refusal::Faults(_) | Refusal::Defect) => {
                unavailable(DEFECT.to_owned())
            }
            AskError::Refused(Refusal::Oversized { bytes }) => unavailable(oversized(bytes)),
        }
    }
}

fn oversized(bytes: usize) -> String {
    format!("the change takes {bytes} bytes in the log, which is too much for one")
}

const DEFECT: &str = "judging this change met a defect of the program";

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
