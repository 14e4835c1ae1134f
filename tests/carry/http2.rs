//! HTTP/2 on both sides: streams beside each other, none in the way of another.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::body::Flow;
use crate::harness::secure::{Answer, Pieces, runtime, whole};
use crate::harness::{Certificate, Gate, PATIENCE, Secure};

type ClientBody = BoxBody<Bytes, Infallible>;

/// An HTTP/2 upstream for any name.
pub(super) fn upstream<F, A>(serve: F) -> Secure
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    Secure::start(&Certificate::of(&["127.0.0.1"]), &["h2"], serve)
}

pub(super) fn document(secure: &Secure) -> Value {
    json!({ "scheme": "https", "nodes": { secure.node(): 1 }, "tls": { "verify": false } })
}

/// A client's connection to the gate, in clear text and with prior knowledge.
pub(super) async fn connect(gate: &Gate) -> SendRequest<ClientBody> {
    let stream = TcpStream::connect(&gate.http).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    drop(tokio::runtime::Handle::current().spawn(connection));
    sender
}

fn request(
    method: Method,
    path: &str,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
) -> Request<ClientBody> {
    let uri = format!("http://gate{path}");
    Request::builder().method(method).uri(uri).body(BoxBody::new(body)).expect("a request")
}

pub(super) fn get(path: &str) -> Request<ClientBody> {
    request(Method::GET, path, Empty::new())
}

/// Waits, but not for ever.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends")
}

pub(super) async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

#[test]
fn curl_speaks_http_2_through_the_gate_with_an_upstream_of_http_2() {
    let secure = upstream(|request| async move {
        let version = format!("{:?} {}", request.version(), request.method());
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        whole(format!("{version} {}", body.len()))
    });
    let gate = Gate::before(&document(&secure));
    let h2 = "--http2-prior-knowledge";
    let version = ["-w", "\n%{http_version}"];
    let answer = gate.ask(&[&[h2], &version[..]].concat(), "/v");
    assert_eq!(answer.text(), "HTTP/2.0 GET 0\n2");
    let answer = gate.ask(&[&[h2, "-d", "hello"], &version[..]].concat(), "/v");
    assert_eq!(answer.text(), "HTTP/2.0 POST 5\n2");
    let answer = gate.ask(&[&["--http1.1"], &version[..]].concat(), "/v");
    assert_eq!(answer.text(), "HTTP/2.0 GET 0\n1.1");
    assert_eq!(secure.accepted(), 1);
}

#[test]
fn trailers_pass_in_both_directions() {
    let secure = upstream(|request| async move {
        let body = request.into_body().collect().await.expect("a body");
        let sum = body.trailers().and_then(|fields| fields.get("x-sum")).cloned();
        let (pieces, body) = Pieces::new();
        drop(pieces.send(Frame::data("abc".into())).await);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-proof", sum.unwrap_or_else(|| HeaderValue::from_static("none")));
        drop(pieces.send(Frame::trailers(trailers)).await);
        Response::new(BoxBody::new(body))
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        let (pieces, body) = Pieces::new();
        drop(pieces.send(Frame::data("hello".into())).await);
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("x-sum"),
            HeaderValue::from_static("17"),
        )]);
        drop(pieces.send(Frame::trailers(trailers)).await);
        drop(pieces);
        let sent = client.send_request(request(Method::POST, "/t", body));
        let answer = soon(sent).await.expect("an answer");
        let body = soon(answer.into_body().collect()).await.expect("a body");
        assert_eq!(body.trailers().and_then(|fields| fields.get("x-proof")).unwrap(), "17");
        assert_eq!(body.to_bytes(), "abc");
    });
}

