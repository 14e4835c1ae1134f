//! Laws of a crash: whenever it comes, nothing that may have left is forgotten, and nothing is
//! charged twice.

use std::path::Path;
use std::sync::Arc;

use model::{Amount, SystemClock, Timestamp, Uptime};
use redb::Builder;
use rules::budget::{Account, Budget, Fired, RowKey};

use super::disk::{Disk, Unsynced};
use crate::money::journal::Journal;
use crate::money::sample::{budget, hold, parts, plan};
use crate::money::{Accounts, Adjustment, DispatchError, Held};
use crate::storage::Error;
use crate::{Denial, Embedded, Reservation};

fn open(disk: Disk) -> Result<Arc<Accounts>, Error> {
    // Where no file can be: what fails on the disk is never tried elsewhere.
    let path = Path::new("/nowhere/budgets.redb");
    let database = Builder::new().create_with_backend(disk).unwrap();
    let (journal, found) = Journal::over(database, path)?;
    Ok(Arc::new(Accounts::over(journal, found, Timestamp::from_secs(1))))
}

fn take(accounts: &Arc<Accounts>, id: u128, budget: &Arc<Budget>, amount: i64) -> Held {
    let plan = plan(id, vec![hold(budget, amount)]);
    let taken = accounts.take(&plan, || Ok(Reservation::default())).unwrap();
    *taken.held.unwrap()
}

/// When, in deeds of the disk, a call went which way.
struct Call {
    held: i64,
    cost: i64,
    /// Its dispatch began, and was answered; its end began, and was certainly on the disk.
    times: [usize; 4],
}

impl Call {
    /// What it may have come to, least and most, after a crash at this deed.
    fn posted(&self, crash: usize) -> (i64, i64) {
        let Self { held, cost, times: [leaving, left, ending, ended] } = *self;
        match crash {
            _ if crash < leaving => (0, 0),
            _ if crash < left => (0, held),
            _ if crash < ending => (held, held),
            _ if crash < ended => (held.min(cost), held.max(cost)),
            _ => (cost, cost),
        }
    }
}

/// Lets calls go their ways, one after the other but for those that stay under way.
async fn history(disk: &Disk, calls: &[(i64, Option<i64>)]) -> Vec<Call> {
    let accounts = open(disk.clone()).unwrap();
    let plenty = Arc::new(budget("plenty", 1_000_000));
    let (mut done, mut underway): (Vec<Call>, Vec<Held>) = (Vec::new(), Vec::new());
    for (id, (amount, cost)) in (0_u128..).zip(calls) {
        let mut held = take(&accounts, id, &plenty, *amount);
        let leaving = disk.deeds();
        held.dispatch().await.unwrap();
        let left = disk.deeds();
        // All that was said before a dispatch that was answered is on the disk with it.
        for call in &mut done {
            call.times[3] = call.times[3].min(left);
        }
        let times = [leaving, left, if cost.is_some() { left } else { usize::MAX }, usize::MAX];
        match cost {
            Some(cost) => drop(held.settle(&[parts(*cost)])),
            None => underway.push(held),
        }
        done.push(Call { held: *amount, cost: cost.unwrap_or_default(), times });
    }
    // What is under way when the process dies is never dropped.
    underway.into_iter().for_each(|held| {
        Box::leak(Box::new(held));
    });
    done
}

#[tokio::test]
async fn a_crash_at_any_write_forgets_nothing_and_charges_nothing_twice() {
    let disk = Disk::default();
    let calls = [
        (4, Some(4)),
        (10, None),
        (3, Some(0)),
        (5, Some(50)),
        (7, Some(2)),
        (1, None),
        (9, Some(9)),
        (2, Some(2)),
    ];
    let calls = history(&disk, &calls).await;
    let row = hold(&Arc::new(budget("plenty", 0)), 0).row;
    let first = calls[0].times[0];
    for crash in first..=disk.deeds() {
        for unsynced in [Unsynced::Kept, Unsynced::Lost, Unsynced::Torn] {
            let least: i64 = calls.iter().map(|call| call.posted(crash).0).sum();
            let most: i64 = calls.iter().map(|call| call.posted(crash).1).sum();
            let again = Disk::of(disk.crashed(crash, unsynced));
            let posted = reopened(&again, &row);
            assert!((least..=most).contains(&posted), "{posted} not in {least}..={most}: {crash}");
            assert_eq!(reopened(&again, &row), posted, "charged again after {crash} {unsynced:?}");
        }
    }
}

/// What is posted after a start, which is then stopped in good order.
fn reopened(disk: &Disk, row: &RowKey) -> i64 {
    let accounts = open(disk.clone()).unwrap();
    let Account { posted, pending, .. } = accounts.account(row);
    assert_eq!(pending, Amount::ZERO);
    accounts.close();
    posted.parts()
}

