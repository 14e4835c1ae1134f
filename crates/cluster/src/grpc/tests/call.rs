//! What crosses between two members.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::bench::{Bench, Relay, SOON, message, ping, wait_for};
use crate::{MessageKind, Peer, Transport as _, TransportError};

#[tokio::test]
async fn a_message_and_its_answer_cross() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = bench.transport("a");
    for kind in [
        MessageKind::Append,
        MessageKind::Vote,
        MessageKind::Snapshot,
        MessageKind::Propose,
        MessageKind::ReadIndex,
        MessageKind::Status,
        MessageKind::Members,
        MessageKind::Ledger,
    ] {
        let answer = a.call(&b.peer, message(kind, "text"), SOON).await.expect("an answer");
        assert_eq!(answer, crate::Message { version: 4, ..message(kind, "text") });
    }
    assert!(b.echo.heard.lock().iter().all(|(from, _)| from == "a"));
}

#[tokio::test]
async fn a_peer_is_called_over_one_connection() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let relay = Relay::to(b.peer.address.clone()).await;
    let peer = Arc::new(Peer { address: relay.address.to_string(), ..b.peer.clone() });
    let a = Arc::new(bench.transport("a"));
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let (a, peer) = (Arc::clone(&a), Arc::clone(&peer));
        calls.spawn(async move { ping(&a, &peer).await });
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("pong to a")), "{answers:?}");
    assert_eq!(*relay.connections.lock(), 1);
}

#[tokio::test]
async fn nobody_is_called_before_there_is_something_to_say() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let relay = Relay::to(b.peer.address.clone()).await;
    let _a = bench.transport("a");
    assert_eq!(*relay.connections.lock(), 0);
}

#[tokio::test]
async fn a_refusal_of_the_service_is_told_and_not_logged() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = bench.transport("a");
    let refused = a.call(&b.peer, message(MessageKind::Propose, "refuse"), SOON).await;
    assert_eq!(refused, Err(TransportError::Refused { peer: 2, why: "not the leader".to_owned() }));
    assert_eq!(bench.log.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_late_answer_is_given_up_on_both_sides() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = bench.transport("a");
    ping(&a, &b.peer).await.expect("an answer");
    let after = Duration::from_millis(50);
    let late = a.call(&b.peer, message(MessageKind::Status, "never"), after).await;
    assert!(
        matches!(late, Err(TransportError::Late { .. } | TransportError::Broken { .. })),
        "{late:?}"
    );
    wait_for(|| *b.echo.given_up.lock() == 1, || "the peer gives up".to_owned()).await;
    ping(&a, &b.peer).await.expect("the line still works");
}

#[tokio::test]
async fn a_large_body_crosses() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = bench.transport("a");
    let body = "x".repeat(super::super::MESSAGE_BYTES_MAX);
    let answer = a.call(&b.peer, message(MessageKind::Propose, &body), SOON).await;
    assert_eq!(answer.expect("an answer").body, body);
}

#[tokio::test]
async fn a_passport_is_replaced_without_closing_what_is_open() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let relay = Relay::to(b.peer.address.clone()).await;
    let peer = Peer { address: relay.address.to_string(), ..b.peer.clone() };
    let (a, c) = (bench.transport("a"), bench.transport("c"));
    ping(&a, &peer).await.expect("an answer");
    b.tls.replace(&bench.passport("d")).expect("a good passport");
    ping(&a, &peer).await.expect("an answer, on the same connection");
    assert_eq!(*relay.connections.lock(), 1);
    assert!(ping(&c, &peer).await.is_err(), "new connections meet the new name");
    ping(&c, &Peer { name: "d".to_owned(), ..peer }).await.expect("an answer");
}
