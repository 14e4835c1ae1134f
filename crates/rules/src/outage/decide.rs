//! What who leads has the fleet agree on next.

use std::collections::{BTreeMap, BTreeSet};

use super::{Epoch, Mode, Reach, Report};

/// What who leads sees of the others.
#[derive(Debug)]
pub struct Sight<'a> {
    /// Everybody that belongs to the cluster, and those of them that have a vote.
    pub nodes: &'a BTreeSet<u64>,
    pub voters: &'a BTreeSet<u64>,
    /// What the nodes said that were heard just now.
    pub reports: &'a BTreeMap<u64, Report>,
    /// Those that have been heard, and nobody else, for some seconds; `None` while that changes.
    pub steady: Option<&'a BTreeSet<u64>>,
    /// Whether a limit of the document is to be shared.
    pub is_wanted: bool,
}

/// What is to be agreed on next; `None` where that is what is agreed on already.
#[must_use]
pub fn decide(current: Option<&Epoch>, sight: &Sight<'_>) -> Option<Epoch> {
    let mut next = current.cloned().unwrap_or_else(Epoch::first);
    next.members.retain(|node, _| sight.nodes.contains(node));
    for (node, report) in sight.reports.iter().filter(|(node, _)| sight.nodes.contains(*node)) {
        if next.members.contains_key(node) || next.members.len() < MEMBERS_MAX {
            next.members.insert(*node, report.name.clone());
        }
    }
    // Who does not speak of it yet may be of a release that knows nothing of it.
    let is_new = |node| !next.members.contains_key(node);
    if current.is_none() && sight.nodes.iter().any(is_new) {
        return None;
    }
    turn(&mut next, sight);
    (Some(&next) != current).then_some(next)
}

/// Who counts from now on.
fn turn(next: &mut Epoch, sight: &Sight<'_>) {
    if let Some(number) = ahead(next, sight) {
        // Another fleet has counted there, or this one in a life that it has forgotten.
        begin_anew(next, number.saturating_add(1));
        return;
    }
    let (found, is_steady) = (found(next, sight, 0), found(next, sight, STEADY_MS_MIN).is_some());
    match &next.mode {
        Mode::Store => {
            let all_obey = sight.nodes.iter().all(|node| next.members.contains_key(node));
            if sight.is_wanted && all_obey && is_away(next, sight) {
                next.mode = Mode::Local { sharing: sight.reports.keys().copied().collect() };
                next.era += 1;
            } else if let Some(life) = found.filter(|life| *life != next.life) {
                next.era += u64::from(next.life != 0);
                next.life = life;
            }
        }
        Mode::Local { .. } if is_steady => begin_anew(next, next.number + 1),
        Mode::Local { sharing } => {
            if let Some(steady) = sight.steady.filter(|steady| !steady.is_empty())
                && steady != sharing
            {
                next.mode = Mode::Local { sharing: steady.clone() };
                next.era += 1;
            }
        }
    }
}

/// The store begins with nothing in it, once nobody counts elsewhere.
fn begin_anew(next: &mut Epoch, number: u64) {
    next.number = number;
    next.era += 1;
    next.life = 0;
    next.mode = Mode::Store;
}

fn is_away(next: &Epoch, sight: &Sight<'_>) -> bool {
    let away = |report: &Report| report.reach == Reach::Away && report.for_ms >= STEADY_MS_MIN;
    agrees(next, sight, away)
}

/// The life of the store that the fleet finds, for so long already.
fn found(next: &Epoch, sight: &Sight<'_>, for_ms: u64) -> Option<u64> {
    let life_of = |report: &Report| match report.reach {
        Reach::At { life } if report.for_ms >= for_ms => Some(life),
        Reach::At { .. } | Reach::Waits | Reach::Away | Reach::Ahead { .. } => None,
    };
    let lives: BTreeSet<u64> = sight.reports.values().filter_map(life_of).collect();
    lives
        .into_iter()
        .rev()
        .find(|life| agrees(next, sight, |report| life_of(report) == Some(*life)))
}

/// The number of a store that knows a higher one than the fleet.
fn ahead(next: &Epoch, sight: &Sight<'_>) -> Option<u64> {
    let number_of = |report: &Report| match report.reach {
        Reach::Ahead { number } if number > next.number => Some(number),
        Reach::Ahead { .. } | Reach::Waits | Reach::Away | Reach::At { .. } => None,
    };
    let is_ahead = agrees(next, sight, |report| number_of(report).is_some());
    is_ahead.then(|| sight.reports.values().filter_map(number_of).max()).flatten()
}

/// Whether a majority of the members says so; or all that are heard, if a majority of the voters is
/// among them.
fn agrees(next: &Epoch, sight: &Sight<'_>, says: impl Fn(&Report) -> bool) -> bool {
    let members = sight.reports.iter().filter(|(node, _)| next.members.contains_key(*node));
    let (heard, said): (BTreeSet<u64>, usize) =
        members.fold((BTreeSet::new(), 0), |(mut heard, said), (node, report)| {
            heard.insert(*node);
            (heard, said + usize::from(says(report)))
        });
    let voters = sight.voters.intersection(&heard).count();
    let is_whole = sight.steady == Some(&heard) && said == heard.len();
    said * 2 > next.members.len() || (is_whole && voters * 2 > sight.voters.len())
}

/// A store that is away for a shorter time is waited for; so is one that is back.
const STEADY_MS_MIN: u64 = 1_000;

/// Nodes that count in one store. A further one does not count: it refuses, as in an outage.
const MEMBERS_MAX: usize = 100;
