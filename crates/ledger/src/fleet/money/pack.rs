//! How holds travel with the draws of their plans.

use std::collections::HashMap;
use std::sync::Arc;

use model::Amount;
use parking_lot::Mutex;
use rules::budget::{Account, RowKey};

use super::{Caller, FoundHolds, GRACE, Row, Verdict, Wanted};
use crate::fleet::batch::{number, short};
use crate::fleet::key::{Organisation, name_of, row_name};

/// Gathers the rows and budgets that entries of one call name, each once.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    pub(crate) rows: Vec<Vec<u8>>,
    pub(crate) records: Vec<Vec<u8>>,
    /// The lists in which the rows stand, and each row's list and name as `row.lua` reads them.
    pub(crate) lists: Lists,
    budgets: Vec<(Amount, u64, Arc<[u8]>)>,
    row_of: HashMap<Arc<[u8]>, u16>,
    budget_of: HashMap<(Amount, u64, Arc<[u8]>), u16>,
    record_of: HashMap<u128, u16>,
}

/// Where the rows of one call are listed.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) heads: Vec<u8>,
    list_of: HashMap<Vec<u8>, u16>,
}

impl Lists {
    /// Adds the next row; nobody lists one of which nobody knows what it is.
    pub(crate) fn add(&mut self, organisation: &Organisation, key: &[u8], is: Option<&RowKey>) {
        let list = is.map_or(0, |is| {
            let list = organisation.rows(is);
            let next = short(self.keys.len() + 1);
            *self.list_of.entry(list).or_insert_with_key(|list| {
                self.keys.push(list.clone());
                next
            })
        });
        let name = is.filter(|_| name_of(key).is_none()).map(row_name).unwrap_or_default();
        let name = if name.len() > usize::from(u16::MAX) { "" } else { &*name };
        let list = if name.is_empty() && name_of(key).is_none() { 0 } else { list };
        self.heads.extend(list.to_le_bytes());
        self.heads.extend(short(name.len()).to_le_bytes());
        self.heads.extend(name.as_bytes());
    }
}

impl Packer {
    /// The places of a row and of its budget, from 1.
    pub(crate) fn place(&mut self, organisation: &Organisation, row: &Row) -> (u16, u16) {
        let next = short(self.rows.len() + 1);
        let at = *self.row_of.entry(Arc::clone(&row.key)).or_insert_with(|| {
            self.rows.push(row.key.to_vec());
            self.lists.add(organisation, &row.key, row.is.as_deref());
            next
        });
        let budget = (row.amount, row.expires, Arc::clone(&row.percents));
        let next = short(self.budgets.len() + 1);
        let under = *self.budget_of.entry(budget.clone()).or_insert_with(|| {
            self.budgets.push(budget);
            next
        });
        (at, under)
    }

    /// The place of what is known of an id, from 1. An id that comes twice has one: what its first
    /// entry does is what its second finds.
    pub(crate) fn record(&mut self, organisation: &Organisation, id: u128) -> u16 {
        let next = short(self.records.len() + 1);
        *self.record_of.entry(id).or_insert_with(|| {
            self.records.push(organisation.hold(id));
            next
        })
    }

    /// What a plan holds, as `hold.lua` reads it before the plan's draws.
    pub(crate) fn plan(
        &mut self,
        organisation: &Organisation,
        wanted: Option<&Wanted>,
        plans: &mut Vec<u8>,
    ) {
        let Some(wanted) = wanted else { return plans.push(0) };
        plans.push(u8::try_from(wanted.holds.len()).unwrap_or(u8::MAX));
        plans.extend(self.record(organisation, wanted.id).to_le_bytes());
        plans.extend(wanted.check);
        for piece in &wanted.holds {
            let (row, budget) = self.place(organisation, &piece.row);
            plans.extend(row.to_le_bytes());
            plans.extend(budget.to_le_bytes());
            plans.extend(piece.amount.parts().to_le_bytes());
            plans.push(u8::from(piece.is_shadow));
        }
    }

    /// The further keys and arguments of a call that draws on so many buckets.
    pub(crate) fn call(&self, caller: Caller<'_>, buckets: usize) -> (Vec<Vec<u8>>, [Vec<u8>; 3]) {
        let Caller { organisation, node, answered, .. } = caller;
        let mut head = Vec::new();
        for count in [buckets, self.rows.len(), self.records.len()] {
            head.extend(short(count).to_le_bytes());
        }
        head.extend(answered.to_le_bytes());
        head.extend(u64::try_from(GRACE.as_micros()).unwrap_or(u64::MAX).to_le_bytes());
        let marks = [organisation.money(), organisation.seen(node), organisation.open(node)];
        let keys = self.rows.iter().chain(&self.records).chain(&marks).chain(&self.lists.keys);
        let keys = keys.cloned().collect();
        let mut budgets = Vec::new();
        for (amount, expires, _) in &self.budgets {
            budgets.extend(amount.parts().to_le_bytes());
            budgets.extend(expires.to_le_bytes());
        }
        (keys, [head, budgets, self.lists.heads.clone()])
    }

