//! Holds what the records say against what the ledger says, row by row.

use std::collections::{BTreeSet, HashMap};

use ledger::{Cause, Charge};
use rules::budget::{Every, RowKey};

use super::books::{Books, Head, Journaled, Shown};
use super::report::{Finding, Findings, Kind};
use super::tally::{Fault, Recorded, Sum, Tally, What};

/// Everything that is known, and what is found of it.
pub(super) struct Judge<'a> {
    tally: &'a Tally,
    books: &'a Books,
    /// Since when the log is whole, in microseconds since 1970; `None`: since ever.
    since: Option<u64>,
    charges: HashMap<&'a str, Vec<&'a Charge>>,
    found: Findings,
}

/// One row, as everybody knows it.
struct Row<'a> {
    name: &'a str,
    key: Option<&'a RowKey>,
    recorded: Option<&'a Recorded>,
    journaled: Option<&'a Journaled>,
    shown: Option<&'a Shown>,
    head: Option<&'a Head>,
}

/// What a source may say, least and most.
#[derive(Clone, Copy)]
struct Expected {
    least: Sum,
    most: Sum,
}

impl<'a> Judge<'a> {
    pub(super) fn new(tally: &'a Tally, books: &'a Books, since: Option<u64>) -> Self {
        let mut charges: HashMap<&str, Vec<&Charge>> = HashMap::new();
        for charge in &books.charges {
            charges.entry(&charge.name).or_default().push(charge);
        }
        Self { tally, books, since, charges, found: Findings::default() }
    }

    /// Judges every row, in the order of their names.
    pub(super) fn judge(mut self) -> Findings {
        for fault in &self.tally.faults {
            self.found.add(alone(fault));
        }
        let (tally, books) = (self.tally, self.books);
        let journals = books.journals.iter().flat_map(HashMap::keys);
        let names = tally.rows.keys().chain(books.accounts.keys()).chain(journals);
        let names: BTreeSet<&'a String> =
            names.chain(books.charges.iter().map(|charge| &charge.name)).collect();
        for name in names {
            self.row(name);
        }
        self.children();
        self.found
    }

