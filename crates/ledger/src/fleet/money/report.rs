//! What a node tells a store that has forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use redis::RedisError;
use redis::aio::MultiplexedConnection;

use super::pack::Lists;
use super::resolve::Caller;
use super::{REMEMBERED, REMEMBERED_LONG, REPORT, Share, Wanted};
use crate::fleet::batch::{number, short};
use crate::fleet::key::Organisation;

/// What a node has spent and holds, cut into calls. It is made at one moment; whatever ends later
/// is told as an end.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) epoch: u64,
    pieces: Arc<[Portion]>,
}

/// One call's.
#[derive(Debug, Default)]
struct Portion {
    rows: Vec<(Arc<[u8]>, Share)>,
    lists: Lists,
    row_of: HashMap<Arc<[u8]>, u16>,
    ids: Vec<u128>,
    records: Vec<u8>,
}

/// What the store says of how far its nodes have told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) is_open: bool,
    /// Pieces it has of this node's report, and whether that is all of it.
    pub(crate) told: u64,
    pub(crate) is_whole: bool,
    /// The number of this node's last call.
    pub(crate) seen: u64,
    /// Every node that ever held money, and what is awaited of it.
    pub(crate) nodes: BTreeMap<String, Telling>,
}

/// Whether a node has told the store what it spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Money is closed until it has.
    Awaited,
    Told,
    /// It has, and keeps the names of all nodes on its disk.
    Introduced,
    /// An operator goes on without it. What it spent counts again when it comes back.
    Excused,
}

impl Report {
    /// Of a node's shares, its open holds with their deadlines in microseconds, and the ids that
    /// are over with their states.
    pub(crate) fn new<'a>(
        (organisation, epoch): (&Organisation, u64),
        shares: impl Iterator<Item = (&'a Arc<[u8]>, &'a Share)>,
        open: impl Iterator<Item = (&'a Wanted, u64)>,
        over: impl Iterator<Item = (u128, [u8; 8], u8)>,
    ) -> Self {
        let (mut pieces, mut portion) = (Vec::new(), Portion::default());
        for (key, share) in shares {
            portion.cut(&mut pieces);
            portion.row(organisation, key, share.clone());
        }
        for (wanted, deadline) in open {
            portion.cut(&mut pieces);
            portion.hold(organisation, wanted, deadline);
        }
        for (id, check, state) in over {
            portion.cut(&mut pieces);
            portion.over(id, check, state);
        }
        pieces.push(portion);
        Self { epoch, pieces: pieces.into() }
    }

    pub(crate) fn pieces(&self) -> u64 {
        u64::try_from(self.pieces.len()).unwrap_or(u64::MAX)
    }
}

impl Portion {
    /// Begins a new one where this has grown to a call's size.
    fn cut(&mut self, pieces: &mut Vec<Self>) {
        if self.rows.len() + self.ids.len() >= PORTION_MAX {
            pieces.push(std::mem::take(self));
        }
    }

    /// The place of a row, from 1.
    fn row(&mut self, organisation: &Organisation, key: &Arc<[u8]>, share: Share) -> u16 {
        let next = short(self.rows.len() + 1);
        *self.row_of.entry(Arc::clone(key)).or_insert_with(|| {
            self.lists.add(organisation, key, share.is.as_deref());
            self.rows.push((Arc::clone(key), share));
            next
        })
    }

    fn hold(&mut self, organisation: &Organisation, wanted: &Wanted, deadline: u64) {
        let mut kept = vec![RESERVED];
        kept.extend(wanted.check);
        kept.push(u8::try_from(wanted.holds.len()).unwrap_or(u8::MAX));
        let mut parts = Vec::new();
        for piece in &wanted.holds {
            let amount = piece.amount.parts().to_le_bytes();
            kept.extend(amount);
            kept.extend(short(piece.row.key.len()).to_le_bytes());
            kept.extend(&*piece.row.key);
            let (expires, is) = (piece.row.expires, piece.row.is.clone());
            let nothing = Share { expires, is, ..Share::default() };
            parts.extend(self.row(organisation, &piece.row.key, nothing).to_le_bytes());
            parts.extend(amount);
        }
        self.record(wanted.id, &kept, (0, deadline), &parts);
    }

    fn over(&mut self, id: u128, check: [u8; 8], state: u8) {
        let kept = [[state].as_slice(), &check, &[0]].concat();
        let remembered = if state == ADJUSTED { REMEMBERED_LONG } else { REMEMBERED };
        let for_ms = u64::try_from(remembered.as_millis()).unwrap_or(u64::MAX);
        self.record(id, &kept, (for_ms, 0), &[]);
    }

