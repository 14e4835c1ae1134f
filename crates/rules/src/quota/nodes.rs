//! The nodes that bring news: when they were heard of, and what they may not have heard.

use std::collections::BTreeMap;

use super::news::{Grant, News};

/// The nodes of a fleet, as one credential knows them. One that was silent for [`GONE`] is
/// forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes(BTreeMap<u64, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    seen: u64,
    /// The number of its last step.
    number: u64,
    /// Its calls were taken out, since it was not heard of.
    is_out: bool,
    /// Grants that it may not have heard of, and when they were given.
    kept: Vec<(Grant, u64)>,
}

/// What is found when a node comes.
pub(super) struct Met {
    /// Its step was overtaken by a later one.
    pub(super) is_late: bool,
    /// Its calls were taken out before.
    pub(super) was_out: bool,
    /// Nodes that are silent for so long that their calls are to be taken out now.
    pub(super) silent: Vec<u64>,
}

impl Nodes {
    /// Notes that a node is there, and who is not.
    pub(super) fn meet(&mut self, now: u64, of: u64, news: &News) -> Met {
        let node = self.0.entry(of).or_default();
        let (is_late, was_out) = (news.number < node.number, node.is_out);
        if !is_late {
            (node.seen, node.number, node.is_out) = (now, news.number, false);
            node.kept.retain(|(grant, _)| grant.number > news.heard);
        }
        self.0.retain(|_, node| now.saturating_sub(node.seen) <= GONE);
        let silent = self
            .0
            .iter_mut()
            .filter(|(_, node)| !node.is_out && now.saturating_sub(node.seen) > AWAY);
        let silent = silent.map(|(of, node)| {
            node.is_out = true;
            *of
        });
        Met { is_late, was_out: was_out && !is_late, silent: silent.collect() }
    }

    /// Remembers a grant until the node says that it has heard of it. Of too many the oldest are
    /// forgotten: their calls join anew.
    pub(super) fn keep(&mut self, now: u64, of: u64, grant: Grant) {
        if let Some(node) = self.0.get_mut(&of) {
            if node.kept.len() >= KEPT_MAX {
                node.kept.remove(0);
            }
            node.kept.push((grant, now));
        }
    }

    /// The grant of a call that asks again.
    pub(super) fn kept(&self, now: u64, of: u64, seq: u64) -> Option<Grant> {
        let kept = self.0.get(&of)?.kept.iter().find(|(grant, _)| grant.seq == seq)?;
        Some(Grant { age: now.saturating_sub(kept.1), ..kept.0 })
    }

    /// Forgets the grant of a call that left.
    pub(super) fn forget(&mut self, of: u64, seq: u64) {
        if let Some(node) = self.0.get_mut(&of) {
            node.kept.retain(|(grant, _)| grant.seq != seq);
        }
    }
}

/// A node that was not heard of for so long does not hold others up.
pub const AWAY: u64 = 1_000;

/// A node is forgotten after this.
const GONE: u64 = 60_000;

/// Grants that a node may not have heard of: those of a few steps.
const KEPT_MAX: usize = 1_024;
