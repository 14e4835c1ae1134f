//! The shard's link, lent to those who call the store themselves.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};

use super::key::Organisation;
use super::link::Link;

/// A way to the store that is in use.
#[derive(Clone, Debug)]
pub(crate) struct Road {
    pub(crate) connection: MultiplexedConnection,
    /// The epoch that every call names.
    pub(crate) epoch: u64,
    pub(crate) epoch_key: Vec<u8>,
    doubt: Arc<Notify>,
}

/// The way in use, while there is one.
pub(crate) type Roads = watch::Receiver<Option<Road>>;

impl Road {
    pub(crate) fn over(link: &Link, organisation: &Organisation) -> Self {
        Self {
            connection: link.connection.clone(),
            epoch: link.epoch,
            epoch_key: organisation.epoch(),
            doubt: Arc::default(),
        }
    }

    /// Tells the link's owner that it is of no use: the store failed, or lost the epoch.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Waits until somebody says so.
    pub(crate) async fn is_doubted(&self) {
        self.doubt.notified().await;
    }
}
