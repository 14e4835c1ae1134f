//! From a state to the snapshot that requests are judged by.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::{Compiler, Fault, HostCredential, Key, Keyring, Reference, State};
use rules::upstream::Credential;
use rules::{Snapshot, Unresolved};
use tokio::sync::watch;

use crate::secret::Secrets;

/// Compiles states and publishes what came out. Owned by the writer's thread, since a compile of
/// a large document takes long.
pub(crate) struct Publisher {
    /// Remembers the last state it compiled, also one that was thrown away.
    pub(crate) compiler: Compiler,
    pub(crate) secrets: Arc<Secrets>,
    /// What this node keeps for hosts.
    pub(crate) credentials: Vec<HostCredential>,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    /// Which values of secrets the current state was last compiled with.
    pub(crate) generation: u64,
}

/// What came out of a compile: a snapshot that is ready to be published, or faults.
pub(crate) struct Compiled {
    pub(crate) snapshot: Result<Arc<Snapshot>, Vec<(Key, Fault)>>,
    references: BTreeSet<Reference>,
    generation: u64,
}

impl Publisher {
    /// Compiles a state with the secrets that this node knows; new ones are waited for so long.
    pub(crate) fn compile(&mut self, state: &State, patience: Duration) -> Compiled {
        let mut references = config::references(state);
        references.extend(self.credentials.iter().map(|kept| kept.reference().clone()));
        self.secrets.want(&references, patience);
        // Read before the values: what moves in between is compiled again, not missed.
        let generation = self.secrets.generation();
        let secrets = &self.secrets;
        let resolve = |reference: &Reference| secrets.value(reference);
        let compiled = self.compiler.compile(state, &resolve, generation);
        let snapshot = compiled.map(|mut snapshot| {
            self.add_credentials(&mut snapshot);
            Arc::new(snapshot)
        });
        Compiled { snapshot, references, generation }
    }

    /// Adds what belongs to this node alone.
    fn add_credentials(&self, snapshot: &mut Snapshot) {
        let resolve = |reference: &Reference| self.secrets.value(reference);
        for kept in &self.credentials {
            let bound = kept.open(&resolve);
            if let Credential::Unresolved { reference } = &bound.credential {
                snapshot.unresolved.push(Unresolved {
                    place: format!("the setting `credentials`, {}:{}", bound.host, bound.port),
                    reference: reference.to_string(),
                    why: self
                        .secrets
                        .value(kept.reference())
                        .err()
                        .unwrap_or_else(|| String::from("holds what no header field takes")),
                });
            }
            snapshot.credentials.push(bound);
        }
    }

    /// Makes a compiled state the one that requests are judged by; one with faults leaves the last
    /// good snapshot in place, and the faults are given back.
    pub(crate) fn publish(&mut self, compiled: Compiled) -> Vec<(Key, Fault)> {
        self.generation = compiled.generation;
        self.secrets.keep_only(&compiled.references);
        match compiled.snapshot {
            Ok(snapshot) => {
                self.snapshots.send_replace(snapshot);
                Vec::new()
            }
            Err(faults) => faults,
        }
    }

    /// Whether secrets have moved since the state was last compiled.
    pub(crate) fn is_behind_secrets(&self) -> bool {
        self.generation != self.secrets.generation()
    }
}

/// Compiles a state once, with what is known of its secrets, without waiting for any.
pub(crate) fn compile(
    state: &State,
    keyring: &Keyring,
    secrets: &Secrets,
    generation: u64,
) -> Result<Snapshot, Vec<(Key, Fault)>> {
    config::compile(state, keyring, &|reference| secrets.value(reference), generation)
}
