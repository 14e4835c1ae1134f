//! What the node shows to everybody inside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use config::{Fault, Key, State};
use model::Revision;
use tokio::sync::watch;

use crate::fact::{Fact, FactKind, Facts};
use crate::machine::Machine;

/// The newest state, and what is wrong with the node.
pub(crate) struct Board {
    view: watch::Sender<View>,
    /// Why the state does not compile; empty while it does.
    faults: ArcSwap<Vec<String>>,
    /// Why nothing can be written.
    broken: ArcSwapOption<String>,
    /// Who says that this node is no member any more, while nobody leads it.
    banished: ArcSwapOption<String>,
    /// Which leader is not heard, by its number, and why.
    unheard: ArcSwapOption<(u64, String)>,
    /// Whether the log has told once that this node is a member.
    is_told: AtomicBool,
}

/// What the log has made, up to an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The index of the last entry that was applied; 0 also before any was.
    pub(crate) applied: u64,
    pub(crate) state: Arc<State>,
    pub(crate) facts: Facts,
}

impl View {
    pub(crate) fn of(machine: &Machine, applied: u64) -> Self {
        Self { applied, state: Arc::new(machine.state.clone()), facts: machine.facts.clone() }
    }
}

impl Board {
    pub(crate) fn new(view: View) -> Self {
        Self {
            view: watch::Sender::new(view),
            faults: ArcSwap::default(),
            broken: ArcSwapOption::empty(),
            banished: ArcSwapOption::empty(),
            unheard: ArcSwapOption::empty(),
            is_told: AtomicBool::new(false),
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.view.borrow().state)
    }

    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// One fact.
    pub(crate) fn fact(&self, kind: FactKind, id: &str) -> Option<Fact> {
        self.view.borrow().facts.get(kind, id).cloned()
    }

    /// The newest view, and each one after it.
    pub(crate) fn views(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        Vec::clone(&self.faults.load())
    }

    pub(crate) fn why_not_writable(&self) -> Option<String> {
        self.broken.load().as_ref().map(|why| String::clone(why))
    }

    pub(crate) fn show(&self, view: View) {
        self.view.send_replace(view);
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

    /// The compiler itself failed on this revision.
    pub(crate) fn show_defect(&self, revision: Revision) {
        let text = format!("compiling revision {revision} met a defect of the program");
        self.faults.store(Arc::new(vec![text]));
    }

    pub(crate) fn banished(&self) -> Option<String> {
        self.banished.load().as_ref().map(|why| String::clone(why))
    }

    pub(crate) fn show_banished(&self, why: Option<String>) {
        self.banished.store(why.map(Arc::new));
    }

    /// Why this leader is not heard, if it is not.
    pub(crate) fn unheard(&self, leader: u64) -> Option<String> {
        let unheard = self.unheard.load();
        unheard.as_deref().filter(|(id, _)| *id == leader).map(|(_, why)| why.clone())
    }

    pub(crate) fn show_unheard(&self, unheard: Option<(u64, String)>) {
        self.unheard.store(unheard.map(Arc::new));
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    pub(crate) fn show_told(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }

    pub(crate) fn show_broken(&self, why: &str) {
        self.broken.store(Some(Arc::new(why.to_owned())));
    }
}

/// Faults in a status; of the others only the number is told.
const FAULTS_SHOWN_MAX: usize = 20;
