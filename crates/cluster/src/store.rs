//! The document on disk: one redb file, one transaction a batch of changes.
//!
//! Tables, format 1:
//!
//! ```text
//! meta   "format"      u32, little endian; a greater one than ours is refused
//!        "cluster"     16 bytes, the cluster's id
//!        "key"         32 bytes, HMAC-SHA-256 of a constant: which cluster key the rows are sealed with
//!        "revision"    u64, little endian; that of the last commit
//! rows   "routes/1"    a `config::Stored` as JSON, which names its own version; secrets sealed
//! ```
//!
//! Everything here blocks, and runs on the writer's thread only.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use config::{Key, Kind, State, Stored};
use model::{Entropy, Revision};
use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition,
};

use crate::directory::{ClusterKey, Directory, remove_if_there, sync_directory};
use crate::{ClusterId, Error};

/// What a batch changes: the new row, or `None` for one that is deleted.
pub(crate) type Rows = BTreeMap<Key, Option<Stored>>;

/// The open store.
pub(crate) struct Store {
    database: Database,
    path: PathBuf,
    cluster: ClusterId,
}

impl Store {
    /// Opens the store and reads the document in it; makes an empty one on the first start.
    pub(crate) fn open(
        directory: &Directory,
        key: &ClusterKey,
        entropy: &dyn Entropy,
    ) -> Result<(Self, State), Error> {
        let path = directory.store();
        let check = key_check(key);
        if !path.exists() {
            create(&path, &check, entropy)?;
        }
        let database = Builder::new()
            // The document is small: reading it whole at each start is cheap, and finds rot that
            // a plain open would trust.
            .set_check_integrity_on_open(true)
            .set_cache_size(CACHE_BYTES)
            .open(&path)
            .map_err(|cause| failed("open", &path, cause))?;
        let meta = read_meta(&database, &path)?;
        if meta.key != check {
            return Err(Error::KeyWrong { store: path, key: directory.key() });
        }
        let state = read_rows(&database, &path, meta.revision)?;
        Ok((Self { database, path, cluster: meta.cluster }, state))
    }

    /// The id that this store's cluster was given on its first start.
    pub(crate) const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Writes a batch and its revision, and returns when the disk has them.
    ///
    /// # Errors
    /// Nobody knows then whether the batch is on disk; the store must not be written again.
    pub(crate) fn commit(&self, revision: Revision, rows: &Rows) -> Result<(), Error> {
        let rows: Vec<(String, Option<Vec<u8>>)> =
            rows.iter().map(|(key, stored)| (row_name(key), stored.as_ref().map(row))).collect();
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut table = transaction.open_table(ROWS)?;
                for (name, row) in &rows {
                    match row {
                        Some(bytes) => table.insert(&**name, &**bytes)?,
                        None => table.remove(&**name)?,
                    };
                }
                let mut meta = transaction.open_table(META)?;
                meta.insert("revision", &revision.number().to_le_bytes()[..])?;
            }
            Ok(transaction.commit()?)
        };
        write().map_err(|cause| failed("write", &self.path, cause))
    }
}

/// What the store says about itself.
struct Meta {
    cluster: ClusterId,
    key: Vec<u8>,
    revision: Revision,
}

/// Makes the store under another name first: what has the right name is always whole.
fn create(path: &Path, check: &[u8], entropy: &dyn Entropy) -> Result<(), Error> {
    let io = |cause| Error::Io { verb: "make store", path: path.to_path_buf(), cause };
    let draft = path.with_extension("redb.new");
    remove_if_there(&draft).map_err(io)?;
    let mut cluster = [0_u8; 16];
    let purpose = "the cluster's id";
    entropy.fill(&mut cluster).map_err(|cause| Error::Entropy { purpose, cause })?;
    let mut only_ours = OpenOptions::new();
    only_ours.create_new(true).write(true).mode(0o600).open(&draft).map_err(io)?;
    let write = || -> Result<(), redb::Error> {
        let database = Database::create(&draft)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(ROWS)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("format", &FORMAT.to_le_bytes()[..])?;
            meta.insert("cluster", &cluster[..])?;
            meta.insert("key", check)?;
            meta.insert("revision", &0_u64.to_le_bytes()[..])?;
        }
        transaction.commit()?;
        Ok(database.close()?)
    };
    write().map_err(|cause| failed("make", path, cause))?;
    std::fs::rename(&draft, path).map_err(io)?;
    path.parent().map_or(Ok(()), sync_directory).map_err(io)
}

