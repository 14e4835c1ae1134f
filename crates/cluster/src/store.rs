//! The node's data on disk: one redb file that holds the log, the vote, the document and the facts.
//!
//! Tables, format 2:
//!
//! ```text
//! meta    "format"      u32, little endian; a greater one than ours is refused
//!         "cluster"     16 bytes, the cluster's id
//!         "key"         32 bytes, HMAC-SHA-256 of a constant: which cluster key the rows are sealed with
//!         "node"        u64, little endian; the number of this node in the cluster
//!         "revision"    u64, little endian; that of the rows
//!         "forgotten"   u64, little endian; the last entry that is in `recent` no more
//!         "vote" "purged" "applied" "membership"   records of what Raft calls so
//! rows    "routes/1"    a `config::Stored` as JSON, which names its own version; secrets sealed
//! facts   "approvals/7" a record of a fact
//! recent  index         a record of what an entry's proposals did
//! log     index         a record of an entry
//! ```
//!
//! Format 1 had `meta` and `rows` only: one node without a log. It is taken over in one step: its
//! document stands as what entry 0 made, which is purged already, so that whoever joins later is
//! sent the document whole.
//!
//! What an entry does to the tables above the log is written together with the next entries, or
//! with the purge of its own. A crash in between loses nothing: the entry is in the log, and is
//! applied again.
//!
//! Everything here blocks, and runs on threads that may.

mod log;
mod meta;
mod rows;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use model::Entropy;
use parking_lot::Mutex;
use redb::{Builder, Database, TableDefinition};
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::directory::{ClusterKey, Directory, remove_if_there, sync_directory};
use crate::machine::Machine;
use crate::record::Unreadable;
use crate::types::{LogId, StoredMembership};
use crate::{ClusterId, Error, Peer};

use rows::Write;
pub(crate) use rows::row_name;

/// The open store. While it lives the data directory is ours.
pub(crate) struct Store {
    database: Database,
    path: PathBuf,
    cluster: ClusterId,
    node: u64,
    /// What entries did that is not written yet: no more than the document itself.
    pending: Mutex<Write>,
    /// How far the machine is; see [`Store::has_made`].
    made: watch::Sender<Made>,
    _directory: Directory,
    /// Tells who waits for it that the directory was given back; dropped last.
    _open: TaskTrackerToken,
}

/// How far the machine is that the log makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// This entry and all before it.
    UpTo(u64),
    /// The same, and a snapshot is on its way that goes farther.
    AwaitsSnapshot(u64),
    /// A snapshot could not be installed: it will never be farther.
    NoMore,
}

/// What a store that is not there yet begins as.
pub(crate) enum Birth {
    /// The first node of a new cluster: it is the only voter.
    Found { name: String, address: String },
    /// A node that an existing cluster has given a number; it knows nothing until it is told.
    Join { cluster: ClusterId, node: u64 },
}

