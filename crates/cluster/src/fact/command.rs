//! What changes facts, and why a change is refused.

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::value::micros;
use super::{Fact, FactKey, FactKind};

/// Changes of facts that are made together or not at all, at a time that they carry themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactCommand {
    /// The wall clock of whoever made the command.
    #[serde(with = "micros")]
    pub at: Timestamp,
    pub changes: Vec<FactChange>,
}

/// One change of one fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactChange {
    /// Writes a fact whole.
    Set { id: String, fact: Fact, expect: FactExpect },
    /// Forgets a fact; one that is not there is no error.
    Clear { key: FactKey, expect: FactExpect },
}

/// What the writer believes to be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactExpect {
    #[default]
    Any,
    Absent,
    /// Exactly this.
    Is(Box<Fact>),
}

/// Why a command changed no fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactRejected {
    /// Another writer was there first.
    #[error("{key} is not what the writer believes it to be")]
    Stale { key: FactKey },
    /// The kind's bound is reached.
    #[error("there are {} {} already", kind.most(), kind.plural())]
    Full { kind: FactKind },
    /// The fact, or its id, is too long, or the id is empty.
    #[error("{key} is too large, or has no id")]
    Size { key: FactKey },
}

impl FactChange {
    pub(super) const fn expect(&self) -> &FactExpect {
        match self {
            Self::Set { expect, .. } | Self::Clear { expect, .. } => expect,
        }
    }
}

impl FactExpect {
    pub(super) fn check(&self, key: &FactKey, found: Option<&Fact>) -> Result<(), FactRejected> {
        let fits = match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Is(expected) => found == Some(expected),
        };
        if fits { Ok(()) } else { Err(FactRejected::Stale { key: key.clone() }) }
    }
}
