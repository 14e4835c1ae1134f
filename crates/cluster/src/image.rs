//! A machine as one stream of bytes: how a node that is far behind is told everything.
//!
//! ```text
//! {"v":1,"d":{"revision":7,"forgotten":0,"rows":2,"facts":1,"recent":1}}
//! ["routes/1",{"v":1,…}]        as many lines of rows, facts and done entries as the first says
//! ["approvals/7",{…}]
//! [12,[{…}]]
//! ```

use std::collections::BTreeMap;
use std::io::{self, Cursor, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use config::{Key, Kind, State, Stored};
use model::Revision;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use crate::fact::{FactKey, Facts};
use crate::machine::Machine;
use crate::recent::{DoneBatch, Recent};
use crate::record::{self, Unreadable};
use crate::store::row_name;

/// A snapshot as openraft hands it around: a machine that becomes bytes when somebody reads them,
/// or bytes that arrived.
#[derive(Debug)]
pub(crate) enum Image {
    Machine(Arc<Machine>),
    Bytes(Cursor<Vec<u8>>),
}

#[derive(Serialize, Deserialize)]
struct Header {
    revision: u64,
    forgotten: u64,
    rows: usize,
    facts: usize,
    recent: usize,
}

impl Image {
    /// An image that bytes can be written to.
    pub(crate) fn empty() -> Self {
        Self::Bytes(Cursor::default())
    }

    /// The machine's bytes, made now.
    pub(crate) fn encode(machine: &Machine) -> Self {
        Self::Bytes(Cursor::new(encode(machine)))
    }

    /// The machine in it.
    pub(crate) fn decode(self) -> Result<Machine, Unreadable> {
        match self {
            Self::Machine(machine) => Ok(Arc::unwrap_or_clone(machine)),
            Self::Bytes(bytes) => decode(bytes.get_ref()),
        }
    }

    fn bytes(&mut self) -> &mut Cursor<Vec<u8>> {
        if let Self::Machine(machine) = self {
            *self = Self::encode(machine);
        }
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Machine(_) => unreachable!("a machine was turned into bytes above"),
        }
    }
}

fn encode(machine: &Machine) -> Vec<u8> {
    let header = Header {
        revision: machine.state.revision().number(),
        forgotten: machine.recent.forgotten(),
        rows: machine.state.len(),
        facts: machine.facts.iter().count(),
        recent: machine.recent.batches().count(),
    };
    let mut bytes = record::pack(&header);
    for (key, stored) in Kind::ALL.iter().flat_map(|kind| machine.state.list(*kind)) {
        line(&mut bytes, &(row_name(key), stored));
    }
    for (key, fact) in machine.facts.iter() {
        line(&mut bytes, &(key.row(), fact));
    }
    for (index, done) in machine.recent.batches() {
        line(&mut bytes, &(index, done));
    }
    bytes
}

fn line<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    bytes.push(b'\n');
    serde_json::to_writer(bytes, value)
        .expect("a vector takes every byte, and our records always serialise");
}

fn decode(bytes: &[u8]) -> Result<Machine, Unreadable> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let header: Header = record::unpack(lines.next().unwrap_or_default())?;
    let mut rows: Vec<(Key, Stored)> = Vec::new();
    for _ in 0..header.rows {
        let (name, stored) = parse::<(String, Stored)>(lines.next())?;
        let (kind, id) = name.split_once('/').ok_or(Unreadable::Malformed)?;
        let kind = Kind::from_name(kind).ok_or(Unreadable::Malformed)?;
        rows.push((Key::new(kind, id), stored));
    }
    let mut facts = BTreeMap::new();
    for _ in 0..header.facts {
        let (name, fact) = parse::<(String, _)>(lines.next())?;
        facts.insert(FactKey::from_row(&name).ok_or(Unreadable::Malformed)?, fact);
    }
    let mut done: Vec<(u64, DoneBatch)> = Vec::new();
    for _ in 0..header.recent {
        done.push(parse(lines.next())?);
    }
    if lines.next().is_some() {
        return Err(Unreadable::Malformed);
    }
    let state = State::restore(Revision::new(header.revision), rows.into_iter());
    let recent = Recent::restore(header.forgotten, done);
    Ok(Machine::restore(state, Facts::restore(facts), recent))
}

fn parse<T: DeserializeOwned>(line: Option<&[u8]>) -> Result<T, Unreadable> {
    serde_json::from_slice(line.unwrap_or_default()).map_err(|_| Unreadable::Malformed)
}

impl AsyncRead for Image {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.bytes()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Image {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = self.bytes();
        let end = bytes.position().saturating_add(buffer.len() as u64);
        if end > IMAGE_BYTES_MAX {
            let why = format!("a snapshot over {IMAGE_BYTES_MAX} bytes is not taken");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, why)));
        }
        Pin::new(bytes).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.bytes()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.bytes()).poll_shutdown(context)
    }
}

impl AsyncSeek for Image {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        Pin::new(self.bytes()).start_seek(to)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(self.bytes()).poll_complete(context)
    }
}

/// A larger image is not taken: ten times the largest document that is promised to work.
const IMAGE_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use config::{Change, Command, Expect, Key, Kind, Stamp};
    use model::{Revision, Timestamp};
    use serde_json::json;

    use super::{Image, decode, encode};
    use crate::entry::{self, Batch, Proposal, ProposalId};
    use crate::fact::{Fact, FactChange, FactCommand, FactExpect};
    use crate::machine::Machine;

    fn machine() -> Machine {
        let at = Timestamp::from_secs(1);
        let key = Key::new(Kind::Upstream, "a");
        let value = json!({"nodes": {"10.0.0.1:80": 1}, "desc": "line\nbreak"});
        let put = Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now };
        let command = Command { at, base: None, force: false, changes: vec![put] };
        let fact = Fact::LedgerEpoch(rules::outage::Epoch::first());
        let set = FactChange::Set { id: "redis".to_owned(), fact, expect: FactExpect::Any };
        let facts = FactCommand { at, changes: vec![set] };
        let proposals = vec![
            Proposal { id: ProposalId([1; 16]), change: entry::Change::Document(command) },
            Proposal { id: ProposalId([2; 16]), change: entry::Change::Facts(facts) },
        ];
        let batch = Batch { base: Revision::ZERO, after: Revision::new(1), proposals };
        let mut machine = Machine::default();
        machine.apply(7, &batch).unwrap();
        machine
    }

    #[test]
    fn a_machine_survives_the_journey() {
        let machine = machine();
        let bytes = encode(&machine);
        let arrived = decode(&bytes).unwrap();
        assert_eq!(encode(&arrived), bytes);
        assert!(arrived.recent.holds(ProposalId([2; 16])));
        assert_eq!(arrived.facts, machine.facts);
    }

    #[test]
    fn half_an_image_is_none() {
        let bytes = encode(&machine());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Image::empty().decode().is_err());
    }
}
