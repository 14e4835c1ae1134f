//! What the journals of a dead node say of its calls.

use std::path::Path;

use model::Timestamp;

use super::*;
use crate::{Accounts, Cause, Charge, Statement, row_name};

/// The journals as they stand on the disk: a copy, since the process that wrote them goes on here.
fn stated(directory: &Path) -> Statement {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(directory.join("budgets.redb"), copy.path().join("budgets.redb")).unwrap();
    Statement::read(copy.path()).unwrap()
}

/// Charges as the journals have them, once they stand so.
fn causes(directory: &Path, expected: &[(Cause, u128, i64)]) {
    let found = || {
        let mut charges = stated(directory).charges;
        charges.sort_by_key(|charge| charge.id);
        let told = |Charge { cause, id, amount, .. }| (cause, id.0, amount.parts());
        charges.into_iter().map(told).collect::<Vec<_>>()
    };
    crate::fleet::tests::store::wait_for("the journal to be written", || {
        (found() == expected).then_some(())
    });
}

#[tokio::test]
async fn a_charge_is_named_until_it_is_recorded_or_for_good_where_it_was_assumed() {
    let (place, ten) = (tempfile::tempdir().unwrap(), Arc::new(budget("ten", 10)));
    let now = Timestamp::from_micros(1);
    let accounts = Arc::new(Accounts::open(place.path(), now).unwrap());
    let take = |id, amount| {
        let plan = plan(id, vec![hold(&ten, amount)]);
        let taken = accounts.take(&plan, || Ok(crate::Reservation::default()));
        *taken.unwrap().held.unwrap()
    };
    let [mut recorded, mut unrecorded, mut open] = [take(1, 2), take(2, 3), take(3, 4)];
    for held in [&mut recorded, &mut unrecorded, &mut open] {
        held.dispatch().await.unwrap();
    }
    drop(recorded.settle(&[parts(1)]));
    let waits = unrecorded.settle(&[parts(5)]);
    let row = hold(&ten, 0).row;
    causes(place.path(), &[(Cause::Unrecorded, 2, 5), (Cause::Open, 3, 4)]);
    let statement = stated(place.path());
    assert_eq!(statement.rows[&row_name(&row)].posted, parts(6));
    assert_eq!(statement.charges[0].row.as_ref(), Some(&row));
    // What starts where it died assumes what was open, and forgets neither.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(place.path().join("budgets.redb"), copy.path().join("budgets.redb")).unwrap();
    for _ in 0..2 {
        Accounts::open(copy.path(), now).unwrap().close();
        causes(copy.path(), &[(Cause::Unrecorded, 2, 5), (Cause::Assumed, 3, 4)]);
    }
    drop(waits);
    causes(place.path(), &[(Cause::Open, 3, 4)]);
    open.void();
    causes(place.path(), &[]);
}
