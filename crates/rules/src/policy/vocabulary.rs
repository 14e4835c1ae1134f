//! The actions that policies may name: every call, and the groups that calls are in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::operation::{Api, Cost, Effect, Scope, Template, Unknown};
use crate::route::Methods;

/// Every action of every catalogue, with those of calls that no catalogue names.
#[derive(Debug)]
pub struct Vocabulary {
    /// In the order of the names, so that a name is found and a call has a number.
    actions: Vec<Action>,
}

/// A call, a group of calls, or both: `zones.settings` is one and has others below it.
#[derive(Debug)]
pub struct Action {
    pub name: String,
    /// The names of all groups it is in, however far above it, in their order.
    pub groups: Vec<String>,
    /// What it is as a call; `None` for what only groups calls.
    pub call: Option<CallKind>,
}

/// What is said of an action that is a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKind {
    /// The types that its resource has.
    pub resources: BTreeSet<ResourceKind>,
    /// The parameters of its path, and whether each of its templates has it.
    pub parameters: BTreeMap<&'static str, bool>,
}

/// The type of a call's resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    Account,
    Api,
    Zone,
}

impl ResourceKind {
    /// The name of the entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Api => "Api",
            Self::Zone => "Zone",
        }
    }

    /// The type of what a template's path belongs to.
    #[must_use]
    pub const fn of(scope: Scope) -> Self {
        match scope {
            Scope::Account => Self::Account,
            Scope::Zone => Self::Zone,
            Scope::User | Scope::Whole => Self::Api,
        }
    }
}

impl Vocabulary {
    /// The one of this release. Made when first asked for, in some milliseconds.
    #[must_use]
    pub fn get() -> &'static Self {
        static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(Vocabulary::make);
        &VOCABULARY
    }

    /// Every action, in the order of the names. An action's number is its place here.
    #[must_use]
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The number of an action.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        self.actions.binary_search_by(|action| action.name.as_str().cmp(name)).ok()
    }

    /// An action by its number.
    #[must_use]
    pub fn action(&self, number: usize) -> Option<&Action> {
        self.actions.get(number)
    }

    /// The numbers of the calls that are this action or in it.
    pub fn calls_in<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let numbered = self.actions.iter().enumerate();
        let calls = numbered.filter(|(_, action)| action.call.is_some());
        calls.filter(move |(_, action)| action.is_in(name)).map(|(number, _)| number)
    }

    fn make() -> Self {
        let mut made: BTreeMap<String, Made> = BTreeMap::new();
        for template in Api::ALL.iter().flat_map(|api| api.catalogue().templates()) {
            made.entry(template.operation.to_owned()).or_default().add(template);
        }
        for (name, effect) in [("unknown:read", Effect::Read), ("unknown:write", Effect::Write)] {
            let groups = [Unknown::NAME.to_owned(), effect_group(effect)];
            made.insert(name.to_owned(), Made::bare(groups, &ResourceKind::ALL));
        }
        for method in Methods::NAMES.into_iter().chain([OTHER_METHOD]) {
            let groups = [HTTP.to_owned(), effect_group(Effect::of_method(method))];
            made.insert(format!("{HTTP}:{method}"), Made::bare(groups, &[ResourceKind::Api]));
        }
        let groups: BTreeSet<String> =
            made.values().flat_map(|made| made.groups.iter().cloned()).collect();
        for group in groups {
            made.entry(group).or_default();
        }
        let actions = made.into_iter().map(|(name, made)| made.action(name));
        Self { actions: actions.collect() }
    }
}

impl ResourceKind {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Account, Self::Api, Self::Zone];
}

impl Action {
    /// Whether this is the named action, or in it.
    #[must_use]
    pub fn is_in(&self, name: &str) -> bool {
        self.name == name || self.groups.binary_search_by(|group| group.as_str().cmp(name)).is_ok()
    }

    /// Whether no catalogue names such calls.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        is_unknown(&self.name)
    }
}

/// Whether a name is that of the calls that a catalogue lacks, or of some of them.
#[must_use]
pub fn is_unknown(name: &str) -> bool {
    matches!(name, Unknown::NAME | "unknown:read" | "unknown:write")
}

