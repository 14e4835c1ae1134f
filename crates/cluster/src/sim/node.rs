//! A whole node on a simulated disk, in a simulated network, by simulated clocks.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::{Clock, Entropy, NodeName, Timestamp, Uptime};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chance::{Chance, SeededEntropy};
use super::disk::{Disk, Platter};
use super::net::{Net, Station};
use crate::directory::Directory;
use crate::store::{Birth, Store};
use crate::{ClusterId, Error, Joined, LogBounds, Network, Options, Peer, Task};

/// A node: what stays of it over its lives, and its life if it has one.
pub(crate) struct Node {
    id: u64,
    seed: u64,
    pub(crate) platter: Arc<Mutex<Platter>>,
    /// How many lives it has had.
    lives: u64,
    /// How far its wall clock is ahead of the true time, in milliseconds.
    pub(crate) skew: u64,
    life: Option<Life>,
}

struct Life {
    /// Cancelled at the moment it crashes.
    token: CancellationToken,
    /// Dropped then, too: what still runs reaches neither the disk nor the network.
    _task: Task,
}

impl Node {
    /// The founder is 1; the others join it.
    pub(crate) fn new(seed: u64, id: u64) -> Self {
        let chance = Chance::new(seed, &format!("disk {id}"));
        let platter = Arc::new(Mutex::new(Platter::new(first_image(id).to_vec(), chance)));
        Self { id, seed, platter, lives: 0, skew: 0, life: None }
    }

    pub(crate) fn lives(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.token.is_cancelled())
    }

    /// Opens the node's data, and lets the others reach it.
    pub(crate) async fn start(&mut self, root: &Path, net: &Arc<Net>) -> Result<(), Error> {
        self.lives += 1;
        let token = CancellationToken::new();
        let dir = root.join(format!("{}-{}", self.id, self.lives));
        lay_out(&dir).unwrap();
        let store = dir.join("document.redb");
        Disk::new(Arc::clone(&self.platter), token.clone()).mount(&store);
        let entropy = Chance::new(self.seed, &format!("entropy {}-{}", self.id, self.lives));
        let options = Options {
            dir,
            node: NodeName::new(&peer(self.id).name),
            clock: Arc::new(SimulatedClock { start: Instant::now(), skew: self.skew }),
            entropy: Arc::new(SeededEntropy(Mutex::new(entropy))),
            environment: Arc::new(|_| None),
            vault_tls: tls(),
            credentials: Vec::new(),
        };
        let network = Network {
            transport: net.wire(self.id, token.clone()),
            address: peer(self.id).address,
            joined: (self.id != 1).then_some(Joined { cluster: CLUSTER, node: self.id }),
            log: LogBounds { cut_every: 12, keep: 4 },
        };
        let (handle, task) = crate::open_in_cluster(options, network).await?;
        let metrics = handle.0.lead.raft.metrics();
        let (id, number, life) = (self.id, self.lives, token.clone());
        net.attach(Station { id, number, handle, life, metrics });
        self.life = Some(Life { token, _task: task });
        Ok(())
    }

    /// The node is gone at this moment, with what its disk has synced.
    pub(crate) fn crash(&mut self) {
        if let Some(life) = self.life.take() {
            life.token.cancel();
            self.platter.lock().crash();
        }
    }

    /// Clears away a life that ended by itself, in the middle of a sync.
    pub(crate) fn bury(&mut self) -> bool {
        let is_dead = self.life.as_ref().is_some_and(|life| life.token.is_cancelled());
        if is_dead {
            self.life = None;
        }
        is_dead
    }
}

pub(crate) fn peer(id: u64) -> Peer {
    Peer { id, name: format!("node-{id}"), address: format!("node-{id}:9480") }
}

/// The files beside the store: real ones, since nothing is ever written to them again. The store's
/// own only stands for the disk that is mounted there.
fn lay_out(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir)?;
    let mut options = std::fs::OpenOptions::new();
    let mut key = options.create_new(true).write(true).mode(0o600).open(dir.join("cluster.key"))?;
    key.write_all(hex::encode([KEY; 32]).as_bytes())?;
    std::fs::write(dir.join("document.redb"), "")
}

/// What a node's disk holds after its first start, which is made on real files, once.
fn first_image(id: u64) -> &'static [u8] {
    static IMAGES: [OnceLock<Vec<u8>>; NODES_MAX] = [const { OnceLock::new() }; NODES_MAX];
    let image = IMAGES.get(usize::try_from(id).unwrap()).expect("a node's number is small");
    image.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::take(dir.path()).unwrap();
        let key = directory.cluster_key(&Constant).unwrap();
        let birth = if id == 1 {
            let Peer { name, address, .. } = peer(1);
            Birth::Found { name, address }
        } else {
            Birth::Join { cluster: CLUSTER, node: id }
        };
        let token = TaskTracker::new().token();
        drop(Store::open(directory, &key, &Constant, &birth, token).unwrap());
        std::fs::read(dir.path().join("document.redb")).unwrap()
    })
}

fn tls() -> Arc<rustls::ClientConfig> {
    static TLS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let made = TLS.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Arc::new(config)
    });
    Arc::clone(made)
}

/// The simulated time, and a wall clock that is wrong.
struct SimulatedClock {
    start: Instant,
    skew: u64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
            .plus(self.start.elapsed() + Duration::from_millis(self.skew))
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_micros(1_000_000).plus(self.start.elapsed())
    }
}

/// Makes the same cluster each time.
struct Constant;

impl Entropy for Constant {
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        buffer.fill(KEY);
        Ok(())
    }
}

const KEY: u8 = 7;
const CLUSTER: ClusterId = ClusterId([KEY; 16]);

/// One more than the greatest number of a node.
pub(crate) const NODES_MAX: usize = 8;
