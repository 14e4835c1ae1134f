//! One simulated cluster from its founding to its end: what befalls it, and whether it heals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::chance::Chance;
use super::check::text;
use super::client::{Client, Fate, Record, created_in, put};
use super::mutant::Mutant;
use super::net::{Net, Station, Weather};
use super::node::{Node, peer};
use super::runtime::Running;
use super::{disk, faults};
use crate::Role;

/// What came of a simulation.
#[derive(Debug)]
pub(crate) struct Run {
    /// Of everything that happened.
    pub(crate) digest: u64,
    /// The first thing that did not hold.
    pub(crate) broken: Option<String>,
    /// The last things that happened.
    pub(crate) tail: String,
}

pub(super) struct World {
    seed: u64,
    pub(super) net: Arc<Net>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) chance: Chance,
    /// Changes of the members that are on their way; their number is bounded by the faults.
    pub(super) orders: JoinSet<()>,
    clients: JoinSet<()>,
    record: Arc<Mutex<Record>>,
    mutant: Option<Mutant>,
    root: TempDir,
}

/// Lets the world of a seed unfold, with a fault put into it or without.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>) -> Run {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let running = Running::start(seed);
    let run = runtime.block_on(async {
        let mut world = World::new(seed, mutant);
        let net = Arc::clone(&world.net);
        let broken = match tokio::time::timeout(RUN_MAX, Box::pin(world.unfold())).await {
            Ok(unfolded) => unfolded.err(),
            Err(_) => Some("it does not come to an end".to_owned()),
        };
        Run { digest: net.trace.digest(), broken, tail: net.trace.tail() }
    });
    drop(runtime);
    drop(running);
    disk::unmount_all();
    run
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        Self {
            seed,
            net: Net::new(seed, mutant),
            nodes: BTreeMap::new(),
            chance: Chance::new(seed, "world"),
            orders: JoinSet::new(),
            clients: JoinSet::new(),
            record: Arc::default(),
            mutant,
            root: tempfile::tempdir().unwrap(),
        }
    }

    async fn unfold(&mut self) -> Result<(), String> {
        self.found().await?;
        self.let_clients_in();
        for _ in 0..FAULTS {
            let pause = self.chance.millis(20..700);
            tokio::time::sleep(pause).await;
            self.look()?;
            faults::befall(self).await;
        }
        self.heal().await?;
        if self.chance.percent(30) {
            self.lose_power().await?;
        }
        self.judge().await
    }

    /// Three voters.
    async fn found(&mut self) -> Result<(), String> {
        for id in 1..=3 {
            self.start(id).await;
            if id > 1 {
                let leader = self.leader().await?;
                leader.handle.admit_peer(peer(id)).await.map_err(|it| it.to_string())?;
            }
        }
        let leader = self.leader().await?;
        let voters = leader.handle.set_voters([1, 2, 3].into()).await;
        voters.map_err(|it| it.to_string())
    }

    fn let_clients_in(&mut self) {
        for number in 0..CLIENTS {
            let name = format!("c{number}");
            let client = Client {
                chance: Chance::new(self.seed, &name),
                name,
                net: Arc::clone(&self.net),
                record: Arc::clone(&self.record),
                known: BTreeMap::new(),
            };
            self.clients.spawn(client.work(DEEDS));
        }
    }

    /// Starts a node that is down, or new.
    pub(super) async fn start(&mut self, id: u64) {
        let seed = self.seed;
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(seed, id));
        node.bury();
        if let Some(mutant) = self.mutant {
            mutant.age(&mut node.platter.lock());
        }
        node.platter.lock().lies = self.mutant == Some(Mutant::SyncLies);
        self.net.trace.tell(&format!("start {id}"));
        if let Err(cause) = node.start(self.root.path(), &self.net).await {
            self.net.check.fail(|| format!("node {id} does not start: {cause:?}"));
        }
    }

    /// Looks at every node, and at what was found wrong so far.
    pub(super) fn look(&self) -> Result<(), String> {
        self.net.observe();
        self.net.check.broken().map_or(Ok(()), Err)
    }

    /// Who leads, once somebody does.
    async fn leader(&self) -> Result<Station, String> {
        for _ in 0..HEAL_LOOKS {
            let stations = self.net.stations();
            if let Some(leader) = stations.into_iter().find(leads) {
                return Ok(leader);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("nobody comes to lead".to_owned())
    }

    /// No more faults: within a bound everything works again.
    async fn heal(&mut self) -> Result<(), String> {
        self.net.trace.tell("heal");
        self.net.mend();
        self.net.turn(Weather::FAIR);
        for node in self.nodes.values_mut() {
            let mut platter = node.platter.lock();
            (platter.slow, platter.doom) = (1, None);
        }
        self.start_the_dead().await;
        while self.clients.join_next().await.is_some() {}
        while self.orders.join_next().await.is_some() {}
        self.look()?;
        self.admit_the_last().await?;
        self.agree().await?;
        for station in self.net.stations() {
            let write = station.handle.propose(put("healed", &format!("by {}", station.id)));
            write.await.map_err(|it| format!("node {} takes no change: {it}", station.id))?;
        }
        self.agree().await
    }

    /// Every node crashes at the same moment, and comes back.
    async fn lose_power(&mut self) -> Result<(), String> {
        self.net.trace.tell("power off");
        for node in self.nodes.values_mut() {
            node.crash();
        }
        self.start_the_dead().await;
        self.agree().await
    }

    async fn start_the_dead(&mut self) {
        let dead: Vec<u64> =
            self.nodes.iter().filter(|(_, node)| !node.lives()).map(|(id, _)| *id).collect();
        for id in dead {
            self.start(id).await;
        }
    }

    /// A node whose joining was lost joins again.
    async fn admit_the_last(&self) -> Result<(), String> {
        let Some(last) = self.nodes.keys().copied().find(|id| *id > 3) else { return Ok(()) };
        for _ in 0..HEAL_LOOKS {
            let leader = self.leader().await?;
            if leader.handle.admit_peer(peer(last)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("node {last} is not admitted"))
    }

    /// Waits until one node leads, and all hold the same and judge by it.
    async fn agree(&self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..HEAL_LOOKS {
            self.look()?;
            match agreement(&self.net.stations()) {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("it does not heal: {last}"))
    }

    /// What clients were told, beside what there is in the end.
    async fn judge(&self) -> Result<(), String> {
        self.look()?;
        let station = self.leader().await?;
        let state = station.handle.read().await.map_err(|it| it.to_string())?;
        let record = self.record.lock();
        record.history.check().map_err(|violation| format!("{violation:#?}"))?;
        compare("upstream", &record.created, &created_in(&state))?;
        let facts = station.handle.facts();
        let found = facts.iter().map(|(key, _)| (key.id.clone(), 1)).collect();
        compare("fact", &record.facts, &found)
    }
}

/// Whether one node leads, and all hold the same and judge by it.
fn agreement(stations: &[Station]) -> Result<(), String> {
    let leaders: Vec<u64> = stations.iter().filter(|it| leads(it)).map(|it| it.id).collect();
    if leaders.len() != 1 {
        return Err(format!("{leaders:?} lead"));
    }
    let mut texts = BTreeSet::new();
    for station in stations {
        let status = station.handle.status();
        if status.live != status.revision {
            return Err(format!("node {} judges by {}", station.id, status.live));
        }
        if let Some(why) = status.why_not_writable {
            return Err(format!("node {}: {why}", station.id));
        }
        texts.insert(text(&station.handle.0.board.view()));
    }
    if texts.len() > 1 {
        return Err(format!("the nodes differ: {texts:#?}"));
    }
    Ok(())
}

fn leads(station: &Station) -> bool {
    station.handle.status().role == Role::Leader
}

/// What is said to be made is there once, what is not is not, and nothing is there twice.
fn compare(
    what: &str,
    told: &BTreeMap<String, Fate>,
    found: &BTreeMap<String, usize>,
) -> Result<(), String> {
    for (name, fate) in told {
        let count = found.get(name).copied().unwrap_or_default();
        let fits = match fate {
            Fate::Made => count == 1,
            Fate::NotMade => count == 0,
            Fate::Unknown => count <= 1,
        };
        if !fits {
            return Err(format!("{what} {name} is {fate:?}, and there {count} times"));
        }
    }
    Ok(())
}

/// What befalls a cluster before it may heal.
const FAULTS: u64 = 14;

/// Clients, and what each does.
const CLIENTS: u64 = 4;
const DEEDS: u64 = 14;

/// How often it is looked whether the cluster has healed, and how often in all: 30 s.
const LOOK: Duration = Duration::from_millis(50);
const HEAL_LOOKS: u64 = 600;

/// The longest that a whole simulation may take by its own clock.
const RUN_MAX: Duration = Duration::from_secs(600);
