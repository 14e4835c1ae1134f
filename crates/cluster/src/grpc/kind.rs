//! The kinds of messages as the wire numbers them.

use bytes::Bytes;
use wire::cluster::refusal::Reason;
use wire::cluster::{Kind, Refusal};

use crate::{Message, MessageKind};

pub(super) const fn to_wire(kind: MessageKind) -> Kind {
    match kind {
        MessageKind::Append => Kind::Append,
        MessageKind::Vote => Kind::Vote,
        MessageKind::Snapshot => Kind::Snapshot,
        MessageKind::Propose => Kind::Propose,
        MessageKind::ReadIndex => Kind::ReadIndex,
        MessageKind::Status => Kind::Status,
        MessageKind::Members => Kind::Members,
        MessageKind::Ledger => Kind::Ledger,
    }
}

/// The message; `None` when this release has no such kind.
pub(super) fn from_wire(kind: i32, version: u32, body: Bytes) -> Option<Message> {
    let kind = match Kind::try_from(kind).ok()? {
        Kind::Unspecified => return None,
        Kind::Append => MessageKind::Append,
        Kind::Vote => MessageKind::Vote,
        Kind::Snapshot => MessageKind::Snapshot,
        Kind::Propose => MessageKind::Propose,
        Kind::ReadIndex => MessageKind::ReadIndex,
        Kind::Status => MessageKind::Status,
        Kind::Members => MessageKind::Members,
        Kind::Ledger => MessageKind::Ledger,
    };
    Some(Message { kind, version, body })
}

/// Whether Raft says this.
const fn is_raft(kind: MessageKind) -> bool {
    match kind {
        MessageKind::Append | MessageKind::Vote | MessageKind::Snapshot => true,
        MessageKind::Propose
        | MessageKind::ReadIndex
        | MessageKind::Status
        | MessageKind::Members
        | MessageKind::Ledger => false,
    }
}

/// Whether a node answers this to one that it does not know yet: what Raft says, since a node that
/// is behind does not know who has become a member; and how it is, since who leads must know that.
pub(crate) const fn is_for_all(kind: MessageKind) -> bool {
    is_raft(kind) || matches!(kind, MessageKind::Status)
}

pub(super) fn refusal(reason: Reason, why: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), why: why.into(), known: 0 }
}
