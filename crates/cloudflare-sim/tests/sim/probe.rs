//! Bodies a gateway must carry.
use aws_lc_rs::digest;
use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Ask, House, PATIENCE};

#[tokio::test]
async fn bytes_come_in_the_number_and_pattern_asked_for() {
    let house = House::new().await;
    for count in [0, 1, 250, 251, 65_536, 65_537, 1_000_000_usize] {
        let came = house.ask(Ask::new(&format!("GET /__sim/bytes/{count}"))).await;
        let expected: Vec<_> = (0..count).map(|index| u8::try_from(index % 251).unwrap()).collect();
        assert!(came.body == expected, "{count}");
        assert_eq!(came.header("content-length"), count.to_string());
    }
}

#[tokio::test]
async fn an_echo_is_what_was_sent_and_a_sink_is_its_digest() {
    let house = House::new().await;
    let sent = vec![7_u8; 300_000];
    let echo = Ask::new("POST /__sim/echo").bytes("text/odd", sent.clone());
    let came = house.ask(echo).await;
    assert_eq!((came.header("content-type"), came.body.len()), ("text/odd", sent.len()));
    let sunk = house.ask(Ask::new("PUT /__sim/sink").bytes("a/b", sent.clone())).await.result();
    let sha256 = hex::encode(digest::digest(&digest::SHA256, &sent));
    assert_eq!(sunk, json!({ "bytes": sent.len(), "sha256": sha256 }));
}

#[tokio::test]
async fn events_come_in_their_number() {
    let house = House::new().await;
    let came = house.ask(Ask::new("GET /__sim/sse/3?interval_ms=1")).await;
    let expected = "id: 1\ndata: {\"n\":1}\n\nid: 2\ndata: {\"n\":2}\n\nid: 3\ndata: {\"n\":3}\n\n\
                    data: [DONE]\n\n";
    assert_eq!(came.text(), expected);
}

#[tokio::test]
async fn headers_come_back_as_they_were_sent() {
    let house = House::new().await;
    let came = house.ask(Ask::new("GET /__sim/headers").header("x-odd", "a, b")).await;
    let pairs = came.result();
    assert!(pairs.as_array().unwrap().contains(&json!(["x-odd", "a, b"])));
}

#[tokio::test]
async fn a_probe_needs_no_token_and_draws_no_quota() {
    let house = House::new().await;
    for _ in 0..3 {
        let ask = Ask::new("GET /__sim/status/204").header("authorization", "");
        assert_eq!(house.ask(ask).await.status.as_u16(), 204);
    }
    let came = house.ask(Ask::new("GET /zones")).await;
    assert_eq!(came.header("ratelimit"), "\"default\";r=1199;t=300");
}

/// Announces a body, and compares the first line that comes before any of it was sent.
async fn announce(path: &str, first_line: &str) {
    let house = House::new().await;
    let mut stream = TcpStream::connect(house.sim.address()).await.expect("it listens");
    let head = format!(
        "PUT /client/v4/__sim/{path} HTTP/1.1\r\nhost: sim\r\ncontent-length: 2\r\n\
         expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut bytes = vec![0; first_line.len()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").expect("it answers");
    assert_eq!(String::from_utf8_lossy(&bytes), first_line);
}

#[tokio::test]
async fn an_announced_body_is_asked_for_or_refused() {
    announce("continue", "HTTP/1.1 100 Continue").await;
    announce("refuse", "HTTP/1.1 417 Expectation Failed").await;
}

#[tokio::test]
async fn trailers_follow_the_body() {
    let house = House::new().await;
    let stream = TcpStream::connect(house.sim.address()).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let mut request = house.request(Ask::new("GET /__sim/trailers").header("te", "trailers"));
    assert_eq!(request.method(), Method::GET);
    *request.uri_mut() = "/client/v4/__sim/trailers".parse().unwrap();
    request.headers_mut().insert("host", "sim".parse().unwrap());
    let answer = async {
        let collected = sender.send_request(request).await.unwrap().collect().await.unwrap();
        collected.trailers().cloned().unwrap()
    };
    let trailers = tokio::select! {
        trailers = answer => trailers,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    };
    assert_eq!(trailers["x-sim-end"], "yes");
}
