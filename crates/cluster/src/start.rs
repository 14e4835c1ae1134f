//! Starts a node: opens the store, takes up the log, compiles what it made.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::{Compiler, Keyring};
use parking_lot::Mutex;
use rules::Snapshot;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ask::Job;
use crate::bench::Bench;
use crate::board::{Board, View};
use crate::directory::{ClusterKey, Directory};
use crate::handle::Node;
use crate::lead::Lead;
use crate::log::{Log, blocking};
use crate::proposer::Proposer;
use crate::publisher::Publisher;
use crate::replica::{Replica, SharedMachine};
use crate::secret::Secrets;
use crate::store::{Birth, Recovered, Store};
use crate::suspension::Desk;
use crate::task::{LogBounds, Network, Options};
use crate::types::Raft;
use crate::{Error, Handle, Task, network};

pub(crate) async fn start(
    options: Options,
    network: Option<Network>,
) -> Result<(Handle, Task), Error> {
    let (jobs, queue) = mpsc::channel(QUEUE_MAX);
    let (stop, tracker, open) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
    let task = Task { stop: stop.clone(), tracker: tracker.clone(), jobs, store: open.clone() };
    match run(options, network, &task, queue).await {
        Ok(handle) => Ok((handle, task)),
        Err(cause) => {
            task.stop().await;
            Err(cause)
        }
    }
}

