//! What a node is opened with, and the task that owns what runs on its data.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::HostCredential;
use model::{Clock, Entropy, NodeName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ask::Job;
use crate::secret::Environment;
use crate::start::start;
use crate::transport::Transport;
use crate::{ClusterId, Error, Handle};

/// What a node is opened with.
#[derive(Clone)]
pub struct Options {
    /// The data directory; made on the first start.
    pub dir: PathBuf,
    pub node: NodeName,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Where `$env://` references are looked up.
    pub environment: Environment,
    /// How vaults are spoken to over TLS: which roots are trusted.
    pub vault_tls: Arc<rustls::ClientConfig>,
    /// What this node keeps for hosts that upstreams name without a credential.
    pub credentials: Vec<HostCredential>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("dir", &self.dir)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// How a node takes part in a cluster of several.
#[derive(Clone)]
pub struct Network {
    /// How it reaches its peers.
    pub transport: Arc<dyn Transport>,
    /// `host:port` at which peers reach it.
    pub address: String,
    /// Given when the data directory is new and the node joins a cluster that is there already;
    /// otherwise a new directory founds a cluster of its own.
    pub joined: Option<Joined>,
    pub log: LogBounds,
}

/// How long the log grows. A node that is farther behind than it reaches is sent the document
/// whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Entries after which it is cut.
    pub cut_every: u64,
    /// Entries that stay for those who are a little behind.
    pub keep: u64,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self { cut_every: 5_000, keep: 2_000 }
    }
}

/// What a cluster gave a node that joined it. The cluster's key lies in the data directory already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub cluster: ClusterId,
    /// The node's number.
    pub node: u64,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("address", &self.address)
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

/// Opens the data of a node that is alone, and compiles it; the first snapshot is out when this
/// returns, and the node takes changes.
///
/// # Errors
/// When the directory is taken, or its key or store cannot be used. Nothing is reset.
pub async fn open(options: Options) -> Result<(Handle, Task), Error> {
    start(options, None).await
}

/// Opens the data of a node of a cluster, and compiles it; the first snapshot is out when this
/// returns. Whether the node takes changes depends on the others. Messages of peers go to the
/// handle, which is a [`Service`](crate::Service).
///
/// # Errors
/// As [`open`].
pub async fn open_in_cluster(options: Options, network: Network) -> Result<(Handle, Task), Error> {
    start(options, Some(network)).await
}

/// Everything that runs behind a handle. Dropping it stops the work without waiting for it.
#[derive(Debug)]
#[must_use = "the node ends when its task is dropped"]
pub struct Task {
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
    pub(crate) jobs: mpsc::Sender<Job>,
    /// Tells when the store is closed.
    pub(crate) store: TaskTracker,
}

impl Task {
    /// Takes no more changes, finishes those that wait, and gives the data directory back.
    pub async fn stop(self) {
        let told = self.jobs.send_timeout(Job::Stop, STOP_WAIT).await;
        if told.is_err() {
            tracing::debug!("the proposer had ended or is too busy to be told");
        }
        self.store.close();
        if tokio::time::timeout(STOP_WAIT, self.store.wait()).await.is_err() {
            tracing::error!("the store did not close in time; what was answered is kept");
        }
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(STOP_WAIT, self.tracker.wait()).await.is_err() {
            tracing::error!("the reader of secrets did not end in time");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tracker.close();
        // A full queue means the proposer is awake; it ends when the last handle is gone.
        drop(self.jobs.try_send(Job::Stop));
    }
}

/// How long each step of stopping may take.
const STOP_WAIT: Duration = Duration::from_secs(10);
