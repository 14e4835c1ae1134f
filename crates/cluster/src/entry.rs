//! What one entry of the log carries: proposals that were judged together.
//!
//! The leader seals, judges and compiles before it proposes, so an entry holds nothing that it
//! could not judge by. An entry names the revision it was judged at and the one it makes: a node
//! that stands elsewhere when the entry's turn comes does nothing by it (and so does every other),
//! and a node whose rules come out elsewhere stays out instead of drifting away.

use std::sync::Arc;

use config::Command;
use model::Revision;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fact::FactCommand;
use crate::record::{self, Unreadable};

/// Names one proposal, however often it is sent: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProposalId(pub(crate) [u8; 16]);

/// A change as the log keeps it; secrets sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Document(Command),
    Facts(FactCommand),
}

/// A change with the name that makes a repetition known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) id: ProposalId,
    pub(crate) change: Change,
}

/// Proposals that were judged one after another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    /// The revision they were judged at.
    pub(crate) base: Revision,
    /// The revision they make.
    pub(crate) after: Revision,
    pub(crate) proposals: Vec<Proposal>,
}

/// A batch as the log keeps it and nodes send it: written once, read once on each node.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Payload(Arc<RawValue>);

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Its changes were made.
    Made,
    /// The document had moved on since the entry was judged: nothing was made.
    Outrun,
}

impl Payload {
    pub(crate) fn new(batch: &Batch) -> Self {
        let text = String::from_utf8(record::pack(&Record::from(batch)))
            .ok()
            .and_then(|text| RawValue::from_string(text).ok());
        Self(text.expect("what serde_json wrote is JSON in UTF-8").into())
    }

    pub(crate) fn read(&self) -> Result<Batch, Unreadable> {
        let Owned { base, after, proposals } = record::unpack(self.0.get().as_bytes())?;
        Ok(Batch { base: Revision::new(base), after: Revision::new(after), proposals })
    }

    /// Whether this release can read it.
    pub(crate) fn check(&self) -> Result<(), Unreadable> {
        record::check(self.0.get().as_bytes())
    }

    /// Whether it is the very same, not only equal.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many bytes it takes in the log.
    pub(crate) fn len(&self) -> usize {
        self.0.get().len()
    }
}

/// A payload may hold digests of secrets; logs of the Raft below us need none of it.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes]", self.len())
    }
}

impl std::fmt::Debug for ProposalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for ProposalId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for ProposalId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(from)?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(&*text, &mut bytes)
            .map_err(|_| serde::de::Error::custom("a proposal's id has 32 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

#[derive(Serialize)]
struct Record<'a> {
    base: u64,
    after: u64,
    proposals: &'a [Proposal],
}

#[derive(Deserialize)]
struct Owned {
    base: u64,
    after: u64,
    proposals: Vec<Proposal>,
}

impl<'a> From<&'a Batch> for Record<'a> {
    fn from(batch: &'a Batch) -> Self {
        let Batch { base, after, proposals } = batch;
        Self { base: base.number(), after: after.number(), proposals }
    }
}

#[cfg(test)]
mod tests {
    use model::{Revision, Timestamp};

    use super::{Batch, Change, Payload, Proposal, ProposalId};
    use crate::fact::FactCommand;

    #[test]
    fn an_entry_survives_the_log() {
        let change = Change::Facts(FactCommand { at: Timestamp::from_secs(1), changes: vec![] });
        let batch = Batch {
            base: Revision::new(3),
            after: Revision::new(4),
            proposals: vec![Proposal { id: ProposalId([7; 16]), change }],
        };
        let text = serde_json::to_string(&Payload::new(&batch)).unwrap();
        let read: Payload = serde_json::from_str(&text).unwrap();
        assert_eq!(read.read(), Ok(batch));
    }
}
