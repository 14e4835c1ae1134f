//! The shard's link, lent to those who call the store themselves.

use std::sync::Arc;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use super::link::Link;

/// The connection that stands, while one does. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
    lost: Arc<Notify>,
}

impl Line {
    pub(crate) fn lend(&self, link: &Link) {
        *self.connection.lock() = Some(link.connection.clone());
    }

    pub(crate) fn take_back(&self) {
        *self.connection.lock() = None;
    }

    /// The connection, unless the store is away.
    pub(crate) fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.lock().clone()
    }

    /// Tells the shard that the store no longer holds its epoch.
    pub(crate) fn note_lost(&self) {
        self.lost.notify_one();
    }

    /// Waits until that is told.
    pub(crate) async fn is_lost(&self) {
        self.lost.notified().await;
    }
}
