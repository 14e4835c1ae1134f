//! The one thread that changes the document.
//!
//! It takes as many proposals as wait (up to [`BATCH_MAX`]), applies them in order, compiles once,
//! writes once, and only then answers all of them: an answer means durable and live. A batch that
//! would not compile is halved until the proposal at fault stands alone and is refused; so no
//! change is ever written that this node could not judge by.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use config::{Applied, Command, EffectKind, Fault, Key, Keyring, State};
use model::Entropy;
use tokio::sync::{mpsc, oneshot};

use crate::board::Board;
use crate::directory::Directory;
use crate::judge::judge;
use crate::publisher::{Compiled, Publisher};
use crate::store::{Rows, Store};
use crate::{Error, Kept, ProposeError};

/// What the writer is asked to do.
pub(crate) enum Job {
    Propose(Proposal),
    /// A secret has moved; a compile may be due.
    Look,
    /// Finish what waits and end.
    Stop,
}

/// A change, and who waits for it. Skipped when nobody waits any more at its turn.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What a proposal is answered.
pub(crate) type Answer = Result<Applied, ProposeError>;

/// The thread's own things.
pub(crate) struct Writer {
    pub(crate) store: Store,
    pub(crate) state: Arc<State>,
    pub(crate) publisher: Publisher,
    pub(crate) board: Arc<Board>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Why the state does not compile; empty while it does.
    pub(crate) faults: Vec<(Key, Fault)>,
    /// Keeps the data directory ours until the last write is done.
    pub(crate) _directory: Directory,
}

/// A batch that was judged on a copy of the state, and is not written yet.
struct Draft {
    state: State,
    rows: Rows,
    /// One for each proposal, in their order.
    answers: Vec<Answer>,
    /// `None` when the batch changes nothing.
    compiled: Option<Compiled>,
}

