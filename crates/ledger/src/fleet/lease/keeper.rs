//! The task that keeps a node's leases: looks at them when they are due, and speaks with the
//! store about many at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::desk::Due;
use super::holding::Step;
use super::table::{Entry, Table};
use super::wire::{Arguments, RENEWALS_MAX, Renewal, Reply, unpack};
use crate::fleet::batch::{self, Found};
use crate::fleet::coarse::Coarse;
use crate::fleet::key::Organisation;
use crate::fleet::outage::Outage;
use crate::fleet::road::{Road, Roads};
use crate::fleet::script::Script;
use crate::metrics::{LeaseTokens, Metrics, TokensFate};

/// Keeps the leases of a node until nobody can draw on them any more; then gives them back.
pub(crate) struct Keeper {
    pub(crate) due: mpsc::Receiver<Due>,
    pub(crate) table: Arc<Table>,
    pub(crate) roads: Roads,
    /// To the exact side: a call there finds out that the epoch is lost. As long as it is held, the
    /// connection is.
    pub(crate) asks: mpsc::Sender<batch::Ask>,
    pub(crate) organisation: Organisation,
    /// The node's name at the store: of this process alone.
    pub(crate) node: [u8; 8],
    pub(crate) call_max: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) outage: Arc<Outage>,
}

/// What the keeper knows beside its entries.
#[derive(Default)]
struct State {
    wakes: BinaryHeap<Reverse<Wake>>,
    outbox: VecDeque<(Arc<Entry>, Renewal)>,
    calls: JoinSet<Call>,
    seq: u64,
    /// Microseconds of a round trip.
    trip: u64,
    epoch: u64,
    probe: Option<oneshot::Receiver<Found>>,
}

/// A look that is planned. Ordered by its time.
struct Wake(u64, Arc<Entry>);

impl PartialEq for Wake {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Wake {}

impl PartialOrd for Wake {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wake {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// A call that ended.
struct Call {
    asked: Vec<(Arc<Entry>, Renewal)>,
    took: Duration,
    answer: Result<Vec<Reply>, Failure>,
}

enum Failure {
    /// It was not answered, or with nonsense: the asks are sent again when it is time.
    Lost,
    Epoch,
}

impl Keeper {
    pub(crate) async fn run(mut self) {
        let mut state = State { trip: TRIP_FIRST, ..State::default() };
        let mut arrived = Vec::new();
        loop {
            let wait = state.wakes.peek().map_or(IDLE_MAX, |Reverse(wake)| {
                Duration::from_micros(wake.0.saturating_sub(self.now())).min(IDLE_MAX)
            });
            tokio::select! {
                count = self.due.recv_many(&mut arrived, RENEWALS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    arrived.drain(..).for_each(|due| self.is_due(&mut state, due));
                }
                Some(Ok(call)) = state.calls.join_next() => self.ended(&mut state, call),
                changed = self.roads.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.reached(&mut state);
                }
                () = sleep(wait) => {}
            }
            self.wake(&mut state);
            self.send(&mut state);
        }
        self.surrender(state).await;
    }

    fn now(&self) -> u64 {
        self.clock.uptime().as_micros()
    }

    fn is_due(&self, state: &mut State, due: Due) {
        match due {
            Due::Look(entries) => {
                let mut joined = false;
                for entry in entries {
                    joined |= self.look(state, &entry, joined);
                }
            }
            Due::Retire(entry) => {
                if let Some(ask) = entry.holding.surrender(&mut state.seq) {
                    let renewal = self.renewal(&entry, ask, false);
                    self.note(TokensFate::returned, ask.back);
                    state.outbox.push_back((entry, renewal));
                }
            }
        }
    }

    /// Looks at a lease: whether there was something to ask.
    fn look(&self, state: &mut State, entry: &Arc<Entry>, joined: bool) -> bool {
        let Step { ask, again, is_over, spent, lapsed } =
            entry.holding.check(self.now(), state.trip, &mut state.seq);
        self.note(TokensFate::spent, spent);
        self.note(TokensFate::lapsed, lapsed);
        if is_over {
            self.table.remove(entry);
            return false;
        }
        self.plan(state, entry, again);
        let Some(ask) = ask else { return false };
        self.note(TokensFate::returned, ask.back);
        let renewal = self.renewal(entry, ask, joined);
        state.outbox.push_back((Arc::clone(entry), renewal));
        true
    }

    fn plan(&self, state: &mut State, entry: &Arc<Entry>, again: u64) {
        entry.wake.store(again, Ordering::Relaxed);
        state.wakes.push(Reverse(Wake(again, Arc::clone(entry))));
        let held = i64::try_from(self.table.len()).unwrap_or(i64::MAX);
        self.metrics.leases.set(held);
    }

    fn renewal(&self, entry: &Entry, ask: super::wire::Ask, joined: bool) -> Renewal {
        let name = self.organisation.bucket(&entry.key);
        Renewal { name, coarse: Coarse::new(entry.bucket), ask, joined }
    }

    fn wake(&self, state: &mut State) {
        let now = self.now();
        while let Some(Reverse(wake)) = state.wakes.peek()
            && wake.0 <= now
        {
            let Some(Reverse(Wake(at, entry))) = state.wakes.pop() else { break };
            // One that was planned anew since is looked at then.
            if entry.wake.load(Ordering::Relaxed) == at {
                self.look(state, &entry, false);
            }
        }
    }

