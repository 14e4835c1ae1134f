//! Opens a node's data, and owns the thread and the tasks that work on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use config::{Compiler, HostCredential, Keyring};
use model::{Clock, Entropy, NodeName};
use rules::Snapshot;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::Board;
use crate::directory::Directory;
use crate::handle::Node;
use crate::publisher::Publisher;
use crate::secret::{Environment, Secrets};
use crate::store::Store;
use crate::writer::{Job, Writer};
use crate::{Error, Handle};

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

/// Opens a node's data and compiles it; the first snapshot is out when this returns.
///
/// # Errors
/// When the directory is taken, or its key or store cannot be used. Nothing is reset.
pub async fn open(options: Options) -> Result<(Handle, Task), Error> {
    let (jobs, queue) = mpsc::channel(QUEUE_MAX);
    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    let (opened, opening) = oneshot::channel();
    let dir = options.dir.clone();
    let prepare =
        Prepare { options, jobs: jobs.clone(), stop: stop.clone(), tracker: tracker.clone() };
    let runtime = tokio::runtime::Handle::current();
    let work = move || match prepare.prepare(&runtime) {
        Ok((writer, node)) => {
            if opened.send(Ok(Handle(Arc::new(node)))).is_ok() {
                writer.run(queue);
            }
        }
        Err(cause) => drop(opened.send(Err(cause))),
    };
    let thread = std::thread::Builder::new()
        .name("cluster-writer".to_owned())
        .spawn(work)
        .map_err(Error::Thread)?;
    let task = Task { stop, tracker, jobs, thread: Some(thread) };
    // redb meets some kinds of damage with a panic, which ends the thread before it answers.
    let died = |_| Error::Corrupt { path: dir, what: "reading it failed".to_owned() };
    match opening.await.map_err(died) {
        Ok(Ok(handle)) => Ok((handle, task)),
        Ok(Err(cause)) | Err(cause) => {
            task.stop().await;
            Err(cause)
        }
    }
}

/// Everything that runs behind a handle. Dropping it stops the work without waiting for it.
#[derive(Debug)]
#[must_use = "the node ends when its task is dropped"]
pub struct Task {
    stop: CancellationToken,
    tracker: TaskTracker,
    jobs: mpsc::Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    /// Takes no more changes, finishes those that wait, and gives the data directory back.
    pub async fn stop(mut self) {
        let told = self.jobs.send_timeout(Job::Stop, STOP_WAIT).await;
        if told.is_err() {
            tracing::debug!("the writer had ended or is too busy to be told");
        }
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            match tokio::time::timeout(STOP_WAIT, joined).await {
                Ok(Ok(Ok(()))) => {}
                Ok(_) => tracing::error!("the writer had ended by a defect"),
                Err(_) => {
                    tracing::error!("the writer did not end in time; what it answered is kept");
                }
            }
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
        // A full queue means the writer is awake; it ends when the last handle is gone.
        drop(self.jobs.try_send(Job::Stop));
    }
}

/// What the writer's thread starts from.
struct Prepare {
    options: Options,
    jobs: mpsc::Sender<Job>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Prepare {
    /// Opens everything and compiles the state. Blocks.
    fn prepare(self, runtime: &tokio::runtime::Handle) -> Result<(Writer, Node), Error> {
        let Self { options, jobs, stop, tracker } = self;
        let directory = Directory::take(&options.dir)?;
        let key = directory.cluster_key(&*options.entropy)?;
        let (store, state) = Store::open(&directory, &key, &*options.entropy)?;
        let keyring = Arc::new(Keyring::from_bytes(key.expose()));
        let secrets = Arc::new(Secrets::new(
            options.environment,
            options.clock,
            Arc::clone(&keyring),
            options.vault_tls,
        ));
        let look = {
            let jobs = jobs.clone();
            // A full queue wakes the writer anyway, and it looks at the secrets after each batch.
            move || drop(jobs.try_send(Job::Look))
        };
        tracker.spawn_on(Arc::clone(&secrets).keep(stop, look), runtime);
        let state = Arc::new(state);
        let board = Arc::new(Board::new(Arc::clone(&state)));
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let node = Node {
            name: options.node,
            cluster: store.cluster(),
            jobs,
            board: Arc::clone(&board),
            snapshots,
            keyring: Arc::clone(&keyring),
            entropy: Arc::clone(&options.entropy),
            secrets: Arc::clone(&secrets),
            dry_runs: Arc::new(Semaphore::new(DRY_RUNS_MAX)),
        };
        let publisher = Publisher {
            compiler: Compiler::new(Arc::clone(&keyring)),
            secrets,
            credentials: options.credentials,
            snapshots: publish,
            generation: 0,
        };
        let mut writer = Writer {
            store,
            state,
            publisher,
            board,
            keyring,
            entropy: options.entropy,
            faults: Vec::new(),
            _directory: directory,
        };
        writer.refresh(PATIENCE_AT_START);
        Ok((writer, node))
    }
}

/// Changes that wait for the writer; a further one waits for a place, and then is refused.
const QUEUE_MAX: usize = 1_024;

/// Dry runs judged at a time; a further one waits for a seat, and then is refused.
const DRY_RUNS_MAX: usize = 2;

/// How long each step of stopping may take.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// How long the first snapshot waits for vaults: traffic that needs them would be refused.
const PATIENCE_AT_START: Duration = Duration::from_secs(3);
