//! What is found, as people and programs read it.

use model::{Amount, Timestamp, Unit};
use rules::budget::{RowKey, moment_text};
use serde_json::{Value, json};

use super::tally::Sum;

/// Something that is found of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// The row's name where nothing else is known of it.
    pub(super) name: Option<String>,
    pub(super) row: Option<RowKey>,
    /// The request it is found of.
    pub(super) id: Option<u128>,
    /// Who says what; `None` where a source says nothing.
    pub(super) figures: Vec<(String, Option<Sum>)>,
}

/// What it is. The laws are those of the ledger's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    // Faults.
    NotRecorded,
    NotPosted,
    Ledgers,
    Twice,
    Uneven,
    Children,
    Beyond,
    Pending,
    // What is told apart.
    Assumed,
    Unrecorded,
    Open,
    Held,
    Adjusted,
    Overrun,
    Before,
    Forgotten,
}

impl Kind {
    /// Its name, and what it says.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::NotRecorded => ("not_recorded", "more was posted than the records say"),
            Self::NotPosted => ("not_posted", "less was posted than the records say"),
            Self::Ledgers => ("ledgers_differ", "the journals and the accounts differ"),
            Self::Twice => ("recorded_twice", "a request is recorded twice"),
            Self::Uneven => ("uneven", "budgets of one unit were charged differently for a call"),
            Self::Children => ("children_differ", "what went through this row is not in it"),
            Self::Beyond => ("beyond_amount", "more was spent than the amount and booked overruns"),
            Self::Pending => ("not_pending", "less is held than open reservations hold"),
            Self::Assumed => ("assumed", "assumed spent after a crash"),
            Self::Unrecorded => ("unrecorded", "charged; its record was lost in a crash"),
            Self::Open => ("open", "under way in a crash; charged at the node's next start"),
            Self::Held => ("held", "held by calls under way, or that had not left in a crash"),
            Self::Adjusted => ("adjusted", "added to the amount by operators"),
            Self::Overrun => ("overrun", "charged beyond what was held, and booked"),
            Self::Before => ("before_the_log", "more was posted, maybe before the records begin"),
            Self::Forgotten => {
                ("forgotten", "its period is long over; the ledger keeps it no more")
            }
        }
    }

    const fn is_fault(self) -> bool {
        match self {
            Self::NotRecorded
            | Self::NotPosted
            | Self::Ledgers
            | Self::Twice
            | Self::Uneven
            | Self::Children
            | Self::Beyond
            | Self::Pending => true,
            Self::Assumed
            | Self::Unrecorded
            | Self::Open
            | Self::Held
            | Self::Adjusted
            | Self::Overrun
            | Self::Before
            | Self::Forgotten => false,
        }
    }
}

/// All that is found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Rows that were looked at.
    pub(super) rows: u64,
    pub(super) faults: Vec<Finding>,
    pub(super) notes: Vec<Finding>,
    /// Findings beyond those that are kept: faults and notes.
    pub(super) more: [u64; 2],
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let (list, more) = match (finding.kind.is_fault(), &mut self.more) {
            (true, [more, _]) => (&mut self.faults, more),
            (false, [_, more]) => (&mut self.notes, more),
        };
        if list.len() < FINDINGS_MAX {
            list.push(finding);
        } else {
            *more += 1;
        }
    }

    pub(super) fn agrees(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Finding {
    /// A line for people.
    pub(super) fn line(&self) -> String {
        let unit = self.row.as_ref().map(|row| &row.unit);
        let figure = |(source, sum): &(String, Option<Sum>)| {
            let sum = sum.map_or_else(|| "nothing".to_owned(), |sum| text(sum, unit));
            format!("{source}: {sum}")
        };
        let figures: Vec<String> = self.figures.iter().map(figure).collect();
        let id = self.id.map_or_else(String::new, |id| format!(" (request {id:032x})"));
        format!("{}: {}{id}; {}", self.place(), self.kind.texts().1, figures.join(", "))
    }

    fn place(&self) -> String {
        let Some(row) = &self.row else { return self.name.clone().unwrap_or_default() };
        let RowKey { budget, unit, per, subject, every, period } = row;
        let since = match *period == Timestamp::default() {
            true => String::new(),
            false => format!(" of {}", moment_text(*period)),
        };
        format!("{budget}, {} {subject}, {unit} a {}{since}", per.as_str(), every.as_str())
    }

    pub(super) fn as_json(&self) -> Value {
        let row = self.row.as_ref().map(|row| {
            let RowKey { budget, unit, per, subject, every, period } = row;
            json!({
                "budget": budget.as_str(), "unit": unit.as_str(), "per": per.as_str(),
                "subject": subject.to_string(), "every": every.as_str(),
                "period": (*period != Timestamp::default()).then(|| moment_text(*period)),
            })
        });
        let unit = self.row.as_ref().map(|row| &row.unit);
        let figures = self.figures.iter();
        let figures = figures.map(
            |(source, sum)| json!({ "source": source, "amount": sum.map(|sum| text(sum, unit)) }),
        );
        let (name, what) = self.kind.texts();
        json!({
            "found": name, "what": what, "row": row, "row_name": self.name,
            "request_id": self.id.map(|id| format!("{id:032x}")),
            "figures": figures.collect::<Vec<_>>(),
        })
    }
}

/// A sum as a decimal of its unit; in smallest parts where no unit is known, or it is too large.
fn text(sum: Sum, unit: Option<&Unit>) -> String {
    let amount = i64::try_from(sum).ok().and_then(Amount::from_parts);
    let text = amount.zip(unit).map(|(amount, unit)| amount.text(unit));
    text.unwrap_or_else(|| format!("{sum} smallest parts"))
}

/// Faults, and notes, that are kept; more are counted alone.
const FINDINGS_MAX: usize = 10_000;
