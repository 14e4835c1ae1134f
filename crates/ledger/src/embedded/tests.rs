//! Laws of the embedded ledger: all or nothing, durable over a clean stop, safe over a crash.

mod plans;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{LimitId, Rate, Tokens};
use rules::limit::{Limit, Mode, OnOutage, Per, Selector};
use rules::plan::{DrawRule, Scope, Subject};

use super::{
    Bucket, BucketKey, Denial, Draw, Duration, Embedded, Plan, SHARD_BUCKETS_MAX, SHARDS, Short,
    Timestamp, Uptime,
};

fn draw(name: &str, subject: &str, rate: &str, burst: &str) -> Draw {
    let rate = Rate::parse(rate, Duration::from_secs(1)).unwrap();
    let bucket = Bucket::new(rate, burst, Tokens(0)).unwrap();
    let id = LimitId::new(name);
    let limit = Limit {
        id: id.clone(),
        per: Per::Agent,
        selector: Selector::default(),
        bucket,
        mode: Mode::Exact,
        on_outage: OnOutage::Refuse,
        shadow: name == "shadow",
    };
    Draw {
        key: BucketKey { scope: Scope::Limit(id), subject: Subject::Text(Arc::from(subject)) },
        bucket,
        cost: Tokens(1),
        rule: DrawRule::Limit(Arc::new(limit)),
    }
}

fn plan(draws: Vec<Draw>) -> Plan {
    Plan { draws, ..Plan::default() }
}

fn at(millis: u64) -> Uptime {
    Uptime::from_micros(1_000_000 + millis * 1_000)
}

#[test]
fn a_refused_plan_takes_nothing_from_any_bucket() {
    let ledger = Embedded::in_memory();
    let both = plan(vec![draw("wide", "a", "0", "3"), draw("narrow", "a", "0", "1")]);
    assert!(ledger.take(&both, at(0)).is_ok());
    for _ in 0..5 {
        let denial = ledger.take(&both, at(0)).unwrap_err();
        assert_eq!(denial, Denial::Short { draw: 1, short: Short::Never });
    }
    let wide = plan(vec![draw("wide", "a", "0", "3")]);
    assert!(ledger.take(&wide, at(0)).is_ok());
    assert!(ledger.take(&wide, at(0)).is_ok());
    assert!(ledger.take(&wide, at(0)).is_err());
}

#[test]
fn two_draws_on_one_bucket_count_twice() {
    let ledger = Embedded::in_memory();
    let twice = plan(vec![draw("l", "a", "0", "3"), draw("l", "a", "0", "3")]);
    assert!(ledger.take(&twice, at(0)).is_ok());
    assert!(ledger.take(&twice, at(0)).is_err());
    assert!(ledger.take(&plan(vec![draw("l", "a", "0", "3")]), at(0)).is_ok());
}

#[test]
fn of_several_short_buckets_the_one_short_for_longest_speaks() {
    let ledger = Embedded::in_memory();
    let both = plan(vec![draw("fast", "a", "10", "1"), draw("slow", "a", "1", "1")]);
    assert!(ledger.take(&both, at(0)).is_ok());
    let expected = Denial::Short { draw: 1, short: Short::For(Duration::from_secs(1)) };
    assert_eq!(ledger.take(&both, at(0)), Err(expected));
}

#[test]
fn a_shadow_limit_counts_and_lets_pass() {
    let ledger = Embedded::in_memory();
    let shadow = plan(vec![draw("shadow", "a", "0", "1")]);
    assert!(ledger.take(&shadow, at(0)).unwrap().taken[0].is_some());
    assert!(ledger.take(&shadow, at(0)).unwrap().taken[0].is_none());
}

#[test]
fn each_subject_has_a_bucket_of_its_own() {
    let ledger = Embedded::in_memory();
    for subject in ["a", "b", "c"] {
        let one = plan(vec![draw("l", subject, "0", "1")]);
        assert!(ledger.take(&one, at(0)).is_ok());
        assert!(ledger.take(&one, at(0)).is_err());
    }
}