async fn run(
    options: Options,
    network: Option<Network>,
    task: &Task,
    queue: mpsc::Receiver<Job>,
) -> Result<Handle, Error> {
    let opened = open_store(&options, network.as_ref(), task.store.token()).await?;
    let Opened { store, recovered, key } = opened;
    let (cluster, me) = (store.cluster(), store.node());
    let store = Arc::new(store);
    let applied = recovered.applied.map_or(0, |at| at.index);
    let board = Arc::new(Board::new(View::of(&recovered.machine, applied)));
    let bounds = network.as_ref().map(|network| network.log).unwrap_or_default();
    let transport = network.map(|network| network.transport);
    let replica = Replica::new(Arc::clone(&store), recovered, Arc::clone(&board));
    let machine = replica.machine();
    let wires = network::Network(transport.clone());
    let raft = take_up(&store, replica, wires, bounds).await;
    let raft = raft.map_err(|why| Error::Log { path: options.dir.clone(), why })?;
    let lead = Lead::new(raft, me);
    lead_alone(&lead, &options).await?;
    let keyring = Arc::new(Keyring::from_bytes(key.expose()));
    let (publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let secrets = keep_secrets(&options, &keyring, task);
    let path = options.dir.join("suspensions.json");
    let facts = board.view().facts;
    let suspensions = blocking(move || Desk::open(path, facts)).await?;
    let node = Node {
        name: options.node.clone(),
        cluster,
        lead: lead.clone(),
        transport,
        jobs: task.jobs.clone(),
        board: Arc::clone(&board),
        suspensions,
        snapshots,
        keyring: Arc::clone(&keyring),
        entropy: Arc::clone(&options.entropy),
        secrets: Arc::clone(&secrets),
        dry_runs: Arc::new(Semaphore::new(DRY_RUNS_MAX)),
        members_turn: tokio::sync::Mutex::default(),
        members_term: AtomicU64::default(),
        clock: Arc::clone(&options.clock),
        outage: Mutex::default(),
        mint: OnceLock::new(),
        tasks: task.tracker.clone(),
        stop: task.stop.clone(),
        look: tokio::sync::Mutex::default(),
    };
    let bench = prepare_bench(options, machine, &board, (keyring, secrets, publish)).await?;
    let views = board.views();
    let proposer = Proposer { lead, bench: Some(bench), board, views, settled_term: None };
    task.tracker.spawn(work(proposer, queue, store));
    let handle = Handle(Arc::new(node));
    task.tracker.spawn(handle.clone().keep_suspensions());
    Ok(handle)
}

/// The proposer's life, and the end of the node's Raft after it.
async fn work(mut proposer: Proposer, queue: mpsc::Receiver<Job>, store: Arc<Store>) {
    proposer.run(queue).await;
    if proposer.lead.raft.shutdown().await.is_err() {
        tracing::error!("the node's Raft had ended by a defect");
    }
    // What was applied without waiting for the disk need not be applied again.
    if let Err(cause) = blocking(move || store.flush()).await {
        tracing::warn!(cause = &cause as &dyn std::error::Error, "the last write was not flushed");
    }
}

struct Opened {
    store: Store,
    recovered: Recovered,
    key: ClusterKey,
}

async fn open_store(
    options: &Options,
    network: Option<&Network>,
    token: TaskTrackerToken,
) -> Result<Opened, Error> {
    let (dir, entropy) = (options.dir.clone(), Arc::clone(&options.entropy));
    let birth = match network.and_then(|network| network.joined) {
        Some(joined) => Birth::Join { cluster: joined.cluster, node: joined.node },
        None => Birth::Found {
            name: options.node.as_str().to_owned(),
            address: network.map(|network| network.address.clone()).unwrap_or_default(),
        },
    };
    let path = dir.clone();
    let opened = blocking(move || {
        let directory = Directory::take(&dir)?;
        let key = directory.cluster_key(&*entropy)?;
        let (store, recovered) = Store::open(directory, &key, &*entropy, &birth, token)?;
        Ok(Opened { store, recovered, key })
    });
    opened.await.map_err(|cause| match cause {
        // redb meets some kinds of damage with a panic.
        Error::Died => Error::Corrupt { path, what: "reading it failed".to_owned() },
        cause => cause,
    })
}

/// Starts Raft on what the store holds.
async fn take_up(
    store: &Arc<Store>,
    replica: Replica,
    wires: network::Network,
    bounds: LogBounds,
) -> Result<Raft, String> {
    let config = openraft::Config {
        cluster_name: store.cluster().to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: 3 * HEARTBEAT_MS,
        election_timeout_max: 6 * HEARTBEAT_MS,
        install_snapshot_timeout: CHUNK_WAIT_MS,
        snapshot_max_chunk_size: CHUNK_BYTES,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(bounds.cut_every),
        max_in_snapshot_log_to_keep: bounds.keep,
        // Not each purge waits for the disk.
        purge_batch_size: (bounds.keep / 4).max(1),
        replication_lag_threshold: bounds.cut_every + 2 * bounds.keep,
        ..openraft::Config::default()
    };
    let config = config.validate().map_err(|cause| cause.to_string())?;
    let log = Log::new(Arc::clone(store));
    let raft = Raft::new(store.node(), Arc::new(config), wires, log, replica).await;
    raft.map_err(|cause| cause.to_string())
}

/// A node that is the only voter need not wait for anybody: it leads at once, and has applied
/// what its log holds when this returns.
async fn lead_alone(lead: &Lead, options: &Options) -> Result<(), Error> {
    let failed = |why: String| Error::Log { path: options.dir.clone(), why };
    let sole = lead.starts_as_sole_voter().await.map_err(|cause| failed(cause.to_string()))?;
    if !sole {
        return Ok(());
    }
    lead.raft.trigger().elect().await.map_err(|cause| failed(cause.to_string()))?;
    let leading = async {
        loop {
            let ended = lead.metrics().running_state.is_err();
            // Everything in its log comes before the first entry of the term, which is waited for.
            if ended || lead.confirm().await.is_ok() {
                return;
            }
            lead.moment().await;
        }
    };
    let led = tokio::time::timeout(LEAD_WAIT, leading).await;
    led.map_err(|_| failed("the node does not come to lead itself".to_owned()))?;
    lead.metrics().running_state.map_err(|cause| failed(cause.to_string()))
}

fn keep_secrets(options: &Options, keyring: &Arc<Keyring>, task: &Task) -> Arc<Secrets> {
    let secrets = Arc::new(Secrets::new(
        Arc::clone(&options.environment),
        Arc::clone(&options.clock),
        Arc::clone(keyring),
        Arc::clone(&options.vault_tls),
    ));
    let jobs = task.jobs.clone();
    // A full queue wakes the proposer anyway, and it looks at the secrets after each batch.
    let look = move || drop(jobs.try_send(Job::Look));
    task.tracker.spawn(Arc::clone(&secrets).keep(task.stop.clone(), look));
    secrets
}

/// Compiles what the log has made; the first snapshot is out when this returns.
async fn prepare_bench(
    options: Options,
    machine: SharedMachine,
    board: &Arc<Board>,
    parts: (Arc<Keyring>, Arc<Secrets>, watch::Sender<Arc<Snapshot>>),
) -> Result<Bench, Error> {
    let (keyring, secrets, snapshots) = parts;
    let publisher = Publisher {
        compiler: Compiler::new(Arc::clone(&keyring)),
        secrets,
        credentials: options.credentials,
        snapshots,
        generation: 0,
    };
    let mut bench = Bench {
        machine,
        publisher,
        board: Arc::clone(board),
        keyring,
        entropy: options.entropy,
        faults: Vec::new(),
    };
    blocking(move || {
        bench.refresh(PATIENCE_AT_START);
        Ok(bench)
    })
    .await
}

/// Changes that wait for the proposer; a further one waits for a place, and then is refused.
const QUEUE_MAX: usize = 1_024;

/// Dry runs judged at a time; a further one waits for a seat, and then is refused.
const DRY_RUNS_MAX: usize = 2;

/// How long the first snapshot waits for vaults: traffic that needs them would be refused.
const PATIENCE_AT_START: Duration = Duration::from_secs(3);

/// How often a leader shows that it lives. A follower stands for election when it has heard
/// nothing for 6 to 12 times as long: another leader is there in less than 2 s.
const HEARTBEAT_MS: u64 = 150;

/// How long one chunk of a snapshot may take.
const CHUNK_WAIT_MS: u64 = 10_000;

/// Bytes of a snapshot in one message.
const CHUNK_BYTES: u64 = 1 << 20;

/// How long a node alone may take to lead itself.
const LEAD_WAIT: Duration = Duration::from_secs(20);
