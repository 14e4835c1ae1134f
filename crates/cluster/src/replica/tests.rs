//! The store under openraft's own suite.

use std::sync::Arc;

use model::SystemEntropy;
use openraft::testing::{StoreBuilder, Suite};
use tokio_util::task::TaskTracker;

use super::Replica;
use crate::ClusterId;
use crate::board::{Board, View};
use crate::directory::Directory;
use crate::log::Log;
use crate::store::{Birth, Store};
use crate::types::{StorageError, Types};

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

#[test]
fn the_store_keeps_what_raft_asks_of_one() {
    Suite::test_all(Fresh).unwrap();
}
