//! The task of a node that takes calls to their turns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Uptime};
use rules::quota::{Edition, Join, News, Report, Step};
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
    Ask {
        key: Arc<QuotaKey>,
        edition: Edition,
        join: Join,
        answer: Answer,
    },
    /// A call waits no longer.
    Leave {
        key: Arc<QuotaKey>,
        seq: u64,
    },
    Report {
        key: Arc<QuotaKey>,
        edition: Edition,
        report: Report,
    },
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
    /// By what they count.
    lines: HashMap<Arc<str>, Line>,
    steps: JoinSet<(Arc<str>, News, Option<Step>)>,
    /// The number of the last step.
    number: u64,
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
        Self { own, fleet, node, metrics, clock, messages, lines, steps, number: 0 }
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
                    if let Ok((subject, news, step)) = ended {
                        self.end(&subject, news, step);
                    }
                }
                () = sleep(pause) => {}
            }
            self.work();
        }
    }

    fn hear(&mut self, message: Message) {
        let now = self.clock.uptime();
        let (key, edition) = match &message {
            Message::Ask { key, edition, .. } | Message::Report { key, edition, .. } => {
                (key, *edition)
            }
            Message::Leave { key, seq } => {
                if let Some(line) = self.lines.get_mut(&key.subject) {
                    line.leave(*seq, now);
                }
                return;
            }
        };
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&key.subject) {
            if let Message::Ask { answer, .. } = message {
                drop(answer.send(Err(NoTurn::Full)));
            }
            return;
        }
        let line = self.lines.entry(Arc::clone(&key.subject));
        let line = line.or_insert_with(|| Line::new(Arc::clone(key), edition, now));
        match message {
            Message::Ask { answer, .. } if line.is_full() => drop(answer.send(Err(NoTurn::Full))),
            Message::Ask { key, join, answer, .. } => {
                line.serve(key, edition);
                line.ask(join, answer, now);
            }
            Message::Report { report, .. } => line.report(report, now),
            Message::Leave { .. } => {}
        }
    }

    /// Takes every step that is due.
    fn work(&mut self) {
        let now = self.clock.uptime();
        let is_due = |line: &&Line| line.asked.is_none() && line.due.is_some_and(|due| due <= now);
        let due: Vec<_> =
            self.lines.values().filter(is_due).map(|line| Arc::clone(&line.key.subject)).collect();
        for key in due {
            self.step(&key, now);
        }
        let metrics = &self.metrics;
        self.lines.retain(|_, line| {
            let is_idle = line.is_idle(now);
            if is_idle {
                metrics.forget(&line.key.quota);
            }
            !is_idle
        });
    }

    fn step(&mut self, subject: &Arc<str>, now: Uptime) {
        let Some(line) = self.lines.get_mut(subject) else { return };
        self.number += 1;
        let (edition, news) = (line.edition, line.news(self.number, now));
        let Some(fleet) = &self.fleet else {
            let step = self.own.step(subject, &edition, now, &news);
            return self.end(subject, news, step);
        };
        let Some((road, call_max)) = fleet.road() else { return self.end(subject, news, None) };
        let name = fleet.organisation().quota(subject);
        let (node, subject) = (self.node, Arc::clone(subject));
        self.steps.spawn(async move {
            let step = ask(road, call_max, (&name, &edition), (node, &news)).await;
            (subject, news, step)
        });
    }

    /// A step has ended; without an answer if the store was of no use.
    fn end(&mut self, subject: &Arc<str>, news: News, step: Option<Step>) {
        let now = self.clock.uptime();
        let (Some(line), Some(messages)) = (self.lines.get_mut(subject), self.messages.upgrade())
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
    (name, edition): (&[u8], &Edition),
    (node, news): (u64, &News),
) -> Option<Step> {
    let failed = match timeout(call_max, road.clone().step(name, edition, node, news)).await {
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
