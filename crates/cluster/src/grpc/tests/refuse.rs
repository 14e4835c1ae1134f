//! Who is refused, and how both sides hear of it.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use wire::cluster::peer_client::PeerClient;
use wire::cluster::refusal::Reason;
use wire::cluster::{Envelope, Greeting, Kind, Refusal, answer, greeting_answer};

use super::super::connect::{Sender, Tasks, Way, connect, origin};
use super::super::{GrpcTransport, Local, MESSAGE_BYTES_MAX, Standing};
use super::bench::{self, Bench, CLUSTER, Node, SOON, local, message, passport, ping};
use crate::ca::{Authority, NodeKey};
use crate::tls::{NodeTls, Passport};
use crate::{ClusterId, MessageKind, Peer, PeerName, Transport as _, TransportError};

/// The call is refused with this reason, the service has seen nothing, and both sides log it.
async fn check(bench: &Bench, node: &Node, caller: &GrpcTransport, words: &str) {
    let answer = ping(caller, &node.peer).await;
    let Err(error) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(*node.echo.heard.lock(), []);
    bench.log.says(&["peer cannot be spoken to", words]).await;
    bench.log.says(&["refused", "client=127.0.0.1", words]).await;
}

/// As [`check`], where TLS itself refuses: each side has its own words.
async fn check_tls(bench: &Bench, node: &Node, caller: &GrpcTransport, theirs: &str) {
    let answer = ping(caller, &node.peer).await;
    assert!(matches!(answer, Err(TransportError::Unreachable { .. })), "{answer:?}");
    assert_eq!(*node.echo.heard.lock(), []);
    bench.log.says(&["peer cannot be spoken to", "peer=b"]).await;
    bench.log.says(&["connection of a peer refused", "client=127.0.0.1", theirs]).await;
}

fn other_authority() -> Authority {
    Authority::make(model::Timestamp::from_secs(1_700_000_000)).expect("made")
}

fn caller(name: &str, passport: &Passport) -> GrpcTransport {
    bench::caller(local(name, 1), Arc::new(NodeTls::new(passport).expect("a passport")))
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_the_callee() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let authorities = vec![bench.authority.certificate().clone()];
    let foreign = Passport { authorities, ..passport(&other_authority(), "a") };
    check_tls(&bench, &b, &caller("a", &foreign), "invalid peer certificate").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_the_caller() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let foreign = passport(&other_authority(), "a");
    check_tls(&bench, &b, &caller("a", &foreign), "received fatal alert").await;
    bench.log.says(&["peer cannot be spoken to", "invalid peer certificate"]).await;
}

#[tokio::test]
async fn a_peer_that_proves_another_name_is_not_spoken_to() {
    let mut bench = Bench::new();
    let mut b = bench.node("c", 2).await;
    b.peer.name = "b".to_owned();
    check_tls(&bench, &b, &bench.transport("a"), "received fatal alert").await;
    bench.log.says(&["peer cannot be spoken to", "not valid for name"]).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let key = NodeKey::generate().expect("a key");
    let long_ago = model::Timestamp::from_secs(1_000_000_000);
    let old = Passport::certified(&bench.authority, &key, &PeerName::new("a"), long_ago);
    let old = old.expect("a passport");
    check_tls(&bench, &b, &caller("a", &old), "certificate expired").await;
}

#[tokio::test]
async fn a_node_without_a_certificate_cannot_speak_at_all() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(bench.authority.certificate().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("b").expect("a name");
    let way = Way { address: &b.peer.address, name, tls: Arc::new(tls) };
    // TLS 1.3 may tell a client only when it reads.
    if let Ok(sender) = connect(way, &Tasks::default()).await {
        assert!(PeerClient::with_origin(sender, origin()).hello(greeting()).await.is_err());
    }
    bench.log.says(&["connection of a peer refused", "no certificates"]).await;
    assert_eq!(*b.echo.heard.lock(), []);
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_hold_is_refused() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let caller = caller("a", &bench.passport("c"));
    check(&bench, &b, &caller, "the certificate is not of a node called").await;
}

