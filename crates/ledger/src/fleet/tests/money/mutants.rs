//! Scripts of money with one fault each, and the laws that must find it.

use super::{differential, history, reports};
use crate::fleet::tests::mutants::{Faults, Law, check};

/// From the quickest to the slowest.
const LAWS: &[Law] = &[
    ("as the rules", history::each_call_does_what_the_rules_say_however_it_is_sent),
    ("as accounts", differential::the_store_answers_as_the_nodes_own_accounts_do),
];

const FAULTS_OF_HOLD: &[(&str, &str, &str)] = &[
    ("a level is not checked", "(rest and amount <= rest and amount >= 0)", "true"),
    ("what is held is not counted", "rest = rest - a[2]", ""),
    ("what is spent is not counted", "rest = rest - a[1]", ""),
    ("what was added is not counted", "local rest = amount + a[3]", "local rest = amount"),
    ("pending is not raised", "a[2], touched[r] = a[2] + amount, expires", "touched[r] = expires"),
    ("what was refused stays held", "u[1][2], touched[u[3]] = u[2], u[4]", "touched[u[3]] = u[4]"),
    ("a fresh id is not remembered", "redis.call('SET', name, kept[record])", ""),
    (
        "an id stands for other amounts",
        "asked == check and VERDICT[state] or MISMATCH",
        "VERDICT[state]",
    ),
    ("a budget that only reports refuses", "local fits = shadow == 1 or", "local fits ="),
    ("what was lost is not found out", "return seen >= answered", "return true"),
    ("money is never closed", "if not is_open then verdict = CLOSED end", ""),
    (
        "a row of another epoch counts",
        "if of == epoch then posted, pending, adjusted, fired = a, b, c, d end",
        "posted, pending, adjusted, fired = a, b, c, d",
    ),
    (
        "an id of another epoch is known",
        "if of == epoch then\n        verdict",
        "if true then\n        verdict",
    ),
    ("the number of another epoch counts", "if of == epoch then seen = last end", "seen = last"),
    (
        "an id that comes twice in a call is held twice",
        "kept[record] or found[rows + record]",
        "found[rows + record]",
    ),
    (
        "money is open in another epoch",
        "is_open = found[mark_at] and read('<I8', found[mark_at]) == epoch",
        "is_open = found[mark_at]",
    ),
    ("an open hold is not listed", "if #overdue > 0 then", "if false then"),
    ("a row outlives its period", "value, 'PXAT', expires)", "value)"),
    (
        "the number of the call is not kept",
        "redis.call('SET', all[buckets + mark_at + 2], write('<I8', epoch) .. money.number)",
        "",
    ),
];

const FAULTS_OF_RESOLVE: &[(&str, &str, &str)] = &[
    (
        "what is settled twice is posted twice",
        "if state == STATE[kind] then\n    verdict = KNOWN",
        "if state == STATE[kind] then\n    verdict, held = DONE, { 0, 0, 0 }",
    ),
    (
        "what is settled can be void",
        "else\n    verdict = CONFLICT\n  end",
        "else\n    verdict, held = DONE, { 0, 0, 0 }\n  end",
    ),
    ("what was held stays pending", "math.max(a[2] - held[p], 0)", "a[2]"),
    ("a void is charged", "if kind ~= VOID then a[1] =", "if true then a[1] ="),
    ("an estimate stays beside what it did cost", "a[1] = within(a[1] - held[p])", "a[1] = a[1]"),
    ("an estimate is free", "if kind == ESTIMATE then cost = held[p] end", ""),
    ("a threshold fires twice", "and a[4] % (bit * 2) < bit then", "then"),
    ("a threshold fires early", "math.ceil(rest * percent / 100)", "0"),
    ("a void fires thresholds", "mask = kind == VOID and 0 or fire", "mask = fire"),
    ("what was added moves no threshold", "within(limit + a[3]), 0", "limit, 0"),
    (
        "an end before its hold is not remembered",
        "verdict = (kind == VOID or kind == ADJUST) and DONE or UNKNOWN",
        "verdict = UNKNOWN",
    ),
    ("an adjustment is lost", "a[3] = within(a[3] + cost)", ""),
    ("an end with other amounts is taken", "state = asked == check and s or -1", "state = s"),
    (
        "an end is not remembered",
        "redis.call('SET', KEYS[4 + rows + record], value, 'PX', kept_for)",
        "",
    ),
    ("an end is soon forgotten", "'PX', kept_for)", "'PX', 1000)"),
    ("an open hold stays listed", "redis.call('ZREM', KEYS[4], unpack(over))", ""),
    ("a row outlives its period", "value, 'PXAT', expires)", "value)"),
    ("what was lost is not found out", "if seen < answered then return 'R' end", ""),
    ("the epoch is not compared", "if epoch ~= tonumber(ARGV[1]) then return '' end", ""),
    (
        "money is never closed",
        "if not found[1] or read('<I8', found[1]) ~= epoch then return '' end",
        "",
    ),
    (
        "money is open in another epoch",
        "if not found[1] or read('<I8', found[1]) ~= epoch then return '' end",
        "if not found[1] then return '' end",
    ),
    (
        "a row of another epoch counts",
        "if of == epoch then posted, pending, adjusted, fired = a, b, c, d end",
        "posted, pending, adjusted, fired = a, b, c, d",
    ),
    (
        "an id of another epoch is known",
        "if of == epoch then\n      state = asked",
        "if true then\n      state = asked",
    ),
    (
        "the number of the call is not kept",
        "redis.call('SET', KEYS[3], write('<I8I8', epoch, seen + 1))",
        "",
    ),
    ("the number of another epoch counts", "if of == epoch then seen = last end", "seen = last"),
];