    /// Sends what is to be sent, as much as there is whenever a call ends.
    fn send(&self, state: &mut State) {
        while state.calls.len() < CALLS_MAX && !state.outbox.is_empty() {
            let count = state.outbox.len().min(RENEWALS_MAX);
            let asked: Vec<_> = state.outbox.drain(..count).collect();
            let way = self.roads.borrow().clone();
            // Without a way they are lost, as if the network had lost them.
            let Some(way) = way else { continue };
            state.calls.spawn(self.call(way, asked));
        }
    }

    fn call(
        &self,
        mut way: Road,
        asked: Vec<(Arc<Entry>, Renewal)>,
    ) -> impl Future<Output = Call> + Send + use<> {
        let (node, call_max) = (self.node, self.call_max);
        let (clock, epoch_key) = (Arc::clone(&self.clock), self.organisation.epoch());
        async move {
            let renewals: Vec<Renewal> = asked.iter().map(|(_, renewal)| renewal.clone()).collect();
            let Arguments { mut keys, rules, renewals } = Arguments::pack(&renewals);
            keys.insert(0, epoch_key);
            let epoch = way.epoch.to_string();
            let arguments: [&[u8]; 4] = [epoch.as_bytes(), &rules, &node, &renewals];
            let began = clock.uptime();
            let called = LEASE.call(&mut way.connection, &keys, &arguments);
            let answered = timeout(call_max, called).await;
            let answer = match answered {
                Ok(Ok(answer)) if answer.is_empty() => Err(Failure::Epoch),
                Ok(Ok(answer)) => unpack(&answer, asked.len()).ok_or(Failure::Lost),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "leases are not renewed");
                    Err(Failure::Lost)
                }
                Err(_) => Err(Failure::Lost),
            };
            let took = clock.uptime().since(began);
            Call { asked, took, answer: answer.map(|(_, replies)| replies) }
        }
    }

    fn ended(&self, state: &mut State, call: Call) {
        let Call { asked, took, answer } = call;
        match answer {
            Err(Failure::Lost) => {}
            Err(Failure::Epoch) => self.lose(state),
            Ok(replies) => {
                let took = u64::try_from(took.as_micros()).unwrap_or(TRIP_MAX).min(TRIP_MAX);
                state.trip = (state.trip * 7 + took) / 8;
                for ((entry, renewal), reply) in asked.iter().zip(&replies) {
                    self.answered(state, entry, renewal, reply);
                }
            }
        }
    }

    fn answered(&self, state: &mut State, entry: &Arc<Entry>, renewal: &Renewal, reply: &Reply) {
        if entry.terms.shares && !self.outage.is_sure() {
            // As if it had been lost: nodes may have shares of it by now.
            return;
        }
        let [_, unit, capacity, _] = renewal.coarse.parts();
        let left = capacity.saturating_sub(reply.used) / unit.max(1);
        let now = self.now();
        let looked = entry.holding.answered((now, state.trip), renewal.ask.seq, reply, left);
        if let Some(again) = looked {
            entry.left.store(left, Ordering::Relaxed);
            self.note(TokensFate::granted, reply.granted);
            self.plan(state, entry, again);
        }
    }

    /// There is a way to the store, or none any more.
    fn reached(&self, state: &mut State) {
        let epoch = self.roads.borrow().as_ref().map(|way| way.epoch);
        if let Some(epoch) = epoch
            && epoch != state.epoch
        {
            if state.epoch != 0 {
                self.forget(state);
            }
            state.epoch = epoch;
        }
    }

    /// The store does not know the epoch: neither what was leased. The exact side finds it out by
    /// a call, and joins the next one.
    fn lose(&self, state: &mut State) {
        self.forget(state);
        let (answer, found) = oneshot::channel();
        drop(self.asks.try_send(batch::Ask { wants: Arc::new([]), money: None, answer }));
        state.probe = Some(found);
    }

    fn forget(&self, state: &mut State) {
        state.outbox.clear();
        self.table.all().iter().for_each(|entry| entry.holding.forget());
    }

    /// Gives everything back, as far as there is a way.
    async fn surrender(self, mut state: State) {
        state.calls.shutdown().await;
        let way = self.roads.borrow().clone();
        let mut asked = Vec::new();
        for entry in self.table.all() {
            if let Some(ask) = entry.holding.surrender(&mut state.seq) {
                self.note(TokensFate::returned, ask.back);
                let renewal = self.renewal(&entry, ask, false);
                asked.push((entry, renewal));
            }
        }
        let Some(way) = way else { return };
        for asked in asked.chunks(RENEWALS_MAX) {
            drop(self.call(way.clone(), asked.to_vec()).await);
        }
    }

    fn note(&self, fate: TokensFate, tokens: u32) {
        if tokens > 0 {
            self.metrics.lease_tokens.get_or_create(&LeaseTokens { fate }).inc_by(tokens.into());
        }
    }
}

static LEASE: Script = Script::new(concat!(
    include_str!("../epoch.lua"),
    include_str!("../bucket.lua"),
    include_str!("../lease.lua")
));

/// Calls under way at once.
const CALLS_MAX: usize = 2;

/// Microseconds of a round trip, before one was measured, and at most.
const TRIP_FIRST: u64 = 2_000;
const TRIP_MAX: u64 = 200_000;

/// Longest rest.
const IDLE_MAX: Duration = Duration::from_secs(1);
