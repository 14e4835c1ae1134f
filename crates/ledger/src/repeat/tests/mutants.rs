//! The script of repeats with one fault each, and the laws that must find it.

use super::differential;
use crate::fleet::tests::mutants::{Faults, Law, check};

const LAWS: &[Law] = &[
    ("as a node", differential::redis_says_what_a_node_says),
    (
        "a silent node",
        differential::a_node_that_goes_silent_leaves_its_place_or_an_outcome_nobody_knows,
    ),
    ("nothing came of it", differential::what_came_to_nothing_leaves_no_places),
    ("a loss", differential::what_redis_forgot_is_not_taken_for_new_by_a_further_try),
];

const FAULTS: &[(&str, &str, &str)] = &[
    ("another request is not told apart", "if not is_empty() then return 'O' end", ""),
    ("a further try is new after a loss", "if asked == 'again' and since ~= 0 and", "if false and"),
    ("a repeat goes beside the first", "if count > 0 then return 'W' end", ""),
    ("a repeat goes after what nobody knows", "if unknown > 0 then return 'U' end", ""),
    (
        "a repeat goes after an answer",
        "    if answer then\n      local whole",
        "    if false then\n      local whole",
    ),
    ("a place is used twice", "spare = spare - 1", "spare = spare"),
    ("a flight is not noted", "  note(0)\n", ""),
    (
        "a flight that was given up departs",
        "if step == 'depart' then\n  if not flight then return 'N' end",
        "if step == 'depart' then",
    ),
    ("a departure is not noted", "  note(1)\n", "  note(0)\n"),
    (
        "a dead node's flight leaves its place",
        "if departed == 1 then unknown = unknown + 1 else",
        "if false then else",
    ),
    ("a dead node's flight goes on", "if till > now then", "if true then"),
    ("a late answer changes nothing", "unknown = unknown - 1", "unknown = unknown"),
    ("a void leaves no place", "  spare = spare + 1\nelseif", "  spare = spare\nelseif"),
    (
        "what is unknown is forgotten",
        "elseif how == 'unknown' then\n  unknown = unknown + 1",
        "elseif how == 'unknown' then\n  unknown = unknown",
    ),
    (
        "an answer is not kept",
        "if ARGV[7] then redis.call('SET', KEYS[3], ARGV[7]) else",
        "if false then else",
    ),
    (
        "places outlive what they stood for",
        "local function settle() if is_empty() then spare = 0 end end",
        "local function settle() end",
    ),
    (
        "it is forgotten at once",
        "redis.call('PEXPIRE', KEYS[2], window)",
        "redis.call('PEXPIRE', KEYS[2], 1)",
    ),
];

#[test]
fn each_fault_of_the_script_of_repeats_is_found() {
    let text = include_str!("../../fleet/repeat.lua");
    check(&[Faults { file: "repeat.lua", text, faults: FAULTS }], LAWS);
}
