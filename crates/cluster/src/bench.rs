//! Where changes are judged: on copies of what the log has made, with the compiler at hand.
//!
//! Everything here blocks, and one thread at a time works at the bench.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use config::{Applied, Command, Effect, EffectKind, Fault, Key, Keyring, Rejected, State};
use model::{Entropy, Revision};
use serde_json::Value;

use crate::ask::{Ask, Refusal, Told};
use crate::board::Board;
use crate::entry::{Batch, Change, Payload, Proposal};
use crate::machine::Draft;
use crate::publisher::{Compiled, Publisher};
use crate::recent::{Done, Known};
use crate::replica::{Prepared, SharedMachine};

/// The judge's own things.
pub(crate) struct Bench {
    pub(crate) machine: SharedMachine,
    pub(crate) publisher: Publisher,
    pub(crate) board: Arc<Board>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Why the state does not compile; empty while it does.
    pub(crate) faults: Vec<(Key, Fault)>,
}

/// A batch that was judged on a copy of the state, and is not in the log yet.
pub(crate) struct Judged {
    /// One for each change, in their order: what is said once the entry is made.
    pub(crate) answers: Vec<Told>,
    /// `None` when the batch changes nothing.
    pub(crate) entry: Option<JudgedEntry>,
}

/// What goes into the log, and what requests are judged by once it is made.
pub(crate) struct JudgedEntry {
    pub(crate) payload: Payload,
    pub(crate) after: Revision,
    /// `None` when only facts change.
    pub(crate) compiled: Option<Compiled>,
}

/// Why a batch cannot go into the log as it is; if it is one change, it is refused for it.
pub(crate) type Flaw = Refusal;

impl Bench {
    /// Judges a batch on copies, so that a defect in it leaves nothing half done.
    ///
    /// # Errors
    /// When not each of its changes can go into the log together with the others.
    pub(crate) fn judge(&mut self, asks: &[Ask]) -> Result<Judged, Flaw> {
        catch_unwind(AssertUnwindSafe(|| self.draft(asks))).unwrap_or(Err(Refusal::Defect))
    }

    /// Compiles what the log has made, and publishes it.
    pub(crate) fn refresh(&mut self, patience: Duration) {
        let view = self.board.view();
        let work = || self.publisher.compile(&view.state, patience);
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(compiled) => self.publish(view.state.revision(), compiled),
            Err(_) => self.board.show_defect(view.state.revision()),
        }
    }

    /// Makes a compiled state the one that requests are judged by.
    pub(crate) fn publish(&mut self, revision: Revision, compiled: Compiled) {
        self.faults = self.publisher.publish(compiled);
        self.board.show_faults(revision, &self.faults);
    }

    fn draft(&mut self, asks: &[Ask]) -> Result<Judged, Flaw> {
        let mut draft = Draft::new(&self.machine.lock().machine);
        let base = draft.state.revision();
        let mut proposals: Vec<Proposal> = Vec::new();
        let mut answers: Vec<Told> = Vec::with_capacity(asks.len());
        for ask in asks {
            let told = self.judge_one(&mut draft, &mut proposals, ask);
            answers.push(told);
        }
        if proposals.is_empty() {
            return Ok(Judged { answers, entry: None });
        }
        let after = draft.state.revision();
        let payload = Payload::new(&Batch { base, after, proposals });
        if payload.len() > if asks.len() > 1 { BATCH_BYTES_MAX } else { ENTRY_BYTES_MAX } {
            return Err(Refusal::Oversized { bytes: payload.len() });
        }
        let compiled = if after == base { None } else { Some(self.compile(&draft.state)?) };
        self.machine.lock().prepared = Some(Prepared { payload: payload.clone(), draft });
        Ok(Judged { answers, entry: Some(JudgedEntry { payload, after, compiled }) })
    }

    /// Judges one change, and adds it to the proposals unless nothing comes of it.
    fn judge_one(&self, draft: &mut Draft, proposals: &mut Vec<Proposal>, ask: &Ask) -> Told {
        let known = self.machine.lock().machine.recent.look_up(ask.id, ask.since);
        match known {
            Known::Done(done) => return Told::Judged(Ok(applied(&draft.state, &done))),
            Known::Forgotten => return Told::Forgotten,
            Known::New => {}
        }
        if proposals.iter().any(|proposal| proposal.id == ask.id) {
            return Told::unsure("the change was sent twice at once");
        }
        let judged = match &*ask.change {
            Change::Document(command) => {
                let made = seal(&draft.state, command, &self.keyring, &*self.entropy)
                    .and_then(|command| Ok((draft.document(&command)?, command)));
                let applied = made.map(|(applied, command)| {
                    if changes_something(&applied) {
                        draft.note(ask.id, Some(&applied));
                        proposals.push(Proposal { id: ask.id, change: Change::Document(command) });
                    }
                    applied
                });
                applied.map_err(Refusal::Rejected)
            }
            Change::Facts(command) => {
                let made = draft.facts(command).map_err(Refusal::Facts);
                if made.is_ok() {
                    draft.note(ask.id, None);
                    let change = Change::Facts(command.clone());
                    proposals.push(Proposal { id: ask.id, change });
                }
                made.map(|()| Applied { revision: draft.state.revision(), effects: Vec::new() })
            }
        };
        Told::Judged(judged)
    }

    fn compile(&mut self, state: &State) -> Result<Compiled, Flaw> {
        let compiled = self.publisher.compile(state, PATIENCE);
        if let Err(faults) = &compiled.snapshot {
            // A document that did not compile before must be mendable, one change at a time.
            let new: Vec<_> =
                faults.iter().filter(|fault| !self.faults.contains(fault)).cloned().collect();
            if !new.is_empty() {
                return Err(Refusal::Faults(new));
            }
        }
        Ok(compiled)
    }
}