/// The action of a call that its API's catalogue lacks.
#[must_use]
pub(crate) fn unknown_action(method: &str) -> &'static str {
    match Effect::of_method(method) {
        Effect::Read => "unknown:read",
        Effect::Write | Effect::Body => "unknown:write",
    }
}

/// The action of a call whose upstream's calls have no names.
#[must_use]
pub(crate) fn plain_action(method: &str) -> String {
    let known = Methods::NAMES.into_iter().find(|name| *name == method);
    format!("{HTTP}:{}", known.unwrap_or(OTHER_METHOD))
}

/// An action, half made.
#[derive(Default)]
struct Made {
    groups: BTreeSet<String>,
    kind: Option<CallKind>,
}

impl Made {
    fn bare(groups: [String; 2], resources: &[ResourceKind]) -> Self {
        let resources = resources.iter().copied().collect();
        let kind = CallKind { resources, parameters: BTreeMap::new() };
        Self { groups: groups.into(), kind: Some(kind) }
    }

    /// Adds what a template says. An operation with two templates is in the groups of both.
    fn add(&mut self, template: &Template) {
        let mut prefix = template.operation;
        while let Some((shorter, _)) = prefix.rsplit_once('.') {
            self.groups.insert(shorter.to_owned());
            prefix = shorter;
        }
        self.groups.insert(effect_group(template.effect));
        if template.cost != Cost::None {
            self.groups.insert(format!("cost:{}", template.cost.as_str()));
        }
        let dangers = template.dangers.iter().map(|danger| format!("danger:{}", danger.as_str()));
        self.groups.extend(dangers);
        let is_first = self.kind.is_none();
        let kind = self.kind.get_or_insert_default();
        kind.resources.insert(ResourceKind::of(template.scope));
        for (name, always) in &mut kind.parameters {
            *always &= template.parameters.contains(name);
        }
        for name in template.parameters.iter() {
            kind.parameters.entry(name).or_insert(is_first);
        }
    }

    fn action(self, name: String) -> Action {
        Action { name, groups: self.groups.into_iter().collect(), call: self.kind }
    }
}

/// The group of a call's effect. What only its body says counts as a write.
fn effect_group(effect: Effect) -> String {
    let name = match effect {
        Effect::Read => Effect::Read,
        Effect::Write | Effect::Body => Effect::Write,
    };
    format!("effect:{}", name.as_str())
}

/// What the calls of upstreams without a catalogue are called.
const HTTP: &str = "http";

/// Methods that routes do not name.
const OTHER_METHOD: &str = "other";

#[cfg(test)]
mod tests {
    use super::{Api, ResourceKind, Vocabulary};

    #[track_caller]
    fn check(name: &str, groups: &[&str]) {
        let vocabulary = Vocabulary::get();
        let action = vocabulary.action(vocabulary.number(name).unwrap()).unwrap();
        assert_eq!(action.groups, groups, "{name}");
        for group in groups {
            assert!(vocabulary.number(group).is_some(), "{group} is no action");
        }
    }

    #[test]
    fn every_operation_is_an_action_in_the_groups_of_what_is_said_of_it() {
        for template in Api::Cloudflare.catalogue().templates() {
            let number = Vocabulary::get().number(template.operation).unwrap();
            let action = Vocabulary::get().action(number).unwrap();
            let kind = action.call.as_ref().unwrap();
            assert!(kind.resources.contains(&ResourceKind::of(template.scope)));
            for danger in template.dangers.iter() {
                assert!(action.is_in(&format!("danger:{}", danger.as_str())), "{}", action.name);
            }
        }
    }

    #[test]
    fn a_call_is_in_its_products_and_its_tags() {
        check("dns.records.list", &["dns", "dns.records", "effect:read"]);
        check("zones.delete", &["danger:irreversible", "effect:write", "zones"]);
        check("unknown:read", &["effect:read", "unknown"]);
        check("http:DELETE", &["effect:write", "http"]);
    }
}
