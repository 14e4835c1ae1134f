//! The seeds that are run, and the mutants that they must find.

use std::sync::Mutex;
use std::thread::available_parallelism;

use super::mutant::Mutant;
use super::world::{Run, run};

#[test]
fn whatever_befalls_a_cluster_it_keeps_its_promises_and_heals() {
    all_seeds(SEEDS, |seed| {
        let Run { broken, tail, .. } = run(seed, None);
        broken.map(|broken| format!("{tail}\n{broken}"))
    });
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    all_seeds(SEEDS_TWICE, |seed| {
        let (once, again) = (run(seed, None), run(seed, None));
        (once.digest != again.digest).then(|| "it ran otherwise the second time".to_owned())
    });
}

#[test]
fn a_vote_that_is_forgotten_is_found() {
    is_found(Mutant::VoteForgotten);
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found() {
    is_found(Mutant::SyncLies);
}

#[test]
fn a_read_that_nobody_confirmed_is_found() {
    is_found(Mutant::ReadUnconfirmed);
}

#[test]
fn a_change_that_is_made_twice_is_found() {
    is_found(Mutant::IdsIgnored);
}

#[test]
fn an_entry_that_is_not_applied_is_found() {
    is_found(Mutant::EntrySkipped);
}

#[test]
fn a_snapshot_without_facts_is_found() {
    is_found(Mutant::FactsLost);
}

/// Runs seeds until one shows what is wrong with the cluster.
#[track_caller]
fn is_found(mutant: Mutant) {
    let found = (0..MUTANT_SEEDS).any(|seed| run(seed, Some(mutant)).broken.is_some());
    assert!(found, "{mutant:?} was not found in {MUTANT_SEEDS} seeds");
}

/// Judges so many seeds, or those that the environment asks for, on as many threads as there are
/// processors; the least seed that fails is shown.
#[track_caller]
fn all_seeds(number: u64, judge: impl Fn(u64) -> Option<String> + Sync) {
    let (seeds, threads) = (seeds(number), available_parallelism().map_or(1, usize::from));
    let failed: Mutex<Option<(u64, String)>> = Mutex::default();
    let work = |seeds: &mut dyn Iterator<Item = u64>| {
        for seed in seeds {
            if failed.lock().unwrap().as_ref().is_some_and(|(least, _)| *least < seed) {
                return;
            }
            if let Some(why) = judge(seed) {
                let failed = &mut *failed.lock().unwrap();
                if failed.as_ref().is_none_or(|(least, _)| seed < *least) {
                    *failed = Some((seed, why));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for first in 0..threads {
            let mut seeds = seeds.clone().skip(first).step_by(threads);
            scope.spawn(move || work(&mut seeds));
        }
    });
    if let Some((seed, why)) = failed.into_inner().unwrap() {
        panic!("{why}\n\nto see it again: TOLLGATE_SIM_SEED={seed} cargo test -p cluster sim");
    }
}

/// The seeds to run: so many as the environment says, or the one that it names.
#[expect(clippy::disallowed_methods, reason = "a test has no settings but the environment")]
fn seeds(number: u64) -> std::ops::Range<u64> {
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = asked("TOLLGATE_SIM_SEED") {
        return seed..seed + 1;
    }
    0..asked("TOLLGATE_SIM_SEEDS").unwrap_or(number)
}

/// Seeds of a run that nobody asked for more.
const SEEDS: u64 = 24;

/// The same, of the test that runs each twice.
const SEEDS_TWICE: u64 = 4;

/// Seeds after which a mutant has escaped.
const MUTANT_SEEDS: u64 = 200;
