//! A document's text of policies, read and judged whole: every fault with its line.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicySet, ValidationMode, Validator};
use serde_json::Value;

use super::kind::{Kind, Members};
use super::reads::{Reads, Walk, rename_body};
use super::schema::schema;
use super::scope::{Calls, Slot, Uid, names_unknown};
use super::vocabulary::Vocabulary;

/// One policy.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing of its own")]
pub struct Policy {
    /// The document's id, then the policy's name or its place: `dns-team/no-mx`, `dns-team/0`.
    pub id: Arc<str>,
    pub forbids: bool,
    /// What is told to whom it refuses (`@reason`).
    pub reason: Option<Arc<str>>,
    /// The group that is asked (`@ask`), where a permit is not given at once.
    pub ask: Option<Arc<str>>,
    /// Whether it is only reported (`@shadow`).
    pub is_shadow: bool,
    /// The line it begins at, counted from 1.
    pub line: usize,
    pub(crate) principal: Slot,
    pub(crate) resource: Slot,
    pub(crate) calls: Calls,
    /// Whether its scope names calls that no catalogue knows.
    pub(crate) names_unknown: bool,
    /// Whether there is more to it than its scope.
    pub(crate) has_conditions: bool,
    pub(crate) reads: Reads,
    /// With `context.body` renamed to what it reads of it.
    pub(crate) cedar: cedar_policy::Policy,
}

impl Policy {
    /// Whether it holds whatever is acted on, and however.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has_conditions && self.resource == Slot::default()
    }
}

/// The policies of one document.
#[derive(Clone, Debug, Default)]
pub struct PolicyText {
    pub policies: Vec<Arc<Policy>>,
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flaw {
    /// Counted from 1.
    pub line: usize,
    /// In letters, counted from 1.
    pub column: usize,
    pub message: String,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}:{}: {}", self.line, self.column, self.message)
    }
}

impl PolicyText {
    /// Reads and judges a text.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the lines.
    pub fn parse(document: &str, text: &str) -> Result<Self, Vec<Flaw>> {
        let set = PolicySet::from_str(text).map_err(|faults| {
            faults
                .iter()
                .map(|fault| flaw(text, 0, &DetailedError::from(fault)))
                .collect::<Vec<_>>()
        })?;
        let mut flaws = Vec::new();
        if let Some(template) = set.templates().next() {
            let written = template.to_cedar();
            let message = "templates (`?principal`, `?resource`) are not served; write the entity";
            flaws.push(at(text, text.find(&written).unwrap_or_default(), message));
        }
        let mut policies: Vec<&cedar_policy::Policy> = set.policies().collect();
        policies.sort_by_key(|policy| place(policy));
        let mut parsed = Self::default();
        let mut ids = BTreeSet::new();
        let mut from = 0;
        for policy in policies {
            let written = policy.to_cedar().unwrap_or_default();
            from += text.get(from..).and_then(|rest| rest.find(&written)).unwrap_or_default();
            let source = Source { document, text, from, place: place(policy) };
            let (made, found) = source.read(policy);
            flaws.extend(found);
            if let Some(made) = made {
                if !ids.insert(Arc::clone(&made.id)) {
                    let message = format!("`{}` is the id of another policy, too", made.id);
                    flaws.push(at(text, from, message));
                }
                parsed.policies.push(Arc::new(made));
            }
            from += written.len();
        }
        flaws.sort();
        flaws.dedup();
        if flaws.is_empty() { Ok(parsed) } else { Err(flaws) }
    }
}

impl PolicyText {
    /// The agents, teams, zones and others that a text names, without a judgement of it; nothing where it cannot be read.
    #[must_use]
    pub fn entities(text: &str) -> BTreeSet<Uid> {
        let Ok(set) = PolicySet::from_str(text) else { return BTreeSet::new() };
        let literals = set.policies().flat_map(cedar_policy::Policy::entity_literals);
        literals
            .map(|uid| Uid::new(&uid.type_name().to_string(), uid.id().unescaped()))
            .filter(|uid| &*uid.kind != "Action")
            .collect()
    }
}

/// The place of a policy in its text: Cedar names them `policy0`, `policy1`, …
fn place(policy: &cedar_policy::Policy) -> usize {
    let id = policy.id().to_string();
    id.strip_prefix("policy").and_then(|place| place.parse().ok()).unwrap_or(usize::MAX)
}

/// Where a policy stands.
#[derive(Clone, Copy)]
struct Source<'a> {
    document: &'a str,
    text: &'a str,
    from: usize,
    place: usize,
}

