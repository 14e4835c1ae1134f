//! The one task that proposes changes while this node leads, and publishes what the log has made.
//!
//! It takes as many changes as wait (up to [`BATCH_MAX`]), judges them in order, compiles once, and
//! proposes them as one entry; when that is made it publishes and answers all of them: an answer
//! means durable and live. A batch that would not compile is halved until the change at fault
//! stands alone and is refused; so no change goes into the log that this node could not judge by.
//!
//! Only one entry is on its way at a time. What another leader made in the meantime is told by the
//! entry's base ([`Verdict::Outrun`]): it is judged again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::ask::{Ask, Job, Refusal, Told, Waiting};
use crate::bench::{Bench, Judged, JudgedEntry};
use crate::board::{Board, View};
use crate::entry::Verdict;
use crate::lead::Lead;
use crate::log::blocking;
use crate::news;
use crate::types::{Fatal, WriteError};

/// The task's own things.
pub(crate) struct Proposer {
    pub(crate) lead: Lead,
    /// `None` while somebody works at it.
    pub(crate) bench: Option<Bench>,
    pub(crate) board: Arc<Board>,
    pub(crate) views: watch::Receiver<View>,
    /// The term in which everything of earlier leaders is known to be applied.
    pub(crate) settled_term: Option<u64>,
}

impl Proposer {
    /// Works until told to stop, or until nobody can ask any more.
    pub(crate) async fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        let (mut stopping, mut last) = (false, 0);
        let mut raft_ended = false;
        let mut lead = self.lead.clone();
        while !stopping {
            tokio::select! {
                biased;
                count = jobs.recv_many(&mut waiting, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    if count < last {
                        gather(&mut jobs, &mut waiting, last).await;
                    }
                    last = waiting.len();
                    stopping = self.work(&mut waiting).await;
                }
                _ = news::change(&mut self.views) => self.refresh().await,
                ended = lead.ended(), if !raft_ended => {
                    raft_ended = true;
                    self.give_up(&ended);
                }
            }
        }
        // What stood in the queue already is still carried out; nothing new comes in.
        jobs.close();
        while jobs.recv_many(&mut waiting, BATCH_MAX).await > 0 {
            self.work(&mut waiting).await;
        }
    }

    /// Does what was asked; answers whether to stop.
    async fn work(&mut self, waiting: &mut Vec<Job>) -> bool {
        let mut stop = false;
        let mut batch = Vec::with_capacity(waiting.len());
        for job in waiting.drain(..) {
            match job {
                Job::Judge(waiting) if waiting.answer.is_closed() => {}
                Job::Judge(waiting) => batch.push(waiting),
                Job::Look => {}
                Job::Stop => stop = true,
            }
        }
        self.carry_out(batch).await;
        if self.bench.as_ref().is_some_and(|bench| bench.publisher.is_behind_secrets()) {
            self.refresh().await;
        }
        stop
    }

    /// Has a batch of changes made, then answers. Batches that cannot go together are halved.
    async fn carry_out(&mut self, batch: Vec<Waiting>) {
        let mut stack = vec![(batch, 0)];
        while let Some((mut batch, outrun)) = stack.pop() {
            if batch.is_empty() {
                continue;
            }
            if let Err(told) = self.ready_to_judge().await {
                tell_all(batch, &told);
                continue;
            }
            let asks: Vec<Ask> = batch.iter().map(|waiting| waiting.ask.clone()).collect();
            let Some(judged) = self.at_bench(move |bench| bench.judge(&asks)).await else {
                tell_all(batch, &Told::Judged(Err(Refusal::Defect)));
                continue;
            };
            match judged {
                Ok(judged) => match self.settle(judged).await {
                    Settled::Answers(answers) => tell_each(batch, answers),
                    Settled::All(told) => tell_all(batch, &told),
                    Settled::Outrun if outrun < OUTRUN_MAX => stack.push((batch, outrun + 1)),
                    Settled::Outrun => tell_all(batch, &Told::busy("others write all the time")),
                },
                Err(_) if batch.len() > 1 => {
                    let later = batch.split_off(batch.len() / 2);
                    stack.push((later, 0));
                    stack.push((batch, 0));
                }
                Err(flaw) => tell_all(batch, &Told::Judged(Err(flaw))),
            }
        }
    }

    /// Makes sure that this node leads, and has applied all that was agreed before it did.
    async fn ready_to_judge(&mut self) -> Result<(), Told> {
        // Whoever asks here hears why; who asks from elsewhere finds the node that leads next.
        if self.board.why_not_writable().is_some() {
            return Err(Told::NotHere);
        }
        let Some(term) = self.lead.term() else { return Err(Told::NotHere) };
        if self.settled_term != Some(term) {
            self.confirm().await?;
            self.settled_term = Some(term);
        }
        Ok(())
    }

    /// Asks a majority whether this node leads.
    async fn confirm(&mut self) -> Result<(), Told> {
        self.settled_term = None;
        self.lead.confirm().await.map(drop).map_err(|_| Told::NotHere)
    }

    /// Has a judged batch made, and publishes it.
    async fn settle(&mut self, judged: Judged) -> Settled {
        let Judged { answers, entry } = judged;
        let Some(JudgedEntry { payload, after, compiled }) = entry else {
            // Nothing is written that would show that nobody else leads by now.
            let term = self.settled_term;
            return match self.confirm().await {
                Ok(()) => {
                    self.settled_term = term;
                    Settled::Answers(answers)
                }
                Err(told) => Settled::All(told),
            };
        };
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let wait = COMMIT_WAIT + COMMIT_WAIT_BYTE * bytes;
        let written = tokio::time::timeout(wait, self.lead.raft.client_write(payload)).await;
        match written {
            Ok(Ok(response)) if response.data == Verdict::Outrun => return Settled::Outrun,
            Ok(Ok(_)) => {}
            Ok(Err(WriteError::Fatal(cause))) => {
                self.give_up(&cause);
                return Settled::All(Told::unsure(WRITE_FAILED));
            }
            Ok(Err(WriteError::APIError(_))) => {
                self.settled_term = None;
                return Settled::All(Told::unsure("another node took the lead"));
            }
            Err(_) => {
                self.settled_term = None;
                return Settled::All(Told::unsure("no majority of the nodes answered in time"));
            }
        }
        if let Some(compiled) = compiled
            && let Some(bench) = &mut self.bench
        {
            bench.publish(after, compiled);
            self.views.mark_unchanged();
            if self.views.borrow().state.revision() != after {
                self.views.mark_changed();
            }
        }
        Settled::Answers(answers)
    }

    /// Compiles what the log has made.
    async fn refresh(&mut self) {
        self.views.mark_unchanged();
        self.at_bench(|bench| bench.refresh(Duration::ZERO)).await;
    }

    /// Works at the bench, on a thread that may block. `None` after a defect that the bench did
    /// not survive: then nothing is judged on this node any more.
    async fn at_bench<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Bench) -> T + Send + 'static,
    ) -> Option<T> {
        let mut bench = self.bench.take()?;
        let worked = blocking(move || {
            let done = work(&mut bench);
            Ok((bench, done))
        });
        match worked.await {
            Ok((bench, done)) => {
                self.bench = Some(bench);
                Some(done)
            }
            Err(cause) => {
                self.show_broken(&cause, "judging met a defect of the program");
                None
            }
        }
    }

    /// After a write that failed nobody knows what the disk holds, so nothing is written on top of
    /// it: the node keeps judging by what it has, and takes changes again once it was restarted.
    fn give_up(&self, cause: &Fatal) {
        match cause {
            Fatal::Stopped => {}
            Fatal::StorageError(cause) => self.show_broken(cause, WRITE_FAILED),
            Fatal::Panicked => self.show_broken(&Error::Died, WRITE_FAILED),
        }
    }

    fn show_broken(&self, cause: &(dyn std::error::Error + 'static), what: &str) {
        if self.board.why_not_writable().is_none() {
            tracing::error!(cause, "{what}");
            self.board.show_broken(&format!("{what}; restart the node"));
        }
    }
}

