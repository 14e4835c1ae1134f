//! A network in memory that delays, loses, doubles, reorders and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::NodeName;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::check::Check;
use super::mutant::Mutant;
use super::trace::Trace;
use crate::transport::{BoxFuture, Message, Service as _, Transport};
use crate::types::Metrics;
use crate::{Handle, Peer, TransportError};

/// What all nodes share. Messages are on their way on their own: a caller that gave up takes
/// nothing back.
pub(crate) struct Net {
    wires: Mutex<Wires>,
    pub(crate) check: Check,
    pub(crate) trace: Trace,
    mutant: Option<Mutant>,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Of a hundred messages, how many are lost, and how many arrive twice.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// The longest that most messages take, in milliseconds; some take ten times as long.
    pub(crate) delay: u64,
}

struct Wires {
    nodes: BTreeMap<u64, Station>,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(u64, u64)>,
    weather: Weather,
    chance: Chance,
    /// Messages on their way: each has an end, since it waits for one delay and one answer.
    underway: JoinSet<()>,
}

/// One life of a node, as the others reach it.
#[derive(Clone)]
pub(crate) struct Station {
    pub(crate) id: u64,
    /// Which of the node's lives it is.
    pub(crate) number: u64,
    pub(crate) handle: Handle,
    pub(crate) life: CancellationToken,
    pub(crate) metrics: watch::Receiver<Metrics>,
}

impl Weather {
    pub(crate) const FAIR: Self = Self { lost: 0, doubled: 0, delay: 2 };
}

impl Net {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Arc<Self> {
        let wires = Wires {
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: Weather::FAIR,
            chance: Chance::new(seed, "net"),
            underway: JoinSet::new(),
        };
        let (check, trace) = (Check::default(), Trace::new());
        Arc::new(Self { wires: Mutex::new(wires), check, trace, mutant })
    }

    /// The way out of one life of a node.
    pub(crate) fn wire(self: &Arc<Self>, from: u64, life: CancellationToken) -> Arc<dyn Transport> {
        Arc::new(Wire { net: Arc::downgrade(self), from, life })
    }

    pub(crate) fn attach(&self, station: Station) {
        self.wires.lock().nodes.insert(station.id, station);
    }

    /// Who can be reached now.
    pub(crate) fn stations(&self) -> Vec<Station> {
        let wires = self.wires.lock();
        wires.nodes.values().filter(|it| !it.life.is_cancelled()).cloned().collect()
    }

    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.wires.lock().cut.insert((from, to));
    }

    pub(crate) fn mend(&self) {
        self.wires.lock().cut.clear();
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.wires.lock().weather = weather;
    }

    /// Looks at every node.
    pub(crate) fn observe(&self) {
        self.stations().iter().for_each(|station| self.check.observe(station));
    }

    fn station(&self, id: u64) -> Option<Station> {
        let wires = self.wires.lock();
        wires.nodes.get(&id).filter(|it| !it.life.is_cancelled()).cloned()
    }

    fn fate(&self, from: u64, to: u64) -> Option<Duration> {
        self.wires.lock().fate(from, to)
    }

    fn bend(&self, message: Message) -> Message {
        let Some(mutant) = self.mutant else { return message };
        let chance = self.wires.lock().chance.next();
        mutant.bend(message, chance)
    }

    /// Puts a message on its way, and sometimes a second copy of it.
    fn send(
        self: &Arc<Self>,
        way: (u64, u64),
        message: &Message,
        tell: oneshot::Sender<Result<Message, TransportError>>,
    ) {
        let wires = &mut *self.wires.lock();
        while wires.underway.try_join_next().is_some() {}
        let doubled = wires.weather.doubled;
        if wires.chance.percent(doubled)
            && let Some(delay) = wires.fate(way.0, way.1)
        {
            let net = Arc::clone(self);
            let message = message.clone();
            wires.underway.spawn(async move { drop(net.carry(way, message, delay).await) });
        }
        let mut tell = Some(tell);
        if let Some(answer) = self.mutant.and_then(|it| it.answer(message))
            && let Some(tell) = tell.take()
        {
            drop(tell.send(Ok(answer)));
        }
        let Some(delay) = wires.fate(way.0, way.1) else { return };
        let (net, message) = (Arc::clone(self), message.clone());
        wires.underway.spawn(async move {
            if let Some(answer) = net.carry(way, message, delay).await
                && let Some(tell) = tell
            {
                // Whoever gave up in the meantime needs no answer.
                drop(tell.send(answer));
            }
        });
    }

    /// Brings a message, and its answer back; `None` when either is lost.
    async fn carry(
        self: &Arc<Self>,
        (from, to): (u64, u64),
        message: Message,
        delay: Duration,
    ) -> Option<Result<Message, TransportError>> {
        tokio::time::sleep(delay).await;
        let Some(station) = self.station(to) else {
            let why = "it is down".to_owned();
            return Some(Err(TransportError::Unreachable { peer: to, why }));
        };
        let kind = message.kind;
        self.trace.tell(&format!("{from}→{to} {kind:?} {:x}", digest(&message)));
        let name = NodeName::new(&format!("node-{from}"));
        let message = self.bend(message);
        let answer = tokio::select! {
            biased;
            () = station.life.cancelled() => return None,
            answer = station.handle.answer(&name, message) => answer,
        };
        self.check.observe(&station);
        let delay = self.fate(to, from)?;
        tokio::time::sleep(delay).await;
        let refused = |it: crate::Refused| TransportError::Refused { peer: to, why: it.why };
        Some(answer.map_err(refused))
    }
}

impl Wires {
    /// What happens to a message: how long it takes, or `None` when it is lost.
    fn fate(&mut self, from: u64, to: u64) -> Option<Duration> {
        let Weather { lost, delay, .. } = self.weather;
        let is_lost = self.chance.percent(lost) || self.cut.contains(&(from, to));
        let longest = if self.chance.percent(8) { delay * 10 } else { delay };
        let delay = Duration::from_millis(self.chance.below(longest + 1));
        (!is_lost).then_some(delay)
    }
}

fn digest(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.body.hash(&mut hasher);
    hasher.finish()
}

struct Wire {
    net: Weak<Net>,
    from: u64,
    life: CancellationToken,
}

impl Transport for Wire {
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Message,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Message, TransportError>> {
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            if let Some(net) = self.net.upgrade()
                && !self.life.is_cancelled()
            {
                net.send((self.from, peer.id), &message, tell);
            }
            let answered = async {
                match told.await {
                    Ok(answer) => answer,
                    // Whatever was lost is missed by nobody before the deadline.
                    Err(_) => std::future::pending().await,
                }
            };
            let late = TransportError::Late { peer: peer.id, after: deadline };
            tokio::time::timeout(deadline, answered).await.unwrap_or(Err(late))
        })
    }
}
