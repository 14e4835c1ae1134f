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
    (
        "the number of the call is not kept",
        "redis.call('SET', all[buckets + mark_at + 2], write('<I8', epoch) .. money.number)",
        "",
    ),
];

const FAULTS_OF_RESOLVE: &[(&str, &str, &str)] = &[
    (
        "what is settled twice is posted twice",
        "verdict = is_own and KNOWN or ELSEWHERE",
        "verdict, held = DONE, { 0, 0, 0 }",
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
    ("a threshold fires early", "math.ceil(rest * percent / 100)", "0"),
    ("what was added moves no threshold", "within(limit + a[3]), ''", "limit, ''"),
    (
        "an end before its hold is not remembered",
        "verdict = (kind == SETTLE or kind == ESTIMATE) and UNKNOWN or DONE",
        "verdict = UNKNOWN",
    ),
    ("an adjustment is lost", "a[3] = a[3] + cost", "a[3] = a[3]"),
    (
        "an end with other amounts is taken",
        "return asked == check and state or -1,",
        "return state,",
    ),
    (
        "an end is not remembered",
        "redis.call('SET', KEYS[4 + rows + record], value, 'PX', keeps)",
        "",
    ),
    ("an end is soon forgotten", "'PX', keeps)", "'PX', 1000)"),
    ("an open hold stays listed", "redis.call('ZREM', KEYS[4], unpack(over))", ""),
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
    ("an id of another epoch is known", "if of ~= epoch then return 0, held, fired, false end", ""),
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
    ("what others have spent is dropped", "within(a[1] + p)", "p"),
    ("what was added is dropped", "within(a[3] + j)", "a[3]"),
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
    ("an open hold is not remembered", "redis.call('SET', name, value)", ""),
    ("an end is not remembered", "redis.call('SET', name, value, 'PX', kept_for)", ""),
    (
        "thresholds fire again",
        "for place = 1, #fired do mark(a, string.sub(fired, place, place)) end",
        "",
    ),
    (
        "an open hold is not listed",
        "redis.call('ZADD', KEYS[5], deadline, string.sub(name, -32))",
        "",
    ),
    (
        "who is known on a disk is not waited for",
        "redis.call('HSETNX', KEYS[3], name, write('<I8I8BI2', 0, 0, 0, 0))",
        "",
    ),
    ("the rows are not written", "save_row(KEYS[5 + r], epoch, a, a[6])", ""),
    (
        "the number of the call is not kept",
        "redis.call('SET', KEYS[4], write('<I8I8', epoch, seen))",
        "",
    ),
    ("money never opens", "redis.call('SET', KEYS[2], write('<I8', epoch))", ""),
    ("the epoch is not compared", "if epoch ~= tonumber(ARGV[1]) then return '' end", ""),
    ("what was told in another epoch counts", "if of == epoch then told", "if true then told"),
];

#[test]
fn each_fault_of_the_script_of_reports_is_found() {
    let text = include_str!("../../money/report.lua");
    check(&[Faults { file: "report.lua", text, faults: FAULTS_OF_REPORT }], LAWS_OF_REPORTS);
}

/// What all scripts of money begin with.
const FAULTS_OF_ROW: &[(&str, &str, &str)] = &[
    ("a row of another epoch counts", "if of == epoch then", "if true then"),
    ("a row outlives its period", "value, 'PXAT', expires)", "value)"),
    ("a threshold fires twice", "if string.find(a[4], percent, 1, true) then return false end", ""),
    ("a threshold is not noted", "a[4] = a[4] .. percent", ""),
];

#[test]
fn each_fault_of_the_script_of_rows_is_found() {
    let text = include_str!("../../money/row.lua");
    check(&[Faults { file: "row.lua", text, faults: FAULTS_OF_ROW }], LAWS);
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