impl Writer {
    /// Works until told to stop, or until nobody can ask any more.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = Vec::with_capacity(BATCH_MAX);
        let mut stopping = false;
        let mut last = 0;
        while !stopping && jobs.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
            if waiting.len() < last {
                gather(&mut jobs, &mut waiting, last);
            }
            last = waiting.len();
            stopping = self.work(&mut waiting);
        }
        // What stood in the queue already is still carried out; nothing new comes in.
        jobs.close();
        while jobs.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
            self.work(&mut waiting);
        }
    }

    /// Compiles the state as it is: at the start, and when secrets have moved.
    pub(crate) fn refresh(&mut self, patience: Duration) {
        let compiled = self.publisher.compile(&self.state, patience);
        self.publish(compiled);
    }

    /// Does what was asked; answers whether to stop.
    fn work(&mut self, waiting: &mut Vec<Job>) -> bool {
        let mut stop = false;
        let mut batch = Vec::with_capacity(waiting.len());
        for job in waiting.drain(..) {
            match job {
                Job::Propose(proposal) if proposal.answer.is_closed() => {}
                Job::Propose(proposal) => batch.push(proposal),
                Job::Look => {}
                Job::Stop => stop = true,
            }
        }
        self.carry_out(batch);
        if self.publisher.is_behind_secrets() {
            self.refresh(Duration::ZERO);
        }
        stop
    }

    /// Makes a batch of changes durable and live, then answers.
    fn carry_out(&mut self, mut batch: Vec<Proposal>) {
        if batch.is_empty() {
            return;
        }
        if let Some(why) = self.board.why_not_writable() {
            return refuse(batch, &why, Kept::No);
        }
        // Judging works on copies, so a defect in it leaves nothing half done.
        match catch_unwind(AssertUnwindSafe(|| self.draft(&batch))) {
            Ok(Ok(draft)) => self.settle(batch, draft),
            Ok(Err(_)) | Err(_) if batch.len() > 1 => {
                let later = batch.split_off(batch.len() / 2);
                self.carry_out(batch);
                self.carry_out(later);
            }
            Ok(Err(faults)) => answer(batch, vec![Err(ProposeError::Faults(faults))]),
            Err(_) => refuse(batch, "judging this change met a defect of the program", Kept::No),
        }
    }

    /// Applies a batch to a copy of the state and compiles that.
    ///
    /// # Errors
    /// The faults that the current state does not have.
    fn draft(&mut self, batch: &[Proposal]) -> Result<Draft, Vec<(Key, Fault)>> {
        let mut state = State::clone(&self.state);
        let mut rows = Rows::new();
        let mut answers = Vec::with_capacity(batch.len());
        for proposal in batch {
            let command = proposal.command.clone();
            let judged = judge(&mut state, command, &self.keyring, &*self.entropy);
            for effect in judged.iter().flat_map(|applied| &applied.effects) {
                if effect.kind != EffectKind::Unchanged {
                    rows.insert(effect.key.clone(), effect.stored.clone());
                }
            }
            answers.push(judged.map_err(ProposeError::Rejected));
        }
        if rows.is_empty() {
            return Ok(Draft { state, rows, answers, compiled: None });
        }
        let compiled = self.publisher.compile(&state, PATIENCE);
        if let Err(faults) = &compiled.snapshot {
            // A document that did not compile before must be mendable, one change at a time.
            let new: Vec<_> =
                faults.iter().filter(|fault| !self.faults.contains(fault)).cloned().collect();
            if !new.is_empty() {
                return Err(new);
            }
        }
        Ok(Draft { state, rows, answers, compiled: Some(compiled) })
    }

    /// Writes a draft, makes it live, and answers.
    fn settle(&mut self, batch: Vec<Proposal>, draft: Draft) {
        let Some(compiled) = draft.compiled else { return answer(batch, draft.answers) };
        if let Err(cause) = self.store.commit(draft.state.revision(), &draft.rows) {
            return self.give_up(batch, &cause);
        }
        self.state = Arc::new(draft.state);
        self.board.show_state(Arc::clone(&self.state));
        self.publish(compiled);
        answer(batch, draft.answers);
    }

    fn publish(&mut self, compiled: Compiled) {
        self.faults = self.publisher.publish(compiled);
        self.board.show_faults(self.state.revision(), &self.faults);
    }

    /// After a write that failed nobody knows what the disk holds, so nothing is written on top of
    /// it: the node keeps judging by what it has, and takes changes again once it was restarted.
    fn give_up(&self, batch: Vec<Proposal>, cause: &Error) {
        tracing::error!(cause = cause as &dyn std::error::Error, "the store failed a write");
        refuse(batch, "the store failed a write", Kept::Unknown);
        self.board.show_broken("the store failed a write; restart the node");
    }
}

/// Waits a moment for those who were answered together and are about to ask again. Without it the
/// first of them would have a compile for itself, and the others the next: half the throughput.
fn gather(jobs: &mut mpsc::Receiver<Job>, waiting: &mut Vec<Job>, expected: usize) {
    std::thread::sleep(GATHER);
    while waiting.len() < expected
        && let Ok(job) = jobs.try_recv()
    {
        waiting.push(job);
    }
}

fn answer(batch: Vec<Proposal>, answers: Vec<Answer>) {
    for (proposal, answer) in batch.into_iter().zip(answers) {
        // Whoever went away in the meantime needs no answer.
        drop(proposal.answer.send(answer));
    }
}

fn refuse(batch: Vec<Proposal>, why: &str, kept: Kept) {
    let refusal = || Err(ProposeError::Unavailable { why: why.to_owned(), kept });
    let answers = batch.iter().map(|_| refusal()).collect();
    answer(batch, answers);
}

/// Proposals that share one compile and one write; more wait for the next.
const BATCH_MAX: usize = 256;

/// How long a batch that is smaller than the last waits for more; far less than a compile.
const GATHER: Duration = Duration::from_micros(300);

/// How long a change waits for secrets that nobody read before; after it they are unresolved
/// until they arrive.
const PATIENCE: Duration = Duration::from_millis(250);
