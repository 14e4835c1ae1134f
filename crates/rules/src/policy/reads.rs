//! What a policy reads of a request: found in its expressions, before anything is judged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kind::{Kind, Members};

/// What a policy reads of its context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of the context")]
pub struct Reads {
    pub method: bool,
    pub path: bool,
    pub client: bool,
    pub now: bool,
    pub parameters: bool,
    /// Names of header fields, in lower case.
    pub headers: BTreeSet<String>,
    /// Names of arguments of the query.
    pub query: BTreeSet<String>,
    /// Units of prices.
    pub prices: BTreeSet<String>,
    /// What is read of the body.
    pub body: Option<Members>,
    /// Names of parameters that are read, for the schema.
    pub(crate) parameter_names: BTreeSet<String>,
}

impl Reads {
    /// Whether nothing of the context is read, so that the same question has the same answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Everything that one of them reads; bodies aside, which each policy reads in its own way.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { method, path, client, now, parameters, headers, query, prices, .. } = self;
        *method |= other.method;
        *path |= other.path;
        *client |= other.client;
        *now |= other.now;
        *parameters |= other.parameters;
        headers.extend(other.headers.iter().cloned());
        query.extend(other.query.iter().cloned());
        prices.extend(other.prices.iter().cloned());
    }
}

/// Finds what the conditions of a policy read; `faults` says what cannot be judged.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) reads: Reads,
    /// Entities that are named, as type and id.
    pub(crate) entities: BTreeSet<(String, String)>,
    pub(crate) faults: Vec<String>,
}

impl Walk {
    /// Walks an expression (Cedar's JSON form) that is wanted to be of a kind.
    pub(crate) fn walk(&mut self, expression: &Value, wanted: &Kind) {
        if let Some(path) = chain(expression) {
            self.note(&path, wanted.clone());
            return;
        }
        let Some((name, of)) = expression.as_object().and_then(|object| object.iter().next())
        else {
            return;
        };
        match name.as_str() {
            "Value" => self.value(of),
            "==" | "!=" => self.alike(of),
            "<" | "<=" | ">" | ">=" => self.ordered(of),
            "+" | "-" | "*" => self.both(of, &Kind::Long),
            "&&" | "||" => self.both(of, &Kind::Bool),
            "!" => self.walk_at(of, "arg", &Kind::Bool),
            "neg" => self.walk_at(of, "arg", &Kind::Long),
            "isEmpty" => self.walk_at(of, "arg", &Kind::Set(Box::default())),
            "contains" => self.contains(of),
            "containsAll" | "containsAny" => self.alike(of),
            "like" => self.walk_at(of, "left", &Kind::Text),
            "has" => self.has(of),
            "in" => {
                if let Some(Value::Object(left)) = of.get("left")
                    && left.contains_key("Value")
                {
                    self.faults.push(
                        "the left of `in` is no entity that is written out: only `principal`, \
                         `action` and `resource` are known with what they are in"
                            .to_owned(),
                    );
                }
                self.both(of, &Kind::Entity);
            }
            "is" => {
                self.walk_at(of, "left", &Kind::Entity);
                self.walk_at(of, "in", &Kind::Entity);
            }
            "if-then-else" => {
                self.walk_at(of, "if", &Kind::Bool);
                self.walk_at(of, "then", wanted);
                self.walk_at(of, "else", wanted);
            }
            "Set" => {
                let wanted = if let Kind::Set(of) = wanted { &**of } else { &Kind::Presence };
                for item in of.as_array().into_iter().flatten() {
                    self.walk(item, wanted);
                }
            }
            "Record" => {
                for member in of.as_object().into_iter().flat_map(serde_json::Map::values) {
                    self.walk(member, &Kind::Presence);
                }
            }
            "Var" => {}
            method => self.call(method, of),
        }
    }

    fn walk_at(&mut self, of: &Value, member: &str, wanted: &Kind) {
        if let Some(expression) = of.get(member) {
            self.walk(expression, wanted);
        }
    }

    fn both(&mut self, of: &Value, wanted: &Kind) {
        self.walk_at(of, "left", wanted);
        self.walk_at(of, "right", wanted);
    }

