//! The task of a node that takes calls to their turns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Uptime};
use rules::quota::{Join, News, Report, Rule, Step};
use tokio::sync::mpsc::{Receiver, WeakSender};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::line::{Answer, Line};
use super::{NoTurn, QuotaKey, QuotaMetrics};
use crate::fleet::Road;
use crate::{Embedded, Fleet};

/// What the desk is told.
#[derive(Debug)]
pub(super) enum Message {
    Ask { key: Arc<QuotaKey>, rule: Rule, join: Join, answer: Answer },
    Report { key: Arc<QuotaKey>, rule: Rule, report: Report },
}

/// What holds the lines of a node.
pub(super) struct Desk {
    own: Arc<Embedded>,
    fleet: Option<Fleet>,
    node: u64,
    metrics: QuotaMetrics,
    clock: Arc<dyn Clock>,
    /// Turns report by it; it keeps nobody alive.
    messages: WeakSender<Message>,
    lines: HashMap<Arc<QuotaKey>, Line>,
    steps: JoinSet<(Arc<QuotaKey>, News, Option<Step>)>,
}

impl Desk {
    pub(super) fn new(
        (own, fleet): (Arc<Embedded>, Option<Fleet>),
        node: u64,
        metrics: QuotaMetrics,
        clock: Arc<dyn Clock>,
        messages: WeakSender<Message>,
    ) -> Self {
        let (lines, steps) = (HashMap::new(), JoinSet::new());
        Self { own, fleet, node, metrics, clock, messages, lines, steps }
    }

    /// Works until nobody can ask any more.
    pub(super) async fn run(mut self, mut inbox: Receiver<Message>) {
        let mut arrived = Vec::new();
        loop {
            let due = self.lines.values().filter(|line| line.asked.is_none());
            let due = due.filter_map(|line| line.due).min();
            let pause = due.map_or(IDLE_PAUSE, |due| due.since(self.clock.uptime()));
            tokio::select! {
                count = inbox.recv_many(&mut arrived, MESSAGES_MAX) => {
                    if count == 0 {
                        return;
                    }
                    arrived.drain(..).for_each(|message| self.hear(message));
                }
                Some(ended) = self.steps.join_next() => {
                    if let Ok((key, news, step)) = ended {
                        self.end(&key, news, step);
                    }
                }
                () = sleep(pause) => {}
            }
            self.work();
        }
    }

    fn hear(&mut self, message: Message) {
        let now = self.clock.uptime();
        let (key, rule) = match &message {
            Message::Ask { key, rule, .. } | Message::Report { key, rule, .. } => (key, *rule),
        };
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(key) {
            if let Message::Ask { answer, .. } = message {
                drop(answer.send(Err(NoTurn::Full)));
            }
            return;
        }
        let line = self.lines.entry(Arc::clone(key));
        let line = line.or_insert_with_key(|key| Line::new(Arc::clone(key), rule, now));
        match message {
            Message::Ask { answer, .. } if line.is_full() => drop(answer.send(Err(NoTurn::Full))),
            Message::Ask { join, answer, .. } => {
                line.rule = rule;
                line.ask(join, answer, now);
            }
            Message::Report { report, .. } => line.report(report, now),
        }
    }

    /// Takes every step that is due.
    fn work(&mut self) {
        let now = self.clock.uptime();
        let is_due = |line: &&Line| line.asked.is_none() && line.due.is_some_and(|due| due <= now);
        let due: Vec<_> =
            self.lines.values().filter(is_due).map(|line| Arc::clone(&line.key)).collect();
        for key in due {
            self.step(&key, now);
        }
        let metrics = &self.metrics;
        self.lines.retain(|key, line| {
            let is_idle = line.is_idle(now);
            if is_idle {
                metrics.forget(&key.quota);
            }
            !is_idle
        });
    }

    fn step(&mut self, key: &Arc<QuotaKey>, now: Uptime) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let (rule, news) = (line.rule, line.news(now));
        let Some(fleet) = &self.fleet else {
            let step = self.own.step(key, &rule, now, &news);
            return self.end(key, news, step);
        };
        let Some((road, call_max)) = fleet.road() else { return self.end(key, news, None) };
        let name = fleet.organisation().quota(key.quota.as_str(), &key.subject);
        let (node, key) = (self.node, Arc::clone(key));
        self.steps.spawn(async move {
            let step = ask(road, call_max, (&name, &rule), (node, &news)).await;
            (key, news, step)
        });
    }

    /// A step has ended; without an answer if the store was of no use.
    fn end(&mut self, key: &Arc<QuotaKey>, news: News, step: Option<Step>) {
        let now = self.clock.uptime();
        let (Some(line), Some(messages)) = (self.lines.get_mut(key), self.messages.upgrade())
        else {
            return;
        };
        match step {
            Some(step) => line.take(&step, now, &messages),
            None => line.fail(news, now),
        }
        self.metrics.show(line, now);
    }
}

/// Asks the store; `None` when it is of no use.
async fn ask(
    road: Road,
    call_max: Duration,
    (name, rule): (&[u8], &Rule),
    (node, news): (u64, &News),
) -> Option<Step> {
    let failed = match timeout(call_max, road.clone().step(name, rule, node, news)).await {
        Ok(Ok((_, step))) => return Some(step),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let error = failed.as_ref().map(tracing::field::display);
    tracing::debug!(error, "a step of a quota was not answered");
    road.doubt();
    None
}

/// Credentials that a node counts at once. When there are as many, a call on a further one is
/// refused until one of them has been idle for a minute.
const LINES_MAX: usize = 1_024;

/// Messages that are heard before steps are taken.
const MESSAGES_MAX: usize = 1_024;

/// How often lines are looked at where nothing is due.
const IDLE_PAUSE: Duration = Duration::from_secs(10);
