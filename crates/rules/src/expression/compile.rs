//! From JSON to a condition, with every fault at once.

use serde_json::Value;

use super::{Comparison, ExpressionFault, Node, Number, Operand, Test};
use crate::regexp::{Case, Regexp};
use crate::route::Network;
use crate::variable::Variable;

/// Compiles a whole expression.
pub(super) fn compile(json: &Value) -> Result<Node, Vec<ExpressionFault>> {
    let mut faults = Faults::default();
    match (node(json, 0, &mut faults), faults.found) {
        (Some(node), found) if found.is_empty() => Ok(node),
        (_, found) => Err(found),
    }
}

/// The faults found so far, and the place that is being read.
#[derive(Default)]
struct Faults {
    place: Vec<usize>,
    found: Vec<ExpressionFault>,
}

impl Faults {
    /// Notes a fault at the place being read.
    fn add<T>(&mut self, message: impl Into<String>) -> Option<T> {
        let path = self.place.iter().map(|step| format!("/{step}")).collect();
        self.found.push(ExpressionFault { path, message: message.into() });
        None
    }

    /// Reads a member of the place being read.
    fn at<T>(&mut self, step: usize, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.place.push(step);
        let value = read(self);
        self.place.pop();
        value
    }
}

/// `None` once a fault is noted.
fn node(json: &Value, depth: usize, faults: &mut Faults) -> Option<Node> {
    let Value::Array(members) = json else {
        return faults.add("an expression must be an array");
    };
    if depth > DEPTH_MAX {
        return faults.add(format!("expressions are nested more than {DEPTH_MAX} deep"));
    }
    let (combinator, skipped) = match members.first() {
        None | Some(Value::Array(_)) => ("AND", 0),
        Some(Value::String(word)) if COMBINATORS.contains(&word.as_str()) => (word.as_str(), 1),
        Some(_) => return test(members, faults),
    };
    if skipped == 1 && members.len() == 1 {
        return faults.add(format!("`{combinator}` needs an expression"));
    }
    let mut nodes = Some(Vec::with_capacity(members.len()));
    for (step, member) in members.iter().enumerate().skip(skipped) {
        let read = faults.at(step, |faults| node(member, depth + 1, faults));
        nodes = nodes.zip(read).map(|(mut nodes, read)| {
            nodes.push(read);
            nodes
        });
    }
    let nodes = nodes?;
    let negated = combinator.starts_with('!');
    Some(match combinator {
        "OR" | "!OR" => Node::Any { nodes, negated },
        _ => Node::All { nodes, negated },
    })
}

/// `[variable, operator, value]` or `[variable, "!", operator, value]`.
fn test(members: &[Value], faults: &mut Faults) -> Option<Node> {
    let (name, bang, operator, value) = match members {
        [name, Value::String(bang), operator, value] if bang == "!" => {
            (name, true, (2, operator), (3, value))
        }
        [name, operator, value] => (name, false, (1, operator), (2, value)),
        _ => {
            return faults.add(
                "a condition must be `[variable, operator, value]`, with `\"!\"` before the \
                 operator to negate it",
            );
        }
    };
    let variable = faults.at(0, |faults| variable(name, faults));
    let test = faults.at(operator.0, |faults| match operator.1 {
        Value::String(operator) if OPERATORS.contains(&operator.as_str()) => Some(operator),
        _ => faults.add(format!("the operator must be one of {}", OPERATORS.join(" "))),
    });
    let (test, unlike) = test.and_then(|operator| {
        let read = faults.at(value.0, |faults| operand_of(operator, value.1, faults))?;
        Some((read, operator == "~="))
    })?;
    Some(Node::Test { variable: variable?, test, negated: bang != unlike })
}

fn variable(json: &Value, faults: &mut Faults) -> Option<Variable> {
    let Value::String(name) = json else {
        return faults.add("the variable must be a string");
    };
    Variable::parse(name).or_else(|| faults.add(format!("unknown variable `{name}`")))
}

fn operand_of(operator: &str, json: &Value, faults: &mut Faults) -> Option<Test> {
    Some(match operator {
        "==" | "~=" => Test::Is(operand(json, faults)?),
        ">" => Test::Compare(Comparison::Above, number(json, faults)?),
        ">=" => Test::Compare(Comparison::AtLeast, number(json, faults)?),
        "<" => Test::Compare(Comparison::Below, number(json, faults)?),
        "<=" => Test::Compare(Comparison::AtMost, number(json, faults)?),
        "~~" => Test::Matches(pattern(json, false, faults)?),
        "~*" => Test::Matches(pattern(json, true, faults)?),
        "in" => Test::In(list(json, faults, operand)?),
        "has" => Test::Has(operand(json, faults)?),
        _ => Test::Within(match json {
            Value::String(_) => vec![network(json, faults)?],
            _ => list(json, faults, network)?,
        }),
    })
}

fn operand(json: &Value, faults: &mut Faults) -> Option<Operand> {
    match json {
        Value::String(text) => Some(Operand::Text(text.as_str().into())),
        Value::Number(_) => number(json, faults).map(Operand::Number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            faults.add("the value must be a string or a number")
        }
    }
}

fn number(json: &Value, faults: &mut Faults) -> Option<Number> {
    let text = match json {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    };
    Number::parse(&text).or_else(|| {
        faults.add("the value must be a decimal number of at most 18 digits on each side")
    })
}

fn pattern(json: &Value, ignore_case: bool, faults: &mut Faults) -> Option<Regexp> {
    let Value::String(text) = json else {
        return faults.add("the value must be a regular expression");
    };
    let case = if ignore_case { Case::Ignored } else { Case::Minded };
    match Regexp::parse(text, case, REGEX_DEPTH_MAX) {
        Ok(pattern) => Some(pattern),
        Err(regex::Error::CompiledTooBig(_)) => {
            let limit = Regexp::BYTES_MAX;
            faults.add(format!("the regular expression compiles to over {limit} bytes"))
        }
        Err(fault) => faults.add(format!("the regular expression is not one: {fault}")),
    }
}

fn network(json: &Value, faults: &mut Faults) -> Option<Network> {
    let parsed = json.as_str().and_then(Network::parse);
    parsed.or_else(|| faults.add("the value must be an IP address or a network such as 10.0.0.0/8"))
}

fn list<T>(
    json: &Value,
    faults: &mut Faults,
    read: fn(&Value, &mut Faults) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(members) = json else {
        return faults.add("the value must be an array");
    };
    let mut values = Vec::with_capacity(members.len());
    for (step, member) in members.iter().enumerate() {
        values.extend(faults.at(step, |faults| read(member, faults)));
    }
    (values.len() == members.len()).then_some(values)
}

const COMBINATORS: [&str; 4] = ["AND", "OR", "!AND", "!OR"];

const OPERATORS: [&str; 11] =
    ["==", "~=", ">", ">=", "<", "<=", "~~", "~*", "in", "has", "ipmatch"];

/// Arrays in arrays. Beyond it the expression is refused.
const DEPTH_MAX: usize = 16;

/// Groups in groups of a regular expression. A deeper one is refused.
const REGEX_DEPTH_MAX: u32 = 250;
