//! What a bundle would change in a state.

use serde::Serialize;
use serde_json::Value;

use crate::bundle::{Bundle, bare};
use crate::command::EffectKind;
use crate::custody::Seal;
use crate::document::seals;
use crate::key::Key;
use crate::seal::{MASK, mask};
use crate::state::State;

/// What would become of one resource. Secrets are masked in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub key: Key,
    pub kind: EffectKind,
    /// `None` when it would be created.
    pub before: Option<Value>,
    /// `None` when it would be deleted.
    pub after: Option<Value>,
}

/// What applying the bundle would change, in the order of keys; what stays is left out.
///
/// With `prune`, resources that the bundle does not name would be deleted. A secret in clear text
/// counts as a change: nothing here can open the stored one to compare them.
#[must_use]
pub fn diff(state: &State, wanted: &Bundle, prune: bool) -> Vec<Difference> {
    let mut differences: Vec<Difference> =
        wanted.entries.iter().filter_map(|entry| change(state, &entry.key, &entry.value)).collect();
    if prune {
        let missing = wanted.missing(state).into_iter();
        differences.extend(missing.filter_map(|key| {
            let before = shown(&key, &state.get(&key)?.value);
            Some(Difference { key, kind: EffectKind::Deleted, before: Some(before), after: None })
        }));
    }
    differences.sort_by(|one, other| one.key.cmp(&other.key));
    differences
}

fn change(state: &State, key: &Key, wanted: &Value) -> Option<Difference> {
    let after = Some(shown(key, wanted));
    let Some(stored) = state.get(key) else {
        return Some(Difference {
            key: key.clone(),
            kind: EffectKind::Created,
            before: None,
            after,
        });
    };
    let mut whole = wanted.clone();
    for Seal { pointer, .. } in seals(key.kind, wanted) {
        let Some(found) = whole.pointer_mut(&pointer) else { continue };
        if found.as_str() == Some(MASK)
            && let Some(kept) = stored.value.pointer(&pointer)
        {
            *found = kept.clone();
        }
    }
    if bare(key, whole) == bare(key, (*stored.value).clone()) {
        return None;
    }
    let before = Some(shown(key, &stored.value));
    Some(Difference { key: key.clone(), kind: EffectKind::Updated, before, after })
}

fn shown(key: &Key, value: &Value) -> Value {
    bare(key, mask(key.kind, value))
}
