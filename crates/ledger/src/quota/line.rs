//! The calls of one node that wait for turns on one credential.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Uptime;
use rules::quota::{Edition, Grant, Join, Leave, NEVER, News, Probe, Report, Rule, Step};
use tokio::sync::{mpsc, oneshot};

use super::desk::Message;
use super::{NoTurn, QuotaKey, Turn};

/// Where the answer to a call goes.
pub(super) type Answer = oneshot::Sender<Result<Turn, NoTurn>>;

#[derive(Debug)]
struct Waiter {
    join: Join,
    answer: Answer,
    /// When it stops waiting.
    until: Uptime,
    /// A step has taken it along: before, it is not known whether it waits at all.
    is_told: bool,
    /// Its time is over: the step under way takes it out, and says how long it would still wait.
    is_leaving: bool,
}

impl Waiter {
    fn leaves(&self, asks: bool) -> Leave {
        Leave { seq: self.join.seq, flow: self.join.flow.clone(), asks }
    }
}

/// One credential, as this node sees it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) key: Arc<QuotaKey>,
    /// What this node's document says: its newest revision.
    pub(super) edition: Edition,
    /// The rule that is gone by: another than the node's while others have a newer document.
    in_force: Rule,
    waiting: BTreeMap<u64, Waiter>,
    /// What the next step brings.
    news: News,
    /// When to take it; `None` while nothing is to be told or asked.
    pub(super) due: Option<Uptime>,
    /// A step is under way, taken at this moment.
    pub(super) asked: Option<Uptime>,
    blocked_until: Uptime,
    /// Since when the store has not answered.
    failing_since: Option<Uptime>,
    /// How long the next turn of anybody takes.
    next: Duration,
    pub(super) touched: Uptime,
    pub(super) seen: Seen,
    /// The number of the last grant that was heard of.
    heard: u64,
}

/// What the last step said, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) used: u64,
    pub(super) headroom: u64,
}

impl Line {
    pub(super) fn new(key: Arc<QuotaKey>, edition: Edition, now: Uptime) -> Self {
        Self {
            key,
            edition,
            in_force: edition.rule,
            waiting: BTreeMap::new(),
            news: News::default(),
            due: None,
            asked: None,
            blocked_until: Uptime::default(),
            failing_since: None,
            next: Duration::ZERO,
            touched: now,
            seen: Seen::default(),
            heard: 0,
        }
    }

    /// Goes by a document; by an older one that a request still carries it does not.
    pub(super) fn serve(&mut self, key: Arc<QuotaKey>, edition: Edition) {
        if edition.revision >= self.edition.revision {
            (self.key, self.edition) = (key, edition);
        }
    }

    /// Lets a call wait; one that would be refused is refused at once.
    pub(super) fn ask(&mut self, join: Join, answer: Answer, now: Uptime) {
        self.touched = now;
        let until = now.plus(Duration::from_millis(join.patience));
        if self.blocked_until > until {
            // Nobody may wait there any more.
            drop(answer.send(Err(NoTurn::Blocked(self.blocked_until.since(now)))));
            return;
        }
        self.news.joins.push(join.clone());
        let waiter = Waiter { join, answer, until, is_told: false, is_leaving: false };
        self.waiting.insert(waiter.join.seq, waiter);
        self.due = Some(now);
    }

    /// Takes out a call whose client has hung up.
    pub(super) fn leave(&mut self, seq: u64, now: Uptime) {
        let Some(waiter) = self.waiting.remove(&seq) else { return };
        if waiter.is_told {
            self.news.leaves.push(waiter.leaves(false));
            self.due = Some(now);
        } else {
            self.news.joins.retain(|join| join.seq != seq);
        }
    }