/// What a store held when it was opened.
pub(crate) struct Recovered {
    pub(crate) machine: Machine,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Store {
    /// Opens the store and reads what the log has made; makes a store on the first start.
    pub(crate) fn open(
        directory: Directory,
        key: &ClusterKey,
        entropy: &dyn Entropy,
        birth: &Birth,
        open: TaskTrackerToken,
    ) -> Result<(Self, Recovered), Error> {
        let path = directory.store();
        let check = meta::key_check(key);
        if !path.exists() {
            create(&path, &check, entropy, birth)?;
        }
        let database = open_file(
            Builder::new()
                // The document is small: reading it whole at each start is cheap, and finds rot
                // that a plain open would trust.
                .set_check_integrity_on_open(true)
                .set_cache_size(CACHE_BYTES),
            &path,
        );
        let database = database.map_err(|cause| failed("open", &path, cause))?;
        let format = meta::read_format(&database, &path)?;
        if meta::read_key_check(&database, &path)? != check {
            return Err(Error::KeyWrong { store: path, key: directory.key() });
        }
        if format == FORMAT_BEFORE_THE_LOG {
            meta::take_over(&database, birth).map_err(|cause| failed("take over", &path, cause))?;
        }
        let (cluster, node) = meta::read_identity(&database, &path)?;
        if let Birth::Join { cluster: expected, node: numbered } = birth
            && (*expected, *numbered) != (cluster, node)
        {
            return Err(Error::Foreign { path, found: cluster });
        }
        let (pending, made) = (Mutex::default(), watch::Sender::new(Made::UpTo(0)));
        let store = Self {
            database,
            path,
            cluster,
            node,
            pending,
            made,
            _directory: directory,
            _open: open,
        };
        let recovered = store.recover()?;
        store.check_log()?;
        if recovered.applied < store.purged()? {
            return Err(corrupt(&store.path, "its log begins after what it has made"));
        }
        store.made.send_replace(Made::UpTo(recovered.applied.map_or(0, |at| at.index)));
        Ok((store, recovered))
    }

    /// The id that this store's cluster was given on its first start.
    pub(crate) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The number of this node.
    pub(crate) const fn node(&self) -> u64 {
        self.node
    }

    /// Returns once the machine has made this entry, if a snapshot is on its way that holds it.
    ///
    /// # Errors
    /// When it never will.
    pub(crate) async fn has_made(&self, index: u64) -> Result<(), Error> {
        let mut made = self.made.subscribe();
        let reached = made.wait_for(|made| match made {
            Made::UpTo(_) | Made::NoMore => true,
            Made::AwaitsSnapshot(at) => *at >= index,
        });
        match reached.await.as_deref() {
            Ok(Made::UpTo(_) | Made::AwaitsSnapshot(_)) => Ok(()),
            Ok(Made::NoMore) | Err(_) => Err(Error::Died),
        }
    }

    /// Says that a snapshot is on its way.
    pub(crate) fn awaits_snapshot(&self) {
        self.made.send_modify(|made| {
            if let Made::UpTo(at) = *made {
                *made = Made::AwaitsSnapshot(at);
            }
        });
    }

    /// Says that no snapshot was installed where one should have been.
    pub(crate) fn makes_no_more(&self) {
        self.made.send_replace(Made::NoMore);
    }

    fn failed(&self, verb: &'static str) -> impl FnOnce(redb::Error) -> Error {
        let path = self.path.clone();
        move |cause| failed(verb, &path, cause)
    }

    /// A record that cannot be read; serde's own text could quote it.
    fn unreadable(&self, what: impl std::fmt::Display, cause: Unreadable) -> Error {
        let path = self.path.clone();
        match cause {
            Unreadable::Newer { found } => {
                Error::NewerRecord { path, record: what.to_string(), found }
            }
            Unreadable::Malformed => corrupt(&path, format!("{what} cannot be read")),
        }
    }
}

fn open_file(builder: &Builder, path: &Path) -> Result<Database, redb::DatabaseError> {
    // A simulated disk forgets what was not synced when its node crashes.
    #[cfg(test)]
    if let Some(disk) = crate::sim::disk::mounted_at(path) {
        return builder.create_with_backend(disk);
    }
    builder.open(path)
}

/// Makes the store under another name first: what has the right name is always whole.
fn create(path: &Path, check: &[u8], entropy: &dyn Entropy, birth: &Birth) -> Result<(), Error> {
    let io = |cause| Error::Io { verb: "make store", path: path.to_path_buf(), cause };
    let draft = path.with_extension("redb.new");
    remove_if_there(&draft).map_err(io)?;
    let cluster = match birth {
        Birth::Join { cluster, .. } => *cluster,
        Birth::Found { .. } => {
            let mut id = [0_u8; 16];
            let purpose = "the cluster's id";
            entropy.fill(&mut id).map_err(|cause| Error::Entropy { purpose, cause })?;
            ClusterId(id)
        }
    };
    let mut only_ours = OpenOptions::new();
    only_ours.create_new(true).write(true).mode(0o600).open(&draft).map_err(io)?;
    meta::write_new(&draft, check, cluster, birth).map_err(|cause| failed("make", path, cause))?;
    std::fs::rename(&draft, path).map_err(io)?;
    path.parent().map_or(Ok(()), sync_directory).map_err(io)
}

impl Birth {
    /// The number of the node, and the members it knows from the start.
    fn members(&self) -> (u64, Option<Peer>) {
        match self {
            Self::Found { name, address } => {
                let peer = Peer { id: FOUNDER, name: name.clone(), address: address.clone() };
                (FOUNDER, Some(peer))
            }
            Self::Join { node, .. } => (*node, None),
        }
    }
}

fn corrupt(path: &Path, what: impl Into<String>) -> Error {
    Error::Corrupt { path: path.to_path_buf(), what: what.into() }
}

/// Sorts redb's errors into ours: damage has a name of its own.
fn failed(verb: &'static str, path: &Path, cause: impl Into<redb::Error>) -> Error {
    let path = path.to_path_buf();
    match cause.into() {
        redb::Error::Corrupted(what) => Error::Corrupt { path, what },
        // What redb says of a file that is too short or does not start like one of its own.
        redb::Error::Io(cause)
            if matches!(
                cause.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Error::Corrupt { path, what: cause.to_string() }
        }
        redb::Error::UpgradeRequired(version) => {
            Error::Corrupt { path, what: format!("its redb file format is {version}") }
        }
        redb::Error::DatabaseAlreadyOpen => Error::InUse { path },
        cause => Error::Store { verb, path, cause: Box::new(cause) },
    }
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const RECENT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("recent");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// The format this version writes, and the newest it reads.
const FORMAT: u32 = 2;

/// One node's document without a log.
const FORMAT_BEFORE_THE_LOG: u32 = 1;

/// The number of the node that founds a cluster.
const FOUNDER: u64 = 1;

/// The state is in memory whole; the store's own cache only serves its writes.
const CACHE_BYTES: usize = 16 << 20;