/// All of them are under way before the first is answered.
#[test]
fn many_streams_share_a_connection_on_both_sides() {
    const STREAMS: usize = 100;
    let barrier = Arc::new(tokio::sync::Barrier::new(STREAMS));
    let secure = upstream(move |request| {
        let barrier = Arc::clone(&barrier);
        async move {
            if request.uri().path() != "/first" {
                barrier.wait().await;
            }
            whole(request.uri().path().to_owned())
        }
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        let first = soon(client.send_request(get("/first"))).await.expect("an answer");
        assert_eq!(text(first).await, "/first");
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..STREAMS {
            let path = format!("/{number}");
            let sent = client.send_request(get(&path));
            tasks.spawn(async move {
                let answer = soon(sent).await.expect("an answer");
                assert_eq!(soon(text(answer)).await, path);
            });
        }
        tasks.join_all().await;
    });
    assert_eq!(secure.accepted(), 1);
}

#[test]
fn answers_without_a_body_leave_a_shared_connection_in_order() {
    let secure = upstream(|request| async move {
        let mut answer = whole(request.uri().path().to_owned());
        if request.uri().path() == "/head" {
            answer = whole("");
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        }
        if let Ok(status) = request.uri().path().trim_start_matches('/').parse::<StatusCode>() {
            answer = whole("");
            *answer.status_mut() = status;
        }
        answer
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        for (method, path, status) in [
            (Method::HEAD, "/head", 200),
            (Method::GET, "/204", 204),
            (Method::GET, "/304", 304),
            (Method::DELETE, "/204", 204),
            (Method::HEAD, "/304", 304),
        ] {
            let sent = client.send_request(request(method, path, Empty::new()));
            let answer = soon(sent).await.expect("an answer");
            assert_eq!(answer.status(), status);
            assert_eq!(soon(text(answer)).await, "");
            let after = soon(client.send_request(get("/after"))).await.expect("an answer");
            assert_eq!(soon(text(after)).await, "/after");
        }
    });
    assert_eq!(secure.accepted(), 1);
    for (path, count) in [("/head", 1), ("/204", 2), ("/304", 2)] {
        for record in gate.audit.records_of(path, count) {
            assert_eq!(record["ending"], "complete", "{record}");
        }
    }
}

/// A stream that is never answered costs itself only.
#[test]
fn a_stream_that_is_not_answered_in_time_leaves_the_others_their_connection() {
    let secure = upstream(|request| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        whole("fine")
    });
    let timeout = json!({ "connect": 60, "send": 1, "read": 1 });
    let gate = Gate::carrying(&document(&secure), &json!({ "timeout": timeout }), &[]);
    for _ in 0..3 {
        assert_eq!(gate.ask(&[], "/other").text(), "fine");
        let answer = gate.ask(&["--http2-prior-knowledge", "-d", "buy=1"], "/never");
        assert_eq!(answer.refusal(), (504, "upstream.timeout".to_owned()));
    }
    assert_eq!(gate.ask(&[], "/other").text(), "fine");
    assert_eq!(secure.accepted(), 1);
}

/// A client that gives up one stream keeps its others, and the upstream stops with that one.
#[test]
fn a_stream_that_the_client_gives_up_ends_at_the_upstream_and_is_recorded() {
    let (gone, is_gone) = super::baton();
    let secure = upstream(move |request| {
        let gone = gone.clone();
        async move {
            if request.uri().path() != "/gone" {
                return whole("fine");
            }
            let (pieces, body) = Pieces::new();
            drop(tokio::runtime::Handle::current().spawn(async move {
                while pieces.send(Frame::data(Bytes::from(vec![b'x'; 1_024]))).await.is_ok() {}
                gone.send(()).expect("the test waits");
            }));
            Response::new(BoxBody::new(body))
        }
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        let mut answer = soon(client.send_request(get("/gone"))).await.expect("an answer");
        assert!(soon(answer.frame()).await.is_some());
        drop(answer);
        let other = soon(client.send_request(get("/other"))).await.expect("an answer");
        assert_eq!(soon(text(other)).await, "fine");
    });
    super::wait(&is_gone);
    assert_eq!(gate.audit.record("/gone")["ending"], "client_gone");
    assert_eq!(gate.audit.record("/other")["ending"], "complete");
    assert_eq!(secure.accepted(), 1);
}

