//! Whole nodes over real sockets: one founds a cluster, two join it by tokens, all agree.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Change, Command, Expect, Key, Kind, Stamp};
use model::{Clock as _, NodeName, Secret, SystemClock, SystemEntropy};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{
    Admission, Admitted, Application, Door, GrpcTransport, Listener, Local, Newcomer, join,
};
use super::bench::{Names, SOON, wait_for};
use crate::ca::Authority;
use crate::tls::{NodeTls, Papers, Passport};
use crate::token::{JoinToken, Mint};
use crate::{
    BoxFuture, Fact, FactChange, FactCommand, FactError, FactExpect, FactKind, Handle, Joined,
    Network, Options, Peer, Refused, Task, open_in_cluster,
};

/// Spends tokens in the cluster's facts and makes learners, on the node that leads.
struct Leader(Handle);

impl Admission for Leader {
    fn admit<'a>(&'a self, newcomer: Newcomer) -> BoxFuture<'a, Result<Admitted, Refused>> {
        Box::pin(async move {
            let refused = |why: &str| Refused { why: why.to_owned() };
            let Newcomer { token, terms, name, address, .. } = newcomer;
            let fact = crate::JoinToken { node: name.to_string(), expires: terms.expires };
            let (fact, expect) = (Fact::JoinToken(fact), FactExpect::Absent);
            let spend = FactChange::Set { id: token.to_string(), fact, expect };
            let command = FactCommand { at: SystemClock::start().now(), changes: vec![spend] };
            let spent = self.0.propose_facts(command).await;
            spent.map_err(|cause| match cause {
                FactError::Rejected(_) => refused("the join token was used already"),
                FactError::Unavailable { why, .. } => refused(&why),
            })?;
            let raft = &self.0.0.lead.raft;
            let known = || self.0.0.lead.metrics().membership_config.membership().clone();
            let id = known().nodes().map(|(id, _)| *id).max().unwrap_or_default() + 1;
            let peer = Peer { id, name: name.to_string(), address };
            let added = raft.add_learner(id, peer, false).await;
            added.map_err(|cause| refused(&cause.to_string()))?;
            let members = known().nodes().map(|(_, peer)| peer.clone()).collect();
            Ok(Admitted { id, members })
        })
    }
}

/// A node with its listener; all of it ends when this is dropped.
struct Whole {
    handle: Handle,
    peer: Peer,
    dir: tempfile::TempDir,
    _stop: DropGuard,
    _tasks: JoinSet<()>,
    _task: Task,
}

fn options(dir: &Path, name: &str) -> Options {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Options {
        dir: dir.join("data"),
        node: NodeName::new(name),
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
        environment: Arc::new(|_| None),
        vault_tls: Arc::new(tls),
        credentials: Vec::new(),
    }
}

async fn start(
    name: &str,
    dir: tempfile::TempDir,
    socket: TcpListener,
    passport: &Passport,
    joined: Option<Joined>,
) -> Whole {
    let tls = Arc::new(NodeTls::new(passport).expect("a good passport"));
    let transport = Arc::new(GrpcTransport::new(Arc::clone(&tls)));
    let address = socket.local_addr().expect("an address").to_string();
    let (calls, reached) = (Arc::<GrpcTransport>::clone(&transport), address.clone());
    let log = crate::LogBounds::default();
    let network = Network { transport: calls, address: reached, joined, log };
    let opened = open_in_cluster(options(dir.path(), name), network).await;
    let (handle, task) = opened.expect("a node");
    let (cluster, id) = (handle.status().cluster, handle.0.lead.metrics().id);
    let local = Local { cluster, id, name: NodeName::new(name) };
    transport.introduce(local.clone());
    let key = std::fs::read_to_string(dir.path().join("data/cluster.key")).expect("a key");
    let mut cluster_key = [0; 32];
    hex::decode_to_slice(key.trim(), &mut cluster_key).expect("a key");
    let papers = Papers::open(&dir.path().join("tls")).expect("papers");
    let authority = papers.authority().expect("whole").expect("there");
    let door = Door {
        mint: Mint::new(cluster, authority.fingerprint(), &Secret::new(cluster_key)),
        authority: Some(authority),
        cluster_key: Secret::new(cluster_key),
        admission: Arc::new(Leader(handle.clone())),
        clock: Arc::new(SystemClock::start()),
    };
    let (service, stop) = (Arc::new(handle.clone()), CancellationToken::new());
    let listener = Listener::new(local, tls, service, Arc::<Names>::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.with_door(Arc::new(door)).serve(socket, stop.clone()));
    let peer = Peer { id, name: name.to_owned(), address };
    Whole { handle, peer, dir, _stop: stop.drop_guard(), _tasks: tasks, _task: task }
}

