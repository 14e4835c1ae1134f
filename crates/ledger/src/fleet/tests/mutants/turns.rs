//! The script of quotas with one fault each, and the laws that must find it.

use super::{Faults, Law, check};
use crate::fleet::tests::ring;

const HISTORIES: &[Law] = &[("as the rules", ring::the_store_takes_steps_as_the_rules_do)];

const FAULTS: &[(&str, &str, &str)] = &[
    (
        "a window is not checked",
        "if used + calls <= limit then return 0 end",
        "if true then return 0 end",
    ),
    ("the pace is not kept", "max(ring_wait(rest, limit), pace)", "ring_wait(rest, limit)"),
    ("a block is not kept", "local blocked = max(state.b - now, 0)", "local blocked = 0"),
    (
        "what is left is not heard",
        "if state.l >= 0 and state.l < calls then wait",
        "if false then wait",
    ),
    ("the reserve is given away", "(is_high and 0 or reserve)", "0"),
    ("a weight does not count", "tag + cost, flow.n + 1, true", "tag + 1, flow.n + 1, true"),
    ("a turn is not counted", "used, counted_now = used + 1, counted_now + 1", ""),
    (
        "a call stays in its slot for ever",
        "state.c, state.y = state.c - past, state.y + past",
        "state.y = state.y + past",
    ),
    ("the queue has no end", "if wait > patience or not has_room then", "if wait > patience then"),
    ("patience is not asked", "if wait > patience or not has_room then", "if not has_room then"),
    ("one probe after another", "probe == 1 and now + PROBE or 0", "0"),
    (
        "after a block a whole burst goes",
        "state.u, state.a, state.m = burst * window, now,",
        "state.u, state.a, state.m = 0, now,",
    ),
    ("others are not counted", "state.h = over(state.h * 7 + others * 1000, 8)", ""),
];

/// What histories are too short for.
const LAWS: &[Law] = &[
    ("virtual time", ring::a_call_that_was_passed_does_not_turn_virtual_time_back),
    ("a node away", ring::a_node_that_was_away_is_told_so_by_both),
    ("a loss", ring::a_store_that_lost_its_keys_grants_nothing_until_a_window_has_passed),
];

const FAULTS_OF_LONG: &[(&str, &str, &str)] =
    &[("a loss grants a whole quota", "state.c, state.o = quota,", "state.c, state.o = 0,")];

#[test]
fn each_fault_of_the_script_of_quotas_is_found() {
    let text = include_str!("../../ring.lua");
    check(&[Faults { file: "ring.lua", text, faults: FAULTS }], HISTORIES);
    check(&[Faults { file: "ring.lua", text, faults: FAULTS_OF_LONG }], LAWS);
}