    /// Takes an answer of the upstream to the others.
    pub(super) fn report(&mut self, report: Report, now: Uptime) {
        self.touched = now;
        if self.news.reports.len() >= NEWS_MAX {
            // The oldest says the least.
            self.news.reports.remove(0);
        }
        self.news.reports.push(report);
        let is_urgent = report.probe != Probe::None || report.said.blocked.is_some();
        let due = if is_urgent { now } else { now.plus(REPORT_PAUSE) };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// The news of the next step. Those whose time is over ask how long it would still have been.
    pub(super) fn news(&mut self, number: u64, now: Uptime) -> News {
        let closed = self.waiting.iter().filter(|(_, waiter)| waiter.answer.is_closed());
        let closed: Vec<u64> = closed.map(|(seq, _)| *seq).take(NEWS_MAX).collect();
        closed.into_iter().for_each(|seq| self.leave(seq, now));
        let is_late = |waiter: &&mut Waiter| waiter.is_told && waiter.until < now;
        for waiter in self.waiting.values_mut().filter(is_late).take(NEWS_MAX) {
            if !waiter.is_leaving {
                waiter.is_leaving = true;
                self.news.leaves.push(waiter.leaves(true));
            }
        }
        let News { reports, leaves, joins, .. } = &mut self.news;
        let news = News {
            number,
            heard: self.heard,
            reports: std::mem::take(reports),
            leaves: leaves.drain(..leaves.len().min(NEWS_MAX)).collect(),
            joins: joins.drain(..joins.len().min(NEWS_MAX)).collect(),
        };
        for join in &news.joins {
            if let Some(waiter) = self.waiting.get_mut(&join.seq) {
                waiter.is_told = true;
            }
        }
        (self.asked, self.in_force) = (Some(now), self.edition.rule);
        self.due = None;
        news
    }

    /// Does what a step said.
    pub(super) fn take(&mut self, step: &Step, now: Uptime, messages: &mpsc::Sender<Message>) {
        let counted = self.asked.take().unwrap_or(now);
        self.failing_since = None;
        self.seen = Seen { used: step.used, headroom: step.headroom };
        self.blocked_until = match step.blocked {
            0 => Uptime::default(),
            blocked => now.plus(Duration::from_millis(blocked)),
        };
        for (seq, wait) in &step.refused {
            let wait = Duration::from_millis(*wait);
            let blocked = self.blocked_until.since(now);
            let refused =
                if blocked.is_zero() { NoTurn::Late(wait) } else { NoTurn::Blocked(wait) };
            self.end(*seq, Err(refused));
        }
        self.in_force = step.in_force.unwrap_or(self.in_force);
        for grant in &step.granted {
            self.give(*grant, step, (counted, now), messages);
        }
        if let Some(number) = step.granted.iter().map(|grant| grant.number).max() {
            self.heard = number;
        }
        self.next = wait_of(step.next);
        self.end_leaving();
        self.leave_block(now);
        if step.forgotten {
            let again = self.waiting.values().map(|waiter| waiter.join.clone());
            self.news.joins = again.collect();
        }
        self.schedule(now);
    }

    /// Hands a turn to its call. One that was told again so late that nothing can be sent by it any
    /// more is worth nothing: its call waits for another.
    fn give(
        &mut self,
        grant: Grant,
        step: &Step,
        (counted, now): (Uptime, Uptime),
        messages: &mpsc::Sender<Message>,
    ) {
        let at = counted.as_micros().saturating_sub(grant.age.saturating_mul(1_000));
        let turn = Turn {
            key: Arc::clone(&self.key),
            rule: self.in_force,
            edition: self.edition,
            number: grant.number,
            is_probe: grant.is_probe,
            at: Uptime::from_micros(at),
            left: self.in_force.quota.saturating_sub(step.used + step.headroom),
            messages: messages.clone(),
            is_answered: false,
        };
        if grant.age > 0
            && turn.is_stale(now)
            && let Some(waiter) = self.waiting.get(&grant.seq)
        {
            self.news.joins.push(waiter.join.clone());
            return;
        }
        self.end(grant.seq, Ok(turn));
    }

    /// Answers those whose time is over and of whom the step said nothing.
    fn end_leaving(&mut self) {
        let leaving = self.waiting.iter().filter(|(_, waiter)| waiter.is_leaving);
        let leaving: Vec<u64> = leaving.map(|(seq, _)| *seq).collect();
        for seq in leaving {
            self.end(seq, Err(NoTurn::Late(self.next)));
        }
    }

    /// Who cannot wait for the end of a block is told so, and leaves.
    fn leave_block(&mut self, now: Uptime) {
        let blocked = self.blocked_until;
        let hopeless = self.waiting.iter().filter(|(_, waiter)| waiter.until < blocked);
        let hopeless: Vec<u64> = hopeless.map(|(seq, _)| *seq).collect();
        for seq in hopeless {
            self.expel(seq, NoTurn::Blocked(blocked.since(now)));
        }
    }

    fn schedule(&mut self, now: Uptime) {
        let News { reports, leaves, joins, .. } = &self.news;
        let has_news = !joins.is_empty() || !leaves.is_empty() || !reports.is_empty();
        let pause = if has_news { Duration::ZERO } else { self.next.clamp(LOOK_MIN, LOOK_MAX) };
        self.due = (has_news || !self.waiting.is_empty()).then(|| now.plus(pause));
    }

    /// The store could not be asked. Who waits goes on waiting for a moment, since it may be back
    /// at once; then everybody is told. What was to be told is kept.
    pub(super) fn fail(&mut self, news: News, now: Uptime) {
        self.asked = None;
        self.end_leaving();
        let since = *self.failing_since.get_or_insert(now);
        self.news.leaves.splice(0..0, news.leaves);
        if now.since(since) < OUTAGE_MAX {
            let again = self.waiting.values().map(|waiter| waiter.join.clone());
            self.news.joins = again.collect();
            self.news.reports.splice(0..0, news.reports);
            self.news.reports.truncate(NEWS_MAX);
            self.due = Some(now.plus(LOOK_MAX / 2));
            return;
        }
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for seq in waiting {
            self.expel(seq, NoTurn::Away);
        }
        // The store takes out by itself whoever is not named here.
        self.news.leaves.truncate(WAITING_MAX);
        let blocks = news.reports.into_iter().filter(|report| report.said.blocked.is_some());
        self.news.reports.extend(blocks.take(NEWS_MAX));
        let has_block = self.news.reports.iter().any(|report| report.said.blocked.is_some());
        self.due = has_block.then(|| now.plus(LOOK_MAX));
    }

    /// Whether nothing of it needs to be kept.
    pub(super) fn is_idle(&self, now: Uptime) -> bool {
        self.waiting.is_empty()
            && self.asked.is_none()
            && self.due.is_none()
            && self.blocked_until <= now
            && now.since(self.touched) > IDLE
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// For how long the upstream is left alone.
    pub(super) const fn blocked(&self, now: Uptime) -> Duration {
        self.blocked_until.since(now)
    }

    /// Refuses a call that waits, and takes it out.
    fn expel(&mut self, seq: u64, refused: NoTurn) {
        self.news.joins.retain(|join| join.seq != seq);
        let told = self.waiting.get(&seq).filter(|waiter| waiter.is_told);
        self.news.leaves.extend(told.map(|waiter| waiter.leaves(false)));
        self.end(seq, Err(refused));
    }

    fn end(&mut self, seq: u64, answer: Result<Turn, NoTurn>) {
        if let Some(waiter) = self.waiting.remove(&seq) {
            // Whoever waits no longer has had a turn for nothing: too few pass, never too many.
            drop(waiter.answer.send(answer));
        }
    }
}

/// How long the next turn of anybody takes, as far as it is known.
fn wait_of(next: u64) -> Duration {
    if next == NEVER { LOOK_MAX } else { Duration::from_millis(next) }
}

/// Items of each kind of news in one step.
const NEWS_MAX: usize = 256;

/// Calls of a node that wait for one credential. When as many wait, the next is refused.
const WAITING_MAX: usize = 8_192;

/// While calls wait, the store hears of the node at least this often, and well before it would be
/// taken for gone.
const LOOK_MAX: Duration = Duration::from_millis(100);
const LOOK_MIN: Duration = Duration::from_millis(3);

/// A store that answers nothing for so long is away: until then a call that waits anyway goes on
/// waiting, and joins again.
const OUTAGE_MAX: Duration = Duration::from_secs(1);

/// What an upstream says is told together.
const REPORT_PAUSE: Duration = Duration::from_millis(20);

/// A credential that nobody used for so long is forgotten by the node.
const IDLE: Duration = Duration::from_secs(60);
