//! Conditions on a request, in APISIX's `vars` language.
//!
//! An expression is `[variable, operator, value]`, `[variable, "!", operator, value]`, an array of
//! expressions that must all hold, or such an array behind `AND`, `OR`, `!AND` or `!OR`.

mod compile;
mod number;

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::Value;

use crate::fact::Facts;
use crate::regexp::Regexp;
use crate::route::Network;
use crate::variable::Variable;
use number::Number;

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Expression(Node);

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionFault {
    /// JSON pointer below the expression (RFC 6901); empty for the expression itself.
    pub path: String,
    pub message: String,
}

impl Expression {
    /// Compiles a condition.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(json: &Value) -> Result<Self, Vec<ExpressionFault>> {
        compile::compile(json).map(Self)
    }

    /// Holds when one of these does; none of none does.
    #[must_use]
    pub fn any(expressions: Vec<Self>) -> Self {
        let nodes = expressions.into_iter().map(|Self(node)| node).collect();
        Self(Node::Any { nodes, negated: false })
    }

    /// Whether the condition holds for a request. A variable without a value fails every test,
    /// so it holds under `~=` and `!`.
    #[must_use]
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        self.0.holds(&mut |variable, test| variable.any_value(facts, test))
    }

    /// Whether the condition holds for values from elsewhere, as from a request that has ended.
    pub fn holds_with<'v>(&self, value: &mut dyn FnMut(&Variable) -> Option<Cow<'v, str>>) -> bool {
        self.0.holds(&mut |variable, test| value(variable).is_some_and(|value| test(&value)))
    }

    /// The variables it asks for, in the order written.
    #[must_use]
    pub fn variables(&self) -> Vec<&Variable> {
        let mut variables = Vec::new();
        self.0.variables(&mut variables);
        variables
    }
}

/// Asks a variable's values, in the order sent, until a test holds.
type Ask<'a> = dyn FnMut(&Variable, &mut dyn FnMut(&str) -> bool) -> bool + 'a;

#[derive(Clone, Debug)]
enum Node {
    /// All hold, or (negated) not all.
    All {
        nodes: Vec<Self>,
        negated: bool,
    },
    /// One holds, or (negated) none.
    Any {
        nodes: Vec<Self>,
        negated: bool,
    },
    Test {
        variable: Variable,
        test: Test,
        negated: bool,
    },
}

/// A test of one value. Each fails without a value.
#[derive(Clone, Debug)]
enum Test {
    /// `==`, and negated `~=`.
    Is(Operand),
    /// `>`, `>=`, `<`, `<=`: only between numbers.
    Compare(Comparison, Number),
    /// `~~` and `~*`.
    Matches(Regexp),
    /// `in`.
    In(Vec<Operand>),
    /// `has`: one of the values sent, or a member of one as a list with commas.
    Has(Operand),
    /// `ipmatch`.
    Within(Vec<Network>),
}

/// What a value is compared with: a number by its amount, a text by its bytes.
#[derive(Clone, Debug)]
enum Operand {
    Text(Box<str>),
    Number(Number),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Node {
    fn holds(&self, ask: &mut Ask<'_>) -> bool {
        match self {
            Self::All { nodes, negated } => nodes.iter().all(|node| node.holds(ask)) != *negated,
            Self::Any { nodes, negated } => nodes.iter().any(|node| node.holds(ask)) != *negated,
            Self::Test { variable, test, negated } => test.holds(variable, ask) != *negated,
        }
    }

    fn variables<'n>(&'n self, found: &mut Vec<&'n Variable>) {
        match self {
            Self::All { nodes, .. } | Self::Any { nodes, .. } => {
                nodes.iter().for_each(|node| node.variables(found));
            }
            Self::Test { variable, .. } => found.push(variable),
        }
    }
}