#[test]
fn many_threads_together_take_exactly_the_burst() {
    let ledger = Embedded::in_memory();
    let granted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (ledger, granted) = (&ledger, &granted);
            scope.spawn(move || {
                for round in 0..500 {
                    let own = format!("{thread}-{round}");
                    let both =
                        plan(vec![draw("l", "all", "0", "300"), draw("own", &own, "0", "1")]);
                    if ledger.take(&both, at(0)).is_ok() {
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 300);
}

#[test]
fn a_bucket_that_is_full_again_is_forgotten() {
    let ledger = Embedded::in_memory();
    ledger.take(&plan(vec![draw("l", "a", "10", "1")]), at(0)).unwrap();
    ledger.sweep(at(99));
    assert_eq!(ledger.len(), 1);
    ledger.sweep(at(100));
    assert_eq!(ledger.len(), 0);
}

#[test]
fn a_flood_of_strangers_is_bounded_and_costs_no_bucket_in_use() {
    let ledger = Embedded::in_memory();
    let victim = plan(vec![draw("l", "victim", "0", "1")]);
    ledger.take(&victim, at(0)).unwrap();
    let mut full = false;
    let flood = 2 * SHARDS * SHARD_BUCKETS_MAX;
    let shared = draw("l", "x", "0", "1");
    for stranger in 0..flood {
        let subject = Subject::Text(Arc::from(stranger.to_string()));
        let key = BucketKey { scope: shared.key.scope.clone(), subject };
        let one = plan(vec![Draw { key, rule: shared.rule.clone(), ..shared }]);
        full |= ledger.take(&one, at(0)) == Err(Denial::Full { draw: 0 });
    }
    assert!(full);
    assert!(ledger.len() <= SHARDS * SHARD_BUCKETS_MAX);
    assert!(ledger.take(&victim, at(0)).is_err());
}

/// Takes all of a bucket of 10, stops as told, and says how many are granted `later` seconds on.
fn check_restart(clean: bool, later: u64, expected: usize) {
    let directory = tempfile::tempdir().unwrap();
    let start = Timestamp::from_secs(1_000);
    let ledger = Embedded::open(directory.path(), start, at(0)).unwrap();
    let one = plan(vec![draw("l", "a", "1", "10")]);
    while ledger.take(&one, at(0)).is_ok() {}
    if clean {
        ledger.close(start, at(0)).unwrap();
    }
    drop(ledger);
    let ledger =
        Embedded::open(directory.path(), Timestamp::from_secs(1_000 + later), at(0)).unwrap();
    let granted = (0..20).filter(|_| ledger.take(&one, at(0)).is_ok()).count();
    assert_eq!(granted, expected);
    assert!(ledger.take(&one, at(0)).is_err());
    assert!(ledger.take(&one, at(1_000)).is_ok());
}

#[test]
fn a_clean_stop_keeps_the_counts_and_refills_what_the_pause_was_worth() {
    check_restart(true, 0, 0);
    check_restart(true, 3, 3);
    check_restart(true, 100, 10);
}

#[test]
fn after_a_crash_every_bucket_begins_empty() {
    check_restart(false, 0, 0);
    check_restart(false, 100, 0);
}

#[test]
fn a_crash_is_nobodys_failure() {
    let directory = tempfile::tempdir().unwrap();
    drop(Embedded::open(directory.path(), Timestamp::default(), at(0)).unwrap());
    let ledger = Embedded::open(directory.path(), Timestamp::default(), at(0)).unwrap();
    let mut draw = draw("l", "a", "1", "10");
    assert!(ledger.peek(&draw, at(0)).is_err());
    draw.rule = DrawRule::Failures;
    assert!(ledger.peek(&draw, at(0)).is_ok());
}

#[test]
fn what_was_saved_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let now = Timestamp::from_secs(1_000);
    Embedded::open(directory.path(), now, at(0)).unwrap().close(now, at(0)).unwrap();
    drop(Embedded::open(directory.path(), now, at(0)).unwrap());
    let ledger = Embedded::open(directory.path(), now, at(0)).unwrap();
    assert!(ledger.take(&plan(vec![draw("l", "a", "1", "10")]), at(0)).is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("buckets.jsonl"), "{\"version\":1}\nnonsense\n").unwrap();
    let error = Embedded::open(directory.path(), Timestamp::default(), at(0)).unwrap_err();
    assert!(error.to_string().contains("line 2 of "), "{error}");
    std::fs::write(directory.path().join("buckets.jsonl"), "{\"version\":9}\n").unwrap();
    let error = Embedded::open(directory.path(), Timestamp::default(), at(0)).unwrap_err();
    assert!(error.to_string().contains("is of version 9"), "{error}");
}
