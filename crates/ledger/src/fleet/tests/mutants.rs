//! A checker is worth what it finds: scripts with one fault each, which their laws must refuse.
//!
//! A fault is a place in the text of a script and what stands there instead. The scripts of one
//! organisation are altered (`Script::call` asks here in tests), and a law that is run on this
//! thread plays in that organisation.

mod counts;
mod turns;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::test_runner::{Config, RngSeed};

use super::Organisation;

/// A law: it panics where it finds a fault.
pub(crate) type Law = (&'static str, fn());

/// The faults of one file, and the laws of which one must find each of them.
pub(crate) struct Faults<'a> {
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
    /// Its name, what stands there once, and what stands there instead.
    pub(crate) faults: &'a [(&'static str, &'static str, &'static str)],
}

/// A file of a script and what stands for it.
struct Altered {
    file: &'static str,
    by: String,
    has_run: bool,
}

/// What is altered, by the hash tag of an organisation's keys.
static ALTERED: Mutex<BTreeMap<String, Altered>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// The organisation in which laws play on this thread.
    static GROUND: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The organisation in which the tests of this thread play.
pub(crate) fn organisation() -> Organisation {
    let ground = GROUND.with_borrow(Clone::clone);
    ground.map_or_else(Organisation::default, |name| name.parse().unwrap())
}

/// Whether a law is tried on a mutant: then what it waits for may never come.
pub(crate) fn is_trial() -> bool {
    GROUND.with_borrow(Option::is_some)
}

/// How histories are drawn: anew in each run, and the same ones for each mutant.
pub(crate) fn histories(cases: u32) -> Config {
    let mut config = Config::with_cases(cases);
    config.failure_persistence = None;
    config.max_shrink_iters = 400;
    if is_trial() {
        config.cases = cases.min(CASES);
        config.max_shrink_iters = 0;
        config.rng_seed = RngSeed::Fixed(7);
    }
    config
}

/// The text that stands for this one where the keys are of an organisation with a fault.
pub(crate) fn altered(keys: &[impl AsRef<[u8]>], text: &str) -> Option<String> {
    let key = std::str::from_utf8(keys.first()?.as_ref()).ok()?;
    let (tag, _) = key.split_once('}')?;
    let mut altered = ALTERED.lock();
    altered.get_mut(tag)?.of(text)
}

impl Altered {
    fn of(&mut self, text: &str) -> Option<String> {
        let found = text.contains(self.file);
        self.has_run |= found;
        found.then(|| text.replacen(self.file, &self.by, 1))
    }
}

/// A text as it is altered for the law that runs on this thread.
pub(crate) fn text_here(text: &str) -> String {
    let ground = GROUND.with_borrow(Clone::clone);
    let altered = ground.and_then(|name| ALTERED.lock().get_mut(&format!("{{{name}"))?.of(text));
    altered.unwrap_or_else(|| text.to_owned())
}

/// What a law says of the scripts of an organisation of its own, and whether the altered one ran.
fn refusal(law: fn(), altered: Option<Altered>) -> (Option<String>, bool) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("mutant-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let tag = format!("{{{name}");
    if let Some(altered) = altered {
        ALTERED.lock().insert(tag.clone(), altered);
    }
    GROUND.set(Some(name));
    let found = catch_unwind(law).err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        // What was found stands before the history that found it.
        text.unwrap_or_default().split("minimal").next().unwrap_or_default().to_owned()
    });
    GROUND.set(None);
    let has_run = ALTERED.lock().remove(&tag).is_none_or(|altered| altered.has_run);
    (found, has_run)
}

/// What is wrong where a fault is not found by one of the laws.
fn survival(of: &Faults<'_>, fault: &(&str, &str, &str), laws: &[Law]) -> Option<String> {
    let (Faults { file, text, .. }, (name, from, to)) = (of, fault);
    let count = text.matches(from).count();
    if count != 1 {
        return Some(format!("mutant `{name}`: {file} has its place {count} times, not once"));
    }
    let by = text.replacen(from, to, 1);
    let (mut has_run, mut broken) = (false, None);
    for (_, law) in laws {
        let altered = Altered { file: text, by: by.clone(), has_run: false };
        let (refused, ran) = refusal(*law, Some(altered));
        if ran && refused.is_some() {
            return None;
        }
        // One that fails before the fault could show says nothing.
        (has_run, broken) = (has_run || ran, broken.or(refused));
    }
    let survives = format!("mutant `{name}` of {file} survives");
    Some(if has_run { survives } else { format!("{survives}: no law ran it: {broken:?}") })
}

/// Each fault is found by one of the laws, which find none where there is none.
pub(crate) fn check(all: &[Faults<'_>], laws: &[Law]) {
    let soundness = laws.iter().map(|(law, run)| {
        let sound = move || {
            let (refused, _) = refusal(*run, None);
            refused.map(|why| format!("`{law}` fails without a fault: {why}"))
        };
        Box::new(sound) as Box<dyn Fn() -> Option<String> + Send>
    });
    let trials = all.iter().flat_map(|of| {
        of.faults.iter().map(move |fault| {
            Box::new(move || survival(of, fault, laws)) as Box<dyn Fn() -> Option<String> + Send>
        })
    });
    let trials = Mutex::new(soundness.chain(trials).collect::<Vec<_>>().into_iter());
    let wrong = Mutex::new(Vec::new());
    // They wait more than they work.
    std::thread::scope(|scope| {
        for _ in 0..TRIALS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(trial) = trials.lock().next() else { break };
                    wrong.lock().extend(trial());
                }
            });
        }
    });
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const TRIALS_AT_ONCE: usize = 6;

/// Histories that are drawn for a mutant.
const CASES: u32 = 120;

/// How long a law waits for what may never come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

#[test]
#[should_panic(expected = "mutant `moved`: take.lua has its place 0 times, not once")]
fn a_place_that_has_moved_is_named() {
    let faults = &[("moved", "no such line", "")];
    check(&[Faults { file: "take.lua", text: include_str!("../take.lua"), faults }], &[]);
}

#[test]
#[should_panic(expected = "mutant `unseen` of take.lua survives: no law ran it")]
fn a_fault_that_no_law_runs_is_named() {
    let faults = &[("unseen", "local plans, from", "local from, plans")];
    let laws: &[Law] = &[("nothing", || {})];
    check(&[Faults { file: "take.lua", text: include_str!("../take.lua"), faults }], laws);
}