impl Test {
    fn holds(&self, variable: &Variable, ask: &mut Ask<'_>) -> bool {
        let Self::Has(member) = self else {
            // Only the first value counts.
            let mut held = false;
            ask(variable, &mut |value| {
                held = self.takes(value);
                true
            });
            return held;
        };
        ask(variable, &mut |value| {
            value.split(',').any(|part| member.is(part.trim_matches([' ', '\t'])))
        })
    }

    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Is(operand) | Self::Has(operand) => operand.is(value),
            Self::Compare(comparison, number) => {
                Number::parse(value).is_some_and(|value| comparison.holds(value.cmp(number)))
            }
            Self::Matches(pattern) => pattern.regex().is_match(value),
            Self::In(operands) => operands.iter().any(|operand| operand.is(value)),
            Self::Within(networks) => value
                .parse::<IpAddr>()
                .is_ok_and(|address| networks.iter().any(|network| network.contains(address))),
        }
    }
}

impl Operand {
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => **text == *value,
            Self::Number(number) => Number::parse(value).is_some_and(|value| value == *number),
        }
    }
}

impl Comparison {
    const fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Expression;
    use crate::fact::sample::Sample;

    #[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
    fn check(expression: Value, expected: bool) {
        let sample = Sample::new("/zones/1?n=9&v=1.5&q=Blue&list=a&list=b&e=")
            .header("accept", b"text/html, application/json")
            .header("accept", b"*/*")
            .header("x-forwarded-for", b"::ffff:10.1.2.3");
        let compiled = Expression::compile(&expression).unwrap();
        assert_eq!(compiled.holds(&sample.facts()), expected, "{expression}");
    }

    /// The places of the faults.
    #[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
    fn check_faults(expression: Value, expected: &[&str]) {
        let faults = Expression::compile(&expression).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(places, expected, "{faults:?}");
    }

    #[test]
    fn texts_are_equal_byte_by_byte() {
        check(json!([["arg_q", "==", "Blue"]]), true);
        check(json!([["arg_q", "==", "blue"]]), false);
        check(json!([["arg_q", "~=", "blue"]]), true);
        check(json!([["arg_v", "==", "1.50"]]), false);
    }

    #[test]
    fn numbers_compare_by_amount() {
        check(json!([["arg_v", "==", 1.50]]), true);
        check(json!([["arg_n", ">", 10]]), false);
        check(json!([["arg_n", "<", "10"]]), true);
        check(json!([["arg_n", ">=", 9], ["arg_n", "<=", 9]]), true);
        check(json!([["arg_n", ">", 9]]), false);
        check(json!([["arg_n", "<", 9]]), false);
        check(json!([["arg_q", "==", 1]]), false);
        check(json!([["arg_q", ">", 1]]), false);
    }

    #[test]
    fn patterns_match_anywhere_and_in_the_case_asked_for() {
        check(json!([["arg_q", "~~", "lu"]]), true);
        check(json!([["arg_q", "~~", "^blue$"]]), false);
        check(json!([["arg_q", "~*", "^blue$"]]), true);
    }

    #[test]
    fn a_member_of_a_list_is_in_it() {
        check(json!([["arg_n", "in", ["9", "x"]]]), true);
        check(json!([["arg_v", "in", [1.5]]]), true);
        check(json!([["arg_n", "in", []]]), false);
        check(json!([["arg_list", "in", ["b"]]]), false);
    }

    #[test]
    fn a_value_has_its_members_and_its_repetitions() {
        check(json!([["arg_list", "has", "b"]]), true);
        check(json!([["http_accept", "has", "application/json"]]), true);
        check(json!([["http_accept", "has", "*/*"]]), true);
        check(json!([["http_accept", "has", "json"]]), false);
    }

    #[test]
    fn an_address_matches_its_networks() {
        check(json!([["remote_addr", "ipmatch", "192.0.2.0/24"]]), true);
        check(json!([["remote_addr", "ipmatch", ["10.0.0.0/8", "::/0"]]]), false);
        check(json!([["http_x_forwarded_for", "ipmatch", ["10.0.0.0/8"]]]), true);
        check(json!([["arg_q", "ipmatch", ["0.0.0.0/0"]]]), false);
    }