impl Source<'_> {
    fn read(self, policy: &cedar_policy::Policy) -> (Option<Policy>, Vec<Flaw>) {
        let Ok(json) = policy.to_json() else {
            return (None, vec![at(self.text, self.from, "cannot be read")]);
        };
        let part = |name: &str| json.get(name).unwrap_or(&Value::Null);
        let conditions = part("conditions").as_array().map(Vec::as_slice).unwrap_or_default();
        let mut walk = Walk::default();
        for body in conditions.iter().filter_map(|condition| condition.get("body")) {
            walk.walk(body, &Kind::Bool);
        }
        let principal = Slot::of(part("principal"));
        let resource = Slot::of(part("resource"));
        let (calls, scope_actions) = Calls::of(part("action"));
        let scoped = scope_actions.iter().chain(&principal.of).chain(&resource.of).cloned();
        let named: BTreeSet<Uid> =
            scoped.chain(walk.entities.iter().map(|(kind, id)| Uid::new(kind, id))).collect();
        let notes = annotations(policy);
        let mut messages = notes.faults;
        messages.append(&mut walk.faults);
        messages.extend(compared_names(&resource, conditions));
        let mut flaws: Vec<Flaw> =
            messages.into_iter().map(|message| at(self.text, self.from, message)).collect();
        if flaws.is_empty() {
            flaws = self.validate(policy, (&calls, &named), &walk.reads);
        }
        let id = notes.id.map_or_else(|| self.place.to_string(), str::to_owned);
        let id: Arc<str> = Arc::from(format!("{}/{id}", self.document));
        let Some(cedar) = renamed(&json, &id, walk.reads.body.as_ref()) else {
            return (None, flaws);
        };
        let made = Policy {
            id,
            forbids: policy.effect() == cedar_policy::Effect::Forbid,
            reason: notes.reason.map(Arc::from),
            ask: notes.ask.map(Arc::from),
            is_shadow: notes.is_shadow,
            line: at(self.text, self.from, "").line,
            principal,
            resource,
            calls,
            names_unknown: names_unknown(&scope_actions),
            has_conditions: !conditions.is_empty(),
            reads: walk.reads,
            cedar,
        };
        (Some(made), flaws)
    }

    /// What Cedar says against the policy. One that can never apply is faulty, too: a `forbid`
    /// would forbid nothing.
    fn validate(
        self,
        policy: &cedar_policy::Policy,
        (calls, named): (&Calls, &BTreeSet<Uid>),
        reads: &Reads,
    ) -> Vec<Flaw> {
        let actions = named.iter().filter(|uid| &*uid.kind == "Action");
        let actions: BTreeSet<String> = actions.map(|uid| uid.id.to_string()).collect();
        let unknown: Vec<&String> =
            actions.iter().filter(|name| Vocabulary::get().number(name).is_none()).collect();
        if !unknown.is_empty() {
            // Everything else that would be said follows from it.
            return unknown.into_iter().map(|name| self.unknown_action(name)).collect();
        }
        let schema = match schema(calls, &actions, reads) {
            Ok(schema) => schema,
            Err(error) => return vec![at(self.text, self.from, format!("has no schema: {error}"))],
        };
        let Ok(set) = PolicySet::from_policies([policy.clone()]) else { return Vec::new() };
        let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
        let mut said: Vec<_> = result.validation_errors().map(DetailedError::from).collect();
        if said.is_empty() {
            said.extend(result.validation_warnings().map(DetailedError::from));
        }
        let mut flaws: Vec<Flaw> =
            said.iter().map(|error| flaw(self.text, self.from, error)).collect();
        // Cedar says the same of each sort of calls.
        flaws.sort();
        flaws.dedup_by_key(|flaw| (flaw.line, flaw.column));
        flaws
    }

    fn unknown_action(self, name: &str) -> Flaw {
        let quoted = format!("{name:?}");
        let rest = self.text.get(self.from..).unwrap_or_default();
        let offset = self.from + rest.find(&quoted).unwrap_or_default();
        let near = nearest(name);
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        at(self.text, offset, format!("there is no action `{name}`{hint}"))
    }
}

/// The action whose name differs the least, if it is near.
fn nearest(name: &str) -> Option<&'static str> {
    let names = Vocabulary::get().actions().iter().map(|action| action.name.as_str());
    let measured = names.map(|known| (distance(name, known), known));
    let (far, known) = measured.min()?;
    (far <= name.len().div_ceil(4)).then_some(known)
}