async fn founder(name: &str) -> Whole {
    let dir = tempfile::tempdir().expect("a directory");
    let papers = Papers::open(&dir.path().join("tls")).expect("papers");
    let now = SystemClock::start().now();
    let authority = Authority::make(now).expect("an authority");
    let key = papers.node_key().expect("a key");
    let passport = Passport::certified(&authority, &key, &NodeName::new(name), now);
    let passport = passport.expect("a passport");
    papers.keep_authority(&authority.key()).expect("kept");
    papers.keep(&passport).expect("kept");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    start(name, dir, socket, &passport, None).await
}

/// A token as an operator of that node would make it.
fn token(member: &Whole) -> JoinToken {
    let text = std::fs::read_to_string(member.dir.path().join("data/cluster.key")).expect("a key");
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key).expect("a key");
    let papers = Papers::open(&member.dir.path().join("tls")).expect("papers");
    let authority = papers.authority().expect("whole").expect("there").fingerprint();
    let mint = Mint::new(member.handle.status().cluster, authority, &Secret::new(key));
    let now = SystemClock::start().now();
    mint.issue(None, Duration::from_secs(60), now, &SystemEntropy).expect("a token")
}

async fn joiner(name: &str, member: &Whole) -> Whole {
    let dir = tempfile::tempdir().expect("a directory");
    let papers = Papers::open(&dir.path().join("tls")).expect("papers");
    let key = papers.node_key().expect("a key");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let (token, node) = (token(member), NodeName::new(name));
    let application =
        Application { token: &token, name: &node, address: &address, key: Some(&key) };
    let grant = join(&member.peer.address, application, SOON).await.expect("a grant");
    let passport = grant.passport.expect("a passport");
    papers.keep_authority(&grant.authority_key.expect("a key")).expect("kept");
    papers.keep(&passport).expect("kept");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let key = hex::encode(grant.cluster_key.expose());
    std::fs::write(data.join("cluster.key"), key).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(data.join("cluster.key"), mode).expect("set");
    let joined = Joined { cluster: token.terms.cluster, node: grant.id };
    start(name, dir, socket, &passport, Some(joined)).await
}

fn put(id: &str) -> Command {
    let value = json!({"type": "roundrobin", "nodes": {"10.0.0.1:80": 1}});
    let key = Key::new(Kind::Upstream, id);
    let change = Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now };
    Command { at: SystemClock::start().now(), base: None, force: false, changes: vec![change] }
}

/// Three voters; the first leads.
async fn three() -> [Whole; 3] {
    let a = founder("a").await;
    a.handle.propose(put("first")).await.expect("made");
    let (b, c) = (joiner("b", &a).await, joiner("c", &a).await);
    let ids = [&a, &b, &c].map(|node| node.peer.id);
    a.handle.0.lead.raft.change_membership(ids, false).await.expect("three voters");
    [a, b, c]
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_joined_by_token_agree_over_real_sockets() {
    let [a, b, c] = three().await;
    let applied = c.handle.propose(put("second")).await.expect("made by a follower");
    for node in [&a, &b, &c] {
        let revision = || node.handle.status().live;
        wait_for(|| revision() >= applied.revision, || format!("{:?}", revision())).await;
        let members = node.handle.members().await;
        assert!(members.iter().all(|one| one.votes && one.said.is_ok()), "{members:#?}");
    }
    let read = b.handle.read().await.expect("a linearizable read");
    assert_eq!(read.list(Kind::Upstream).count(), 2);
    assert_eq!(a.handle.facts().list(FactKind::JoinToken).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_away_is_replaced_and_nothing_is_lost() {
    let [a, b, c] = three().await;
    a.handle.propose(put("second")).await.expect("made");
    let Whole { handle, dir, _stop, _tasks, _task, .. } = a;
    drop((_stop, _tasks));
    _task.stop().await;
    drop((handle, dir));
    let again = async { while b.handle.propose(put("third")).await.is_err() {} };
    tokio::time::timeout(2 * SOON, again).await.expect("another leader");
    let read = c.handle.read().await.expect("a linearizable read");
    assert_eq!(read.list(Kind::Upstream).count(), 3);
}