#[tokio::test]
async fn another_cluster_is_refused_though_the_authority_is_the_same() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let elsewhere = Local { cluster: ClusterId([9; 16]), ..local("a", 1) };
    let caller = bench::caller(elsewhere, bench.tls("a"));
    check(&bench, &b, &caller, &format!("this is cluster {CLUSTER}, not 0909")).await;
}

#[tokio::test]
async fn a_node_that_took_over_an_address_is_not_taken_for_the_one_before() {
    let mut bench = Bench::new();
    let mut b = bench.node("b", 2).await;
    b.peer.id = 3;
    check(&bench, &b, &bench.transport("a"), "this is node 2 (b), not node 3").await;
}

#[tokio::test]
async fn a_node_that_has_left_is_refused() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    b.roster.0.lock().insert(PeerName::new("a"), Standing::Left);
    check(&bench, &b, &bench.transport("a"), "node a has left the cluster").await;
}

#[tokio::test]
async fn a_node_that_leaves_is_refused_on_the_connection_it_has() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = bench.transport("a");
    ping(&a, &b.peer).await.expect("an answer");
    b.echo.heard.lock().clear();
    b.roster.0.lock().insert(PeerName::new("a"), Standing::Left);
    check(&bench, &b, &a, "node a has left the cluster").await;
}

#[tokio::test]
async fn an_unknown_peer_may_say_what_raft_says_and_nothing_else() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    b.roster.0.lock().insert(PeerName::new("a"), Standing::Unknown);
    let a = bench.transport("a");
    for kind in [MessageKind::Append, MessageKind::Vote, MessageKind::Snapshot] {
        a.call(&b.peer, message(kind, "text"), SOON).await.expect("an answer");
    }
    b.echo.heard.lock().clear();
    let words = "node a is not known to be a member";
    for kind in [MessageKind::Propose, MessageKind::ReadIndex, MessageKind::Members] {
        let answer = a.call(&b.peer, message(kind, "text"), SOON).await;
        assert_eq!(answer, Err(TransportError::Refused { peer: 2, why: words.to_owned() }));
    }
    assert_eq!(*b.echo.heard.lock(), []);
    bench.log.says(&["peer cannot be spoken to", words]).await;
    bench.log.says(&["message of a peer refused", words]).await;
}

#[tokio::test]
async fn an_oversized_message_is_not_sent() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let body = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let answer =
        bench.transport("a").call(&b.peer, message(MessageKind::Propose, &body), SOON).await;
    let (bytes, most) = (MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX);
    assert_eq!(answer, Err(TransportError::Oversized { bytes, most }));
}

#[tokio::test]
async fn an_oversized_message_that_is_sent_is_refused() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = GrpcTransport::with_bound(bench.tls("a"), 2 * MESSAGE_BYTES_MAX);
    a.introduce(local("a", 1));
    let mut said = Vec::new();
    for bytes in [MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX + (1 << 20)] {
        let body = "x".repeat(bytes);
        said.push(a.call(&b.peer, message(MessageKind::Propose, &body), SOON).await);
    }
    // The first is in the envelope's slack; of the second gRPC reads no more than its length.
    assert!(matches!(&said[0], Err(TransportError::Refused { peer: 2, .. })), "{:?}", said[0]);
    assert!(matches!(&said[1], Err(TransportError::Broken { peer: 2, .. })), "{:?}", said[1]);
    assert_eq!(*b.echo.heard.lock(), []);
    bench.log.says(&["of a peer refused", "bytes"]).await;
    bench.log.says(&["peer cannot be spoken to", "bytes"]).await;
    ping(&a, &b.peer).await.expect("the line still works");
}

#[tokio::test]
async fn an_oversized_answer_is_not_sent() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let a = bench.transport("a");
    let answer = a.call(&b.peer, message(MessageKind::Snapshot, "large"), SOON).await;
    assert!(matches!(answer, Err(TransportError::Broken { peer: 2, .. })), "{answer:?}");
    bench.log.says(&["message of a peer refused", "over the bound"]).await;
}

async fn client(bench: &Bench, peer: &Peer) -> PeerClient<Sender> {
    let name = ServerName::try_from(peer.name.clone()).expect("a name");
    let way = Way { address: &peer.address, name, tls: bench.tls("a").client() };
    let sender = connect(way, &Tasks::default()).await.expect("a connection");
    PeerClient::with_origin(sender, origin())
}

