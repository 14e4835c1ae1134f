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
        config.cases = cases.min(TRIALS);
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

/// Each fault is found by one of the laws, which find none where there is none.
pub(crate) fn check(all: &[Faults<'_>], laws: &[Law]) {
    let mut wrong = Vec::new();
    for (law, run) in laws {
        if let (Some(why), _) = refusal(*run, None) {
            wrong.push(format!("`{law}` fails without a fault: {why}"));
        }
    }
    for Faults { file, text, faults } in all {
        for (name, from, to) in *faults {
            let count = text.matches(from).count();
            if count != 1 {
                wrong
                    .push(format!("mutant `{name}`: {file} has its place {count} times, not once"));
                continue;
            }
            let by = text.replacen(from, to, 1);
            let (mut has_run, mut broken) = (false, None);
            let is_found = laws.iter().any(|(_, law)| {
                let altered = Altered { file: text, by: by.clone(), has_run: false };
                let (refused, ran) = refusal(*law, Some(altered));
                has_run |= ran;
                let is_found = ran && refused.is_some();
                // One that fails before the fault could show says nothing.
                broken = broken.take().or(refused);
                is_found
            });
            if !has_run {
                wrong.push(format!("mutant `{name}`: no law runs {file}: {broken:?}"));
            } else if !is_found {
                wrong.push(format!("mutant `{name}` of {file} survives"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Histories that are drawn for a mutant.
const TRIALS: u32 = 120;

/// How long a law waits for what may never come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
