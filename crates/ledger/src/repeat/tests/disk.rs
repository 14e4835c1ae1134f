//! What a node knows of repeats while its disk fails, and when it is whole again.

use std::time::Duration;

use super::{Arc, Ask, Asked, Ending, Repeats, SystemClock, ask, departed, go, letter, told};
use crate::money::tests::disk::{Disk, Unsynced};
use crate::repeat::rows::File;

fn over(disk: &Disk) -> Repeats {
    let again = disk.clone();
    let file = File::over(disk.clone()).unwrap();
    let reopen = Box::new(move || File::over(again.clone()));
    Repeats::over(file, reopen, Arc::new(SystemClock::start())).unwrap()
}

/// What the request is told once anything can be known again.
async fn told_again(repeats: &Repeats, ask: &Ask) -> char {
    let asking = async {
        loop {
            match repeats.claim(ask).await {
                Ok(claim) => return letter(&claim),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it is written again")
}

/// What a process that ended now leaves a new one to say of the request.
async fn after_an_end(disk: &Disk, ask: &Ask) -> char {
    let image = disk.crashed(disk.deeds(), Unsynced::Lost);
    told(&over(&Disk::of(image)), ask).await
}

#[tokio::test]
async fn nothing_goes_while_the_disk_is_full_and_all_goes_on_when_it_is_not() {
    let disk = Disk::default();
    let repeats = over(&disk);
    disk.fill(true);
    let (one, two) = (ask("a", Asked::ByKey), ask("b", Asked::First));
    let mut flight = go(&repeats, &one).await;
    assert!(flight.depart().await.is_err(), "it is not on the disk");
    drop(flight);
    assert!(repeats.claim(&two).await.is_err(), "it could not be");
    disk.fill(false);
    assert_eq!(told_again(&repeats, &two).await, 'G');
    departed(&repeats, &one).await.land(Ending::Answered(201, Some(b"made".to_vec()))).await;
    assert_eq!(told(&repeats, &one).await, 'A');
}

#[tokio::test]
async fn what_came_to_an_end_while_the_disk_was_full_is_written_when_it_is_not() {
    let disk = Disk::default();
    let repeats = over(&disk);
    let asks = ["a", "b", "c"].map(|body| ask(body, Asked::Again));
    let mut flights = Vec::new();
    for ask in &asks {
        flights.push(departed(&repeats, ask).await);
    }
    disk.fill(true);
    let answer = Ending::Answered(201, Some(b"made".to_vec()));
    for (flight, ending) in flights.into_iter().zip([answer, Ending::Void, Ending::Unknown]) {
        flight.land(ending).await;
    }
    let broken = async {
        while repeats.claim(&asks[0]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), broken).await.expect("a write fails");
    for ask in &asks {
        assert_eq!(after_an_end(&disk, ask).await, 'U', "it had left");
    }
    disk.fill(false);
    for (ask, expected) in asks.iter().zip(['A', 'G', 'U']) {
        assert_eq!(told_again(&repeats, ask).await, expected);
    }
    // The one that goes may have left nothing yet.
    drop(repeats);
    for (ask, expected) in asks.iter().zip(['A', 'G', 'U']) {
        assert_eq!(after_an_end(&disk, ask).await, expected, "after an end");
    }
}

#[tokio::test]
async fn a_file_that_has_gone_is_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repeats.redb");
    drop(File::open(&path).unwrap());
    assert!(File::reopen(&path).is_ok());
    std::fs::write(&path, []).unwrap();
    assert!(File::reopen(&path).is_err(), "an empty one");
    std::fs::remove_file(&path).unwrap();
    assert!(File::reopen(&path).is_err());
    assert!(!path.exists());
}
