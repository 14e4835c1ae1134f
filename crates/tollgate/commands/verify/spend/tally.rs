//! What records say was charged, summed by row in bounded memory.

use std::collections::HashMap;

use anyhow::{Result, bail};
use model::Unit;
use rules::budget::RowKey;

use super::log::Paid;

pub(super) type Sum = i128;

/// What the records of one row say.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) row: RowKey,
    /// What was charged by calls that had surely ended when the ledger was read, and by those that
    /// ended about then.
    pub(super) charged: Sum,
    pub(super) near: Sum,
    /// What was charged beyond what was held.
    pub(super) overrun: Sum,
}

/// A charge that the ledger says more of than its sum.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) recorded: Option<Sum>,
}

/// Which records count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Those of requests that came before are left out.
    pub(super) since: u64,
    /// The ledger was read at some time between these two.
    pub(super) read: (u64, u64),
}

/// The records so far.
#[derive(Debug)]
pub(super) struct Tally {
    span: Span,
    pub(super) rows: HashMap<String, Recorded>,
    /// What calls that were charged of the first row were charged of the second, too.
    pub(super) through: HashMap<(String, String), Sum>,
    /// Charges of which the ledger says more, by their ids and rows.
    pub(super) known: HashMap<(u128, String), Known>,
    ids: Ids,
    /// When the first request came, and when the last one had ended.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    pub(super) charged: u64,
    pub(super) faults: Vec<Fault>,
}

/// What a record alone shows.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) row: RowKey,
    pub(super) id: u128,
    pub(super) what: What,
    /// Two figures that should agree, and where they stand.
    pub(super) figures: [(String, Sum); 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// One reservation has two records.
    Twice,
    /// Budgets of one unit were charged differently for one call.
    Uneven,
}

impl Tally {
    pub(super) fn new(span: Span, known: impl Iterator<Item = (u128, String)>) -> Self {
        let known = known.map(|key| (key, Known { recorded: None })).collect();
        Self {
            span,
            rows: HashMap::new(),
            through: HashMap::new(),
            known,
            ids: Ids::default(),
            first: None,
            last: 0,
            charged: 0,
            faults: Vec::new(),
        }
    }

    /// Notes a record.
    ///
    /// # Errors
    /// When there are too many rows, or records at once.
    pub(super) fn note(&mut self, paid: &Paid) -> Result<()> {
        if paid.came < self.span.since || paid.ended > self.span.read.1 {
            return Ok(());
        }
        self.first = Some(self.first.map_or(paid.came, |first| first.min(paid.came)));
        self.last = self.last.max(paid.ended);
        for part in &paid.parts {
            if let Some(known) = self.known.get_mut(&(paid.id, part.name.clone())) {
                *known.recorded.get_or_insert(0) += Sum::from(part.charged.parts());
            }
        }
        let Some(payer) = paid.parts.iter().find(|part| part.charged.parts() != 0) else {
            return Ok(());
        };
        if let Some(before) = self.ids.note(paid)? {
            let sum = Sum::from(payer.charged.parts());
            let figures = [(before, sum), (paid.place.clone(), sum)];
            let (row, what) = (payer.row.clone(), What::Twice);
            self.faults.push(Fault { row, id: paid.id, what, figures });
            return bounded(self.faults.len(), FAULTS_MAX, "records that disagree");
        }
        self.charged += 1;
        for part in &paid.parts {
            self.add(paid, part);
        }
        self.pair(paid);
        bounded(self.rows.len(), ROWS_MAX, "rows")?;
        bounded(self.through.len(), PAIRS_MAX, "rows that are charged together")
    }

    fn add(&mut self, paid: &Paid, part: &super::log::Part) {
        let charged = Sum::from(part.charged.parts());
        let is_near = paid.ended >= self.span.read.0;
        let nothing = Recorded { row: part.row.clone(), charged: 0, near: 0, overrun: 0 };
        let row = self.rows.entry(part.name.clone()).or_insert(nothing);
        if is_near {
            row.near += charged;
        } else {
            row.charged += charged;
        }
        row.overrun += (charged - Sum::from(part.held.parts())).max(0);
    }

    /// Notes which rows of a unit were charged together, and whether alike.
    fn pair(&mut self, paid: &Paid) {
        for one in &paid.parts {
            let unit: &Unit = &one.row.unit;
            for other in paid.parts.iter().filter(|other| other.name != one.name) {
                if other.row.unit != *unit {
                    continue;
                }
                let sum = Sum::from(one.charged.parts());
                let to = (one.name.clone(), other.name.clone());
                *self.through.entry(to).or_default() += sum;
                if one.charged > other.charged {
                    let figure = |part: &super::log::Part| {
                        (part.row.budget.to_string(), Sum::from(part.charged.parts()))
                    };
                    let (row, what) = (one.row.clone(), What::Uneven);
                    let figures = [figure(one), figure(other)];
                    self.faults.push(Fault { row, id: paid.id, what, figures });
                }
            }
        }
    }
}

/// The ids of the charges of some minutes: a record that was doubled has the time of the other.
#[derive(Debug, Default)]
struct Ids {
    /// Since when the younger ones are noted, in microseconds.
    since: u64,
    young: HashMap<u128, String>,
    old: HashMap<u128, String>,
}

impl Ids {
    /// Where the same id was noted before.
    fn note(&mut self, paid: &Paid) -> Result<Option<String>> {
        if paid.ended.saturating_sub(self.since) > WINDOW_MICROS {
            self.since = paid.ended;
            self.old = std::mem::take(&mut self.young);
        }
        if let Some(before) = self.young.get(&paid.id).or_else(|| self.old.get(&paid.id)) {
            return Ok(Some(before.clone()));
        }
        self.young.insert(paid.id, paid.place.clone());
        bounded(self.young.len(), IDS_MAX, "charges within two minutes")?;
        Ok(None)
    }
}

fn bounded(count: usize, most: usize, what: &str) -> Result<()> {
    if count > most {
        bail!("more than {most} {what}: check fewer records at once");
    }
    Ok(())
}

/// Rows at once: some 1 GB of them with what the ledger says. Beyond that nothing is judged.
const ROWS_MAX: usize = 500_000;

/// Rows that were charged together, likewise.
const PAIRS_MAX: usize = 2_000_000;

/// Charges of one window: some 250 MB of them, twice. Beyond that nothing is judged.
const IDS_MAX: usize = 2_000_000;

/// How long ids are remembered, at least.
const WINDOW_MICROS: u64 = 120_000_000;

/// Records that disagree by themselves.
const FAULTS_MAX: usize = 10_000;
