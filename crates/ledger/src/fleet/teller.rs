//! Who carries a node's money to the store: first everything it knows, where the store has
//! forgotten, then the ends of its holds as they come.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::key::Organisation;
use super::link::Link;
use super::money::{
    Become, Caller, Entry, Heard, Kind, Report, Resolved, Telling, excuse, held_by, resolve, tell,
};
use super::shard::{Lost, Shard};

/// How far the store was told, on one link.
#[derive(Debug)]
pub(crate) struct Teller {
    /// What is being told, and how many of its pieces the store has.
    report: Option<(Report, u64)>,
    due: Instant,
    /// When all of this node was told.
    whole_at: Option<Instant>,
    /// Whether the operator has been told that money waits for others.
    has_warned: bool,
    /// When the next page of what the store holds for this node is looked through, and which: for
    /// what nobody speaks for.
    sweep: (Instant, usize),
    /// What an operator wants.
    order: Option<Order>,
}

/// What an operator wants of the store.
#[derive(Debug)]
pub(crate) enum Order {
    /// Money goes on without what this node has spent.
    Excuse(Arc<str>, oneshot::Sender<bool>),
    /// What this node, which is gone, holds is spent. Answers how many holds that were.
    Estimate(Arc<str>, oneshot::Sender<usize>),
}

impl Order {
    /// Whether somebody still waits for it: what was given up is not carried out later.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Excuse(_, answer) => !answer.is_closed(),
            Self::Estimate(_, answer) => !answer.is_closed(),
        }
    }
}

impl Default for Teller {
    fn default() -> Self {
        Self {
            report: None,
            due: Instant::now(),
            whole_at: None,
            has_warned: false,
            sweep: (Instant::now(), 0),
            order: None,
        }
    }
}

impl Teller {
    /// Takes an order, to be carried out next.
    pub(crate) fn order(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// When the store is asked next.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }
}

/// One call of money.
pub(crate) struct Errand {
    connection: MultiplexedConnection,
    organisation: Organisation,
    node: Arc<str>,
    epoch: u64,
    answered: u64,
    call_max: Duration,
    what: What,
}

enum What {
    /// Asks how far everybody has told, and tells a piece.
    Tell {
        known: Vec<String>,
        piece: Option<(Report, u64)>,
    },
    Resolve(Vec<Entry>),
    /// Looks through a page of what the store holds for this node, for what an earlier life of it
    /// left open.
    Sweep(usize),
    Order(Order),
}

/// What an errand came to.
#[derive(Debug)]
pub(crate) enum Done {
    /// What the store said, and the last number that had been answered when it was asked.
    Heard(Heard, u64),
    /// This call's number, and what became of the ends.
    Resolved(u64, Vec<Become>),
    /// What the store holds for this node, and whether there is another page.
    Swept(Vec<Entry>, Option<usize>),
    /// Ends of holds of a node that is gone.
    Estimated(Vec<Entry>),
    Excused,
}

impl Errand {
    pub(crate) async fn run(mut self) -> Result<Done, Lost> {
        let call_max = self.call_max;
        match timeout(call_max, self.call()).await {
            Err(_) => Err(Lost::Late),
            Ok(Err(error)) => Err(Lost::Failed(error)),
            Ok(Ok(done)) => done,
        }
    }

    async fn call(&mut self) -> Result<Result<Done, Lost>, RedisError> {
        let Self { connection, organisation, node, epoch, answered, what, .. } = self;
        let caller = Caller { organisation, node, epoch: *epoch, answered: *answered };
        Ok(match what {
            What::Tell { known, piece } => {
                let piece = piece.as_ref().map(|(report, piece)| (report, *piece));
                let heard = tell(connection, caller, known, piece).await?;
                let answered = *answered;
                heard.map(|heard| Done::Heard(heard, answered)).ok_or(Lost::Epoch)
            }
            What::Resolve(entries) => match resolve(connection, caller, entries).await? {
                Resolved::All(number, fates) => Ok(Done::Resolved(number, fates)),
                Resolved::Closed => Err(Lost::Epoch),
                Resolved::Lost => Err(Lost::Rolled),
                Resolved::Nonsense => Err(Lost::Nonsense),
            },
            What::Sweep(page) => {
                let of = (&**node, *epoch);
                let held = held_by(connection, organisation, of, (Kind::Void, *page)).await?;
                Ok(Done::Swept(held.0, held.1))
            }
            What::Order(order) => carry_out(connection, caller, order).await?,
        })
    }
}

async fn carry_out(
    connection: &mut MultiplexedConnection,
    caller: Caller<'_>,
    order: &mut Order,
) -> Result<Result<Done, Lost>, RedisError> {
    let Caller { organisation, epoch, .. } = caller;
    match order {
        Order::Excuse(node, answer) => {
            let Some(is_excused) = excuse(connection, organisation, (node, epoch)).await? else {
                // The operator learns that it was not taken.
                return Ok(Err(Lost::Epoch));
            };
            tell_operator(answer, is_excused);
            Ok(Ok(Done::Excused))
        }
        Order::Estimate(node, answer) => {
            let of = (&**node, epoch);
            let (mut entries, mut page) = (Vec::new(), Some(0));
            // What was charged before still stands in the list.
            while let Some(next) = page.filter(|_| entries.is_empty()) {
                let of_page = (Kind::Estimate, next);
                (entries, page) = held_by(connection, organisation, of, of_page).await?;
            }
            tell_operator(answer, entries.len());
            Ok(Ok(Done::Estimated(entries)))
        }
    }
}

/// Who asked may be gone.
fn tell_operator<T>(to: &mut oneshot::Sender<T>, what: T) {
    let (nobody, _) = oneshot::channel();
    let _unheard = std::mem::replace(to, nobody).send(what).is_err();
}

impl Shard {
    /// The next call of money, if there is one to make.
    pub(crate) fn errand(&self, link: &Link, teller: &mut Teller) -> Option<Errand> {
        if !self.purse.is_used() {
            return None;
        }
        let order = teller.order.take().filter(Order::is_awaited);
        let what = if let Some(order) = order {
            What::Order(order)
        } else if self.purse.is_open() && teller.sweep.0 <= Instant::now() {
            teller.sweep.0 = Instant::now() + SWEEP_PAUSE;
            What::Sweep(teller.sweep.1)
        } else if teller.due <= Instant::now() {
            let piece = teller.report.as_ref().map(|(report, told)| (report.clone(), told + 1));
            What::Tell { known: self.known(), piece }
        } else {
            let entries = if self.purse.is_open() { self.purse.fly() } else { Vec::new() };
            if entries.is_empty() {
                return None;
            }
            What::Resolve(entries)
        };
        Some(Errand {
            connection: link.connection.clone(),
            organisation: self.dialer.organisation.clone(),
            node: Arc::clone(&self.node),
            epoch: link.epoch,
            answered: self.seen.last(link.epoch),
            call_max: self.call_max,
            what,
        })
    }