    /// Both sides are of the kind of either.
    fn alike(&mut self, of: &Value) {
        let (left, right) = (kind_at(of, "left"), kind_at(of, "right"));
        let kind = left.merge(right).unwrap_or_default();
        if of.get("left").and_then(chain).is_some() && of.get("right").and_then(chain).is_some() {
            // Of two members of a body that are compared with each other nothing is known; texts
            // are what is compared most.
            let kind = if kind == Kind::Presence { Kind::Text } else { kind };
            return self.both(of, &kind);
        }
        self.both(of, &kind);
    }

    fn ordered(&mut self, of: &Value) {
        let (left, right) = (kind_at(of, "left"), kind_at(of, "right"));
        let kind = left.merge(right).unwrap_or_default();
        let kind = if kind == Kind::Presence { Kind::Long } else { kind };
        self.both(of, &kind);
    }

    fn contains(&mut self, of: &Value) {
        let set = match kind_at(of, "left") {
            Kind::Set(of) => *of,
            _ => Kind::Presence,
        };
        let item = set.merge(kind_at(of, "right")).unwrap_or_default();
        let item = if item == Kind::Presence { Kind::Text } else { item };
        self.walk_at(of, "left", &Kind::Set(Box::new(item.clone())));
        self.walk_at(of, "right", &item);
    }

    fn has(&mut self, of: &Value) {
        let Some(left) = of.get("left") else { return };
        let Some(mut path) = chain(left) else { return self.walk(left, &Kind::Presence) };
        match of.get("attr") {
            Some(Value::String(name)) => path.push(name),
            Some(Value::Array(names)) => path.extend(names.iter().filter_map(Value::as_str)),
            _ => {}
        }
        self.note(&path, Kind::Presence);
    }

    /// A function or a method of an extension type: its arguments stand in a list.
    fn call(&mut self, name: &str, of: &Value) {
        let own = match name {
            "isIpv4" | "isIpv6" | "isLoopback" | "isMulticast" | "isInRange" => Kind::Ip,
            "lessThan" | "lessThanOrEqual" | "greaterThan" | "greaterThanOrEqual" => Kind::Decimal,
            "offset" | "durationSince" | "toDate" | "toTime" => Kind::Datetime,
            "toMilliseconds" | "toSeconds" | "toMinutes" | "toHours" | "toDays" => Kind::Duration,
            _ => Kind::Text,
        };
        let other = if name == "offset" { Kind::Duration } else { own.clone() };
        for (place, argument) in of.as_array().into_iter().flatten().enumerate() {
            self.walk(argument, if place == 0 { &own } else { &other });
        }
    }

    fn value(&mut self, value: &Value) {
        let named = value.get("__entity");
        let text = |member| named?.get(member)?.as_str().map(str::to_owned);
        if let (Some(kind), Some(id)) = (text("type"), text("id")) {
            self.entities.insert((kind, id));
        }
        for item in value.as_array().into_iter().flatten() {
            self.value(item);
        }
    }

    /// Notes that something below the context is read.
    fn note(&mut self, path: &[&str], wanted: Kind) {
        let reads = &mut self.reads;
        match path {
            ["method"] => reads.method = true,
            ["path"] => reads.path = true,
            ["client"] => reads.client = true,
            ["now"] => reads.now = true,
            ["parameters", name, ..] => {
                reads.parameters = true;
                reads.parameter_names.insert((*name).to_owned());
            }
            ["headers", name, ..] => {
                if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    let lower = name.to_ascii_lowercase();
                    self.faults.push(format!(
                        "`context.headers` holds names in lower case: write {lower:?}"
                    ));
                }
                reads.headers.insert((*name).to_owned());
            }
            ["query", name, ..] => {
                reads.query.insert((*name).to_owned());
            }
            ["price", unit, ..] => {
                reads.prices.insert((*unit).to_owned());
            }
            ["body", names @ ..] if !names.is_empty() => self.note_body(names, wanted),
            // It is always there.
            ["body"] if wanted == Kind::Presence => {
                reads.body.get_or_insert_default();
            }
            [] | ["parameters" | "headers" | "query" | "price" | "body"] => {
                let whole = ["context"].iter().chain(path).copied().collect::<Vec<_>>().join(".");
                self.faults.push(format!(
                    "`{whole}` can be read member by member only: write `{whole}.NAME`"
                ));
            }
            // The schema says that there is no such member.
            _ => {}
        }
    }

    fn note_body(&mut self, names: &[&str], wanted: Kind) {
        if let Some(why) = wanted.is_no_body() {
            self.faults.push(format!("`context.body.{}` is used as {why}", names.join(".")));
            return;
        }
        let nested = names
            .iter()
            .rev()
            .fold(wanted, |kind, name| Kind::Record(Members::from([((*name).to_owned(), kind)])));
        let known = Kind::Record(self.reads.body.clone().unwrap_or_default());
        match known.merge(nested) {
            Ok(Kind::Record(members)) => self.reads.body = Some(members),
            Ok(_) => {}
            Err(clash) => {
                let (one, other) = *clash;
                let name = names.join(".");
                self.faults.push(format!("`context.body.{name}` is used as {one} and as {other}"));
            }
        }
    }
}

