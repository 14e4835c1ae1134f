//! From a state to the snapshot that the gate reads.
//!
//! A compiler remembers what it compiled. What is the same in the next state, by its address, is
//! not read again; so a change costs what it touches, and what refers to that. The result is the
//! one that a fresh compile gives, which is how the tests judge it.

mod agents;
mod memory;
mod opened;
mod proofs;
mod routes;

use std::sync::Arc;

use model::Secret;
use rules::Snapshot;

use crate::fault::Fault;
use crate::key::Key;
use crate::keyring::Keyring;
use crate::reference::Reference;
use crate::state::State;
use memory::{Memory, Sources};

/// The value of a reference on this node, or why there is none (a sentence without secrets).
pub type Resolve<'a> = dyn Fn(&Reference) -> Result<Secret<String>, String> + Sync + 'a;

/// Compiles the whole state, once.
///
/// `resolved` counts how often this node has resolved its secrets anew: whoever was proven by an
/// older value must be proven again.
///
/// # Errors
/// Every fault of every resource. A state made by [`State::apply`] has none, unless an older
/// release with other rules made it.
pub fn compile(
    state: &State,
    keyring: &Keyring,
    secrets: &Resolve<'_>,
    resolved: u64,
) -> Result<Snapshot, Vec<(Key, Fault)>> {
    Memory::default().compile(state, Sources { keyring, secrets, resolved }).1
}

/// Compiles one state after another. Holds secrets as the snapshots do.
pub struct Compiler {
    keyring: Arc<Keyring>,
    memory: Memory,
}

impl Compiler {
    /// A compiler that has compiled nothing yet.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, memory: Memory::default() }
    }

    /// Compiles a state as [`compile`] does, at the cost of what is not as it was last time. The
    /// states need not follow each other.
    ///
    /// A reference that was resolved is asked for again only once `resolved` has moved: it must
    /// move with every value. One that was not resolved is asked for each time.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn compile(
        &mut self,
        state: &State,
        secrets: &Resolve<'_>,
        resolved: u64,
    ) -> Result<Snapshot, Vec<(Key, Fault)>> {
        // After a panic nothing half done is left: the next compile starts afresh.
        let memory = std::mem::take(&mut self.memory);
        let sources = Sources { keyring: &self.keyring, secrets, resolved };
        let (memory, compiled) = memory.compile(state, sources);
        self.memory = memory;
        compiled
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
