//! The store under openraft's own suite.

use std::sync::Arc;

use model::SystemEntropy;
use openraft::testing::{StoreBuilder, Suite};
use tokio_util::task::TaskTracker;

use super::Replica;
use crate::ClusterId;
use crate::board::{Board, View};
use crate::directory::Directory;
use crate::image::Image;
use crate::log::Log;
use crate::machine::Machine;
use crate::store::{Birth, Store};
use crate::types::{
    LogId, RaftLogStorage as _, RaftStateMachine as _, SnapshotMeta, StorageError, Types,
};

/// Makes a store that knows nothing yet, in a directory of its own.
struct Fresh;

impl StoreBuilder<Types, Log, Replica, tempfile::TempDir> for Fresh {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Replica), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::take(dir.path()).unwrap();
        let key = directory.cluster_key(&SystemEntropy).unwrap();
        let birth = Birth::Join { cluster: ClusterId([7; 16]), node: 0 };
        let token = TaskTracker::new().token();
        let (store, recovered) =
            Store::open(directory, &key, &SystemEntropy, &birth, token).unwrap();
        let store = Arc::new(store);
        let board = Arc::new(Board::new(View::of(&recovered.machine, 0)));
        let replica = Replica::new(Arc::clone(&store), recovered, board);
        Ok((dir, Log::new(store), replica))
    }
}

#[tokio::test]
async fn a_log_is_purged_for_a_snapshot_once_that_is_installed() {
    let (_dir, mut log, mut replica) = Fresh.build().await.unwrap();
    replica.begin_receiving_snapshot().await.unwrap();
    let at = LogId { index: 5, ..LogId::default() };
    let meta = SnapshotMeta { last_log_id: Some(at), ..SnapshotMeta::default() };
    let mut purging = std::pin::pin!(log.purge(at));
    tokio::select! {
        biased;
        _ = &mut purging => panic!("it was purged while nothing was installed"),
        () = tokio::task::yield_now() => {}
    }
    let image = Box::new(Image::encode(&Machine::default()));
    replica.install_snapshot(&meta, image).await.unwrap();
    purging.await.unwrap();
}

#[tokio::test]
async fn a_log_gives_up_on_a_snapshot_that_is_not_installed() {
    let (_dir, mut log, mut replica) = Fresh.build().await.unwrap();
    replica.begin_receiving_snapshot().await.unwrap();
    let broken = Box::new(Image::empty());
    replica.install_snapshot(&SnapshotMeta::default(), broken).await.unwrap_err();
    log.purge(LogId { index: 5, ..LogId::default() }).await.unwrap_err();
}

#[test]
fn the_store_keeps_what_raft_asks_of_one() {
    Suite::test_all(Fresh).unwrap();
}
