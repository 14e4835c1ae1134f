//! A fleet under test: nodes of one cluster as real processes, with the network between them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use super::node::Node;
use super::relay::Mesh;
use super::{at, tollgate, wait_for};

/// Nodes `a`, `b`, `c` and so on, of one cluster or about to be.
pub(crate) struct Fleet {
    pub(crate) mesh: Arc<Mesh>,
    nodes: Mutex<Vec<Arc<Node>>>,
    /// How many journals were kept of it; each names other resources.
    pub(super) journals: AtomicUsize,
    place: TempDir,
}

impl Fleet {
    fn at(place: TempDir) -> Self {
        let journals = AtomicUsize::new(0);
        Self { mesh: Arc::default(), nodes: Mutex::default(), journals, place }
    }

    /// One node that runs, on a disk in memory where there is one: for a test that writes more
    /// than a disk does in good time.
    pub(crate) fn swift() -> Self {
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::made(place.expect("a temporary directory"), 1)
    }

    /// So many nodes that run; three or five of them vote.
    pub(crate) fn of(count: usize) -> Self {
        Self::made(tempfile::tempdir().expect("a temporary directory"), count)
    }

    fn made(place: TempDir, count: usize) -> Self {
        let fleet = Self::at(place);
        let names: Vec<String> = ('a'..='z').take(count).map(String::from).collect();
        let (first, others) = names.split_first().expect("a node");
        let founder = fleet.add(first);
        founder.init();
        founder.start();
        std::thread::scope(|scope| {
            for name in others {
                scope.spawn(|| fleet.join(name));
            }
        });
        if !others.is_empty() {
            fleet.all_ready();
            let names: Vec<&str> = others.iter().map(String::as_str).collect();
            fleet.promote(&names);
        }
        fleet.all_ready();
        fleet
    }

    /// A node that is nothing yet: no process, no data.
    pub(crate) fn add(&self, name: &str) -> Arc<Node> {
        let node = Arc::new(Node::new(&self.mesh, self.place.path(), name));
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        node
    }

    /// A node that joins by a token of any other, and runs.
    pub(crate) fn join(&self, name: &str) -> Arc<Node> {
        let member = self.running().first().map(Arc::clone).expect("a member that runs");
        let node = self.add(name);
        let joined = node.try_join(&member.address(), &self.token(&[]));
        assert!(joined.status.success(), "{}", said(&joined));
        node.start();
        node
    }

    /// A join token, with what else the command is told.
    pub(crate) fn token(&self, arguments: &[&str]) -> String {
        let made = self.command(&[&["cluster", "token", "--output", "json"], arguments].concat());
        super::text_at(&made, "/token")
    }

    /// Gives these the vote; with `--demote` among them, takes it from those behind it.
    pub(crate) fn promote(&self, names: &[&str]) {
        let done = self.try_command(&[&["cluster", "promote"], names].concat());
        assert!(done.status.success(), "{}", said(&done));
    }

    /// What a command of the cluster's operators prints as JSON.
    pub(crate) fn command(&self, arguments: &[&str]) -> Value {
        let output = self.try_command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {}", said(&output)))
    }

    /// Runs a command that asks a node that runs.
    pub(crate) fn try_command(&self, arguments: &[&str]) -> Output {
        let node = self.running().first().map(Arc::clone).expect("a node that runs");
        node.command(arguments).output().expect("it runs")
    }

    /// A node by its name; the newest, where one was replaced.
    pub(crate) fn node(&self, name: &str) -> Arc<Node> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().rev().find(|node| node.name == name).map(Arc::clone).expect("such a node")
    }

    /// Those whose process is there.
    pub(crate) fn running(&self) -> Vec<Arc<Node>> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter().filter(|node| node.doors().is_some()).map(Arc::clone).collect()
    }

    /// Whom all of these believe to lead, once they agree. A node's belief is its role.
    pub(crate) fn leader_among(&self, names: &[&str]) -> Arc<Node> {
        let nodes: Vec<_> = names.iter().map(|name| self.node(name)).collect();
        wait_for("a leader", || {
            let roles: Vec<_> = nodes.iter().map(|node| node.role()).collect();
            let leads = |role: &Option<String>| role.as_deref() == Some("leader");
            let follows = |role: &Option<String>| {
                matches!(role.as_deref(), Some("leader" | "follower" | "learner"))
            };
            let mut leaders = nodes.iter().zip(&roles).filter(|(_, role)| leads(role));
            let (leader, _) = leaders.next()?;
            let agreed = leaders.next().is_none() && roles.iter().all(follows);
            agreed.then(|| Arc::clone(leader))
        })
    }

    /// Who leads, as all that run say.
    pub(crate) fn leader(&self) -> Arc<Node> {
        let running = self.running();
        let names: Vec<&str> = running.iter().map(|node| node.name.as_str()).collect();
        self.leader_among(&names)
    }

    /// Nodes that run and do not lead.
    pub(crate) fn followers(&self) -> Vec<Arc<Node>> {
        let leader = self.leader();
        self.running().into_iter().filter(|node| node.name != leader.name).collect()
    }

    /// Waits until everybody that runs is ready.
    pub(crate) fn all_ready(&self) {
        for node in self.running() {
            node.is_ready_in_time();
        }
    }

    /// Waits until everybody that runs judges by the same revision, and returns it.
    pub(crate) fn agree(&self) -> u64 {
        wait_for("one revision at every node", || {
            let running = self.running();
            let mut live = running.iter().map(|node| {
                let status = node.status()?;
                let live = at(&status, "/live").as_u64()?;
                (at(&status, "/revision").as_u64() == Some(live)).then_some(live)
            });
            let first = live.next()??;
            live.all(|other| other == Some(first)).then_some(first)
        })
    }

    /// Where a copy of the program may lie.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    /// A copy of the program, as an upgrade brings one.
    pub(crate) fn copy_of_the_program(&self) -> PathBuf {
        let copy = self.place.path().join("tollgate-next");
        std::fs::copy(tollgate().get_program(), &copy).expect("a copy");
        copy
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.mesh.end();
    }
}

impl Fleet {
    /// The end of each node's log, beside the reason of the failure.
    fn show_logs(&self) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        for node in nodes.iter() {
            let log = node.log();
            let told =
                |line: &&str| !line.contains("\"INFO\"") && !line.contains("\"target\":\"openraft");
            let lines: Vec<_> = log.lines().rev().filter(told).take(LOG_LINES_SHOWN).collect();
            for line in lines.into_iter().rev() {
                let _shown = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    format_args!("{}: {line}\n", node.name),
                );
            }
        }
    }
}

/// What a command said, on both of its outputs.
pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A command on a data directory, told a token by the environment.
pub(super) fn with_token(mut command: Command, token: &str) -> Command {
    command.env("TOLLGATE_JOIN_TOKEN", token);
    command
}

const LOG_LINES_SHOWN: usize = 8;
