//! A network in memory that delays, loses and cuts, by a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster::{BoxFuture, Handle, Message, MessageKind, Peer, Service, Transport, TransportError};
use model::NodeName;

/// What all nodes share.
#[derive(Default)]
pub(crate) struct Net(Mutex<Wires>);

#[derive(Default)]
struct Wires {
    /// Each with the number of its life: the dead do not answer.
    nodes: BTreeMap<u64, (u64, Handle)>,
    lives: u64,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(u64, u64)>,
    /// Of a hundred answers to proposals, how many are lost.
    lost_answers: u64,
    /// Of a hundred messages, how many are lost.
    lost: u64,
    /// The longest delay of a message, each way.
    delay: Duration,
    chance: u64,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let net = Self::default();
        net.0.lock().unwrap().chance = seed | 1;
        Arc::new(net)
    }

    /// The way out of one node.
    pub(crate) fn wire(self: &Arc<Self>, from: u64) -> Arc<dyn Transport> {
        Arc::new(Wire { net: Arc::clone(self), from })
    }

    pub(crate) fn attach(&self, id: u64, handle: Handle) {
        let mut wires = self.0.lock().unwrap();
        wires.lives += 1;
        let life = wires.lives;
        wires.nodes.insert(id, (life, handle));
    }

    pub(crate) fn detach(&self, id: u64) {
        self.0.lock().unwrap().nodes.remove(&id);
    }

    /// Cuts both ways between two groups.
    pub(crate) fn part(&self, one: &[u64], other: &[u64]) {
        let mut wires = self.0.lock().unwrap();
        for (a, b) in one.iter().flat_map(|a| other.iter().map(|b| (*a, *b))) {
            wires.cut.extend([(a, b), (b, a)]);
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    pub(crate) fn lose_answers(&self, percent: u64) {
        self.0.lock().unwrap().lost_answers = percent;
    }

    pub(crate) fn trouble(&self, lost_percent: u64, delay: Duration) {
        let mut wires = self.0.lock().unwrap();
        (wires.lost, wires.delay) = (lost_percent, delay);
    }
}

impl Wires {
    /// A number below a bound (xorshift).
    fn draw(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below.max(1)
    }

    /// What happens to a message: how long it takes, or `None` when it is lost.
    fn fate(&mut self, from: u64, to: u64) -> Option<Duration> {
        let lost = self.draw(100) < self.lost || self.cut.contains(&(from, to));
        let micros = u64::try_from(self.delay.as_micros()).unwrap();
        let delay = Duration::from_micros(self.draw(micros + 1));
        (!lost).then_some(delay)
    }
}

struct Wire {
    net: Arc<Net>,
    from: u64,
}

impl Wire {
    async fn carry(&self, to: u64, message: Message) -> Option<Result<Message, TransportError>> {
        let kind = message.kind;
        let (handle, delay) = {
            let mut wires = self.net.0.lock().unwrap();
            let delay = wires.fate(self.from, to)?;
            (wires.nodes.get(&to).cloned(), delay)
        };
        let Some((life, handle)) = handle else {
            let why = "it is down".to_owned();
            return Some(Err(TransportError::Unreachable { peer: to, why }));
        };
        tokio::time::sleep(delay).await;
        let from = NodeName::new(&format!("node-{}", self.from));
        let answer = handle.answer(&from, message).await;
        let delay = {
            let mut wires = self.net.0.lock().unwrap();
            if wires.nodes.get(&to).is_none_or(|(now, _)| *now != life) {
                return None;
            }
            let is_lost = kind == MessageKind::Propose && wires.draw(100) < wires.lost_answers;
            wires.fate(to, self.from).filter(|_| !is_lost)?
        };
        tokio::time::sleep(delay).await;
        let refused =
            |refused: cluster::Refused| TransportError::Refused { peer: to, why: refused.why };
        Some(answer.map_err(refused))
    }
}

impl Transport for Wire {
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Message,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Message, TransportError>> {
        Box::pin(async move {
            let late = TransportError::Late { peer: peer.id, after: deadline };
            let carried = async {
                match self.carry(peer.id, message).await {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            };
            tokio::time::timeout(deadline, carried).await.unwrap_or(Err(late))
        })
    }
}
