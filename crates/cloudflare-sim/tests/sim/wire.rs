//! Listening, TLS, and the end.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudflare_sim::{Error, Options, Sim, Tls};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::{Ask, House};

/// Asks over TLS with these protocols and compares what was agreed on.
async fn check(offered: &[&[u8]], agreed: &str) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() };
    let sim = Sim::start(Options { tls: Some(tls), ..Options::default() }).await.unwrap();
    let connector = connector(made.cert.der().clone(), offered);
    let stream = TcpStream::connect(sim.address()).await.unwrap();
    let stream =
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
    let io = TokioIo::new(stream);
    let request =
        Request::get("https://localhost/client/v4/ips").body(Empty::<Bytes>::new()).unwrap();
    let response = if is_h2 {
        let http2 = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = http2.await.unwrap();
        tokio::select! {
            response = sender.send_request(request) => response.unwrap(),
            _ = connection => panic!("the connection ended first"),
        }
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::select! {
            response = sender.send_request(request) => response.unwrap(),
            _ = connection => panic!("the connection ended first"),
        }
    };
    assert_eq!(response.status().as_u16(), 200);
    drop(response.into_body().into_data_stream());
    assert_eq!(sim.log().last().unwrap().version, agreed);
    sim.stop().await;
}

fn connector(trusted: CertificateDer<'static>, offered: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn tls_speaks_what_the_client_offers() {
    check(&[b"h2", b"http/1.1"], "HTTP/2.0").await;
    check(&[b"http/1.1"], "HTTP/1.1").await;
    check(&[], "HTTP/1.1").await;
}

#[tokio::test]
async fn nobody_else_is_listened_to() {
    let options = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(matches!(Sim::start(options).await, Err(Error::NotLoopback(_))));
}

#[tokio::test]
async fn a_taken_address_is_an_error() {
    let first = House::new().await;
    let options = Options { listen: first.sim.address(), ..Options::default() };
    assert!(matches!(Sim::start(options).await, Err(Error::Listen { .. })));
}

#[tokio::test]
async fn a_certificate_that_is_none_is_an_error() {
    let tls = Tls { chain_pem: String::new(), key_pem: "no key".to_owned() };
    let started = Sim::start(Options { tls: Some(tls), ..Options::default() }).await;
    assert!(matches!(started, Err(Error::Pem(_))));
}

#[tokio::test]
async fn after_a_stop_nobody_answers_at_the_address() {
    let house = House::new().await;
    house.ask(Ask::new("GET /ips")).await;
    let address = house.sim.address();
    timeout(Duration::from_secs(10), house.sim.stop()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_dropped_stand_in_ends_its_connections() {
    let house = House::new().await;
    let address = house.sim.address();
    let stream = TcpStream::connect(address).await.unwrap();
    drop(house);
    let mut byte = [0];
    let read = timeout(Duration::from_secs(10), async {
        stream.readable().await.unwrap();
        stream.try_read(&mut byte)
    });
    assert!(!matches!(read.await.unwrap(), Ok(1..)));
}
