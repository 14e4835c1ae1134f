//! What a store says about itself, and how a new one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aws_lc_rs::hmac;
use redb::{Database, ReadableDatabase as _, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Birth, FACTS, FORMAT, FORMAT_BEFORE_THE_LOG, LOG, META, RECENT, ROWS, Store, corrupt, failed,
};
use crate::directory::ClusterKey;
use crate::record;
use crate::types::{LogId, Membership, StoredMembership};
use crate::{ClusterId, Error};

impl Store {
    /// A record of `meta`; `None` when it is not there yet.
    pub(super) fn meta_record<T: DeserializeOwned>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Error> {
        let bytes = read(&self.database, name).map_err(self.failed("read"))?;
        let parsed = bytes.map(|bytes| record::unpack(&bytes)).transpose();
        parsed.map_err(|cause| self.unreadable(format_args!("its {name}"), cause))
    }

    pub(super) fn meta_number(&self, name: &'static str) -> Result<u64, Error> {
        number(&self.database, &self.path, name)
    }
}

/// The store's format, which is one we can read.
pub(super) fn read_format(database: &Database, path: &Path) -> Result<u32, Error> {
    match fixed(&field(database, path, "format")?).map(u32::from_le_bytes) {
        Some(found @ (FORMAT | FORMAT_BEFORE_THE_LOG)) => Ok(found),
        Some(found) if found > FORMAT => {
            Err(Error::Newer { path: path.to_path_buf(), found, known: FORMAT })
        }
        _ => Err(corrupt(path, "its format is none of ours")),
    }
}

pub(super) fn read_key_check(database: &Database, path: &Path) -> Result<Vec<u8>, Error> {
    field(database, path, "key")
}

/// The cluster's id, and the number of this node in it.
pub(super) fn read_identity(database: &Database, path: &Path) -> Result<(ClusterId, u64), Error> {
    let cluster = fixed(&field(database, path, "cluster")?).map(ClusterId);
    let cluster = cluster.ok_or_else(|| corrupt(path, "its cluster id has a wrong length"))?;
    Ok((cluster, number(database, path, "node")?))
}

/// Writes a store that knows nothing but itself.
pub(super) fn write_new(
    draft: &Path,
    check: &[u8],
    cluster: ClusterId,
    birth: &Birth,
) -> Result<(), redb::Error> {
    let database = Database::create(draft)?;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(ROWS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert("cluster", &cluster.0[..])?;
        meta.insert("key", check)?;
        meta.insert("revision", &0_u64.to_le_bytes()[..])?;
    }
    begin_log(&transaction, birth)?;
    transaction.commit()?;
    Ok(database.close()?)
}

/// Turns a document of format 1 into one that a log goes on from.
pub(super) fn take_over(database: &Database, birth: &Birth) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    begin_log(&transaction, birth)?;
    Ok(transaction.commit()?)
}

/// What a log needs beside the document. A founder starts as if entry 0, which says that it is
/// the only voter, were applied and purged.
fn begin_log(transaction: &WriteTransaction, birth: &Birth) -> Result<(), redb::Error> {
    transaction.open_table(FACTS)?;
    transaction.open_table(RECENT)?;
    transaction.open_table(LOG)?;
    let (node, founder) = birth.members();
    let mut meta = transaction.open_table(META)?;
    meta.insert("format", &FORMAT.to_le_bytes()[..])?;
    meta.insert("node", &node.to_le_bytes()[..])?;
    meta.insert("forgotten", &0_u64.to_le_bytes()[..])?;
    if let Some(founder) = founder {
        let first = LogId::default();
        let voters = BTreeSet::from([founder.id]);
        let members = Membership::new(vec![voters], BTreeMap::from([(founder.id, founder)]));
        let membership = StoredMembership::new(Some(first), members);
        meta.insert("applied", &*record::pack(&first))?;
        meta.insert("purged", &*record::pack(&first))?;
        meta.insert("membership", &*record::pack(&membership))?;
    }
    Ok(())
}

/// Writes a record of `meta`.
pub(super) fn put<T: Serialize>(
    transaction: &WriteTransaction,
    name: &'static str,
    value: &T,
) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(name, &*record::pack(value))?;
    Ok(())
}

/// Tells one cluster key from another without saying anything about either.
pub(super) fn key_check(key: &ClusterKey) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    hmac::sign(&key, b"tollgate cluster key check v1").as_ref().to_vec()
}

fn read(database: &Database, name: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(META)?;
    Ok(table.get(name)?.map(|bytes| bytes.value().to_vec()))
}

fn field(database: &Database, path: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let bytes = read(database, name).map_err(|cause| failed("read", path, cause))?;
    bytes.ok_or_else(|| corrupt(path, format!("it has no {name}")))
}

fn number(database: &Database, path: &Path, name: &str) -> Result<u64, Error> {
    let number = fixed(&field(database, path, name)?).map(u64::from_le_bytes);
    number.ok_or_else(|| corrupt(path, format!("its {name} has a wrong length")))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}