#[tokio::test]
async fn an_adjustment_that_was_answered_survives_and_counts_once() {
    let (disk, ten) = (Disk::default(), Arc::new(budget("ten", 10)));
    let row = hold(&ten, 0).row;
    let adjustment = |by| Adjustment {
        id: Arc::from("a1"),
        row: row.clone(),
        by: parts(by),
        who: Arc::from("alice"),
        why: Arc::from("a purchase was undone"),
        at: Timestamp::from_secs(7),
    };
    let accounts = open(disk.clone()).unwrap();
    assert!(accounts.adjust(&ten, adjustment(5)).await.unwrap().1);
    let crashed = Disk::of(disk.image());
    let accounts = open(crashed).unwrap();
    assert_eq!(accounts.account(&row).adjusted, parts(5));
    assert!(!accounts.adjust(&ten, adjustment(5)).await.unwrap().1);
    assert_eq!(accounts.account(&row).adjusted, parts(5));
    assert!(accounts.adjust(&ten, adjustment(6)).await.is_err());
    assert_eq!(accounts.history(&ten.id).len(), 1);
}

#[tokio::test]
async fn what_a_crash_left_to_be_assumed_reaches_its_thresholds_once() {
    let (disk, ten) = (Disk::default(), Arc::new(budget("ten", 10)));
    let accounts = open(disk.clone()).unwrap();
    let mut held = take(&accounts, 1, &ten, 6);
    held.dispatch().await.unwrap();
    let crashed = Disk::of(disk.image());
    for expected in [&[50][..], &[]] {
        let accounts = open(crashed.clone()).unwrap();
        let mut told = accounts.watch(Arc::new(SystemClock::start()));
        accounts.look(std::slice::from_ref(&ten));
        let told: Vec<u8> =
            std::iter::from_fn(|| told.try_recv().ok()).map(|it| it.percent).collect();
        assert_eq!(told, expected);
        accounts.close();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_refuses_calls_that_must_be_on_it() {
    let (disk, ten) = (Disk::default(), Arc::new(budget("ten", 10)));
    let accounts = open(disk.clone()).unwrap();
    disk.fill(true);
    let mut held = take(&accounts, 1, &ten, 4);
    assert_eq!(held.dispatch().await, Err(DispatchError::Late));
    drop(held);
    assert_eq!(accounts.account(&hold(&ten, 0).row), Account::default());
    let refused = accounts.take(&plan(2, vec![hold(&ten, 1)]), || Ok(Reservation::default()));
    assert_eq!(refused, Err(Denial::Away));
}

#[tokio::test]
async fn a_budget_that_only_reports_keeps_no_call_from_leaving_a_full_disk() {
    let disk = Disk::default();
    let shadow = Arc::new(Budget { shadow: true, ..budget("shadow", 10) });
    let accounts = open(disk.clone()).unwrap();
    disk.fill(true);
    for id in 0..3 {
        let mut held = take(&accounts, id, &shadow, 4);
        assert_eq!(held.dispatch().await, Ok(()));
        held.settle(&[]);
    }
    assert_eq!(accounts.account(&hold(&shadow, 0).row).posted, parts(12));
}

#[tokio::test]
async fn a_client_that_goes_while_its_call_is_written_leaves_nothing_held() {
    let (disk, ten) = (Disk::default(), Arc::new(budget("ten", 10)));
    let accounts = open(disk.clone()).unwrap();
    disk.fill(true);
    let mut held = take(&accounts, 1, &ten, 4);
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), held.dispatch());
    assert!(waiting.await.is_err());
    drop(held);
    assert_eq!(accounts.account(&hold(&ten, 0).row), Account::default());
}

#[tokio::test]
async fn a_clean_stop_keeps_what_was_spent_and_what_fired() {
    let (directory, ten) = (tempfile::tempdir().unwrap(), Arc::new(budget("ten", 10)));
    let start =
        || Embedded::open(directory.path(), Timestamp::from_secs(1), Uptime::default()).unwrap();
    let ledger = start();
    let mut held = take(ledger.accounts(), 1, &ten, 6);
    held.dispatch().await.unwrap();
    held.settle(&[]);
    let before = ledger.accounts().account(&hold(&ten, 0).row);
    assert_eq!((before.posted, before.fired), (parts(6), Fired::from_iter([50])));
    ledger.close(Timestamp::from_secs(2), Uptime::default()).unwrap();
    drop(ledger);
    let ledger = start();
    assert_eq!(ledger.accounts().account(&hold(&ten, 0).row), before);
}

#[tokio::test]
async fn a_damaged_journal_is_named_and_left_as_it_is() {
    let (directory, ten) = (tempfile::tempdir().unwrap(), Arc::new(budget("ten", 10)));
    let open = || Accounts::open(directory.path(), Timestamp::from_secs(1)).map(Arc::new);
    let accounts = open().unwrap();
    let mut held = take(&accounts, 1, &ten, 6);
    held.dispatch().await.unwrap();
    held.settle(&[]);
    accounts.close();
    drop(accounts);
    let path = directory.path().join("budgets.redb");
    let whole = std::fs::read(&path).unwrap();
    // The row's own text: rot in what was spent must not become another number.
    let place = whole.windows(9).rposition(|text| text == br#""posted":"#).unwrap();
    let mut rotten = whole.clone();
    rotten[place + 9] = b'1';
    for bad in [rotten, whole[..whole.len() / 2].to_vec(), vec![b'x'; 8_192]] {
        std::fs::write(&path, &bad).unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(open().unwrap().account(&hold(&ten, 0).row).posted, parts(6));
}
