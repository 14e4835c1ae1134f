//! Adjustments: what operators add to what an account may spend.

use std::sync::Arc;

use model::{Amount, Timestamp};
use rules::budget::{Account, Budget, Hold, RowKey};

use super::accounts::Accounts;
use super::record::{Deed, Event};
use crate::Denial;

/// What an operator adds to what a row may spend; negative takes.
#[derive(Clone, Debug)]
pub struct Adjustment {
    /// Whoever repeats it changes nothing more.
    pub id: Arc<str>,
    pub row: RowKey,
    pub by: Amount,
    pub who: Arc<str>,
    pub why: Arc<str>,
    pub at: Timestamp,
}

/// Why an account is not adjusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    /// The id was used for another adjustment.
    #[error("this id was used for another adjustment")]
    Mismatch,
    /// The sum leaves the range of amounts.
    #[error("the sum is too large")]
    TooLarge,
    /// There is no room for another account.
    #[error("the ledger has no room for another account")]
    Full,
    /// It is not known to count for good: the journal, or the fleet's store, did not take it in
    /// time. Who repeats it under its id learns what became of it.
    #[error("it was not taken in time: repeat it under the same id")]
    Late,
    /// The fleet's store cannot be asked now.
    #[error("Redis cannot be asked for budgets now")]
    Away,
}

impl Accounts {
    /// Adjusts what a row may spend, durably. Answers the row, and whether it was adjusted now:
    /// not when the id was used for the same before.
    ///
    /// # Errors
    /// When it cannot be done, or is not known to be durable.
    pub async fn adjust(
        &self,
        budget: &Arc<Budget>,
        adjustment: Adjustment,
    ) -> Result<(Account, bool), AdjustError> {
        let Adjustment { id, row, by, who, why, at } = adjustment;
        let (account, change, is_new) = 'made: {
            let mut state = self.state.lock();
            if let Some((of, before)) = state.history.adjustment(&id) {
                if *of != row || before != by {
                    return Err(AdjustError::Mismatch);
                }
                // It may not be on the disk yet.
                break 'made (state.row(&row), self.write(|_| ()), false);
            }
            let adjusted = state.book.adjust(&row, budget, by);
            let (changed, percents) = adjusted.map_err(|denial| match denial {
                Denial::Overdrawn { .. } => AdjustError::TooLarge,
                Denial::Crowded { .. }
                | Denial::Short { .. }
                | Denial::Full { .. }
                | Denial::Mismatch
                | Denial::Away => AdjustError::Full,
            })?;
            let deed = Deed::Adjusted { by, who, why, id };
            let event = Event { at, row: row.clone(), deed };
            let change = self.write(|draft| {
                draft.row(&row, Some(changed));
                state.history.note(event, draft);
            });
            self.gauge(&state.book);
            let (budget, amount) = (Arc::clone(budget), Amount::ZERO);
            let hold = Hold { row: row.clone(), amount, budget, tariff: None };
            let crossed = percents.into_iter().map(|percent| (hold.clone(), percent)).collect();
            self.tell(&mut state, crossed);
            (changed.account, change, true)
        };
        if let Some(journal) = &self.journal {
            journal.wait(change).await.map_err(|_| AdjustError::Late)?;
        }
        Ok((account, is_new))
    }
}