    /// Goes on after an errand.
    ///
    /// # Errors
    /// When the store has lost something.
    pub(crate) async fn hear(
        &mut self,
        epoch: u64,
        teller: &mut Teller,
        done: Done,
    ) -> Result<(), Lost> {
        let heard = match done {
            Done::Heard(heard, answered) if heard.seen < answered => return Err(Lost::Rolled),
            Done::Heard(heard, _) => heard,
            Done::Resolved(number, _) if !self.seen.note(epoch, number) => {
                return Err(Lost::Rolled);
            }
            Done::Resolved(_, fates) => {
                self.purse.landed(epoch, &fates);
                return Ok(());
            }
            Done::Swept(held, next) => {
                let strangers = self.purse.strangers(held);
                self.purse.prune();
                // What is void leaves the list: the same page has others then.
                let is_clean = strangers.is_empty();
                teller.sweep.1 = if is_clean { next.unwrap_or(0) } else { teller.sweep.1 };
                if !is_clean || next.is_some() {
                    teller.sweep.0 = Instant::now() + PAGE_PAUSE;
                }
                if !strangers.is_empty() {
                    tracing::info!(holds = strangers.len(), "holds from before the start are void");
                    self.purse.send(strangers);
                }
                return Ok(());
            }
            Done::Estimated(entries) => {
                self.purse.send(entries);
                return Ok(());
            }
            Done::Excused => {
                teller.due = Instant::now();
                return Ok(());
            }
        };
        self.dialer.memory.know(heard.nodes.keys()).await;
        self.purse.name(&heard.nodes);
        self.seen.begin(epoch, heard.seen);
        if heard.is_whole {
            teller.report = None;
            self.told(epoch, teller, &heard);
            return Ok(());
        }
        match &mut teller.report {
            None if heard.told == 0 => {
                teller.report = Some((self.purse.report(epoch), 0));
            }
            Some((report, told)) if report.epoch == epoch && heard.told == *told + 1 => {
                *told = heard.told;
                self.seen.raise(epoch, heard.seen);
            }
            // An earlier life of this node has told a part and died, or a part was lost.
            _ => return Err(Lost::Rolled),
        }
        Ok(())
    }

    /// The store knows all of this node.
    fn told(&self, epoch: u64, teller: &mut Teller, heard: &Heard) {
        self.seen.raise(epoch, heard.seen);
        if self.purse.epoch() != epoch {
            self.purse.resume(epoch);
        }
        let whole_at = *teller.whole_at.get_or_insert_with(Instant::now);
        let is_met = heard.nodes.iter().all(|(name, telling)| {
            *telling != Telling::Told || **name == *self.node || whole_at.elapsed() > MEET_MAX
        });
        // The others must know of this node before it spends: should the store forget, they ask
        // for what it has told.
        if heard.is_open && (is_met || self.purse.is_open()) {
            teller.due = Instant::now() + ASK_PAUSE;
            if !self.purse.is_open() {
                tracing::info!(epoch, "budgets are counted in Redis");
                self.purse.reopen();
            }
            return;
        }
        self.purse.close();
        teller.due = Instant::now() + WAIT_PAUSE;
        if !heard.is_open && !std::mem::replace(&mut teller.has_warned, true) {
            let awaited = heard.nodes.iter().filter(|(_, telling)| **telling == Telling::Awaited);
            let silent: Vec<&str> = awaited.map(|(name, _)| &**name).collect();
            let silent = silent.join(", ");
            tracing::warn!(
                silent,
                "budgets are closed until these nodes have told what they spent"
            );
        }
    }
}

/// How often the store is asked who holds money.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// How long a node waits until the others know of it. One that does not speak for so long is
/// away: it may not know of this one when it comes back.
const MEET_MAX: Duration = Duration::from_secs(10);

/// How often it is asked whether all have told.
const WAIT_PAUSE: Duration = Duration::from_millis(50);

/// Between two looks through all that the store holds for this node, and between two pages.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
const PAGE_PAUSE: Duration = Duration::from_millis(100);
