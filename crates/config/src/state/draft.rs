//! A state in the making: changes are made on a copy, which is thrown away when one does not fit.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Revision, Timestamp};
use serde_json::{Map, Value};

use super::{State, Stored};
use crate::command::{Applied, Change, Command, Effect, EffectKind, Expect, Rejected, Stamp};
use crate::document::{self, CREATED, Link, UPDATED};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::plugin;

/// The copy that a command's changes are made on.
pub(super) struct Draft {
    state: State,
    at: Timestamp,
    force: bool,
    /// The revision that the command makes.
    next: Revision,
    effects: Vec<Effect>,
    /// What deletions took along.
    taken_along: Vec<Effect>,
}

impl Draft {
    pub(super) fn new(state: &State, command: &Command) -> Result<Self, Rejected> {
        let Command { at, base, force, changes } = command;
        let found = state.revision;
        match *base {
            Some(expected) if expected != found => Err(Rejected::Base { expected, found }),
            Some(_) | None => Ok(Self {
                state: state.clone(),
                at: *at,
                force: *force,
                next: found.next(),
                effects: Vec::with_capacity(changes.len()),
                taken_along: Vec::new(),
            }),
        }
    }

    /// What is wrong with the document of a change, whatever the others are.
    pub(super) fn faults(&self, change: &Change) -> Vec<Fault> {
        let of = |key: &Key, value, stamp| {
            let mut faults = document::check(key.kind, Some(&key.id), value);
            if stamp == Stamp::Now {
                faults.extend(document::forbidden_times(value));
            }
            faults.sort();
            faults
        };
        match change {
            Change::Put { key, value, expect: _, stamp } => of(key, value, *stamp),
            Change::Create { kind, value } => {
                of(&Key::created(*kind, self.next), value, Stamp::Now)
            }
            Change::Delete { .. } => Vec::new(),
        }
    }

    /// Makes a change whose document has these faults.
    pub(super) fn make(&mut self, change: &Change, faults: Vec<Fault>) -> Result<(), Rejected> {
        match change {
            Change::Put { key, value, expect, stamp } => {
                self.expect(key, *expect)?;
                self.put(key.clone(), value, *stamp, faults)
            }
            Change::Create { kind, value } => self.create(*kind, value, faults),
            Change::Delete { key, expect } => self.delete(key, *expect),
        }
    }

    fn put(
        &mut self,
        key: Key,
        value: &Value,
        stamp: Stamp,
        faults: Vec<Fault>,
    ) -> Result<(), Rejected> {
        let Value::Object(map) = value else { return Err(Rejected::Faults { key, faults }) };
        if !faults.is_empty() {
            return Err(Rejected::Faults { key, faults });
        }
        let previous = self.state.get(&key);
        let mut whole = with_id(&key, map);
        let is_timed = stamp_with(&mut whole, stamp, previous, self.at);
        let kind = match previous {
            Some(stored) if !is_timed && is_same(&stored.value, &whole) => {
                let stored = Some(stored.clone());
                self.effects.push(Effect { key, kind: EffectKind::Unchanged, stored });
                return Ok(());
            }
            Some(_) => EffectKind::Updated,
            None => EffectKind::Created,
        };
        let created = previous.map_or(self.next, |stored| stored.created);
        let stored = Stored { value: Arc::new(whole.into()), created, modified: self.next };
        self.state.insert(key.clone(), stored.clone());
        self.effects.push(Effect { key, kind, stored: Some(stored) });
        Ok(())
    }

    fn create(&mut self, kind: Kind, value: &Value, faults: Vec<Fault>) -> Result<(), Rejected> {
        let key = Key::created(kind, self.next);
        let words = kind.words();
        let fault = match kind {
            Kind::Consumer | Kind::Credential | Kind::Secret | Kind::Zone => {
                Some(Fault::new("", format!("a {words} cannot be made without an id")))
            }
            Kind::Route
            | Kind::Upstream
            | Kind::ConsumerGroup
            | Kind::Limit
            | Kind::UpstreamQuota
            | Kind::Response
            | Kind::Policy
            | Kind::Price
            | Kind::Budget => None,
        };
        let named = value.get("id").is_some();
        let fault = fault.or_else(|| {
            named.then(|| Fault::new("/id", format!("wrong {words} id, do not need it")))
        });
        let again = self.state.get(&key).is_some();
        let fault = fault.or_else(|| {
            let why = "the command's revision is the id: one command makes one of a kind";
            again.then(|| Fault::new("", why))
        });
        match fault {
            Some(fault) => Err(Rejected::Faults { key, faults: vec![fault] }),
            None => self.put(key, value, Stamp::Now, faults),
        }
    }

