//! Several gates that remember repeats in one Redis.

use super::{
    Gate, KEY, Message, Ordering, SECOND, Setup, Value, carry, final_refusal, is_replayed, json,
    origin, post, try_post, wait_for,
};
use crate::harness::Origin;
use crate::harness::redis::Redis;

fn gate(redis: &Redis, origin: &Origin, idempotency: &Value) -> Gate {
    let gate = Gate::with(&Setup { arguments: &["--redis", &redis.url()], ..Setup::default() });
    carry(&gate, origin, idempotency);
    wait_for("the gate to use Redis", || {
        gate.numbers().lines().any(|line| line == "tollgate_ledger_breaker 0").then_some(())
    });
    gate
}

/// Asks until Redis was in time, which it is not on a machine that is very busy.
fn ask(gate: &Gate, path: &str, fields: &[&str]) -> Message {
    wait_for("Redis to be in time", || {
        let answer = post(gate, path, fields, "body");
        let is_late = answer.status() == 503 && answer.refusal().1 == "repeat.unavailable";
        (!is_late).then_some(answer)
    })
}

#[test]
fn twenty_at_two_gates_have_one_effect_and_equal_answers() {
    let (redis, (origin, open)) = (Redis::start(), origin());
    let gates = [(); 2].map(|()| gate(&redis, &origin, &json!(true)));
    let answers: Vec<Message> = std::thread::scope(|scope| {
        let ask = |number: usize| ask(&gates[number % 2], "/held/a", &[KEY]);
        let asked: Vec<_> = (0..20).map(|number| scope.spawn(move || ask(number))).collect();
        wait_for("the first to arrive", || (origin.arrivals().len() == 1).then_some(()));
        open.store(true, Ordering::SeqCst);
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    assert_eq!(origin.arrivals().len(), 1);
    assert!(answers.iter().all(|answer| answer.text() == answers[0].text()), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| is_replayed(answer)).count(), 19);
    // No part of the request or of its answer stands in Redis as text.
    for key in redis.ask(&["--scan"]).lines() {
        let kept = redis.ask(&["DUMP", key]);
        assert!(!kept.contains("held") && !kept.contains("x-made"), "{kept}");
    }
}

#[test]
fn a_gate_that_dies_leaves_what_is_safe_to_the_others() {
    let (redis, (origin, open)) = (Redis::start(), origin());
    let [dying, living] = [(); 2].map(|()| gate(&redis, &origin, &json!(true)));
    // One has left when the gate dies, and one waits for its turn.
    let slow = json!({ "rate": 0.001, "burst": 10, "key": "remote_addr" });
    let route = json!({
        "uri": "/queued/*", "upstream_id": "only", "idempotency": true,
        "plugins": { "key-auth": {}, "limit-req": slow },
    });
    dying.put("routes/queued", &route);
    std::thread::scope(|scope| {
        let dying = &dying;
        scope.spawn(move || try_post(dying, "/held/a", &[KEY], "body"));
        wait_for("the request to arrive", || (origin.arrivals().len() == 1).then_some(()));
        ask(dying, "/queued/first", &[]);
        let queued = ["idempotency-key: queued"];
        scope.spawn(move || try_post(dying, "/queued/a", &queued, "body"));
        wait_for("it to wait for its turn", || {
            let known = redis.ask(&["--scan", "--pattern", "*:repeat:*"]);
            (known.lines().count() == 2).then_some(())
        });
        crate::harness::signal(dying.pid, "KILL");
    });
    open.store(true, Ordering::SeqCst);
    let refused = final_refusal(&ask(&living, "/held/a", &[KEY]));
    assert_eq!(refused, (503, "repeat.outcome_unknown".to_owned()));
    let taken_over = ask(&living, "/queued/a", &["idempotency-key: queued"]);
    assert_eq!((taken_over.status(), is_replayed(&taken_over)), (201, false), "{taken_over}");
    assert_eq!(origin.arrivals().len(), 3);
}

#[test]
fn without_redis_nothing_goes_unless_the_route_says_so() {
    let (mut redis, (origin, _open)) = (Redis::start(), origin());
    let gate = gate(&redis, &origin, &json!(true));
    redis.kill();
    for fields in [[KEY], [SECOND]] {
        let refused = post(&gate, "/a", &fields, "body");
        assert_eq!(refused.refusal(), (503, "repeat.unavailable".to_owned()));
        assert_eq!(refused.field("retry-after"), Some("1"));
    }
    assert_eq!(origin.arrivals().len(), 0);
    // Others are none of its business.
    assert_eq!(post(&gate, "/a", &[], "body").status(), 201);
    carry(&gate, &origin, &json!({ "on_outage": "allow" }));
    assert_eq!(post(&gate, "/a", &[KEY], "body").status(), 201);
}
