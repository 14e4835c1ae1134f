//! What must hold after every step, on every node.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use config::Kind;
use parking_lot::Mutex;

use super::net::Station;
use crate::board::View;
use crate::types::LogId;

/// The first thing that did not hold, and what is known for comparing.
#[derive(Default)]
pub(crate) struct Check(Mutex<Known>);

#[derive(Default)]
struct Known {
    broken: Option<String>,
    /// The entry at each index that some node has applied.
    applied: BTreeMap<u64, LogId>,
    /// A digest of what the log has made, by the index of the last entry applied.
    states: BTreeMap<u64, u64>,
    /// Where each life of a node was last seen.
    seen: BTreeMap<(u64, u64), Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    term: u64,
    applied: u64,
    revision: u64,
    /// Whether what it had made was compared.
    is_compared: bool,
}

impl Check {
    /// Notes a violation; the first one stays.
    pub(crate) fn fail(&self, what: impl FnOnce() -> String) {
        self.0.lock().broken.get_or_insert_with(what);
    }

    pub(crate) fn broken(&self) -> Option<String> {
        self.0.lock().broken.clone()
    }

    /// Looks at one node.
    pub(crate) fn observe(&self, station: &Station) {
        if station.life.is_cancelled() {
            return;
        }
        let known = &mut *self.0.lock();
        if known.broken.is_none() {
            known.broken = known.look(station).err();
        }
    }
}

impl Known {
    /// The log is the same everywhere, and its entries are of leaders that followed one another.
    /// What Raft calls a term is here a term and a node: where nodes stand for election in the same
    /// term, openraft has the greater one follow the other.
    fn compare_entry(&mut self, id: u64, at: LogId) -> Result<(), String> {
        let known = *self.applied.entry(at.index).or_insert(at);
        let before = self.applied.range(..at.index).next_back().map(|(_, it)| it.leader_id);
        let after = self.applied.range(at.index + 1..).next().map(|(_, it)| it.leader_id);
        if known != at {
            return Err(format!("node {id} applied {at}, and another {known}"));
        }
        if before > Some(at.leader_id) || after.is_some_and(|after| after < at.leader_id) {
            return Err(format!("entry {at} lies between {before:?} and {after:?}"));
        }
        Ok(())
    }

    fn look(&mut self, station: &Station) -> Result<(), String> {
        let id = station.id;
        let view = station.handle.0.board.view();
        let (term, applied) = {
            let metrics = station.metrics.borrow();
            (metrics.current_term, metrics.last_applied)
        };
        if let Some(at) = applied {
            self.compare_entry(id, at)?;
        }
        let revision = view.state.revision().number();
        let seen = self.seen.entry((id, station.number)).or_default();
        if term < seen.term || view.applied < seen.applied || revision < seen.revision {
            return Err(format!(
                "node {id} went back: from term {}, entry {}, revision {} to {term}, {}, {revision}",
                seen.term, seen.applied, seen.revision, view.applied
            ));
        }
        let is_news = view.applied > seen.applied || !seen.is_compared;
        *seen = Seen { term, applied: view.applied, revision, is_compared: true };
        if is_news {
            let digest = digest(&view);
            if *self.states.entry(view.applied).or_insert(digest) != digest {
                return Err(format!("node {id} made something else of entry {}", view.applied));
            }
        }
        Ok(())
    }
}

/// What the log has made, as text: of the document and of the facts.
pub(crate) fn text(view: &View) -> String {
    let mut text = format!("{}\n", view.state.revision());
    for (key, stored) in Kind::ALL.iter().flat_map(|kind| view.state.list(*kind)) {
        text += &format!("{key} {} {} {}\n", stored.created, stored.modified, stored.value);
    }
    for (key, fact) in view.facts.iter() {
        text += &format!("{key} {fact:?}\n");
    }
    text
}

fn digest(view: &View) -> u64 {
    let mut hasher = DefaultHasher::new();
    text(view).hash(&mut hasher);
    hasher.finish()
}
