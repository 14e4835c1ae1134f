//! Whether what clients saw could have come from one copy of the data, one operation at a time.
//!
//! A history is a list of operations on registers, each with the moments of its call and of its
//! answer. It is linearizable (Herlihy & Wing, "Linearizability: a correctness condition for
//! concurrent objects", 1990) when each operation can be given one moment between the two at which
//! it had its effect, such that every answer is what one register would have said. By their
//! locality theorem each register is judged alone. The search is Wing & Gong's ("Testing and
//! verifying concurrent objects", 1993) with the memory of configurations that Lowe adds ("Testing
//! for linearizability", 2017).
//!
//! Only `std` is used, so that any test may include this file by its path. Every value that is
//! written must be another one: then a read names the write that it saw.
//!
//! ```text
//! let call = history.call("key", Deed::Write("v1".to_owned()));
//! …the operation…
//! history.answer(call, Answer::Done { revision: Some(7) });
//! history.check()?;
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Operations and what was answered, in the order in which calls and answers happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    operations: Vec<Operation>,
    /// Moves with each call and each answer: the only clock there is.
    moment: u64,
}

/// Names an operation that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call(usize);

/// What was asked of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Write(String),
    /// Writes `new` if the register holds `old`; `None` is an empty register.
    Swap {
        old: Option<String>,
        new: String,
    },
    Delete,
    Read,
}

/// What the caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A write, a swap or a delete had its effect, and made this revision of everything.
    Done { revision: Option<u64> },
    /// A swap or a delete found something else than it expected, and had no effect.
    Refused,
    /// What a read saw, and the revision of everything at which it did.
    Saw { value: Option<String>, revision: Option<u64> },
    /// It had no effect and never will.
    Failed,
    /// Nobody knows: it has its effect at any time after its call, or never. This is also what
    /// stands for an operation that was not answered yet.
    Unknown,
}

/// Why no single copy could have answered so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// No order of this register's operations explains their answers.
    Register { key: String, operations: Vec<String> },
    /// A revision stands beside a later answer that has an earlier one, or beside two changes.
    Revision { what: String },
    /// More operations on a register than a check has room for.
    TooLong { key: String, operations: usize },
}

#[derive(Clone, Debug)]
struct Operation {
    key: String,
    deed: Deed,
    answer: Answer,
    called: u64,
    /// `u64::MAX` while it may still have its effect.
    answered: u64,
}

impl History {
    /// Notes that an operation begins.
    pub(crate) fn call(&mut self, key: &str, deed: Deed) -> Call {
        self.moment += 1;
        let operation = Operation {
            key: key.to_owned(),
            deed,
            answer: Answer::Unknown,
            called: self.moment,
            answered: u64::MAX,
        };
        self.operations.push(operation);
        Call(self.operations.len() - 1)
    }

    /// Notes what an operation was answered.
    pub(crate) fn answer(&mut self, call: Call, answer: Answer) {
        self.moment += 1;
        if let Some(operation) = self.operations.get_mut(call.0) {
            operation.answered = if answer == Answer::Unknown { u64::MAX } else { self.moment };
            operation.answer = answer;
        }
    }

    /// How many operations there are.
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Judges every register, and the order of the revisions over all of them.
    ///
    /// # Errors
    /// The first violation that is found.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        self.check_revisions()?;
        let mut registers: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            // What failed had no effect, so it may stand nowhere; a value that it wrote and
            // somebody saw finds no write.
            if operation.answer != Answer::Failed {
                registers.entry(&operation.key).or_default().push(operation);
            }
        }
        registers.into_iter().try_for_each(|(key, operations)| check_register(key, &operations))
    }

    /// Each change has a revision of its own, and no answer goes back behind an earlier one.
    fn check_revisions(&self) -> Result<(), Violation> {
        let violation = |what: String| Err(Violation::Revision { what });
        let mut made: BTreeSet<u64> = BTreeSet::new();
        let mut answered: Vec<(u64, u64)> = Vec::new();
        for operation in &self.operations {
            let revision = match &operation.answer {
                Answer::Done { revision: Some(revision) } => {
                    if !made.insert(*revision) {
                        return violation(format!("two changes made revision {revision}"));
                    }
                    *revision
                }
                Answer::Saw { revision: Some(revision), .. } => *revision,
                _ => continue,
            };
            answered.push((operation.answered, revision));
        }
        answered.sort_unstable();
        // The greatest revision that was answered up to each moment.
        let mut newest = 0;
        for (_, revision) in &mut answered {
            newest = newest.max(*revision);
            *revision = newest;
        }
        for operation in &self.operations {
            let (revision, is_change) = match operation.answer {
                Answer::Done { revision: Some(revision) } => (revision, true),
                Answer::Saw { revision: Some(revision), .. } => (revision, false),
                _ => continue,
            };
            let before = answered.partition_point(|(moment, _)| *moment < operation.called);
            let Some((_, known)) = before.checked_sub(1).and_then(|last| answered.get(last)) else {
                continue;
            };
            if revision < *known || (is_change && revision == *known) {
                return violation(format!(
                    "{known} was answered before a call that was answered {revision}: {}",
                    shown(operation)
                ));
            }
        }
        Ok(())
    }
}