    fn record(&mut self, id: u128, kept: &[u8], (for_ms, deadline): (u64, u64), parts: &[u8]) {
        self.ids.push(id);
        self.records.extend(u32::try_from(kept.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.records.extend(for_ms.to_le_bytes());
        self.records.extend(deadline.to_le_bytes());
        self.records.push(u8::try_from(parts.len() / PART_BYTES).unwrap_or(u8::MAX));
        self.records.extend(parts);
        self.records.extend(kept);
    }
}

/// Tells one piece, from 1, of a report; or only asks.
///
/// # Errors
/// What the store or the connection says. `None` where the store holds another epoch, or answers
/// nonsense.
pub(crate) async fn tell(
    connection: &mut MultiplexedConnection,
    caller: Caller<'_>,
    known: &[String],
    told: Option<(&Report, u64)>,
) -> Result<Option<Heard>, RedisError> {
    let Caller { organisation, node, epoch, .. } = caller;
    let nothing = Portion::default();
    let place = |piece: u64| usize::try_from(piece).ok().and_then(|piece| piece.checked_sub(1));
    let portion = told.and_then(|(report, piece)| report.pieces.get(place(piece)?));
    let portion = portion.unwrap_or(&nothing);
    let mut keys = vec![
        organisation.epoch(),
        organisation.money(),
        organisation.nodes(),
        organisation.seen(node),
        organisation.open(node),
    ];
    keys.extend(portion.rows.iter().map(|(key, _)| key.to_vec()));
    keys.extend(portion.ids.iter().map(|id| organisation.hold(*id)));
    keys.extend(portion.lists.keys.iter().cloned());
    let piece = told.map_or(0, |(_, piece)| piece);
    let mut head = piece.to_le_bytes().to_vec();
    head.push(u8::from(told.is_some_and(|(report, piece)| piece == report.pieces())));
    head.extend(short(portion.rows.len()).to_le_bytes());
    head.extend(short(portion.ids.len()).to_le_bytes());
    let mut names = Vec::new();
    for name in known {
        names.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        names.extend(name.bytes().take(usize::from(u8::MAX)));
    }
    let mut rows = Vec::new();
    for (_, share) in &portion.rows {
        rows.extend(share.posted.parts().to_le_bytes());
        rows.extend(share.adjusted.parts().to_le_bytes());
        rows.extend(share.expires.to_le_bytes());
        rows.push(share.fired.places());
        let fired: Vec<u8> = share.fired.percents().collect();
        rows.push(u8::try_from(fired.len()).unwrap_or(u8::MAX));
        rows.extend(fired);
    }
    let epoch = epoch.to_string();
    let lists = &portion.lists.heads;
    let arguments: [&[u8]; 7] =
        [epoch.as_bytes(), node.as_bytes(), &head, &names, &rows, &portion.records, lists];
    let answer = REPORT.call(connection, &keys, &arguments).await?;
    Ok(heard(&answer))
}

fn heard(mut answer: &[u8]) -> Option<Heard> {
    let flag = |answer: &mut &[u8]| {
        let (flag, rest) = answer.split_first()?;
        *answer = rest;
        Some(*flag)
    };
    let is_open = flag(&mut answer)? == 1;
    let told = number(&mut answer)?;
    let is_whole = flag(&mut answer)? == 1;
    let seen = number(&mut answer)?;
    let mut nodes = BTreeMap::new();
    while !answer.is_empty() {
        let telling = match flag(&mut answer)? {
            0 => Telling::Awaited,
            1 => Telling::Told,
            2 => Telling::Excused,
            _ => Telling::Introduced,
        };
        let length = usize::from(flag(&mut answer)?);
        let (name, rest) = answer.split_at_checked(length)?;
        answer = rest;
        nodes.insert(String::from_utf8(name.to_vec()).ok()?, telling);
    }
    Some(Heard { is_open, told, is_whole, seen, nodes })
}

/// How `hold.lua` marks an open hold.
const RESERVED: u8 = 1;

/// How `resolve.lua` marks an adjustment.
pub(crate) const ADJUSTED: u8 = 5;

/// A row and an amount.
const PART_BYTES: usize = 10;

/// Rows and holds in one call: some milliseconds of the store's.
const PORTION_MAX: usize = 256;