/// What came of a judged batch.
enum Settled {
    /// It is made, or changed nothing.
    Answers(Vec<Told>),
    /// The same is told to everybody.
    All(Told),
    /// The document had moved on: judge again.
    Outrun,
}

/// Waits a moment for those who were answered together and are about to ask again. Without it the
/// first of them would have a compile for itself, and the others the next: half the throughput.
async fn gather(jobs: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>, expected: usize) {
    for _ in 0..GATHER_TURNS {
        tokio::task::yield_now().await;
        while waiting.len() < expected
            && let Ok(job) = jobs.try_recv()
        {
            waiting.push(job);
        }
        if waiting.len() >= expected {
            return;
        }
    }
}

fn tell_each(batch: Vec<Waiting>, answers: Vec<Told>) {
    for (waiting, told) in batch.into_iter().zip(answers) {
        let Waiting { ask, answer } = waiting;
        // Whoever went away in the meantime needs no answer.
        drop(answer.send(told));
        ask.end();
    }
}

fn tell_all(batch: Vec<Waiting>, told: &Told) {
    for waiting in batch {
        let Waiting { ask, answer } = waiting;
        drop(answer.send(told.clone()));
        ask.end();
    }
}

/// What operators read when the disk is at fault.
const WRITE_FAILED: &str = "the store failed a write";

/// Changes that share one compile and one entry; more wait for the next.
const BATCH_MAX: usize = 256;

/// How often a batch that is smaller than the last lets others run before it goes on; far less
/// than a compile.
const GATHER_TURNS: usize = 64;

/// How often a batch is judged again because others were faster.
const OUTRUN_MAX: usize = 8;

/// How long an entry may take to be agreed on. After it nobody waits for it here; it may still be
/// made, and is then told by its id.
const COMMIT_WAIT: Duration = Duration::from_secs(4);

/// How much longer for each of its bytes, which each node sends, writes and reads: 4 MB/s.
const COMMIT_WAIT_BYTE: Duration = Duration::from_nanos(250);
