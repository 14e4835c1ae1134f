//! Faults put into the cluster on purpose, around its disks and its network: each must be found.

use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Builder, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::disk::{Disk, Platter};
use crate::ask::Ask;
use crate::entry::ProposalId;
use crate::fact::Facts;
use crate::image::Image;
use crate::machine::Machine;
use crate::network::{MESSAGE_VERSION, json, pack_chunk, unpack_chunk};
use crate::record;
use crate::transport::{Message, MessageKind};
use crate::types::{AppendRequest, AppendResponse, Entry};

/// What is wrong with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A vote is not on disk when it is given.
    VoteForgotten,
    /// Entries are not on disk when they are acknowledged.
    SyncLies,
    /// Whoever leads is told that it still does, by nobody.
    ReadUnconfirmed,
    /// A change that is sent again is taken for another one.
    IdsIgnored,
    /// A node takes an entry for applied that it has not applied.
    EntrySkipped,
    /// A snapshot comes without the facts.
    FactsLost,
}

impl Mutant {
    /// What a node finds on its disk after a crash.
    pub(crate) fn age(self, platter: &mut Platter) {
        match self {
            Self::VoteForgotten => edit(platter, |database| {
                let writing = database.begin_write().unwrap();
                writing.open_table(META).unwrap().remove("vote").unwrap();
                writing.commit().unwrap();
            }),
            Self::EntrySkipped => edit(platter, |database| {
                let reading = database.begin_read().unwrap();
                let log = reading.open_table(LOG).unwrap();
                let Some((_, last)) = log.last().unwrap() else { return };
                let last: Entry = record::unpack(last.value()).unwrap();
                let writing = database.begin_write().unwrap();
                let applied = record::pack(&last.log_id);
                writing.open_table(META).unwrap().insert("applied", &*applied).unwrap();
                writing.commit().unwrap();
            }),
            Self::SyncLies | Self::ReadUnconfirmed | Self::IdsIgnored | Self::FactsLost => {}
        }
    }

    /// What becomes of a message on its way, by chance.
    pub(crate) fn bend(self, mut message: Message, chance: u64) -> Message {
        match (self, message.kind) {
            (Self::IdsIgnored, MessageKind::Propose) => {
                let mut ask: Ask = serde_json::from_slice(&message.body).unwrap();
                ask.id = ProposalId(u128::from(chance).to_be_bytes());
                ask.since = None;
                message.body = json(&ask);
            }
            (Self::FactsLost, MessageKind::Snapshot) => {
                let mut chunk = unpack_chunk(&message.body).unwrap();
                // These documents are small: a snapshot is one chunk.
                if chunk.offset == 0 && chunk.done {
                    let bytes = std::mem::take(&mut chunk.data);
                    let machine = Image::Bytes(std::io::Cursor::new(bytes)).decode().unwrap();
                    let machine = Machine { facts: Facts::default(), ..machine };
                    let Image::Bytes(bytes) = Image::encode(&machine) else { return message };
                    chunk.data = bytes.into_inner();
                }
                message.body = pack_chunk(chunk);
            }
            _ => {}
        }
        message
    }

    /// What is answered before anybody has seen the message.
    pub(crate) fn answer(self, message: &Message) -> Option<Message> {
        if self != Self::ReadUnconfirmed || message.kind != MessageKind::Append {
            return None;
        }
        let append: AppendRequest = serde_json::from_slice(&message.body).unwrap();
        let body = json(&AppendResponse::Success);
        let answer = Message { kind: MessageKind::Append, version: MESSAGE_VERSION, body };
        append.entries.is_empty().then_some(answer)
    }
}

fn edit(platter: &mut Platter, change: impl FnOnce(&redb::Database)) {
    let copy = Arc::new(Mutex::new(Platter::new(platter.image(), Chance::new(0, "edit"))));
    let disk = Disk::new(Arc::clone(&copy), CancellationToken::new());
    let database = Builder::new().create_with_backend(disk).unwrap();
    change(&database);
    drop(database);
    platter.replace(copy.lock().image());
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