fn greeting() -> Greeting {
    Greeting {
        cluster: CLUSTER.0.to_vec().into(),
        from: "a".to_owned(),
        from_id: 1,
        to: 2,
        protocol_min: 1,
        protocol_max: 1,
        release: String::new(),
    }
}

async fn said(client: &mut PeerClient<Sender>, protocol: u32, kind: i32) -> Refusal {
    let envelope = Envelope {
        cluster: CLUSTER.0.to_vec().into(),
        protocol,
        from: "a".to_owned(),
        from_id: 1,
        to: 2,
        deadline_ms: 1_000,
        kind,
        version: 1,
        body: "text".into(),
    };
    match client.call(envelope).await.expect("an answer").into_inner().answer {
        Some(answer::Answer::Refusal(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newer_version_is_refused_by_name() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let mut client = client(&bench, &b.peer).await;
    let refusal = said(&mut client, 2, Kind::Append.into()).await;
    assert_eq!((refusal.reason(), refusal.known), (Reason::Newer, 1));
    let refusal = said(&mut client, 1, 99).await;
    assert_eq!((refusal.reason(), refusal.known), (Reason::Newer, 1));
    assert_eq!(said(&mut client, 0, Kind::Append.into()).await.reason(), Reason::Unspecified);
    let newer = Greeting { protocol_min: 2, protocol_max: 3, ..greeting() };
    match client.hello(newer).await.expect("an answer").into_inner().answer {
        Some(greeting_answer::Answer::Refusal(refusal)) => {
            assert_eq!((refusal.reason(), refusal.known), (Reason::Newer, 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(*b.echo.heard.lock(), []);
    bench.log.says(&["message of a peer refused", "protocol 2 is newer than 1"]).await;
}

#[tokio::test]
async fn a_release_that_speaks_more_is_spoken_to_in_what_both_know() {
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let mut client = client(&bench, &b.peer).await;
    let both = Greeting { protocol_max: 9, ..greeting() };
    match client.hello(both).await.expect("an answer").into_inner().answer {
        Some(greeting_answer::Answer::Greeting(theirs)) => assert_eq!(theirs.protocol_max, 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_said() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut bench = Bench::new();
    let b = bench.node("b", 2).await;
    let mut stream = tokio::net::TcpStream::connect(&b.peer.address).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(6), stream.read_to_end(&mut rest)).await;
    drop(read.expect("closed in time"));
    bench.log.says(&["connection of a peer refused", "TLS"]).await;
}

/// A node of a release that is not written yet.
struct Future;

#[tonic::async_trait]
impl wire::cluster::peer_server::Peer for Future {
    async fn hello(
        &self,
        _request: tonic::Request<Greeting>,
    ) -> Result<tonic::Response<wire::cluster::GreetingAnswer>, tonic::Status> {
        let newer = Greeting { protocol_min: 2, protocol_max: 3, ..greeting() };
        let answer = Some(greeting_answer::Answer::Greeting(newer));
        Ok(tonic::Response::new(wire::cluster::GreetingAnswer { answer }))
    }

    async fn call(
        &self,
        _request: tonic::Request<Envelope>,
    ) -> Result<tonic::Response<wire::cluster::Answer>, tonic::Status> {
        unreachable!("nobody calls after such a greeting")
    }
}

#[tokio::test]
async fn a_peer_that_has_given_up_our_version_is_named_as_newer() {
    let bench = Bench::new();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let acceptor = tokio_rustls::TlsAcceptor::from(bench.tls("b").server());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = socket.accept().await.expect("a connection");
        let stream = hyper_util::rt::TokioIo::new(acceptor.accept(stream).await.expect("TLS"));
        let service = wire::cluster::peer_server::PeerServer::new(Future);
        let service = hyper_util::service::TowerToHyperService::new(service);
        let served = hyper::server::conn::http2::Builder::new(Tasks::default());
        drop(served.serve_connection(stream, service).await);
    });
    let peer = Peer { id: 2, name: "b".to_owned(), address };
    let answer = ping(&bench.transport("a"), &peer).await;
    assert_eq!(answer, Err(TransportError::Newer { peer: 2, found: 2, known: 1 }));
    bench.log.says(&["peer cannot be spoken to", "knows up to 1"]).await;
}
