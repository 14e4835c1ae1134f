//! What a purse keeps in its node's journal: its shares, the calls that may have left, the ends that
//! the store has not taken yet, and what operators want.

use std::sync::Arc;

use model::{Amount, Timestamp};
use rules::budget::Fired;
use serde::{Deserialize, Serialize};

use super::intent::Intent;
use super::{Entry, Kind, Piece, Row, Share, Wanted};
use crate::fleet::key::{name_of, row_name};
use crate::money::{Adjustment, Draft};

/// One thing that was kept.
#[derive(Debug)]
pub(crate) enum Kept {
    Share(Arc<[u8]>, Share),
    /// A call that may have left.
    Open(Wanted),
    End(Entry),
    /// What an operator wants.
    Intent(u128, Intent),
}

/// Reads what was kept under a name. `None` when it cannot be read.
pub(crate) fn read(name: &[u8], value: &[u8]) -> Option<Kept> {
    let (kind, rest) = name.split_first()?;
    let id = || Some(u128::from_be_bytes(rest.try_into().ok()?));
    match *kind {
        SHARE => {
            let ShareParts(posted, adjusted, places, expires, percents, name) =
                serde_json::from_slice(value).ok()?;
            let (posted, adjusted) = (Amount::from_parts(posted)?, Amount::from_parts(adjusted)?);
            let fired = Fired::of_places(places).and(percents.into_iter().collect());
            let is = Row::named(rest.into(), name.as_deref()).is;
            Some(Kept::Share(rest.into(), Share { posted, adjusted, fired, expires, is }))
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
                .find(|known| known.number() == kind)?;
            Some(Kept::End(Entry { id: id()?, check, kind, parts: parts.collect::<Option<_>>()? }))
        }
        INTENT => {
            let IntentParts { row, by, at, who, why, name } = serde_json::from_slice(value).ok()?;
            let by = Amount::from_parts(by)?;
            let (at, who, why) = (Timestamp::from_micros(at), who.into(), why.into());
            let row = row.row()?;
            let of = row.is.as_deref()?.clone();
            let what = Adjustment { id: name.into(), row: of, by, who, why, at };
            Some(Kept::Intent(id()?, Intent::kept(row, what)))
        }
        _ => None,
    }
}

pub(crate) fn share(draft: &mut Draft, key: &[u8], share: Option<&Share>) {
    let parts = share.map(|share| {
        let Share { posted, adjusted, fired, expires, is } = share;
        let name = is.as_deref().filter(|_| name_of(key).is_none()).map(row_name);
        let (posted, adjusted) = (posted.parts(), adjusted.parts());
        ShareParts(posted, adjusted, fired.places(), *expires, fired.percents().collect(), name)
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
    let parts = EndParts(entry.check, entry.kind.number(), parts.collect());
    draft.keep(name(END, entry.id), Some(json(&parts)));
}

pub(crate) fn taken(draft: &mut Draft, id: u128) {
    draft.keep(name(END, id), None);
}

/// What an operator wants, until the store has answered.
pub(crate) fn intent(draft: &mut Draft, id: u128, intent: Option<&Intent>) {
    let parts = intent.map(|intent| {
        let Adjustment { id, row: _, by, who, why, at } = &intent.what;
        IntentParts {
            row: RowParts::of(&intent.row),
            by: by.parts(),
            at: at.as_micros(),
            who: who.to_string(),
            why: why.to_string(),
            name: id.to_string(),
        }
    });
    draft.keep(name(INTENT, id), parts.map(|parts| json(&parts)));
}

fn name(kind: u8, id: u128) -> Vec<u8> {
    [[kind].as_slice(), &id.to_be_bytes()].concat()
}

fn json(parts: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(parts).unwrap_or_default()
}

/// Posted, adjusted, the places of thresholds as earlier versions wrote them, expires; the percents
/// that have fired; and the row's name, where its key does not say it.
#[derive(Serialize, Deserialize)]
struct ShareParts(i64, i64, u8, u64, #[serde(default)] Vec<u8>, #[serde(default)] Option<String>);

#[derive(Serialize, Deserialize)]
struct OpenParts([u8; 8], Vec<(RowParts, i64, bool)>);

#[derive(Serialize, Deserialize)]
struct EndParts([u8; 8], u8, Vec<(RowParts, i64)>);

#[derive(Serialize, Deserialize)]
struct IntentParts {
    row: RowParts,
    by: i64,
    at: u64,
    who: String,
    why: String,
    name: String,
}

/// Key, amount, expires, percents, and the row's name where its key does not say it.
#[derive(Serialize, Deserialize)]
struct RowParts(String, i64, u64, Vec<u8>, #[serde(default)] Option<String>);

impl RowParts {
    fn of(row: &Row) -> Self {
        let key = String::from_utf8_lossy(&row.key).into_owned();
        Self(key, row.amount.parts(), row.expires, row.percents.to_vec(), row.name())
    }

    fn row(self) -> Option<Row> {
        let Self(key, amount, expires, percents, name) = self;
        let row = Row::named(key.into_bytes().into(), name.as_deref());
        let amount = Amount::from_parts(amount)?;
        Some(Row { amount, expires, percents: percents.into(), ..row })
    }
}

/// What a name begins with.
const SHARE: u8 = b's';
const OPEN: u8 = b'o';
const END: u8 = b'e';
const INTENT: u8 = b'i';

#[cfg(test)]
mod tests {
    use model::Amount;
    use rules::budget::Fired;

    use super::{Kept, read};

    #[test]
    fn a_share_of_an_earlier_version_is_read_with_the_places_that_fired() {
        let name = b"s{default}:row:1:b:requests:agent:day:0:text:bot";
        let Some(Kept::Share(_, share)) = read(name, b"[7,-2,3,5]") else { panic!("unread") };
        assert_eq!(share.posted, Amount::from_parts(7).unwrap());
        assert_eq!((share.fired, share.expires), (Fired::of_places(3), 5));
        assert_eq!(share.is.unwrap().budget.as_str(), "b");
    }
}