    /// The budgets with their thresholds, as `resolve.lua` reads them.
    pub(crate) fn budgets(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        for (amount, expires, percents) in &self.budgets {
            packed.extend(amount.parts().to_le_bytes());
            packed.extend(expires.to_le_bytes());
            let mut eight = [0_u8; 8];
            let count = percents.len().min(eight.len());
            eight.iter_mut().zip(&**percents).for_each(|(to, from)| *to = *from);
            packed.push(u8::try_from(count).unwrap_or_default());
            packed.extend(eight);
        }
        packed
    }
}

/// Reads what the script found for the holds of a plan.
pub(crate) fn found(answer: &mut &[u8], wanted: &Wanted, epoch: u64) -> Option<FoundHolds> {
    let (verdict, rest) = answer.split_first()?;
    *answer = rest;
    let verdict = match verdict {
        0 => Verdict::New,
        1 => Verdict::Known,
        2 => Verdict::Short,
        3 => Verdict::Mismatch,
        4 => Verdict::Settled,
        5 => Verdict::Closed,
        6 => Verdict::Voided,
        _ => return None,
    };
    let before: Option<Vec<Account>> = wanted.holds.iter().map(|_| account(answer)).collect();
    Some(FoundHolds { verdict, before: before?, epoch })
}

/// A row as an answer has it, without its thresholds.
pub(crate) fn account(answer: &mut &[u8]) -> Option<Account> {
    let mut amount = || Amount::from_parts(number(answer)?.cast_signed());
    let (posted, pending, adjusted) = (amount()?, amount()?, amount()?);
    Some(Account { posted, pending, adjusted, ..Account::default() })
}

/// The numbers that the store gave this node's calls in an epoch. It counts them itself, so a
/// store that has lost what it answered gives a number again, or knows a lower one than we do.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    epoch: u64,
    last: u64,
    /// Bit `i` is set when `last - i` was answered.
    recent: u64,
}

impl Numbers {
    /// A greater number was given; whether it was answered is not said.
    fn go_on_to(&mut self, last: u64) {
        let step = u32::try_from(last - self.last).unwrap_or(u32::MAX);
        (self.last, self.recent) = (last, self.recent.checked_shl(step).unwrap_or(0));
    }
}

impl Seen {
    /// Begins an epoch at the number that the store knows. In one that goes on nothing changes.
    pub(crate) fn begin(&self, epoch: u64, last: u64) {
        let mut numbers = self.0.lock();
        if numbers.epoch != epoch {
            *numbers = Numbers { epoch, last, recent: 1 };
        }
    }

    /// The greatest number that was answered in an epoch.
    pub(crate) fn last(&self, epoch: u64) -> u64 {
        let numbers = self.0.lock();
        if numbers.epoch == epoch { numbers.last } else { 0 }
    }

    /// The store says that it counted this far. The answer to that call may be on its way still.
    pub(crate) fn raise(&self, epoch: u64, last: u64) {
        let mut numbers = self.0.lock();
        if numbers.epoch != epoch {
            *numbers = Numbers { epoch, last, recent: 0 };
        } else if last > numbers.last {
            numbers.go_on_to(last);
        }
    }

    /// Notes an answer. Whether its number is new, as it is if nothing was lost.
    #[must_use]
    pub(crate) fn note(&self, epoch: u64, number: u64) -> bool {
        let mut numbers = self.0.lock();
        if numbers.epoch != epoch {
            *numbers = Numbers { epoch, last: number, recent: 1 };
            return true;
        }
        if number > numbers.last {
            numbers.go_on_to(number);
            numbers.recent |= 1;
            return true;
        }
        // Few calls are under way at once: none is answered 64 others late.
        let bit = u32::try_from(numbers.last - number).ok().and_then(|age| 1_u64.checked_shl(age));
        let is_new = bit.is_some_and(|bit| numbers.recent & bit == 0);
        numbers.recent |= bit.unwrap_or(0);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_number_is_given_once_in_an_epoch() {
        let seen = Seen::default();
        seen.begin(1, 10);
        for (number, is_new) in [(12, true), (11, true), (11, false), (10, false), (13, true)] {
            assert_eq!(seen.note(1, number), is_new, "{number}");
        }
        assert!(seen.note(1, 500) && !seen.note(1, 300), "too late to be told from a loss");
        assert_eq!((seen.last(1), seen.last(2)), (500, 0));
        assert!(seen.note(2, 3));
        assert_eq!(seen.last(2), 3);
    }
}