    #[test]
    fn a_variable_without_a_value_fails_every_test() {
        for test in
            [json!(["arg_x", "==", ""]), json!(["arg_x", "~~", ""]), json!(["arg_x", "<", 1])]
        {
            check(json!([test]), false);
        }
        check(json!([["arg_x", "~=", "a"]]), true);
        check(json!([["arg_x", "!", "~~", ""]]), true);
        check(json!([["arg_e", "==", ""]]), true);
    }

    #[test]
    fn a_bang_negates() {
        check(json!([["arg_q", "!", "==", "Blue"]]), false);
        check(json!([["arg_q", "!", "~=", "Blue"]]), true);
        check(json!([["arg_n", "!", "in", ["8"]]]), true);
        check(json!([["remote_addr", "!", "ipmatch", ["192.0.2.7"]]]), false);
    }

    #[test]
    fn combinators_combine() {
        let yes = json!(["arg_n", "==", "9"]);
        let no = json!(["arg_n", "==", "8"]);
        check(json!([yes, no]), false);
        check(json!(["AND", yes, yes]), true);
        check(json!(["OR", no, yes]), true);
        check(json!(["OR", no, no]), false);
        check(json!(["!AND", yes, no]), true);
        check(json!(["!OR", no, no]), true);
        check(json!(["!OR", no, yes]), false);
        check(json!([yes, ["OR", no, ["!AND", [yes, no], yes]]]), true);
    }

    #[test]
    fn one_of_several_is_enough_and_one_of_none_is_not() {
        let sample = Sample::new("/?a=1");
        let holds = |conditions: &[&str]| {
            let compile = |value| Expression::compile(&json!([["arg_a", "==", value]])).unwrap();
            Expression::any(conditions.iter().map(compile).collect()).holds(&sample.facts())
        };
        assert!(holds(&["1"]) && holds(&["2", "1"]));
        assert!(!holds(&["2"]) && !holds(&[]));
    }

    #[test]
    fn an_empty_list_holds_and_a_lone_condition_is_one() {
        check(json!([]), true);
        check(json!(["arg_n", "==", "9"]), true);
    }

    #[test]
    fn every_fault_is_reported_at_its_place() {
        check_faults(
            json!([["argx", "=", {}], ["OR", ["arg_a", "~~", "("], ["arg_a", "in", ["a", null]]]]),
            &["/0/0", "/0/1", "/1/1/2", "/1/2/2/1"],
        );
        check_faults(json!([["arg_a", "!", "has", []]]), &["/0/3"]);
        check_faults(json!({"a": 1}), &[""]);
        check_faults(json!([["AND"]]), &["/0"]);
        check_faults(json!([["arg_a", "=="], "b"]), &["/0", "/1"]);
        check_faults(
            json!([["arg_a", ">", "ten"], ["arg_a", "ipmatch", "10.0.0.0/33"]]),
            &["/0/2", "/1/2"],
        );
        check_faults(json!([["arg_a", "==", true]]), &["/0/2"]);
    }

    #[test]
    fn a_pattern_has_a_bound() {
        check_faults(json!([["arg_a", "~~", "((a{100}){100}){100}"]]), &["/0/2"]);
        check_faults(json!([["arg_a", "~~", "(?=a)"]]), &["/0/2"]);
    }

    #[test]
    fn expressions_nest_within_a_bound() {
        let nested =
            |depth| (0..depth).fold(json!(["arg_n", "==", "9"]), |inner, _| json!([inner]));
        check(nested(16), true);
        check_faults(nested(17), &["/0".repeat(17).as_str()]);
    }

    #[test]
    fn values_can_come_from_elsewhere() {
        let compiled = Expression::compile(&json!([["status", ">=", 500]])).unwrap();
        assert!(compiled.holds_with(&mut |_| Some("502".into())));
        assert!(!compiled.holds_with(&mut |_| Some("499".into())));
        assert!(!compiled.holds(&Sample::new("/").facts()));
    }
}