    fn delete(&mut self, key: &Key, expect: Expect) -> Result<(), Rejected> {
        if self.state.get(key).is_none() && expect != Expect::Absent {
            return Err(Rejected::Missing { key: key.clone() });
        }
        self.expect(key, expect)?;
        if self.state.remove(key, self.next).is_none() {
            return Err(Rejected::Missing { key: key.clone() });
        }
        let deleted = |key| Effect { key, kind: EffectKind::Deleted, stored: None };
        self.effects.push(deleted(key.clone()));
        if key.kind == Kind::Consumer {
            for credential in self.state.credentials(key) {
                self.state.remove(&credential, self.next);
                self.taken_along.push(deleted(credential));
            }
        }
        Ok(())
    }

    fn expect(&self, key: &Key, expect: Expect) -> Result<(), Rejected> {
        let found = self.state.get(key).map(|stored| stored.modified);
        let expected = match expect {
            Expect::Any => return Ok(()),
            Expect::Absent => None,
            Expect::Modified(revision) => Some(revision),
        };
        if found == expected {
            return Ok(());
        }
        Err(Rejected::Stale { key: key.clone(), expected, found })
    }

    /// Checks what only the whole can tell, and gives the state that the command makes.
    pub(super) fn finish(mut self) -> Result<(State, Applied), Rejected> {
        let Self { state, taken_along, .. } = &mut self;
        taken_along.retain(|effect| state.get(&effect.key).is_none());
        self.effects.append(&mut self.taken_along);
        self.check_links()?;
        self.check_referrers()?;
        self.check_duplicates()?;
        let Self { mut state, next, effects, .. } = self;
        if effects.iter().any(|effect| effect.kind != EffectKind::Unchanged) {
            state.revision = next;
        }
        let revision = state.revision;
        Ok((state, Applied { revision, effects }))
    }

    /// The resources that the command wrote and that are still there.
    fn written(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.effects.iter().filter_map(|effect| match effect.kind {
            EffectKind::Created | EffectKind::Updated => {
                Some((&effect.key, &*self.state.get(&effect.key)?.value))
            }
            EffectKind::Unchanged | EffectKind::Deleted => None,
        })
    }

    /// What was written names only what is there.
    fn check_links(&self) -> Result<(), Rejected> {
        for (key, value) in self.written() {
            let owner = key.consumer().map(|key| Link { path: String::new(), key });
            for link in owner.into_iter().chain(document::links(key.kind, value)) {
                if self.state.get(&link.key).is_none() {
                    return Err(document::dangling(key, link));
                }
            }
        }
        Ok(())
    }

    /// What was deleted is named by nothing that is there.
    fn check_referrers(&self) -> Result<(), Rejected> {
        if self.force {
            return Ok(());
        }
        for Effect { key, kind, .. } in &self.effects {
            if *kind != EffectKind::Deleted || self.state.get(key).is_some() {
                continue;
            }
            if let Some(by) = self.state.referrers(key).next() {
                return Err(Rejected::Referenced { key: key.clone(), by: by.clone() });
            }
        }
        Ok(())
    }

    /// What identifies an agent that was written identifies no other. Of two that were written
    /// the later one is at fault.
    fn check_duplicates(&self) -> Result<(), Rejected> {
        let written: BTreeMap<&Key, &Value> = self
            .written()
            .filter(|(key, _)| matches!(key.kind, Kind::Consumer | Kind::Credential))
            .collect();
        for (key, value) in &written {
            for (what, path, text) in plugin::identities(value) {
                let identity = (what, text.to_owned());
                let is_other = |other: &&Key| {
                    *other != *key && (*other < *key || !written.contains_key(*other))
                };
                let other = self.state.index.owners(&identity).find(is_other);
                if let Some(other) = other {
                    return Err(Rejected::Duplicate {
                        key: (*key).clone(),
                        path,
                        other: other.clone(),
                        what: what.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The document with its own id.
fn with_id(key: &Key, map: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = map.clone();
    whole.insert(key.id_member().to_owned(), Value::from(key.own_id()));
    whole
}

/// Writes the times; who was there before keeps when it was made. Answers whether the writer set
/// the time of the last write.
fn stamp_with(
    whole: &mut Map<String, Value>,
    stamp: Stamp,
    previous: Option<&Stored>,
    at: Timestamp,
) -> bool {
    let now = Value::from(at.as_secs());
    let before = |name| previous.and_then(|stored| stored.value.get(name));
    if stamp == Stamp::Now || !whole.contains_key(CREATED) {
        whole.insert(CREATED.to_owned(), before(CREATED).unwrap_or(&now).clone());
    }
    // A patch starts from the stored document: a time it left alone is none that it set.
    let given = whole.get(UPDATED);
    if stamp == Stamp::Given && given.is_some() && given != before(UPDATED) {
        return true;
    }
    whole.insert(UPDATED.to_owned(), now);
    false
}

/// Whether two documents differ in nothing but the time of the last write.
fn is_same(stored: &Value, whole: &Map<String, Value>) -> bool {
    let Value::Object(stored) = stored else { return false };
    stored.len() == whole.len()
        && stored.iter().all(|(name, value)| name == UPDATED || whole.get(name) == Some(value))
}
