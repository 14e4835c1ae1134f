//! The store and the embedded ledger give the same answers to the same history.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::{
    Arc, Bucket, Draw, DrawRule, Duration, Fleet, LimitId, Plan, Store, Subject, Tokens, Uptime,
    draw, is_up, mutants::histories, node, plan,
};
use crate::Embedded;
use crate::fleet::settle;
use rules::plugin::{KeySource, LimitReq, Plugin};
use rules::variable::Variable;

/// A history: steps of plans that are asked at once, with a pause before each step.
type History = Vec<(u64, Vec<Vec<(usize, usize, u64)>>)>;

/// Buckets of every kind: never refilling, slow, quick, with broken tokens, of other units.
fn buckets() -> Vec<Bucket> {
    let parts = [
        (0, 1, 4),
        (1, 1_000, 5_000),
        (1, 1_500, 4_000),
        (3, 7_000, 30_001),
        (1, 1_000_000, 3_000_000),
        (7, 1, 10),
        (1_000_003, 1_000_000_007, 2_000_000_000_011),
        (1, 4_000_000_000, 900_000_000_000),
    ];
    parts.map(|(refill, unit, capacity)| Bucket::from_parts(refill, unit, capacity).unwrap()).into()
}

/// A draw of a plan: which name, which of the buckets, how many tokens.
fn drawn(case: u64, (name, bucket, cost): (usize, usize, u64)) -> Draw {
    let names = ["a", "b", "shadow-c", "queue-d", "e"];
    let mut draw = draw(names[name], buckets()[bucket]);
    draw.cost = Tokens(cost);
    draw.key.subject = Subject::Text(Arc::from(format!("case {case}")));
    if names[name].starts_with("queue") {
        draw.rule = DrawRule::LimitReq(Arc::new(Plugin {
            place: LimitId::new("queue").shared(),
            filter: None,
            error_response: None,
            rule: LimitReq {
                bucket: draw.bucket,
                key: KeySource::Variable(Variable::RemoteAddr),
                nodelay: false,
                rejected_code: 503,
                rejected_msg: None,
                allow_degradation: false,
            },
        }));
    }
    draw
}

fn history() -> impl Strategy<Value = History> {
    let draw = (0_usize..5, 0_usize..8, 0_u64..4);
    let plan = prop::collection::vec(draw, 1..5);
    let step = (0_u64..3_000, prop::collection::vec(plan, 1..6));
    prop::collection::vec(step, 1..12)
}

/// Both answer alike: who passes, what is left, when more comes, whose turn it is, who is short.
async fn is_same(fleet: &Fleet, case: u64, history: &History) -> Result<(), TestCaseError> {
    let embedded = Embedded::in_memory();
    for (pause, plans) in history {
        tokio::time::sleep(Duration::from_micros(*pause)).await;
        let plans: Vec<Plan> = plans
            .iter()
            .map(|draws| plan(draws.iter().map(|draw| drawn(case, *draw)).collect()))
            .collect();
        let asked: Vec<_> = plans.iter().map(|plan| fleet.take(plan).unwrap()).collect();
        let mut answers = Vec::new();
        for (plan, pending) in plans.iter().zip(asked) {
            answers.push((plan, pending.found.await.unwrap(), pending.wants));
        }
        // What was asked together goes in one call or in two, which may overtake one another.
        answers.sort_by_key(|(_, found, _)| found.at);
        for (plan, found, wants) in answers {
            let expected = embedded.take(plan, Uptime::from_micros(found.at));
            prop_assert_eq!(
                settle(plan, &wants, &found, |_| None),
                expected,
                "{:?} {:?}",
                plan,
                found
            );
        }
    }
    Ok(())
}

#[test]
pub(super) fn the_store_answers_as_the_embedded_ledger_does() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let fleet = runtime.block_on(async {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        fleet
    });
    // Each case has buckets of its own.
    let cases = AtomicU64::new(0);
    proptest!(histories(300), |(history in history())| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(is_same(&fleet, case, &history))?;
    });
}

/// Where a bucket is too fine for the store's numbers it gives at most what the exact one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_too_fine_for_the_store_never_gives_more() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    let bucket = Bucket::from_parts(1 << 30, 1 << 43, 1 << 53).unwrap();
    let (plan, embedded) = (plan(vec![draw("fine", bucket)]), Embedded::in_memory());
    let mut passed = 0;
    for round in 0..2_000 {
        let pending = fleet.take(&plan).unwrap();
        let found = pending.found.await.unwrap();
        if found.granted {
            passed += 1;
            let exact = embedded.take(&plan, Uptime::from_micros(found.at));
            assert!(exact.is_ok(), "round {round}");
        }
    }
    assert!(passed > 1_000, "{passed}");
}
