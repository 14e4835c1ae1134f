//! The kinds of facts, and what each of them says.

use std::collections::BTreeMap;

use model::{Revision, Timestamp};
use rules::outage::Epoch;
use serde::{Deserialize, Serialize};

use super::FactRejected;

/// The kinds of facts this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// Who may do nothing for now; the id is `agent/NAME`, `team/NAME` or `all`.
    Suspension,
    /// What a human was asked, and said.
    Approval,
    /// Who counts a fleet's limits: its store, in which life, or each node its share.
    LedgerEpoch,
    /// What was spent up to a point, from which a store that forgot is restored.
    LedgerCheckpoint,
    /// How far a node's audit chain went, and its digest there.
    AuditAnchor,
    /// A join token that was used, so that nobody uses it again.
    JoinToken,
    /// A node that has left; the id is its name.
    Departure,
}

/// The name of one fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FactKey {
    pub kind: FactKind,
    pub id: String,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    Suspension(Suspension),
    Approval(Approval),
    LedgerEpoch(Epoch),
    LedgerCheckpoint(LedgerCheckpoint),
    AuditAnchor(AuditAnchor),
    JoinToken(JoinToken),
    Departure(Departure),
}

/// Somebody may do nothing until it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// For people; told to the suspended.
    pub reason: String,
    /// The name of the operator; empty in records of older releases.
    #[serde(default)]
    pub by: String,
    #[serde(with = "micros")]
    pub since: Timestamp,
    /// `None` until somebody ends it.
    #[serde(with = "maybe_micros")]
    pub until: Option<Timestamp>,
}

/// What a human was asked: one request of one agent, bound by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub agent: String,
    pub operation: String,
    /// SHA-256 of the request, in hexadecimal.
    pub digest: String,
    /// The document that asked for it.
    #[serde(with = "number")]
    pub policy: Revision,
    #[serde(with = "micros")]
    pub expires: Timestamp,
    pub state: ApprovalState,
}

/// How far an approval is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    Waiting,
    Granted {
        by: String,
    },
    Refused {
        by: String,
    },
    /// The request was made; it cannot be made again.
    Used {
        by: String,
    },
}

/// What was spent, up to a sequence number of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCheckpoint {
    pub epoch: u64,
    pub sequence: u64,
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// By account and period; the unit is the account's.
    pub totals: BTreeMap<String, i64>,
}

/// How far a node's audit chain went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnchor {
    /// The number of the chain's last record.
    pub sequence: u64,
    /// The digest of that record, in hexadecimal.
    pub digest: String,
    #[serde(with = "micros")]
    pub at: Timestamp,
}

/// A join token that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The name of the node that joined by it.
    pub node: String,
    /// The number it was given.
    pub id: u64,
    /// The digest of its key, in hexadecimal: the same node may ask again. Empty once it has left.
    pub key: String,
    /// The numbers of the members whose place it takes, once it has caught up.
    pub replaces: Vec<u64>,
    /// After it the token would not be taken anyway.
    #[serde(with = "micros")]
    pub expires: Timestamp,
}

/// Nodes that have left under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Their numbers, which no other node will have; the newest 64.
    pub ids: Vec<u64>,
    /// After it the certificate that the cluster gave it is worth nothing anyway.
    #[serde(with = "micros")]
    pub forget: Timestamp,
}

impl FactKey {
    /// The name of a fact.
    #[must_use]
    pub fn new(kind: FactKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }

    /// `suspensions/agent/alice`, as the store names it.
    pub(crate) fn row(&self) -> String {
        format!("{}/{}", self.kind.plural(), self.id)
    }

    /// The fact of a store's name.
    pub(crate) fn from_row(row: &str) -> Option<Self> {
        let (plural, id) = row.split_once('/')?;
        let kind = FactKind::ALL.into_iter().find(|kind| kind.plural() == plural)?;
        Some(Self::new(kind, id))
    }
}

impl std::fmt::Display for FactKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.row())
    }
}

impl FactKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Suspension,
        Self::Approval,
        Self::LedgerEpoch,
        Self::LedgerCheckpoint,
        Self::AuditAnchor,
        Self::JoinToken,
        Self::Departure,
    ];

    /// The name of the collection.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Suspension => "suspensions",
            Self::Approval => "approvals",
            Self::LedgerEpoch => "ledger_epochs",
            Self::LedgerCheckpoint => "ledger_checkpoints",
            Self::AuditAnchor => "audit_anchors",
            Self::JoinToken => "join_tokens",
            Self::Departure => "departures",
        }
    }

    /// How many of a kind are kept. At the bound those go whose time is over; if there is none,
    /// a further one is refused.
    #[must_use]
    pub const fn most(self) -> usize {
        match self {
            Self::Suspension | Self::Approval => 10_000,
            Self::LedgerEpoch => 16,
            Self::LedgerCheckpoint | Self::JoinToken => 1_024,
            Self::AuditAnchor | Self::Departure => 4_096,
        }
    }
}

impl Fact {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FactKind {
        match self {
            Self::Suspension(_) => FactKind::Suspension,
            Self::Approval(_) => FactKind::Approval,
            Self::LedgerEpoch(_) => FactKind::LedgerEpoch,
            Self::LedgerCheckpoint(_) => FactKind::LedgerCheckpoint,
            Self::AuditAnchor(_) => FactKind::AuditAnchor,
            Self::JoinToken(_) => FactKind::JoinToken,
            Self::Departure(_) => FactKind::Departure,
        }
    }

    /// When it means nothing any more; `None` for what stays true.
    #[must_use]
    pub const fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Suspension(suspension) => suspension.until,
            Self::Approval(approval) => Some(approval.expires),
            Self::JoinToken(token) => Some(token.expires),
            Self::Departure(departure) => Some(departure.forget),
            Self::LedgerEpoch(_) | Self::LedgerCheckpoint(_) | Self::AuditAnchor(_) => None,
        }
    }
}

/// Refuses what is too large to be kept by every node.
pub(super) fn check_size(key: &FactKey, fact: &Fact) -> Result<(), FactRejected> {
    let bytes = serde_json::to_vec(fact).map_or(usize::MAX, |bytes| bytes.len());
    if key.id.is_empty() || key.id.len() > ID_BYTES_MAX || bytes > FACT_BYTES_MAX {
        return Err(FactRejected::Size { key: key.clone() });
    }
    Ok(())
}

/// A longer id is refused.
const ID_BYTES_MAX: usize = 512;

/// A fact that is longer as JSON is refused.
const FACT_BYTES_MAX: usize = 16 << 10;

/// A timestamp as microseconds since the Unix epoch.
pub(crate) mod micros {
    use model::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(at.as_micros())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(from).map(Timestamp::from_micros)
    }
}

/// A timestamp that may be absent.
mod maybe_micros {
    use model::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(Timestamp::as_micros).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Timestamp::from_micros))
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