fn changes_something(applied: &Applied) -> bool {
    applied.effects.iter().any(|effect| effect.kind != EffectKind::Unchanged)
}

/// What a change that was made before is answered. A resource that was changed again since is not
/// shown: whoever took it for the outcome of this change would overwrite the other unseen.
fn applied(state: &State, done: &Done) -> Applied {
    let revision = Revision::new(done.revision);
    let effects = done.effects.iter().map(|(key, kind)| {
        let stored = state.get(key).filter(|stored| stored.modified <= revision);
        Effect { key: key.clone(), kind: *kind, stored: stored.cloned() }
    });
    Applied { revision, effects: effects.collect() }
}

/// A command as people wrote it, with its secrets sealed.
///
/// # Errors
/// The faults of a resource that can be judged by its secrets' own text here for the last time.
pub(crate) fn seal(
    state: &State,
    command: &Command,
    keyring: &Keyring,
    entropy: &dyn Entropy,
) -> Result<Command, Rejected> {
    let Command { at, base, force, changes } = command;
    let mut base = *base;
    let next = state.revision().next();
    if changes.iter().any(|change| matches!(change, config::Change::Create { .. })) {
        // The id is the command's revision, and sealed values are bound to the id.
        base.get_or_insert_with(|| state.revision());
    }
    let sealed = |key: &Key, value: &Value| {
        let previous = state.get(key).map(|stored| &*stored.value);
        config::seal(keyring, entropy, key, value.clone(), previous)
            .map_err(|faults| Rejected::Faults { key: key.clone(), faults })
    };
    let changes = config::in_parallel(changes, |change| {
        Ok(match change {
            config::Change::Put { key, value, expect, stamp } => {
                let (key, value) = (key.clone(), sealed(key, value)?);
                config::Change::Put { key, value, expect: *expect, stamp: *stamp }
            }
            config::Change::Create { kind, value } => {
                let value = sealed(&Key::created(*kind, next), value)?;
                config::Change::Create { kind: *kind, value }
            }
            config::Change::Delete { .. } => change.clone(),
        })
    });
    let changes = changes.into_iter().collect::<Result<_, Rejected>>()?;
    Ok(Command { at: *at, base, force: *force, changes })
}

/// Bytes of an entry that holds several changes; a batch beyond it is halved.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// Bytes of an entry that holds one change; it must fit into a message. Beyond it a change is
/// refused.
const ENTRY_BYTES_MAX: usize = 48 << 20;

/// How long a change waits for secrets that nobody read before; after it they are unresolved
/// until they arrive.
const PATIENCE: Duration = Duration::from_millis(250);