fn read_meta(database: &Database, path: &Path) -> Result<Meta, Error> {
    let read = |name: &str| -> Result<Option<Vec<u8>>, redb::Error> {
        let table = database.begin_read()?.open_table(META)?;
        Ok(table.get(name)?.map(|bytes| bytes.value().to_vec()))
    };
    let field = |name: &str| {
        let bytes = read(name).map_err(|cause| failed("read", path, cause))?;
        bytes.ok_or_else(|| corrupt(path, format!("it has no {name}")))
    };
    let format = fixed(&field("format")?).map(u32::from_le_bytes);
    match format {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => {
            return Err(Error::Newer { path: path.to_path_buf(), found, known: FORMAT });
        }
        _ => return Err(corrupt(path, "its format is none of ours")),
    }
    let cluster = fixed(&field("cluster")?).map(ClusterId);
    let revision = fixed(&field("revision")?).map(u64::from_le_bytes);
    Ok(Meta {
        cluster: cluster.ok_or_else(|| corrupt(path, "its cluster id has a wrong length"))?,
        key: field("key")?,
        revision: revision
            .map(Revision::new)
            .ok_or_else(|| corrupt(path, "its revision has a wrong length"))?,
    })
}

fn read_rows(database: &Database, path: &Path, revision: Revision) -> Result<State, Error> {
    let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let table = database.begin_read()?.open_table(ROWS)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (name, bytes) = row?;
            rows.push((name.value().to_owned(), bytes.value().to_vec()));
        }
        Ok(rows)
    };
    let rows = read().map_err(|cause| failed("read", path, cause))?;
    let parsed: Result<Vec<(Key, Stored)>, Error> = rows
        .into_iter()
        .map(|(name, bytes)| {
            let key = key_of(&name)
                .ok_or_else(|| corrupt(path, format!("row {name} has no kind of ours")))?;
            let stored = serde_json::from_slice(&bytes);
            // serde's own text could quote the row.
            let stored = stored.map_err(|_| corrupt(path, format!("row {name} cannot be read")))?;
            Ok((key, stored))
        })
        .collect();
    let parsed = parsed?;
    if let Some((key, _)) = parsed.iter().find(|(_, stored)| stored.modified > revision) {
        return Err(corrupt(path, format!("row {} is newer than the store", key.path())));
    }
    Ok(State::restore(revision, parsed.into_iter()))
}

/// `routes/1`: the kind's plural name, and the id (which may hold a slash).
fn row_name(key: &Key) -> String {
    format!("{}/{}", key.kind.plural(), key.id)
}

fn key_of(name: &str) -> Option<Key> {
    let (kind, id) = name.split_once('/')?;
    Some(Key::new(Kind::from_name(kind)?, id))
}

fn row(stored: &Stored) -> Vec<u8> {
    serde_json::to_vec(stored)
        .expect("a stored resource is JSON values and numbers, which always serialise")
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// Tells one cluster key from another without saying anything about either.
fn key_check(key: &ClusterKey) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    hmac::sign(&key, b"tollgate cluster key check v1").as_ref().to_vec()
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

/// The format this version writes, and the newest it reads.
const FORMAT: u32 = 1;

/// The state is in memory whole; the store's own cache only serves its writes.
const CACHE_BYTES: usize = 16 << 20;
