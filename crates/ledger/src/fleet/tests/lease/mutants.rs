//! The scripts of leases with one fault each, and the laws that must find it.

use super::script;
use crate::fleet::tests::mutants::{Faults, Law, check};

const LAWS: &[Law] = &[
    ("as the model", script::the_script_does_what_its_model_does),
    ("asked again", script::an_ask_that_comes_again_is_answered_and_not_granted_again),
    ("over", script::what_is_reported_of_a_lease_that_is_over_is_void),
    ("the clamp", script::what_nodes_hold_does_not_refill_and_is_taken_by_nobody_else),
    ("levels", script::where_one_level_has_nothing_the_others_are_not_leased),
    ("its time", script::a_bucket_is_not_forgotten_while_its_leases_live),
];

const FAULTS_OF_LEASE: &[(&str, &str, &str)] = &[
    (
        "an ask that comes again is granted again",
        "if lease and ask.seq <= lease.seq then",
        "if false then",
    ),
    (
        "an ask that was overtaken is granted",
        "ask.seq <= lease.seq then",
        "ask.seq == lease.seq then",
    ),
    ("a node keeps more than it held", "keep = math.min(ask.keep, lease.held)", "keep = ask.keep"),
    ("a node gives back what it never held", "math.min(ask.back, lease.held - keep)", "ask.back"),
    (
        "what is given back is lost",
        "u - back * unit[r], math.min(out[b] * unit[r], LARGEST)",
        "u, math.min(out[b] * unit[r], LARGEST)",
    ),
    ("what was spent stays out", "out[b] = out[b] - lease.held + keep", ""),
    ("what is granted is not used", "u + g * unit[r], unit[r], moment(r)", "u, unit[r], moment(r)"),
    ("more than there is is granted", "return math.min(want, can)\nend", "return want\nend"),
    ("shares are not kept", "if others > 0 and can", "if false and can"),
    ("a lease has no end", "now + math.min(ask.length, LONGEST)", "now + LONGEST"),
    ("a lease is as long as it is asked", "math.min(ask.length, LONGEST)", "2 * ask.length"),
    (
        "a level that has nothing stops no other",
        "is_dry = is_dry or dry(asks[past])",
        "is_dry = false",
    ),
    (
        "one that is fresh is not told so",
        "back, fresh = math.min(ask.back, lease.held - keep), 0",
        "back, fresh = math.min(ask.back, lease.held - keep), 1",
    ),
];

const FAULTS_OF_BUCKET: &[(&str, &str, &str)] = &[
    (
        "what nodes hold refills",
        "return math.max(u, math.min(tokens * unit[r], LARGEST))",
        "return u",
    ),
    (
        "a lease that is over still holds",
        "local list = deadline <= now and over or live",
        "local list = live",
    ),
    (
        "a lease that is over is forgotten",
        "for _, lease in ipairs(over[b]) do tokens = tokens + lease.held end",
        "",
    ),
    ("what was over goes on being held", "tokens = tokens - lease.held", ""),
    (
        "leases are not written",
        "ipairs(live[b] or {}) do\n    longest",
        "ipairs({}) do\n    longest",
    ),
    (
        "a bucket is forgotten with its leases",
        "longest = math.max(longest, lease.deadline - now)",
        "",
    ),
    ("a part of a tick refills", "math.ceil(from / t)", "math.floor(from / t)"),
];

#[test]
fn each_fault_of_the_scripts_of_leases_is_found() {
    let lease = include_str!("../../lease.lua");
    let bucket = include_str!("../../bucket.lua");
    let all = [
        Faults { file: "lease.lua", text: lease, faults: FAULTS_OF_LEASE },
        Faults { file: "bucket.lua", text: bucket, faults: FAULTS_OF_BUCKET },
    ];
    check(&all, LAWS);
}
