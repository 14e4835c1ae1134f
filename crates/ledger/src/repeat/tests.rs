//! Laws of what is remembered of repeats, in a node and in a fleet.

mod differential;
mod disk;
mod mutants;
mod restart;

use std::sync::Arc;

use model::SystemClock;

use super::{Ask, Asked, Claim, Duration, Ending, Flight, Name, Repeats, Request};

/// Asks for the request of this body, by the key `k` or without one.
fn ask(body: &str, asked: Asked) -> Ask {
    let request = Request {
        agent: "alice",
        key: (asked == Asked::ByKey).then_some("k"),
        method: "POST",
        host: "api.example",
        target: "/",
        body: body.as_bytes(),
        boundary: None,
    };
    Ask { name: Name::of(&request), asked, window: Duration::from_secs(60) }
}

fn in_memory() -> Repeats {
    Repeats::in_memory(Arc::new(SystemClock::start())).unwrap()
}

/// What is told, as a letter.
fn letter(claim: &Claim) -> char {
    match claim {
        Claim::Go(_) => 'G',
        Claim::Wait => 'W',
        Claim::Answered(_) => 'A',
        Claim::Status(_) => 'S',
        Claim::Unknown => 'U',
        Claim::Other => 'O',
        Claim::Full => 'F',
    }
}

async fn told(repeats: &Repeats, ask: &Ask) -> char {
    letter(&repeats.claim(ask).await.unwrap())
}

async fn go(repeats: &Repeats, ask: &Ask) -> Box<Flight> {
    match repeats.claim(ask).await.unwrap() {
        Claim::Go(flight) => flight,
        other => panic!("{other:?}"),
    }
}

/// The flight, once it has departed.
async fn departed(repeats: &Repeats, ask: &Ask) -> Box<Flight> {
    let mut flight = go(repeats, ask).await;
    flight.depart().await.unwrap();
    flight
}

#[tokio::test]
async fn an_answer_is_given_back_as_it_was() {
    let (repeats, ask) = (in_memory(), ask("a", Asked::ByKey));
    let flight = departed(&repeats, &ask).await;
    assert_eq!(told(&repeats, &ask).await, 'W');
    flight.land(Ending::Answered(201, Some(b"made".to_vec()))).await;
    let claim = repeats.claim(&ask).await.unwrap();
    assert!(matches!(&claim, Claim::Answered(answer) if answer == b"made"), "{claim:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_kept_leaves_its_status() {
    let (repeats, ask) = (in_memory(), ask("a", Asked::ByKey));
    departed(&repeats, &ask).await.land(Ending::Answered(201, None)).await;
    let claim = repeats.claim(&ask).await.unwrap();
    assert!(matches!(claim, Claim::Status(201)), "{claim:?}");
}

#[tokio::test]
async fn a_flight_that_is_dropped_is_void_before_it_departed_and_unknown_after() {
    let (repeats, ask) = (in_memory(), ask("a", Asked::ByKey));
    drop(go(&repeats, &ask).await);
    drop(departed(&repeats, &ask).await);
    assert_eq!(told(&repeats, &ask).await, 'U');
}

#[tokio::test]
async fn another_request_under_the_key_is_told_so() {
    let repeats = in_memory();
    let _flight = departed(&repeats, &ask("a", Asked::ByKey)).await;
    assert_eq!(told(&repeats, &ask("b", Asked::ByKey)).await, 'O');
    // Without a key it is another request from the start.
    drop(departed(&repeats, &ask("a", Asked::First)).await);
    assert_eq!(told(&repeats, &ask("b", Asked::Again)).await, 'G');
}