/// How many letters must be changed, added or taken out (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.bytes().enumerate() {
        let mut above = place;
        let mut left = place + 1;
        for (known, cell) in other.bytes().zip(row.iter_mut().skip(1)) {
            left = (left + 1).min(*cell + 1).min(above + usize::from(known != letter));
            above = std::mem::replace(cell, left);
        }
        if let Some(first) = row.first_mut() {
            *first = place + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What the annotations of a policy say.
#[derive(Default)]
struct Notes<'a> {
    id: Option<&'a str>,
    reason: Option<&'a str>,
    ask: Option<&'a str>,
    is_shadow: bool,
    faults: Vec<String>,
}

fn annotations(policy: &cedar_policy::Policy) -> Notes<'_> {
    let mut notes = Notes::default();
    for (name, value) in policy.annotations() {
        match name {
            "id" => notes.id = Some(value),
            "reason" => notes.reason = Some(value),
            "ask" => notes.ask = Some(value),
            "shadow" => notes.is_shadow = true,
            _ => notes.faults.push(format!(
                "there is no annotation `@{name}`; there are `@id`, `@reason`, `@ask`, `@shadow`"
            )),
        }
    }
    let is_name = |id: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=64).contains(&id.len()) && id.bytes().all(letter)
    };
    if notes.id.is_some_and(|id| !is_name(id)) {
        notes.faults.push("`@id` is 1 to 64 letters, digits, `-`, `_` and `.`".to_owned());
    }
    if notes.ask == Some("") {
        notes.faults.push("`@ask` names the group that is asked: `@ask(\"finance\")`".to_owned());
    }
    if notes.ask.is_some() && policy.effect() == cedar_policy::Effect::Forbid {
        notes.faults.push("`@ask` stands on a permit only: a forbid asks nobody".to_owned());
    }
    if notes.reason.is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        notes.faults.push(format!("`@reason` is longer than {REASON_BYTES_MAX} bytes"));
    }
    notes
}

/// Bytes of a `@reason`: it stands in every refusal.
const REASON_BYTES_MAX: usize = 512;

/// Says where a zone is compared with a name: a zone is in its name, and is its id.
fn compared_names(resource: &Slot, conditions: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |id: &str| {
        found.push(format!(
            "no resource is `Zone::{id:?}` itself, since it is the zone's name: \
             write `in Zone::{id:?}`"
        ));
    };
    let scoped = resource.of.as_ref().filter(|uid| resource.is_exact && is_zone_name(uid));
    if let Some(uid) = scoped {
        complain(&uid.id);
    }
    let mut open: Vec<&Value> = conditions.iter().collect();
    while let Some(value) = open.pop() {
        let sides = value.get("==").or_else(|| value.get("!="));
        for side in ["left", "right"] {
            let entity = sides.and_then(|sides| sides.get(side)?.get("Value")?.get("__entity"));
            let text = |name| entity?.get(name)?.as_str();
            if let (Some(kind), Some(id)) = (text("type"), text("id"))
                && is_zone_name(&Uid::new(kind, id))
            {
                complain(id);
            }
        }
        match value {
            Value::Object(members) => open.extend(members.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

/// Whether an entity is a zone by its name.
#[must_use]
pub fn is_zone_name(uid: &Uid) -> bool {
    let is_id = uid.id.len() == 32 && uid.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    &*uid.kind == "Zone" && !is_id
}

/// The policy as it is asked: under its own id, reading its own body.
fn renamed(json: &Value, id: &str, body: Option<&Members>) -> Option<cedar_policy::Policy> {
    let mut json = json.clone();
    if let (Some(body), Some(conditions)) = (body, json.get_mut("conditions")) {
        rename_body(conditions, &body_name(body));
    }
    cedar_policy::Policy::from_json(Some(cedar_policy::PolicyId::new(id)), json).ok()
}

/// The member of the context that holds what is read of a body: of its own for each way to read.
pub(crate) fn body_name(members: &Members) -> String {
    format!("body {}", Kind::Record(members.clone()))
}

/// What Cedar says, at its place.
fn flaw(text: &str, from: usize, error: &DetailedError) -> Flaw {
    let offset = error.source_locations.first().map_or(from, |label| label.loc.start);
    let label = error.source_locations.first().and_then(|label| label.label.as_deref());
    let label = label.map(|label| format!(": {label}")).unwrap_or_default();
    let help = error.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
    // Cedar's own number of the policy means nothing to people.
    let message = match error.message.split_once("for policy `") {
        Some((before, rest)) => {
            let after = rest.split_once("`, ").map_or(rest, |(_, after)| after);
            format!("{before}{after}")
        }
        None => error.message.clone(),
    };
    at(text, offset, format!("{message}{label}{help}"))
}

fn at(text: &str, offset: usize, message: impl Into<String>) -> Flaw {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Flaw { line, column, message: message.into() }
}
