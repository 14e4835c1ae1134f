//! Peers that go away, and come back.

use std::time::Duration;

use super::super::GrpcTransport;
use super::bench::{Bench, Relay, local, message, ping};
use crate::{MessageKind, Peer, Transport as _, TransportError};

#[tokio::test]
async fn a_peer_that_comes_back_is_spoken_to_again() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let peer = b.peer.clone();
    let a = bench.transport("a");
    ping(&a, &peer).await.expect("an answer");
    drop(b);
    bench.ended().await;
    while ping(&a, &peer).await.is_ok() {}
    bench.log.says(&["peer cannot be spoken to", "peer=b"]).await;
    let _b = bench.node_at("b", 2, &peer.address, None).await;
    while ping(&a, &peer).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.log.says(&["peer can be spoken to again", "peer=b"]).await;
}

#[tokio::test]
async fn a_partition_that_heals_does_not_leave_a_dead_connection() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let relay = Relay::to(b.peer.address.clone()).await;
    let peer = Peer { address: relay.address.to_string(), ..b.peer.clone() };
    let a = bench.transport("a");
    ping(&a, &peer).await.expect("an answer");
    relay.is_silent.send_replace(true);
    // Until the line has given the connection up: then it opens another.
    while *relay.connections.lock() == 1 {
        let heartbeat = message(MessageKind::Append, "ping");
        let answer = a.call(&peer, heartbeat, Duration::from_millis(100)).await;
        assert!(
            matches!(answer, Err(TransportError::Late { .. } | TransportError::Unreachable { .. })),
            "{answer:?}"
        );
    }
    relay.is_silent.send_replace(false);
    while ping(&a, &peer).await.is_err() {}
}

#[tokio::test]
async fn a_node_that_is_not_there_is_unreachable_and_said_once() {
    let bench = Bench::new();
    let a = bench.transport("a");
    let peer = Peer { id: 2, name: "b".to_owned(), address: "127.0.0.1:1".to_owned() };
    for _ in 0..5 {
        let answer = ping(&a, &peer).await;
        assert!(matches!(answer, Err(TransportError::Unreachable { peer: 2, .. })), "{answer:?}");
    }
    bench.log.says(&["peer cannot be spoken to", "refused"]).await;
    assert_eq!(bench.log.lines().len(), 1, "{:#?}", bench.log.lines());
}

#[tokio::test]
async fn an_address_that_changed_is_called_at_the_new_one() {
    let mut bench = Bench::new();
    let old = bench.node("b", 2).await;
    let a = bench.transport("a");
    ping(&a, &old.peer).await.expect("an answer");
    let new = bench.node("b", 2).await;
    ping(&a, &new.peer).await.expect("an answer");
    assert_eq!(new.echo.heard.lock().len(), 1);
}

#[tokio::test]
async fn a_listener_that_stops_finishes_what_it_was_asked() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let peer = b.peer.clone();
    let a = bench.transport("a");
    ping(&a, &peer).await.expect("an answer");
    let late = message(MessageKind::Status, "never");
    let (answer, ()) = tokio::join!(a.call(&peer, late, Duration::from_millis(300)), async {
        super::bench::wait_for(|| b.echo.heard.lock().len() == 2, || "the call".to_owned()).await;
        drop(b);
    });
    assert!(
        matches!(answer, Err(TransportError::Late { .. } | TransportError::Broken { .. })),
        "{answer:?}"
    );
    bench.ended().await;
    a.close().await;
    assert!(ping(&a, &peer).await.is_err());
}

#[tokio::test]
async fn a_node_that_does_not_know_its_number_yet_calls_nobody() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = GrpcTransport::new(bench.tls("a"));
    assert!(matches!(ping(&a, &b.peer).await, Err(TransportError::Unreachable { .. })));
    a.introduce(local("a", 1));
    while ping(&a, &b.peer).await.is_err() {}
    assert_eq!(b.echo.heard.lock()[0].0, "a");
}
