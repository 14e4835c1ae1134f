//! Nodes over one network: how the tests make, kill and revive them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Error, Handle, Joined, LogBounds, Network, Options, Peer, Role, Task};
use config::{Change, Command, Expect, Key, Kind, Stamp, State};
use model::{NodeName, Revision, SystemClock, SystemEntropy, Timestamp};
use serde_json::{Value, json};

use crate::net::Net;

pub(crate) struct Fleet {
    pub(crate) net: Arc<Net>,
    nodes: BTreeMap<u64, Node>,
}

struct Node {
    dir: tempfile::TempDir,
    /// `None` while it is dead.
    life: Option<(Handle, Task)>,
}

impl Fleet {
    /// Three voters.
    pub(crate) async fn three(seed: u64) -> Self {
        let net = Net::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let life = open(dir.path(), &net, 1, None).await.unwrap();
        let founder = Node { dir, life: Some(life) };
        let mut fleet = Self { net, nodes: [(1, founder)].into() };
        fleet.join(2).await;
        fleet.join(3).await;
        fleet.handle(1).set_voters([1, 2, 3].into()).await.unwrap();
        fleet
    }

    /// Takes a new node in as a learner.
    pub(crate) async fn join(&mut self, id: u64) {
        let leader = self.leader().await;
        let known = &self.nodes.get(&leader).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_key(dir.path(), &std::fs::read(known.dir.path().join("cluster.key")).unwrap());
        let joined = Joined { cluster: self.handle(leader).status().cluster, node: id };
        let life = open(dir.path(), &self.net, id, Some(joined)).await.unwrap();
        self.nodes.insert(id, Node { dir, life: Some(life) });
        self.handle(leader).admit_peer(peer(id)).await.unwrap();
    }

    /// What comes of a dead node that takes itself for a member of another cluster.
    pub(crate) async fn open_as_member_of(&self, id: u64, other: &Handle) -> Result<(), Error> {
        let joined = Joined { cluster: other.status().cluster, node: id };
        let dir = self.nodes.get(&id).unwrap().dir.path();
        let (_, task) = open(dir, &self.net, id, Some(joined)).await?;
        task.stop().await;
        Ok(())
    }

    pub(crate) fn handle(&self, id: impl TryInto<u64>) -> &Handle {
        let id = id.try_into().ok().unwrap();
        &self.nodes.get(&id).unwrap().life.as_ref().unwrap().0
    }

    fn living(&self) -> impl Iterator<Item = &Handle> {
        self.nodes.values().filter_map(|node| Some(&node.life.as_ref()?.0))
    }

    /// Who leads, once somebody does.
    pub(crate) async fn leader(&self) -> u64 {
        loop {
            let leads = |id: &u64| self.handle(*id).status().role == Role::Leader;
            if let Some(id) = self.nodes.keys().copied().find(leads) {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The node is gone at this moment, with what its disk has.
    pub(crate) async fn kill(&mut self, id: u64) {
        self.net.detach(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let copied = tempfile::tempdir().unwrap();
        for name in ["cluster.key", "document.redb"] {
            std::fs::copy(node.dir.path().join(name), copied.path().join(name)).unwrap();
        }
        let (_, task) = node.life.take().unwrap();
        task.stop().await;
        node.dir = copied;
    }

    pub(crate) async fn revive(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.life = Some(open(node.dir.path(), &self.net, id, None).await.unwrap());
    }

    /// Waits until some changes are made.
    pub(crate) async fn some_are_made(&self, number: u64) {
        self.all(|handle| handle.state().revision() >= Revision::new(number)).await;
    }

    /// Waits until a revision is live on every living node.
    pub(crate) async fn all_reach(&self, revision: Revision) {
        self.all(|handle| handle.snapshots().borrow().revision >= revision).await;
    }

    /// Waits until every living node holds the same, and says so of it.
    pub(crate) async fn agree(&self) {
        let newest = self.living().next().unwrap().read().await.unwrap();
        let expected = text(&newest);
        self.all(|handle| text(&handle.state()) == expected).await;
        self.all_reach(newest.revision()).await;
    }

    async fn all(&self, holds: impl Fn(&Handle) -> bool) {
        let waiting = async {
            while !self.living().all(&holds) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(waited.is_ok(), "{:?}", self.living().map(Handle::status).collect::<Vec<_>>());
    }

    pub(crate) async fn stop(self) {
        for (id, node) in self.nodes {
            self.net.detach(id);
            if let Some((_, task)) = node.life {
                task.stop().await;
            }
        }
    }
}

async fn open(
    dir: &Path,
    net: &Arc<Net>,
    id: u64,
    joined: Option<Joined>,
) -> Result<(Handle, Task), Error> {
    let (transport, address) = (net.wire(id), peer(id).address);
    let log = LogBounds { cut_every: 100, keep: 20 };
    let network = Network { transport, address, joined, log };
    let (handle, task) = cluster::open_in_cluster(options(dir, id), network).await?;
    net.attach(id, handle.clone());
    Ok((handle, task))
}

/// What a node is opened with.
pub(crate) fn options(dir: &Path, id: u64) -> Options {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Options {
        dir: dir.to_path_buf(),
        node: NodeName::new(&format!("node-{id}")),
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
        environment: Arc::new(|_| None),
        vault_tls: Arc::new(tls),
        credentials: Vec::new(),
    }
}

fn peer(id: u64) -> Peer {
    Peer { id, name: format!("node-{id}"), address: format!("node-{id}:9480") }
}

fn write_key(dir: &Path, key: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o600);
    file.open(dir.join("cluster.key")).unwrap().write_all(key).unwrap();
}

/// A node's document as text, so that two can be compared.
pub(crate) fn shown(handle: &Handle) -> String {
    text(&handle.state())
}

fn text(state: &State) -> String {
    let mut text = format!("{}\n", state.revision());
    for (key, stored) in Kind::ALL.iter().flat_map(|kind| state.list(*kind)) {
        text += &format!("{key} {} {} {}\n", stored.created, stored.modified, stored.value);
    }
    text
}

pub(crate) fn upstream(number: u64) -> Value {
    json!({"type": "roundrobin", "nodes": {format!("10.0.0.{}:80", number % 250 + 1): 1}})
}

pub(crate) fn key(id: &str) -> Key {
    Key::new(Kind::Upstream, id)
}

pub(crate) fn put(id: &str, value: Value) -> Command {
    let (expect, stamp) = (Expect::Any, Stamp::Now);
    command(Change::Put { key: key(id), value, expect, stamp })
}

pub(crate) fn create(value: Value) -> Command {
    command(Change::Create { kind: Kind::Upstream, value })
}

pub(crate) fn delete(id: &str) -> Command {
    command(Change::Delete { key: key(id), expect: Expect::Any })
}

fn command(change: Change) -> Command {
    let at = Timestamp::from_secs(1);
    Command { at, base: None, force: false, changes: vec![change] }
}