/// A configuration of the search: which operations have had their effect, and what is there now.
type Configuration<'a> = (u128, Option<&'a str>);

/// Looks for an order of one register's operations that explains their answers.
fn check_register(key: &str, operations: &[&Operation]) -> Result<(), Violation> {
    if operations.len() > OPERATIONS_MAX {
        return Err(Violation::TooLong { key: key.to_owned(), operations: operations.len() });
    }
    let answered = operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.answered != u64::MAX)
        .fold(0_u128, |all, (place, _)| all | 1 << place);
    let mut seen: HashSet<Configuration<'_>> = HashSet::new();
    let mut open: Vec<Configuration<'_>> = vec![(0, None)];
    while let Some((done, value)) = open.pop() {
        if done & answered == answered {
            return Ok(());
        }
        let waits = |place: usize| done & (1 << place) == 0;
        // Nothing may be put behind an operation that was answered before it was called.
        let first_answer = operations
            .iter()
            .enumerate()
            .filter(|(place, _)| waits(*place))
            .map(|(_, operation)| operation.answered)
            .min()
            .unwrap_or(u64::MAX);
        for (place, operation) in operations.iter().enumerate() {
            if !waits(place) || operation.called > first_answer {
                continue;
            }
            if let Some(after) = effect(operation, value) {
                let next = (done | 1 << place, after);
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    let operations = operations.iter().map(|operation| shown(operation)).collect();
    Err(Violation::Register { key: key.to_owned(), operations })
}

/// What a register holds after an operation; `None` when its answer does not fit what it held.
fn effect<'a>(operation: &'a Operation, held: Option<&'a str>) -> Option<Option<&'a str>> {
    match (&operation.deed, &operation.answer) {
        (_, Answer::Failed) => None,
        (Deed::Write(new), Answer::Done { .. } | Answer::Unknown) => Some(Some(new)),
        (Deed::Swap { old, new }, Answer::Done { .. } | Answer::Unknown) => {
            (old.as_deref() == held).then_some(Some(new))
        }
        (Deed::Swap { old, .. }, Answer::Refused) => (old.as_deref() != held).then_some(held),
        (Deed::Delete, Answer::Done { .. } | Answer::Unknown) => held.is_some().then_some(None),
        (Deed::Delete, Answer::Refused) => held.is_none().then_some(None),
        (Deed::Read, Answer::Saw { value, .. }) => (value.as_deref() == held).then_some(held),
        // A read that nobody answered says nothing.
        (Deed::Read, Answer::Unknown) => Some(held),
        (Deed::Write(_), Answer::Refused | Answer::Saw { .. })
        | (Deed::Swap { .. } | Deed::Delete, Answer::Saw { .. })
        | (Deed::Read, Answer::Done { .. } | Answer::Refused) => None,
    }
}

fn shown(operation: &Operation) -> String {
    let Operation { key, deed, answer, called, answered } = operation;
    let until = if *answered == u64::MAX { "…".to_owned() } else { answered.to_string() };
    format!("{called}–{until} {key}: {deed:?} → {answer:?}")
}

/// Operations on one register in one history: one bit each in a configuration.
pub(crate) const OPERATIONS_MAX: usize = 128;

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
