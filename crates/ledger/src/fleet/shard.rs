//! The node's one way to its store: many requests in a call, few calls at once, and no request
//! that waits for a connection.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};
use rules::outage::Reach;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::batch::{Arguments, Ask, DRAWS_MAX, Found, unpack};
use super::breaker::Breaker;
use super::key::Organisation;
use super::link::{self, Dialer, Joined, Link};
use super::money::{Caller, HOLD, Purse, Seen};
use super::outage::Outage;
use super::road::Road;
use super::script::Script;
use super::teller::{Done, Order, Teller};
use crate::metrics::{Call, CallResult, Epoch, EpochFound, Metrics};

/// Where all takes of an organisation go: its keys are in one slot of one server.
pub(crate) struct Shard {
    pub(crate) asks: Receiver<Ask>,
    pub(crate) dialer: Dialer,
    pub(crate) breaker: Breaker,
    /// Where others find the link in use.
    pub(crate) roads: watch::Sender<Option<Road>>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    /// For each call.
    pub(crate) call_max: Duration,
    /// What the store calls this node.
    pub(crate) node: Arc<str>,
    pub(crate) purse: Arc<Purse>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) outage: Arc<Outage>,
}

/// Why a link is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("a call was not answered in time")]
    Late,
    #[error("a call failed")]
    Failed(#[source] RedisError),
    #[error("it no longer holds the epoch")]
    Epoch,
    #[error("it has lost what it had answered")]
    Rolled,
    #[error("it answered nonsense")]
    Nonsense,
    #[error("somebody else could not use it")]
    Doubted,
    #[error("the cluster does not count there any more")]
    Left,
    #[error("a call's task ended early")]
    Task(#[source] tokio::task::JoinError),
}

/// Why the shard ends: nobody can ask any more.
pub(crate) struct Unasked;

impl Shard {
    /// Carries takes until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        while let Ok(link) = self.connect().await {
            match self.is_agreed_on(&link).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(Unasked) => return,
            }
            self.tell_joined(&link);
            self.breaker.close();
            let road = Road::over(&link, &self.dialer.organisation);
            self.roads.send_replace(Some(road.clone()));
            let served = self.serve(&link, &road).await;
            self.roads.send_replace(None);
            match served {
                Err(lost) => {
                    let is_left = matches!(lost, Lost::Left);
                    self.outage.reaches(if is_left { Reach::Waits } else { Reach::Away });
                    self.purse.close();
                    if matches!(lost, Lost::Rolled) {
                        self.dialer.forgotten = link.epoch;
                    }
                    tracing::warn!(host = %link.host, error = chain(&lost), "Redis is given up");
                    let pause = self.breaker.open(self.clock.uptime().as_micros());
                    if self.leave_alone(pause).await.is_err() {
                        return;
                    }
                }
                Ok(Unasked) => return,
            }
        }
    }

    /// Tries until there is a link. Whoever asks meanwhile learns at once that there is none.
    async fn connect(&mut self) -> Result<Link, Unasked> {
        loop {
            self.dialer.agreed = self.may_call().await?;
            self.breaker.half_open();
            let error = {
                let Self { asks, dialer, .. } = self;
                let mut probing = pin!(probe(dialer, self.call_max));
                loop {
                    tokio::select! {
                        probed = &mut probing => match probed {
                            Ok(link) => {
                                self.outage.reaches(Reach::At { life: link.epoch });
                                return Ok(link);
                            }
                            Err(error) => break error,
                        },
                        ask = asks.recv() => drop(ask.ok_or(Unasked)?),
                    }
                }
            };
            self.outage.reaches(match &error {
                Unfit::Link(link::Error::Ahead { number, .. }) => Reach::Ahead { number: *number },
                Unfit::Link(_) | Unfit::Lost(_) => Reach::Away,
            });
            let pause = self.breaker.open(self.clock.uptime().as_micros());
            let (failures, error) = (self.breaker.failures(), chain(&error));
            // At once, and then less and less often.
            if failures.is_power_of_two() {
                tracing::warn!(failures, error, "Redis cannot be reached");
            }
            self.leave_alone(pause).await?;
        }
    }

    async fn leave_alone(&mut self, pause: Duration) -> Result<(), Unasked> {
        let mut pause = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut pause => return Ok(()),
                ask = self.asks.recv() => drop(ask.ok_or(Unasked)?),
            }
        }
    }

    /// Sends what is asked, as much as there is whenever a call ends: under load calls grow by
    /// themselves, and nobody waits for a timer.
    async fn serve(&mut self, link: &Link, road: &Road) -> Result<Unasked, Lost> {
        let (mut calls, mut waiting, mut arrived) = (JoinSet::new(), VecDeque::new(), Vec::new());
        let mut beat = Instant::now() + HEARTBEAT;
        let (mut teller, mut errands) = (Teller::default(), JoinSet::<Result<Done, Lost>>::new());
        self.purse.strayed();
        let outage = Arc::clone(&self.outage);
        let mut leaves = pin!(outage.leaves(link.epoch));
        loop {
            let has_room = calls.len() < CALLS_MAX;
            tokio::select! {
                Some(ended) = calls.join_next() => {
                    ended.map_err(Lost::Task)??;
                    self.breaker.answered();
                    beat = Instant::now() + HEARTBEAT;
                }
                count = self.asks.recv_many(&mut arrived, DRAWS_MAX), if has_room && waiting.is_empty() => {
                    if count == 0 {
                        return Ok(Unasked);
                    }
                    waiting.extend(arrived.drain(..));
                }
                () = road.is_doubted() => return Err(Lost::Doubted),
                () = &mut leaves => return Err(Lost::Left),
                () = sleep_until(beat), if calls.is_empty() => {
                    beat = Instant::now() + HEARTBEAT;
                    calls.spawn(ping(link.connection.clone(), self.call_max));
                }
                Some(ended) = errands.join_next() => {
                    self.hear(link.epoch, &mut teller, ended.map_err(Lost::Task)??).await?;
                }
                Some(order) = self.orders.recv(), if errands.is_empty() => teller.order(order),
                () = self.purse.work.notified(), if errands.is_empty() => {}
                () = sleep_until(teller.due()), if errands.is_empty() && self.purse.is_used() => {}
            }
            if errands.is_empty()
                && let Some(errand) = self.errand(link, &mut teller)
            {
                errands.spawn(errand.run());
            }
            while calls.len() < CALLS_MAX {
                let asks = batch(&mut waiting);
                if asks.is_empty() {
                    break;
                }
                calls.spawn(self.outing(link).take(asks));
            }
        }
    }

    fn outing(&self, link: &Link) -> Outing {
        Outing {
            connection: link.connection.clone(),
            epoch: link.epoch,
            organisation: self.dialer.organisation.clone(),
            node: Arc::clone(&self.node),
            seen: Arc::clone(&self.seen),
            call_max: self.call_max,
            metrics: self.metrics.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    fn tell_joined(&self, link: &Link) {
        let (host, epoch) = (&link.host, link.epoch);
        let found = match link.joined {
            Joined::Old => {
                tracing::info!(%host, epoch, "limits are counted in Redis");
                EpochFound::joined
            }
            Joined::First => {
                tracing::info!(%host, epoch, "limits are counted in Redis from now on");
                EpochFound::first
            }
            Joined::Lost => {
                tracing::warn!(
                    %host,
                    epoch,
                    "Redis started again, was replaced or lost its keys, so the counts of the \
                     limits are lost: every bucket begins empty"
                );
                EpochFound::lost
            }
        };
        self.metrics.epochs.get_or_create(&Epoch { found }).inc();
    }
}

/// A link that has answered a call in time. Otherwise requests would find out that it does not.
async fn probe(dialer: &mut Dialer, call_max: Duration) -> Result<Link, Unfit> {
    let link = dialer.connect().await?;
    ping(link.connection.clone(), call_max).await?;
    Ok(link)
}

#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("there is no connection")]
    Link(#[from] link::Error),
    #[error("the connection is of no use")]
    Lost(#[from] Lost),
}

async fn ping(mut connection: MultiplexedConnection, call_max: Duration) -> Result<(), Lost> {
    let mut command = Cmd::new();
    command.arg("PING");
    let asked = command.query_async::<redis::Value>(&mut connection);
    timeout(call_max, asked).await.map_err(|_| Lost::Late)?.map(drop).map_err(Lost::Failed)
}

/// As many as one call takes, in the order they came. Whose client waits no longer is left out:
/// it is not charged.
fn batch(waiting: &mut VecDeque<Ask>) -> Vec<Ask> {
    let (mut asks, mut draws) = (Vec::new(), 0);
    while let Some(next) = waiting.front() {
        draws += next.weight();
        if draws > DRAWS_MAX && !asks.is_empty() {
            break;
        }
        asks.extend(waiting.pop_front().filter(|ask| !ask.answer.is_closed()));
    }
    asks
}

/// One call and what it needs.
struct Outing {
    connection: MultiplexedConnection,
    epoch: u64,
    organisation: Organisation,
    node: Arc<str>,
    seen: Arc<Seen>,
    call_max: Duration,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

impl Outing {
    async fn call(&mut self, asks: &[Ask]) -> Result<Vec<u8>, RedisError> {
        let Arguments { keys: buckets, rules, plans, money } =
            Arguments::pack(&self.organisation, asks);
        let epoch = self.epoch.to_string();
        let mut keys = vec![self.organisation.epoch()];
        let count = buckets.len();
        keys.extend(buckets);
        let Some(money) = money else {
            let arguments: [&[u8]; 3] = [epoch.as_bytes(), &rules, &plans];
            return TAKE.call(&mut self.connection, &keys, &arguments).await;
        };
        let caller = Caller {
            organisation: &self.organisation,
            node: &self.node,
            epoch: self.epoch,
            answered: self.seen.last(self.epoch),
        };
        let (further, [head, budgets, rows]) = money.call(caller, count);
        keys.extend(further);
        let arguments: [&[u8]; 6] = [epoch.as_bytes(), &rules, &plans, &head, &budgets, &rows];
        HOLD.call(&mut self.connection, &keys, &arguments).await
    }

    fn read(&self, answer: &[u8], asks: &[Ask]) -> Result<Vec<Found>, Lost> {
        match answer {
            [] => return Err(Lost::Epoch),
            b"R" => return Err(Lost::Rolled),
            _ => {}
        }
        let (found, number) = unpack(answer, asks, self.epoch).ok_or(Lost::Nonsense)?;
        match number {
            Some(number) if !self.seen.note(self.epoch, number) => Err(Lost::Rolled),
            _ => Ok(found),
        }
    }

    async fn take(mut self, asks: Vec<Ask>) -> Result<(), Lost> {
        let began = self.clock.uptime();
        let answered = match timeout(self.call_max, self.call(&asks)).await {
            Err(_) => Err((CallResult::late, Lost::Late)),
            Ok(Err(error)) => Err((CallResult::failed, Lost::Failed(error))),
            Ok(Ok(answer)) => self.read(&answer, &asks).map_err(|lost| (CallResult::failed, lost)),
        };
        let took = self.clock.uptime().since(began);
        self.metrics.seconds.observe(took.as_secs_f64());
        let count = u32::try_from(asks.len()).unwrap_or(u32::MAX);
        self.metrics.plans.observe(count.into());
        let result = answered.as_ref().map_or_else(|(result, _)| *result, |_| CallResult::answered);
        self.metrics.calls.get_or_create(&Call { result }).inc();
        for (ask, found) in asks.into_iter().zip(answered.map_err(|(_, lost)| lost)?) {
            // Whoever gave up waiting is charged and not served: too little passes, never too much.
            drop(ask.answer.send(found));
        }
        Ok(())
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Draws alone; see `HOLD` for what takes money too.
static TAKE: Script = Script::new(concat!(
    "local money\n",
    include_str!("epoch.lua"),
    include_str!("bucket.lua"),
    include_str!("take.lua")
));

/// Calls under way at once: while the store works on one, the next travels.
const CALLS_MAX: usize = 2;

/// An idle link is tried this often, so that no request finds out that it is dead.
const HEARTBEAT: Duration = Duration::from_secs(1);