/// The names after `context` in `context.body.type`; `None` for another expression.
fn chain(expression: &Value) -> Option<Vec<&str>> {
    if expression.get("Var").and_then(Value::as_str) == Some("context") {
        return Some(Vec::new());
    }
    let access = expression.get(".")?;
    let mut path = chain(access.get("left")?)?;
    path.push(access.get("attr")?.as_str()?);
    Some(path)
}

fn kind_at(of: &Value, member: &str) -> Kind {
    of.get(member).map(kind_of).unwrap_or_default()
}

/// The kind of an expression, as far as it says it itself.
fn kind_of(expression: &Value) -> Kind {
    if let Some(path) = chain(expression) {
        return match path.as_slice() {
            ["method" | "path"] | ["headers" | "query" | "parameters", _] => Kind::Text,
            ["client"] => Kind::Ip,
            ["now"] => Kind::Datetime,
            ["price", _] => Kind::Decimal,
            _ => Kind::Presence,
        };
    }
    let Some((name, of)) = expression.as_object().and_then(|object| object.iter().next()) else {
        return Kind::Presence;
    };
    match name.as_str() {
        "Value" => match of {
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Long,
            Value::String(_) => Kind::Text,
            _ => Kind::Entity,
        },
        "Var" => Kind::Entity,
        "+" | "-" | "*" | "neg" | "toMilliseconds" | "toSeconds" | "toMinutes" | "toHours"
        | "toDays" => Kind::Long,
        "ip" => Kind::Ip,
        "decimal" => Kind::Decimal,
        "datetime" | "offset" | "toDate" => Kind::Datetime,
        "duration" | "durationSince" | "toTime" => Kind::Duration,
        "Set" => {
            let items = of.as_array().into_iter().flatten();
            let kind = items
                .fold(Kind::Presence, |kind, item| kind.merge(kind_of(item)).unwrap_or_default());
            Kind::Set(Box::new(kind))
        }
        "if-then-else" => {
            let (then, other) = (kind_at(of, "then"), kind_at(of, "else"));
            then.merge(other).unwrap_or_default()
        }
        "Record" => Kind::Record(Members::new()),
        _ => Kind::Bool,
    }
}

/// Gives `context.body` another name everywhere in an expression, so that each policy reads the
/// body in its own way.
pub(crate) fn rename_body(expression: &mut Value, name: &str) {
    let of_context = |of: &Value| {
        let left = of.get("left").and_then(|left| left.get("Var"));
        left.and_then(Value::as_str) == Some("context")
    };
    if let Value::Object(object) = expression {
        for key in [".", "has"] {
            let Some(access) = object.get_mut(key).filter(|access| of_context(access)) else {
                continue;
            };
            match access.get_mut("attr") {
                Some(Value::String(attribute)) if attribute == "body" => name.clone_into(attribute),
                Some(Value::Array(attributes)) => {
                    if let Some(first) = attributes.first_mut().filter(|first| *first == "body") {
                        *first = Value::String(name.to_owned());
                    }
                }
                _ => {}
            }
        }
        object.values_mut().for_each(|member| rename_body(member, name));
    } else if let Value::Array(items) = expression {
        items.iter_mut().for_each(|item| rename_body(item, name));
    }
}