/// An upstream ends its connections in order (GOAWAY) again and again, as servers do after so many
/// requests: whatever is under way is answered, and nothing comes twice.
#[test]
fn an_upstream_that_goes_away_in_order_loses_no_request() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let secure = upstream(move |_| {
        let count = Arc::clone(&counted);
        async move { whole(count.fetch_add(1, Ordering::SeqCst).to_string()) }
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        for round in 0..50 {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..10 {
                let method = if number % 2 == 0 { Method::POST } else { Method::GET };
                let sent = client.send_request(request(method, "/w", Empty::new()));
                tasks.spawn(async move { soon(sent).await.expect("an answer").status() });
                if number == 5 {
                    secure.leave();
                }
            }
            for status in tasks.join_all().await {
                assert_eq!(status, 200, "in round {round}");
            }
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 500);
    assert!(secure.accepted() > 10, "only {} connections", secure.accepted());
}

/// Up and down at once, piece by piece, so that nobody may wait for the end of either.
#[test]
fn a_big_body_goes_to_and_fro_at_once_and_whole() {
    const BIG: usize = 64 << 20;
    let secure = upstream(|request| async move {
        let whole = |error: hyper::Error| -> Infallible { panic!("the body breaks off: {error}") };
        Response::new(BoxBody::new(request.into_body().map_err(whole)))
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        let (pieces, body) = Pieces::new();
        drop(tokio::runtime::Handle::current().spawn(async move {
            let mut flow = Flow::new();
            while flow.at < BIG {
                let piece = Bytes::copy_from_slice(flow.next(Flow::PIECE));
                pieces.send(Frame::data(piece)).await.expect("it is taken");
            }
        }));
        let sent = client.send_request(request(Method::POST, "/echo", body));
        let mut answer = soon(sent).await.expect("an answer");
        let mut flow = Flow::new();
        while let Some(frame) = soon(answer.frame()).await {
            flow.check(&frame.expect("a frame").into_data().expect("data"));
        }
        assert_eq!(flow.at, BIG);
    });
    let record = gate.audit.record("/echo");
    assert_eq!((&record["received"], &record["sent"]), (&json!(BIG), &json!(BIG)));
}

/// Asks for a body without an end, reads none of it, and says how much of it went.
#[test]
fn a_stream_that_nobody_reads_stops_the_upstream_and_not_the_memory() {
    let (stuck, is_stuck) = mpsc::channel();
    let secure = upstream(move |request| {
        let stuck = stuck.clone();
        async move {
            if request.uri().path() == "/warm" {
                return whole("");
            }
            let (pieces, body) = Pieces::new();
            drop(tokio::runtime::Handle::current().spawn(async move {
                let piece = Bytes::from(vec![b'x'; 16_384]);
                let mut sent = 0;
                loop {
                    let send = pieces.send(Frame::data(piece.clone()));
                    match tokio::time::timeout(Duration::from_secs(1), send).await {
                        Ok(Ok(())) => sent += piece.len(),
                        Ok(Err(_)) => return,
                        Err(_) => drop(stuck.send(sent)),
                    }
                }
            }));
            Response::new(BoxBody::new(body))
        }
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let mut client = connect(&gate).await;
        soon(client.send_request(get("/warm"))).await.expect("an answer");
        let before = gate.memory_peak();
        let unread = soon(client.send_request(get("/slow"))).await.expect("an answer");
        let taken = is_stuck.recv_timeout(PATIENCE).expect("the upstream is stopped");
        assert!(taken < 64 << 20, "{taken} bytes were taken for a client that reads none");
        let grown = gate.memory_peak() - before;
        assert!(grown < 32 << 20, "the gate's memory grew by {grown} bytes");
        drop(unread);
    });
    assert_eq!(gate.audit.record("/slow")["ending"], "client_gone");
}
