//! What changes a state: commands, their effects, and why one is rejected.

use model::{Revision, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{Fault, line};
use crate::key::{Key, Kind};
use crate::state::Stored;

/// Changes that are made together or not at all, at a time that they carry themselves.
///
/// Its serialised form names its version; a reader of another version refuses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct Command {
    /// The wall clock of whoever made the command; becomes `create_time` and `update_time`.
    pub at: Timestamp,
    /// Reject the command unless the state is at this revision.
    pub base: Option<Revision>,
    /// Delete even what is still referred to.
    pub force: bool,
    pub changes: Vec<Change>,
}

/// One change of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Writes a resource whole.
    Put { key: Key, value: Value, expect: Expect, stamp: Stamp },
    /// Writes a new resource whose id is the command's revision in 20 digits.
    ///
    /// Sealed values are bound to that id: seal under [`Key::created`] with the revision after
    /// `base`, and give `base`.
    Create { kind: Kind, value: Value },
    /// Removes a resource; a consumer takes its credentials along.
    Delete { key: Key, expect: Expect },
}

/// What the writer believes to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    #[default]
    Any,
    /// Nothing (`If-None-Match: *`).
    Absent,
    /// The resource as last changed at this revision (`If-Match`).
    #[serde(with = "number")]
    Modified(Revision),
}

/// Who says when a resource was made and changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// The command's own time; a document that brings times is refused (PUT, POST).
    #[default]
    Now,
    /// The document, where it brings times (PATCH).
    Given,
}

/// What a command did. One command makes one revision, whatever the number of its changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision after the command; the one before it when nothing changed.
    #[serde(with = "number")]
    pub revision: Revision,
    /// What became of each change, in their order, then what they took along.
    pub effects: Vec<Effect>,
}

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub key: Key,
    pub kind: EffectKind,
    /// As the command left it; `None` once deleted, or when another command has changed it before
    /// this one could be answered.
    pub stored: Option<Stored>,
}

/// The ways a resource may come out of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    Created,
    Updated,
    /// The same was there already; its times and revisions stay.
    Unchanged,
    Deleted,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// Another writer was there first.
    #[error("value changed before overwritten: {key} is at {}, not at {}", shown(*found), shown(*expected))]
    Stale {
        key: Key,
        #[serde(with = "numbers")]
        expected: Option<Revision>,
        #[serde(with = "numbers")]
        found: Option<Revision>,
    },
    /// The state is at another revision than the command was made for.
    #[error("the configuration is at revision {found}, not at {expected}")]
    Base {
        #[serde(with = "number")]
        expected: Revision,
        #[serde(with = "number")]
        found: Revision,
    },
    #[error("Key not found")]
    Missing { key: Key },
    #[error("can not delete this {}, {} [{}] is still using it now", key.kind.words(), by.kind.words(), by.id)]
    Referenced { key: Key, by: Key },
    #[error("failed to fetch {} info by {} id [{}], response code: 404", missing.kind.words(), missing.kind.words(), missing.id)]
    Dangling { key: Key, path: String, missing: Key },
    #[error("duplicate key of plugin {what} found with {}", owner(other))]
    Duplicate { key: Key, path: String, other: Key, what: String },
    #[error("invalid configuration: {}", line(faults))]
    Faults { key: Key, faults: Vec<Fault> },
}

fn shown(revision: Option<Revision>) -> String {
    revision.map_or_else(|| String::from("nothing"), |revision| format!("revision {revision}"))
}

fn owner(key: &Key) -> String {
    match key.consumer() {
        Some(consumer) => format!("credential: {} of consumer: {}", key.own_id(), consumer.id),
        None => format!("consumer: {}", key.id),
    }
}

/// A command as it is kept in a log.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    at: u64,
    base: Option<u64>,
    force: bool,
    changes: Vec<Change>,
}

/// The version of the serialised form that this release writes and reads.
pub(crate) const RECORD_VERSION: u32 = 1;

/// A record was written by a release whose form this one does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {found} of the record is not known; this release reads version {RECORD_VERSION}")]
pub(crate) struct UnknownVersion {
    pub(crate) found: u32,
}

impl From<Command> for Record {
    fn from(command: Command) -> Self {
        let Command { at, base, force, changes } = command;
        let base = base.map(Revision::number);
        Self { v: RECORD_VERSION, at: at.as_micros(), base, force, changes }
    }
}

impl TryFrom<Record> for Command {
    type Error = UnknownVersion;

    fn try_from(record: Record) -> Result<Self, UnknownVersion> {
        let Record { v, at, base, force, changes } = record;
        if v != RECORD_VERSION {
            return Err(UnknownVersion { found: v });
        }
        let base = base.map(Revision::new);
        Ok(Self { at: Timestamp::from_micros(at), base, force, changes })
    }
}

/// A revision as a plain number.
mod number {
    use model::Revision;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(revision: &Revision, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(revision.number())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Revision, D::Error> {
        u64::deserialize(from).map(Revision::new)
    }
}

/// A revision that may be absent, as a plain number.
mod numbers {
    use model::Revision;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        revision: &Option<Revision>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        revision.map(Revision::number).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Revision>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Revision::new))
    }
}

#[cfg(test)]
mod tests {
    use model::{Revision, Timestamp};
    use serde_json::json;

    use super::{Change, Command, Expect, Stamp};
    use crate::key::{Key, Kind};

    fn command() -> Command {
        let key = Key::new(Kind::Route, "1");
        Command {
            at: Timestamp::from_micros(7),
            base: Some(Revision::new(3)),
            force: true,
            changes: vec![
                Change::Put {
                    key: key.clone(),
                    value: json!({"uri": "/a"}),
                    expect: Expect::Modified(Revision::new(2)),
                    stamp: Stamp::Given,
                },
                Change::Create { kind: Kind::Limit, value: json!({}) },
                Change::Delete { key, expect: Expect::Absent },
            ],
        }
    }

    #[test]
    fn a_command_survives_the_log() {
        let text = serde_json::to_string(&command()).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command());
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let mut record = serde_json::to_value(command()).unwrap();
        record["v"] = json!(2);
        let error = serde_json::from_value::<Command>(record).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
    }
}
