//! The accounts of one node: the book behind a lock.

use std::sync::Arc;

use model::{Amount, ReservationId};
use parking_lot::Mutex;
use rules::budget::{Account, Hold, RowKey};
use rules::plan::Plan;

use super::book::{Book, Checked};
use super::{DispatchError, Held, Standing};
use crate::{Denial, Reservation};

/// The money of one node, shared by all its cores: what every budget has spent and holds.
///
/// One lock, held for about a microsecond a call: a plan's holds are checked and made together.
#[derive(Debug, Default)]
pub struct Accounts {
    book: Mutex<Book>,
}

impl Accounts {
    /// Makes a plan's holds and takes its draws, or does nothing.
    ///
    /// # Errors
    /// Which hold found its budget short or had no room, or what the draws came to.
    pub(crate) fn take(
        self: &Arc<Self>,
        plan: &Plan,
        draw: impl FnOnce() -> Result<Reservation, Denial>,
    ) -> Result<Reservation, Denial> {
        let mut book = self.book.lock();
        let (holds, standing, taken) = match book.check(plan.id, &plan.holds)? {
            Checked::Fits(rows) => {
                let taken = draw()?;
                let holds = Arc::<[Hold]>::from(plan.holds.as_slice());
                book.make(plan.id, &holds, rows);
                (holds, Standing::Reserved, taken)
            }
            Checked::Known(holds, standing) => {
                let taken = vec![None; plan.draws.len()];
                (holds, standing, Reservation { taken, ..Reservation::default() })
            }
        };
        drop(book);
        let held = Held::own(self, plan.id, holds, standing);
        Ok(Reservation { held: Some(Box::new(held)), ..taken })
    }

    /// A row as it is; nothing of what was never held.
    #[must_use]
    pub fn account(&self, key: &RowKey) -> Account {
        self.book.lock().row(key).unwrap_or_default().account
    }

    pub(crate) async fn dispatch(
        &self,
        id: ReservationId,
        _holds: &[Hold],
    ) -> Result<(), DispatchError> {
        if self.book.lock().dispatch(id) { Ok(()) } else { Err(DispatchError::Ended) }
    }

    pub(crate) fn settle(&self, id: ReservationId, costs: &[Amount]) {
        let _end = self.book.lock().settle(id, costs);
    }

    pub(crate) fn void(&self, id: ReservationId) {
        let _end = self.book.lock().void(id);
    }

    pub(crate) fn release(&self, id: ReservationId) {
        let _end = self.book.lock().release(id);
    }
}
