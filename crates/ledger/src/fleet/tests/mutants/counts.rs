//! Scripts of buckets with one fault each, and the laws that must find it.

use super::{Faults, Law, check};
use crate::fleet::tests::{self, differential, layout, outage};

/// From the quickest to the slowest.
const LAWS: &[Law] = &[
    ("as a node alone", differential::the_store_answers_as_the_embedded_ledger_does),
    ("a full bucket", tests::a_full_bucket_is_forgotten_by_the_store),
    ("a flush", outage::after_a_flush_buckets_begin_empty),
    ("an old snapshot", outage::after_a_restart_from_an_old_snapshot_buckets_begin_empty),
    ("a clock", outage::a_clock_that_went_far_back_begins_anew_and_heals),
];

const FAULTS_OF_TAKE: &[(&str, &str, &str)] = &[
    (
        "what was refused stays taken",
        "used[b], unit_of[b], at[b], rule_of[b] = undo[i][2], undo[i][3], undo[i][4], undo[i][5]",
        "local _ = b",
    ),
    ("a limit that only reports refuses", "elseif shadow == 0 then", "else"),
    ("nothing is refused", "elseif shadow == 0 then", "elseif false then"),
    ("a level is not checked", "elseif u + price <= capacity[r] then", "elseif true then"),
    ("the last token is never given", "u + price <= capacity[r]", "u + price < capacity[r]"),
    (
        "a price is not paid",
        "used[b], unit_of[b], at[b] = u + price,",
        "used[b], unit_of[b], at[b] = u,",
    ),
    ("nothing is written", "for b, r in pairs(rule_of) do save(b, r) end", ""),
];

const FAULTS_OF_BUCKET: &[(&str, &str, &str)] = &[
    (
        "a change of a rule rounds down",
        "(product - over) / from + (over > 0 and 1 or 0)",
        "(product - over) / from",
    ),
    (
        "a large change of a rule rounds down",
        "whole + quotient + (over > 0 and 1 or 0)",
        "whole + quotient",
    ),
    (
        "a change of a rule is not followed",
        "if n ~= unit[r] then u = rescaled(u, n, unit[r]) end",
        "",
    ),
    ("a loss fills the buckets", "if since == 0 then return 0 end", "if true then return 0 end"),
    ("a bucket from before a loss counts", "if a >= began and a - now", "if a - now"),
    ("a bucket is forgotten at once", "math.ceil(micros / 1000) + SLACK", "1"),
    ("a bucket is never forgotten", "value, 'PX', math.ceil(micros / 1000) + SLACK)", "value)"),
    ("nothing refills", "if elapsed > 0 then u =", "if false then u ="),
    ("it refills twice", "u - refill[r] * elapsed", "u - 2 * refill[r] * elapsed"),
    (
        "a level counts from a tick before",
        "math.max(now - now % tick[r], began, since)",
        "now - now % tick[r] - tick[r]",
    ),
];

#[test]
fn each_fault_of_the_scripts_of_buckets_is_found() {
    let take = include_str!("../../take.lua");
    let bucket = include_str!("../../bucket.lua");
    let all = [
        Faults { file: "take.lua", text: take, faults: FAULTS_OF_TAKE },
        Faults { file: "bucket.lua", text: bucket, faults: FAULTS_OF_BUCKET },
    ];
    check(&all, LAWS);
}

/// What a node finds at a store: by the loss of what was counted.
const LAWS_OF_EPOCHS: &[Law] = &[
    ("the last time", outage::the_last_time_of_a_store_is_kept),
    ("an epoch again", outage::an_epoch_that_comes_again_in_the_same_run_is_not_taken_up),
    ("a flush", outage::after_a_flush_buckets_begin_empty),
    ("an old snapshot", outage::after_a_restart_from_an_old_snapshot_buckets_begin_empty),
    ("a clock", outage::a_clock_that_went_far_back_begins_anew_and_heals),
    ("a later layout", layout::a_store_of_a_later_layout_is_refused_by_name_and_left_as_it_is),
    ("an earlier layout", layout::a_store_of_an_earlier_layout_is_taken_over_as_after_a_loss),
    ("a stranger", outage::a_node_whose_counts_a_stranger_began_anew_finds_it_out),
    ("a replacement", outage::a_node_that_was_away_while_the_store_was_replaced_finds_it_out),
];

const FAULTS_OF_EPOCH: &[(&str, &str, &str)] = &[
    ("the epoch is not compared", "began ~= tonumber(ARGV[1]) or", ""),
    ("a clock far back is taken", "or last - now > LONGEST_STEP_BACK then return", "then return"),
    ("the last time is not kept", "redis.call('SETRANGE', KEYS[1], 16, write('<I8', now))", ""),
];

const FAULTS_OF_ATTACH: &[(&str, &str, &str)] = &[
    ("another run is not seen", "if is_same_run and not", "if not"),
    ("a stranger's beginning is taken", "not replaced and", "true and"),
    ("what went back is not seen", "and not went_back", ""),
    ("a later layout is taken", "if layout > own then", "if false then"),
    ("an earlier layout is joined", "layout == own and", ""),
    ("a loss begins full", "is_first and 0 or now", "0"),
];

#[test]
fn each_fault_of_the_scripts_of_epochs_is_found() {
    let epoch = include_str!("../../epoch.lua");
    let attach = include_str!("../../attach.lua");
    let all = [
        Faults { file: "epoch.lua", text: epoch, faults: FAULTS_OF_EPOCH },
        Faults { file: "attach.lua", text: attach, faults: FAULTS_OF_ATTACH },
    ];
    check(&all, LAWS_OF_EPOCHS);
}