const LAWS_OF_REPORTS: &[Law] =
    &[("once each", reports::each_piece_counts_once_and_money_opens_when_all_have_told)];

const FAULTS_OF_REPORT: &[(&str, &str, &str)] = &[
    (
        "a piece that is told twice counts twice",
        "piece > 0 and piece == told + 1 and is_whole == 0",
        "piece > 0",
    ),
    ("what others have spent is dropped", "within(posted + p)", "p"),
    ("what others hold is dropped", "within(posted + p), pending,", "within(posted + p), 0,"),
    ("what was added is dropped", "within(adjusted + j)", "adjusted"),
    ("what is held is not told", "account[r][2] = within(account[r][2] + amount)", ""),
    ("nobody is waited for", "is_missing = is_missing or whole == 0", "is_missing = false"),
    (
        "who told in another epoch has told",
        "if of ~= epoch and whole ~= EXCUSED then whole = 0 end",
        "",
    ),
    (
        "who is excused is waited for",
        "if of ~= epoch and whole ~= EXCUSED then whole = 0 end",
        "if of ~= epoch then whole = 0 end",
    ),
    (
        "a row of another epoch counts",
        "if of == epoch then posted, pending, adjusted, fired = a, b, c, d end",
        "posted, pending, adjusted, fired = a, b, c, d",
    ),
    ("an open hold is not remembered", "redis.call('SET', name, value)", ""),
    ("an end is not remembered", "redis.call('SET', name, value, 'PX', kept_for)", ""),
    ("thresholds fire again", "then fired = fired + bit end", "then fired = fired end"),
    (
        "an open hold is not listed",
        "redis.call('ZADD', KEYS[5], deadline, string.sub(name, -32))",
        "",
    ),
    ("a row outlives its period", "value, 'PXAT', a[5])", "value)"),
    (
        "who is known on a disk is not waited for",
        "redis.call('HSETNX', KEYS[3], name, write('<I8I8BI2', 0, 0, 0, 0))",
        "",
    ),
    ("the rows are not written", "redis.call('SET', KEYS[5 + r], value)", ""),
    (
        "the number of the call is not kept",
        "redis.call('SET', KEYS[4], write('<I8I8', epoch, seen))",
        "",
    ),
    ("money never opens", "redis.call('SET', KEYS[2], write('<I8', epoch))", ""),
    ("the epoch is not compared", "if epoch ~= tonumber(ARGV[1]) then return '' end", ""),
    (
        "what was told in another epoch counts",
        "if of == epoch and w ~= EXCUSED then told",
        "if w ~= EXCUSED then told",
    ),
];

#[test]
fn each_fault_of_the_script_of_reports_is_found() {
    let text = include_str!("../../money/report.lua");
    check(&[Faults { file: "report.lua", text, faults: FAULTS_OF_REPORT }], LAWS_OF_REPORTS);
}

#[test]
fn each_fault_of_the_script_of_holds_is_found() {
    let text = include_str!("../../money/hold.lua");
    check(&[Faults { file: "hold.lua", text, faults: FAULTS_OF_HOLD }], LAWS);
}

#[test]
fn each_fault_of_the_script_of_ends_is_found() {
    let text = include_str!("../../money/resolve.lua");
    check(&[Faults { file: "resolve.lua", text, faults: FAULTS_OF_RESOLVE }], LAWS);
}
