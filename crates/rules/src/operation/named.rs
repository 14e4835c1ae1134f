//! A request's name: which operation of its upstream's API it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Api, Call, Effect, Template, Unknown};
use crate::selector::Deed;
use crate::target::Target;

/// What the catalogue of an API says of a call, without the call itself.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    api: Api,
    template: Result<&'static Template, Unknown>,
}

/// A request as its upstream will get it, named. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    found: Found,
    method: &'a str,
    target: &'a Target,
}

impl Found {
    /// Looks a call up, by the method and the target that are sent.
    #[must_use]
    pub fn new(api: Api, method: &str, target: &Target) -> Self {
        Self { api, template: api.catalogue().find(method, target).map(|call| call.template) }
    }

    /// The operation's name; [`Unknown::NAME`] for what the catalogue lacks.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.template.map_or(Unknown::NAME, |template| template.operation)
    }

    /// The call that was looked up.
    #[must_use]
    pub const fn of<'a>(self, method: &'a str, target: &'a Target) -> Named<'a> {
        Named { found: self, method, target }
    }
}

impl<'a> Named<'a> {
    /// The operation's name; [`Unknown::NAME`] for what the catalogue lacks.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.found.operation()
    }

    /// What the call does.
    #[must_use]
    pub fn deed(&self) -> Deed {
        self.found.template.map_or(Deed::Unknown, |template| template.effect.into())
    }

    /// What is said of the call; `None` for what the catalogue lacks.
    #[must_use]
    pub fn template(&self) -> Option<&'static Template> {
        self.found.template.ok()
    }

    /// The call with its parameters, looked up again: most requests never need them.
    #[must_use]
    pub fn call(&self) -> Option<Call<'static, 'a>> {
        self.found.api.catalogue().find(self.method, self.target).ok()
    }
}

impl From<Effect> for Deed {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Read => Self::Read,
            Effect::Write | Effect::Body => Self::Write,
        }
    }
}

/// A set of operations, as a document names them: `dns.records.delete`, `dns.*`, `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operations(Arc<[&'static str]>);

impl Operations {
    /// The operations that a pattern names in all catalogues: a name, another name of the same
    /// call, or letters with `*` for any further ones. Empty when it names none.
    #[must_use]
    pub fn of(pattern: &str) -> Self {
        let mut found = BTreeSet::new();
        if pattern == Unknown::NAME {
            found.insert(Unknown::NAME);
        }
        for template in Api::ALL.iter().flat_map(|api| api.catalogue().templates()) {
            let is_alias =
                || !pattern.is_empty() && template.aliases.split(',').any(|alias| alias == pattern);
            if fits(pattern, template.operation) || is_alias() {
                found.insert(template.operation);
            }
        }
        Self(found.into_iter().collect())
    }

    /// All that are in one of these.
    #[must_use]
    pub fn union<'a>(sets: impl Iterator<Item = &'a Self>) -> Self {
        let all: BTreeSet<_> = sets.flat_map(|set| set.0.iter().copied()).collect();
        Self(all.into_iter().collect())
    }

    /// The names, in their order.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    /// Whether an operation is in the set.
    #[must_use]
    pub fn contains(&self, operation: &str) -> bool {
        self.0.binary_search(&operation).is_ok()
    }
}

/// Whether a name is what a pattern says. One mark is remembered at a time, which is enough: a
/// later one can only take over where the last one is done.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut seen, mut star) = (0, 0, None);
    while let Some(letter) = name.get(seen) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if wanted == letter => (at, seen) = (at + 1, seen + 1),
            _ => {
                let Some((mark, taken)) = star else { return false };
                star = Some((mark, taken + 1));
                (at, seen) = (mark + 1, taken + 1);
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::{Operations, fits};

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
    }

    #[test]
    fn a_star_stands_for_any_letters_and_none() {
        check("dns.records.*", "dns.records.delete", true);
        check("dns.records.*", "dns.records", false);
        check("*.delete", "dns.records.delete", true);
        check("*.delete", "dns.records.delete_all", false);
        check("dns.*.delete", "dns.records.delete", true);
        check("a*b*c", "a.b.b.c", true);
        check("a*b*c", "a.b.b.d", false);
        check("*", "", true);
        check("", "", true);
        check("", "a", false);
    }

    #[test]
    fn a_name_means_one_operation_and_a_wrong_one_none() {
        assert_eq!(Operations::of("dns.records.delete").names(), ["dns.records.delete"]);
        assert_eq!(Operations::of("unknown").names(), ["unknown"]);
        assert!(Operations::of("dns.records.*").contains("dns.records.create"));
        for wrong in ["dns.record.delete", "DNS.records.delete", "dns.records.", "", "quux.*"] {
            assert!(Operations::of(wrong).names().is_empty(), "{wrong}");
        }
    }
}
