//! What the ledger says was spent: nodes' journals, and accounts as a node shows them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ledger::{Cause, Charge, Statement, row_name, row_named};
use model::{Amount, BudgetId, ReservationId, Timestamp, Unit};
use rules::budget::{Every, RowKey};
use rules::limit::Per;
use serde_json::Value;

use super::log::{micros, subject_of};
use super::tally::Sum;

/// Everything that the ledger says.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// What nodes' journals say together; `None` where none was read.
    pub(super) journals: Option<HashMap<String, Journaled>>,
    pub(super) accounts: HashMap<String, Shown>,
    /// The budgets whose accounts were shown.
    pub(super) shown: HashMap<BudgetId, Head>,
    pub(super) charges: Vec<Charge>,
}

/// What journals say of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Journaled {
    pub(super) row: Option<RowKey>,
    pub(super) posted: Sum,
    pub(super) adjusted: Sum,
    /// What of it the fleet's store has not heard of.
    pub(super) untold: Sum,
}

/// An account as a node shows it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) row: RowKey,
    pub(super) posted: Sum,
    pub(super) pending: Sum,
    pub(super) adjusted: Sum,
}

/// A budget as a node shows it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    unit: Unit,
    per: Per,
    every: Every,
    pub(super) amount: Sum,
    pub(super) is_shadow: bool,
    /// All of its accounts were shown.
    pub(super) is_whole: bool,
}

impl Head {
    /// Whether a row is one of those that were shown.
    pub(super) fn counts(&self, row: &RowKey) -> bool {
        (&self.unit, self.per, self.every) == (&row.unit, row.per, row.every)
    }
}

impl Books {
    /// Reads the journals of a node by its data directory.
    ///
    /// # Errors
    /// When they are not there, or cannot be read, as while the node runs.
    pub(super) fn read(&mut self, data: &Path) -> Result<()> {
        let directory = data.join("ledger");
        let is_there = |name: &str| directory.join(name).exists();
        if !is_there("budgets.redb") && !is_there("fleet.redb") {
            bail!("{} holds no journals of budgets", directory.display());
        }
        let statement = Statement::read(&directory);
        let Statement { rows, charges } = statement.with_context(|| {
            format!("of {}, whose node must not run (`--node` asks one that does)", data.display())
        })?;
        let journals = self.journals.get_or_insert_default();
        for (name, stated) in rows {
            let row = journals.entry(name).or_default();
            row.row = row.row.take().or(stated.row);
            row.posted += Sum::from(stated.posted.parts());
            row.adjusted += Sum::from(stated.adjusted.parts());
            row.untold += Sum::from(stated.untold.parts());
        }
        self.charges.extend(charges);
        Ok(())
    }

    /// Reads what a node that runs says of its journals.
    ///
    /// # Errors
    /// When it does not say all, or something else.
    pub(super) fn hear(&mut self, said: &Value) -> Result<()> {
        if said.get("whole").and_then(Value::as_bool) != Some(true) {
            bail!("it has too many rows to say: stop it, and read its journals with `--data`");
        }
        let journals = self.journals.get_or_insert_default();
        for stated in said.get("rows").and_then(Value::as_array).into_iter().flatten() {
            let name = stated.get("name").and_then(Value::as_str).context("a row has no name")?;
            let amount = |name| stated.get(name).and_then(Value::as_i64).map_or(0, Sum::from);
            let row = journals.entry(name.to_owned()).or_default();
            row.row = row.row.take().or_else(|| row_named(name));
            row.posted += amount("posted");
            row.adjusted += amount("adjusted");
            row.untold += amount("untold");
        }
        self.hear_charges(said)
    }

    /// Reads what it says of single charges alone.
    ///
    /// # Errors
    /// When it says something else.
    pub(super) fn hear_charges(&mut self, said: &Value) -> Result<()> {
        for said in said.get("charges").and_then(Value::as_array).into_iter().flatten() {
            self.charges.push(charge(said).context("a charge cannot be read")?);
        }
        Ok(())
    }

    /// Reads what `budget show` prints as JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn show(&mut self, shown: &Value) -> Result<()> {
        let (id, head) = head(shown).context("these are no accounts of a budget")?;
        for account in shown.get("accounts").and_then(Value::as_array).into_iter().flatten() {
            let row = row(&id, &head, account).context("an account cannot be read")?;
            let amount = |name: &str| {
                let text = account.get(name).and_then(Value::as_str)?;
                parts(text, &head.unit)
            };
            let all = amount("posted").zip(amount("pending")).zip(amount("adjusted"));
            let ((posted, pending), adjusted) = all.context("an account cannot be read")?;
            self.accounts.insert(row_name(&row), Shown { row, posted, pending, adjusted });
        }
        self.shown.insert(id, head);
        Ok(())
    }
}

fn charge(said: &Value) -> Option<Charge> {
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let name = text("name")?;
    Some(Charge {
        cause: Cause::from_name(text("cause")?)?,
        id: ReservationId(u128::from_str_radix(text("request_id")?, 16).ok()?),
        row: row_named(name),
        name: name.to_owned(),
        amount: Amount::from_parts(said.get("amount")?.as_i64()?)?,
    })
}

fn head(shown: &Value) -> Option<(BudgetId, Head)> {
    let text = |name: &str| shown.get(name).and_then(Value::as_str);
    let unit = Unit::parse(text("unit")?).ok()?;
    let accounts = shown.get("accounts")?.as_array()?.len();
    let head = Head {
        per: Per::from_name(text("per")?)?,
        every: Every::from_name(text("every")?)?,
        amount: parts(text("amount")?, &unit)?,
        is_shadow: shown.get("shadow").and_then(Value::as_bool)?,
        is_whole: shown.get("total").and_then(Value::as_u64) == u64::try_from(accounts).ok(),
        unit,
    };
    Some((BudgetId::new(text("budget")?), head))
}

fn row(id: &BudgetId, head: &Head, account: &Value) -> Option<RowKey> {
    let subject = Arc::from(account.get("subject")?.as_str()?);
    let period = match account.get("period_start").and_then(Value::as_str) {
        None => Timestamp::default(),
        Some(start) => Timestamp::from_micros(micros(start.parse().ok()?)?),
    };
    let Head { unit, per, every, .. } = head;
    let (budget, subject) = (id.clone(), subject_of(*per, &subject));
    Some(RowKey { budget, unit: unit.clone(), per: *per, subject, every: *every, period })
}

fn parts(text: &str, unit: &Unit) -> Option<Sum> {
    Amount::parse(text, unit).ok().map(|amount| Sum::from(amount.parts()))
}
