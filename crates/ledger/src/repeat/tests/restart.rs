//! What a node knows of repeats after it ended, however it ended.

use std::path::Path;

use super::{Arc, Ask, Asked, Ending, Repeats, SystemClock, ask, departed, go, told};

fn open(directory: &Path) -> Repeats {
    Repeats::open(directory, Arc::new(SystemClock::start())).unwrap()
}

/// The file as a process that ended now would leave it, and what a new one says of the request.
async fn after_an_end(directory: &Path, ask: &Ask) -> char {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(directory.join("repeats.redb"), copy.path().join("repeats.redb")).unwrap();
    told(&open(copy.path()), ask).await
}

#[tokio::test]
async fn at_every_step_an_end_leaves_what_is_safe() {
    let directory = tempfile::tempdir().unwrap();
    let (repeats, ask) = (open(directory.path()), ask("a", Asked::ByKey));
    assert_eq!(after_an_end(directory.path(), &ask).await, 'G');
    let mut flight = go(&repeats, &ask).await;
    assert_eq!(after_an_end(directory.path(), &ask).await, 'G', "nothing had left");
    flight.depart().await.unwrap();
    assert_eq!(after_an_end(directory.path(), &ask).await, 'U', "it may have left");
    flight.land(Ending::Answered(200, Some(b"answer".to_vec()))).await;
    // The next step is carried out behind it.
    assert_eq!(told(&repeats, &ask).await, 'A');
    drop(repeats);
    assert_eq!(after_an_end(directory.path(), &ask).await, 'A');
}

#[tokio::test]
async fn what_had_no_effect_is_free_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ask = ask("a", Asked::ByKey);
    let repeats = open(directory.path());
    departed(&repeats, &ask).await.land(Ending::Void).await;
    drop(repeats);
    assert_eq!(told(&open(directory.path()), &ask).await, 'G');
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let file = std::fs::metadata(directory.path().join("repeats.redb")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}
