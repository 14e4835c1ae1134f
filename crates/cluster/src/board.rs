//! What the writer shows to everybody else.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use config::{Fault, Key, State};
use model::Revision;

/// The newest state, and what is wrong with the node.
pub(crate) struct Board {
    state: ArcSwap<State>,
    /// Why the state does not compile; empty while it does.
    faults: ArcSwap<Vec<String>>,
    /// Why nothing can be written.
    broken: ArcSwapOption<String>,
}

impl Board {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state: ArcSwap::new(state),
            faults: ArcSwap::default(),
            broken: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        Vec::clone(&self.faults.load())
    }

    pub(crate) fn why_not_writable(&self) -> Option<String> {
        self.broken.load().as_ref().map(|why| String::clone(why))
    }

    pub(crate) fn show_state(&self, state: Arc<State>) {
        self.state.store(state);
    }

    pub(crate) fn show_faults(&self, revision: Revision, faults: &[(Key, Fault)]) {
        let shown = faults.iter().take(FAULTS_SHOWN_MAX);
        let mut texts: Vec<String> = shown
            .map(|(key, fault)| format!("revision {revision} does not compile: {key}: {fault}"))
            .collect();
        if let Some(more) = faults.len().checked_sub(FAULTS_SHOWN_MAX).filter(|more| *more > 0) {
            texts.push(format!("and {more} more"));
        }
        self.faults.store(Arc::new(texts));
    }

    pub(crate) fn show_broken(&self, why: &str) {
        self.broken.store(Some(Arc::new(why.to_owned())));
    }
}

/// Faults in a status; of the others only the number is told.
const FAULTS_SHOWN_MAX: usize = 20;