    fn known(&self, name: &'a str) -> Row<'a> {
        let recorded = self.tally.rows.get(name);
        let journaled = self.books.journals.as_ref().and_then(|rows| rows.get(name));
        let shown = self.books.accounts.get(name);
        let key = recorded.map(|recorded| &recorded.row).or_else(|| shown.map(|shown| &shown.row));
        let key = key.or_else(|| journaled.and_then(|journaled| journaled.row.as_ref()));
        let head = key.and_then(|key| Some((key, self.books.shown.get(&key.budget)?)));
        let head = head.filter(|(key, head)| head.counts(key)).map(|(_, head)| head);
        Row { name, key, recorded, journaled, shown, head }
    }

    fn row(&mut self, name: &'a str) {
        let row = self.known(name);
        self.found.rows += 1;
        self.explain(&row);
        let is_partial = self.is_partial(&row);
        if self.books.journals.is_some() {
            let posted = row.journaled.map(|journaled| journaled.posted);
            let expected = self.expected(&row, true);
            self.compare(&row, ("journals", posted), expected, is_partial);
        }
        if let Some(head) = row.head {
            let posted = row.shown.map(|shown| shown.posted);
            if posted.is_some() || head.is_whole {
                let expected = self.expected(&row, false);
                self.compare(&row, ("accounts", posted), expected, is_partial);
                self.both(&row, posted.unwrap_or_default());
            }
        }
        self.amounts(&row, is_partial);
        self.pending(&row);
    }

    /// Names what the ledger says of single charges, and adjustments.
    fn explain(&mut self, row: &Row<'a>) {
        for charge in self.charges.get(row.name).into_iter().flatten() {
            let recorded = self.recorded(charge);
            let kind = match (charge.cause, recorded) {
                (Cause::Assumed, _) => Kind::Assumed,
                (Cause::Open, _) => Kind::Open,
                (Cause::Unrecorded, None) => Kind::Unrecorded,
                (Cause::Unrecorded, Some(_)) => continue,
            };
            let figures =
                vec![("records", recorded), ("ledger", Some(charge.amount.parts().into()))];
            self.found.add(Finding { id: Some(charge.id.0), ..finding(kind, row, figures) });
        }
        let adjusted = row.shown.map(|shown| shown.adjusted);
        let adjusted = adjusted.or_else(|| row.journaled.map(|journaled| journaled.adjusted));
        if adjusted.is_some_and(|adjusted| adjusted != 0) {
            self.found.add(finding(Kind::Adjusted, row, vec![("ledger", adjusted)]));
        }
    }

    fn recorded(&self, charge: &Charge) -> Option<Sum> {
        self.tally.known.get(&(charge.id.0, charge.name.clone()))?.recorded
    }

    /// What a source should say, by the records and by what the ledger says of single charges.
    fn expected(&self, row: &Row<'a>, is_journal: bool) -> Expected {
        let charged = row.recorded.map_or(0, |recorded| recorded.charged);
        let near = row.recorded.map_or(0, |recorded| recorded.near);
        let mut expected = Expected { least: charged, most: charged + near };
        for charge in self.charges.get(row.name).into_iter().flatten() {
            let amount = Sum::from(charge.amount.parts());
            let differs = match (charge.cause, self.recorded(charge)) {
                // What a node charged in one life and assumed in the next has another figure where
                // the store was told of the first.
                (Cause::Assumed, Some(recorded)) => amount - recorded,
                (Cause::Assumed | Cause::Unrecorded, None) => {
                    expected.least += amount;
                    expected.most += amount;
                    continue;
                }
                (Cause::Open, Some(recorded)) => -recorded,
                (Cause::Open, None) | (Cause::Unrecorded, Some(_)) => continue,
            };
            if is_journal {
                expected.least += differs;
                expected.most += differs;
            } else {
                expected.least += differs.min(0);
                expected.most += differs.max(0);
            }
        }
        if !is_journal {
            expected.most += self.reconciled(row);
        }
        expected
    }

    fn compare(
        &mut self,
        row: &Row<'a>,
        (source, posted): (&'static str, Option<Sum>),
        Expected { least, most }: Expected,
        is_partial: bool,
    ) {
        let stands = posted.unwrap_or_default();
        let kind = if stands > most {
            if is_partial { Kind::Before } else { Kind::NotRecorded }
        } else if stands < least {
            let is_gone = posted.is_none() && row.key.is_some_and(|key| self.is_forgotten(key));
            if is_gone { Kind::Forgotten } else { Kind::NotPosted }
        } else {
            return;
        };
        let expected = if stands > most { most } else { least };
        self.found.add(finding(kind, row, vec![("records", Some(expected)), (source, posted)]));
    }

    /// The journals and the accounts of the same row.
    fn both(&mut self, row: &Row<'a>, shown: Sum) {
        let Some(journaled) = row.journaled else { return };
        // What was assumed stands in the store as it was settled before, where that was told.
        let charges = self.charges.get(row.name).into_iter().flatten();
        let assumed = charges.filter(|charge| charge.cause == Cause::Assumed);
        let slack: Sum = assumed
            .filter_map(|charge| {
                Some((self.recorded(charge)? - Sum::from(charge.amount.parts())).abs())
            })
            .sum();
        let least = journaled.posted - journaled.untold - slack;
        if (least..=journaled.posted + slack + self.reconciled(row)).contains(&shown) {
            return;
        }
        let figures = vec![("journals", Some(journaled.posted)), ("accounts", Some(shown))];
        self.found.add(finding(Kind::Ledgers, row, figures));
    }

    /// M1: what was spent and what may be.
    fn amounts(&mut self, row: &Row<'a>, is_partial: bool) {
        let overrun = row.recorded.map_or(0, |recorded| recorded.overrun);
        if overrun > 0 {
            self.found.add(finding(Kind::Overrun, row, vec![("records", Some(overrun))]));
        }
        let (Some(head), Some(shown)) = (row.head, row.shown) else { return };
        let may = head.amount + shown.adjusted + overrun;
        if shown.posted > may && !head.is_shadow && !is_partial {
            let figures = vec![("amount", Some(may)), ("accounts", Some(shown.posted))];
            self.found.add(finding(Kind::Beyond, row, figures));
        }
    }

    /// M2: what is held, and by whom.
    fn pending(&mut self, row: &Row<'a>) {
        let Some(shown) = row.shown else { return };
        let open = self.open(row);
        // What an operator has charged of it is held no more.
        let charged = (shown.posted - self.expected(row, false).least).max(0);
        let kind = if shown.pending + charged < open {
            Kind::Pending
        } else if shown.pending > open {
            Kind::Held
        } else {
            return;
        };
        let figures = vec![("journals", Some(open)), ("accounts", Some(shown.pending))];
        self.found.add(finding(kind, row, figures));
    }

    /// What calls hold that were under way in a crash, and of which nobody knows more.
    fn open(&self, row: &Row<'a>) -> Sum {
        let charges = self.charges.get(row.name).into_iter().flatten();
        let open =
            charges.filter(|charge| charge.cause == Cause::Open && self.recorded(charge).is_none());
        open.map(|charge| Sum::from(charge.amount.parts())).sum()
    }

    /// What of it an operator may have charged (`ledger reconcile`): it is held no more.
    fn reconciled(&self, row: &Row<'a>) -> Sum {
        row.shown.map_or(0, |shown| (self.open(row) - shown.pending).max(0))
    }

    /// M5: a row through which all charges of others went has all that they have.
    fn children(&mut self) {
        let mut whole: HashMap<(&'a str, &'a str), (Sum, Sum)> = HashMap::new();
        for ((child, parent), through) in &self.tally.through {
            let (child, parent) = (self.known(child), self.known(parent));
            let all = child.recorded.map_or(0, |recorded| recorded.charged + recorded.near);
            let is_judged = !self.is_partial(&child) && !self.is_partial(&parent);
            let Some(posted) = posted(&child).filter(|_| all == *through && is_judged) else {
                continue;
            };
            let Some(key) = child.key else { continue };
            let sums = whole.entry((parent.name, key.budget.as_str())).or_default();
            *sums = (sums.0 + posted, sums.1 + through);
        }
        let mut whole: Vec<_> = whole.into_iter().collect();
        whole.sort_unstable();
        for ((name, _), (children, through)) in whole {
            let parent = self.known(name);
            let Some(stands) = posted(&parent) else { continue };
            let all = parent.recorded.map_or(0, |recorded| recorded.charged + recorded.near);
            if stands < children || (all == through && stands != children) {
                let figures = vec![("children", Some(children)), ("parent", Some(stands))];
                self.found.add(finding(Kind::Children, &parent, figures));
            }
        }
    }

    /// Whether something may have been charged before the log begins.
    fn is_partial(&self, row: &Row<'a>) -> bool {
        let Some(key) = row.key else { return self.since.is_some() };
        let began = key.period.as_micros();
        if self.since.is_some_and(|since| began < since) {
            return true;
        }
        // A period that was over before the first record.
        let first = self.tally.first.unwrap_or(u64::MAX);
        longest(key.every).is_some_and(|longest| began.saturating_add(longest) <= first)
    }

    /// Whether the ledger has had the time to forget a row: two periods after its own.
    fn is_forgotten(&self, key: &RowKey) -> bool {
        let shortest = longest(key.every).map(|longest| longest / 10 * 8);
        let goes = shortest.map(|one| key.period.as_micros().saturating_add(one * 3));
        goes.is_some_and(|goes| goes <= self.tally.last)
    }
}

/// What the ledger says of a row: the journals, where they were read.
fn posted(row: &Row<'_>) -> Option<Sum> {
    let journaled = row.journaled.map(|journaled| journaled.posted);
    journaled.or_else(|| row.shown.map(|shown| shown.posted))
}

/// What one record shows.
fn alone(Fault { row, id, what, figures }: &Fault) -> Finding {
    let kind = match what {
        What::Twice => Kind::Twice,
        What::Uneven => Kind::Uneven,
    };
    let figures = figures.iter().map(|(source, sum)| (source.clone(), Some(*sum))).collect();
    Finding { kind, name: None, row: Some(row.clone()), id: Some(*id), figures }
}

fn finding(kind: Kind, row: &Row<'_>, figures: Vec<(&str, Option<Sum>)>) -> Finding {
    let figures = figures.into_iter().map(|(source, sum)| (source.to_owned(), sum)).collect();
    let name = row.key.is_none().then(|| row.name.to_owned());
    Finding { kind, name, row: row.key.cloned(), id: None, figures }
}

/// The longest that a period of this length can be, in microseconds: with a clock that is set back.
const fn longest(every: Every) -> Option<u64> {
    let hours = match every {
        Every::Hour => 1,
        Every::Day => 26,
        Every::Week => 7 * 24 + 2,
        Every::Month => 31 * 24 + 2,
        Every::Quarter => 92 * 24 + 2,
        Every::Year => 366 * 24 + 2,
        Every::Lifetime => return None,
    };
    Some(hours * 3_600_000_000)
}
