//! The calls of one node that wait for turns on one credential.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::Uptime;
use rules::quota::{Join, NEVER, News, Probe, Report, Rule, Step};
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
}

/// One credential, as this node sees it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) key: Arc<QuotaKey>,
    pub(super) rule: Rule,
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
    seq: u64,
}

/// What the last step said, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) used: u64,
    pub(super) headroom: u64,
}

impl Line {
    pub(super) fn new(key: Arc<QuotaKey>, rule: Rule, now: Uptime) -> Self {
        Self {
            key,
            rule,
            waiting: BTreeMap::new(),
            news: News::default(),
            due: None,
            asked: None,
            blocked_until: Uptime::default(),
            failing_since: None,
            next: Duration::ZERO,
            touched: now,
            seen: Seen::default(),
            seq: 0,
        }
    }

    /// Lets a call wait; one that would be refused is refused at once.
    pub(super) fn ask(&mut self, mut join: Join, answer: Answer, now: Uptime) {
        self.touched = now;
        let until = now.plus(Duration::from_millis(join.patience));
        if self.blocked_until > until {
            // Nobody may wait there any more.
            drop(answer.send(Err(NoTurn::Blocked(self.blocked_until.since(now)))));
            return;
        }
        self.seq += 1;
        join.seq = self.seq;
        self.news.joins.push(join.clone());
        self.waiting.insert(self.seq, Waiter { join, answer, until, is_told: false });
        self.due = Some(now);
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

    /// The news of the next step. Those who wait no longer are told, and leave.
    pub(super) fn news(&mut self, now: Uptime) -> News {
        let is_late = |waiter: &Waiter| waiter.is_told && waiter.until < now;
        let is_over = |waiter: &Waiter| waiter.answer.is_closed() || is_late(waiter);
        let gone: Vec<u64> = self
            .waiting
            .iter()
            .filter_map(|(seq, waiter)| is_over(waiter).then_some(*seq))
            .take(NEWS_MAX)
            .collect();
        for seq in &gone {
            self.end(*seq, Err(NoTurn::Late(self.next)));
        }
        self.news.joins.retain(|join| !gone.contains(&join.seq));
        self.news.drops.extend(gone);
        let News { reports, drops, joins } = &mut self.news;
        let news = News {
            reports: std::mem::take(reports),
            drops: drops.drain(..drops.len().min(NEWS_MAX)).collect(),
            joins: joins.drain(..joins.len().min(NEWS_MAX)).collect(),
        };
        for join in &news.joins {
            if let Some(waiter) = self.waiting.get_mut(&join.seq) {
                waiter.is_told = true;
            }
        }
        self.asked = Some(now);
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
        let left = self.rule.quota.saturating_sub(step.used + step.headroom);
        for grant in &step.granted {
            let turn = Turn {
                key: Arc::clone(&self.key),
                rule: self.rule,
                number: grant.number,
                is_probe: grant.is_probe,
                at: counted,
                left,
                messages: messages.clone(),
                is_answered: false,
            };
            self.end(grant.seq, Ok(turn));
        }
        self.leave_block(now);
        if step.forgotten {
            let again = self.waiting.values().map(|waiter| waiter.join.clone());
            self.news.joins = again.collect();
        }
        self.schedule(step.next, now);
    }

    /// Who cannot wait for the end of a block is told so, and leaves.
    fn leave_block(&mut self, now: Uptime) {
        let blocked = self.blocked_until;
        let hopeless = self.waiting.iter().filter(|(_, waiter)| waiter.until < blocked);
        let hopeless: Vec<u64> = hopeless.map(|(seq, _)| *seq).collect();
        for seq in hopeless {
            self.end(seq, Err(NoTurn::Blocked(blocked.since(now))));
            self.news.joins.retain(|join| join.seq != seq);
            self.news.drops.push(seq);
        }
    }

    fn schedule(&mut self, next: u64, now: Uptime) {
        let News { reports, drops, joins } = &self.news;
        let has_news = !joins.is_empty() || !drops.is_empty() || !reports.is_empty();
        let next = if next == NEVER { LOOK_MAX } else { Duration::from_millis(next) };
        self.next = next;
        let pause = if has_news { Duration::ZERO } else { next.clamp(LOOK_MIN, LOOK_MAX) };
        self.due = (has_news || !self.waiting.is_empty()).then(|| now.plus(pause));
    }

    /// The store could not be asked. Who waits goes on waiting for a moment, since it may be back
    /// at once; then everybody is told. What was to be told is kept.
    pub(super) fn fail(&mut self, news: News, now: Uptime) {
        self.asked = None;
        let since = *self.failing_since.get_or_insert(now);
        if now.since(since) < OUTAGE_MAX {
            let again = self.waiting.values().map(|waiter| waiter.join.clone());
            self.news.joins = again.collect();
            self.news.drops.splice(0..0, news.drops);
            self.news.reports.splice(0..0, news.reports);
            self.news.reports.truncate(NEWS_MAX);
            self.due = Some(now.plus(LOOK_MAX / 2));
            return;
        }
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for seq in waiting {
            self.end(seq, Err(NoTurn::Away));
            self.news.drops.push(seq);
        }
        self.news.joins.clear();
        self.news.drops.extend(news.drops);
        self.news.drops.truncate(WAITING_MAX);
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

    fn end(&mut self, seq: u64, answer: Result<Turn, NoTurn>) {
        if let Some(waiter) = self.waiting.remove(&seq) {
            // Whoever waits no longer has had a turn for nothing: too few pass, never too many.
            drop(waiter.answer.send(answer));
        }
    }
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
