//! What a purse keeps in its node's journal: its shares, the calls that may have left, and the ends
//! that the store has not taken yet.

use std::sync::Arc;

use model::Amount;
use serde::{Deserialize, Serialize};

use super::{Entry, Kind, Piece, Row, Share, Wanted};
use crate::money::Draft;

/// One thing that was kept.
#[derive(Debug)]
pub(crate) enum Kept {
    Share(Arc<[u8]>, Share),
    /// A call that may have left.
    Open(Wanted),
    End(Entry),
}

/// Reads what was kept under a name. `None` when it cannot be read.
pub(crate) fn read(name: &[u8], value: &[u8]) -> Option<Kept> {
    let (kind, rest) = name.split_first()?;
    let id = || Some(u128::from_be_bytes(rest.try_into().ok()?));
    match *kind {
        SHARE => {
            let ShareParts(posted, adjusted, fired, expires) =
                serde_json::from_slice(value).ok()?;
            let (posted, adjusted) = (Amount::from_parts(posted)?, Amount::from_parts(adjusted)?);
            Some(Kept::Share(rest.into(), Share { posted, adjusted, fired, expires }))
        }
        OPEN => {
            let OpenParts(check, pieces) = serde_json::from_slice(value).ok()?;
            let holds = pieces.into_iter().map(|(row, amount, is_shadow)| {
                Some(Piece { row: row.row()?, amount: Amount::from_parts(amount)?, is_shadow })
            });
            Some(Kept::Open(Wanted { id: id()?, check, holds: holds.collect::<Option<_>>()? }))
        }
        END => {
            let EndParts(check, kind, parts) = serde_json::from_slice(value).ok()?;
            let parts = parts.into_iter();
            let parts = parts.map(|(row, cost)| Some((row.row()?, Amount::from_parts(cost)?)));
            let kind = [Kind::Settle, Kind::Void, Kind::Estimate, Kind::Adjust]
                .into_iter()
                .find(|known| number_of(*known) == kind)?;
            Some(Kept::End(Entry { id: id()?, check, kind, parts: parts.collect::<Option<_>>()? }))
        }
        _ => None,
    }
}

pub(crate) fn share(draft: &mut Draft, key: &[u8], share: Option<&Share>) {
    let parts = share.map(|share| {
        let Share { posted, adjusted, fired, expires } = *share;
        ShareParts(posted.parts(), adjusted.parts(), fired, expires)
    });
    draft.keep([&[SHARE], key].concat(), parts.map(|parts| json(&parts)));
}

/// A call may leave.
pub(crate) fn opens(draft: &mut Draft, wanted: &Wanted) {
    let pieces = wanted.holds.iter();
    let pieces =
        pieces.map(|piece| (RowParts::of(&piece.row), piece.amount.parts(), piece.is_shadow));
    let parts = OpenParts(wanted.check, pieces.collect());
    draft.keep(name(OPEN, wanted.id), Some(json(&parts)));
}

pub(crate) fn closes(draft: &mut Draft, id: u128) {
    draft.keep(name(OPEN, id), None);
}

/// An end waits for the store.
pub(crate) fn ends(draft: &mut Draft, entry: &Entry) {
    let parts = entry.parts.iter().map(|(row, cost)| (RowParts::of(row), cost.parts()));
    let parts = EndParts(entry.check, number_of(entry.kind), parts.collect());
    draft.keep(name(END, entry.id), Some(json(&parts)));
}

pub(crate) fn taken(draft: &mut Draft, id: u128) {
    draft.keep(name(END, id), None);
}

fn name(kind: u8, id: u128) -> Vec<u8> {
    [[kind].as_slice(), &id.to_be_bytes()].concat()
}

fn json(parts: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(parts).unwrap_or_default()
}

const fn number_of(kind: Kind) -> u8 {
    match kind {
        Kind::Settle => 1,
        Kind::Void => 2,
        Kind::Estimate => 3,
        Kind::Adjust => 4,
    }
}

/// Posted, adjusted, fired, expires.
#[derive(Serialize, Deserialize)]
struct ShareParts(i64, i64, u8, u64);

#[derive(Serialize, Deserialize)]
struct OpenParts([u8; 8], Vec<(RowParts, i64, bool)>);

#[derive(Serialize, Deserialize)]
struct EndParts([u8; 8], u8, Vec<(RowParts, i64)>);

/// Key, amount, expires, percents.
#[derive(Serialize, Deserialize)]
struct RowParts(String, i64, u64, Vec<u8>);

impl RowParts {
    fn of(row: &Row) -> Self {
        let key = String::from_utf8_lossy(&row.key).into_owned();
        Self(key, row.amount.parts(), row.expires, row.percents.to_vec())
    }

    fn row(self) -> Option<Row> {
        let Self(key, amount, expires, percents) = self;
        let amount = Amount::from_parts(amount)?;
        Some(Row { key: key.into_bytes().into(), amount, expires, percents: percents.into() })
    }
}

/// What a name begins with.
const SHARE: u8 = b's';
const OPEN: u8 = b'o';
const END: u8 = b'e';
