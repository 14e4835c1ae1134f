//! A vault as it answers, and as it must not be believed.

use std::net::SocketAddr;
use std::sync::Arc;

use config::{Reference, VaultToken};
use model::Secret;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Place, read};
use crate::secret::Failure;

/// A client that trusts these certificates and no others.
pub(crate) fn client(trusted: &[CertificateDer<'static>]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A reference into a vault at an address.
pub(crate) fn reference(address: SocketAddr) -> Reference {
    let token = Reference::Env { name: "PLAIN".to_owned(), json_key: None };
    Reference::Vault {
        uri: format!("http://{address}"),
        prefix: "kv/gate".to_owned(),
        token: VaultToken::Reference(Box::new(token)),
        namespace: None,
        path: "cloudflare".to_owned(),
        key: "token".to_owned(),
    }
}

/// Answers each connection's one request by its path, and remembers nothing.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, pages: &[(&str, u16, &str)]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let authorised = head.contains("x-vault-token: planted-token\r\n");
    let page = pages.iter().find(|(found, _, _)| *found == path);
    let (status, body) = match page {
        _ if !authorised => (403, r#"{"errors":["permission denied"]}"#),
        Some((_, status, body)) => (*status, *body),
        None => (404, r#"{"errors":[]}"#),
    };
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.ok();
}

async fn ask(
    address: SocketAddr,
    scheme: &str,
    token: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<String, Failure> {
    let place = Place {
        uri: &format!("{scheme}://localhost:{}", address.port()),
        prefix: "kv/gate",
        path: "cloudflare",
        key: "token",
        namespace: None,
        token: &Secret::new(token.to_owned()),
    };
    read(place, tls).await.map(|value| value.expose().clone())
}

/// What a vault with these pages gives.
async fn given(pages: &'static [(&str, u16, &str)], token: &str) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, pages).await;
        }
    });
    ask(address, "http", token, &client(&[])).await
}

async fn check(pages: &'static [(&str, u16, &str)], expected: &str) {
    let given = given(pages, "planted-token").await;
    let shown = match given {
        Ok(value) => value,
        Err(Failure::Absent(why)) => format!("absent: {why}"),
        Err(Failure::Away(why)) => format!("away: {why}"),
    };
    assert_eq!(shown, expected);
}

const V1: &str = "/v1/kv/gate/cloudflare";
const V2: &str = "/v1/kv/data/gate/cloudflare";

#[tokio::test]
async fn version_one_is_read() {
    check(&[(V1, 200, r#"{"data":{"token":"cf-1"}}"#)], "cf-1").await;
}

#[tokio::test]
async fn version_two_is_read() {
    const PAGE: &str = r#"{"data":{"data":{"token":"cf-2"},"metadata":{"version":3}}}"#;
    check(&[(V2, 200, PAGE)], "cf-2").await;
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_absent() {
    check(&[], "absent: vault has no such secret").await;
    check(&[(V1, 200, r#"{"data":{"other":"x"}}"#)], "absent: the secret has no such key").await;
    check(
        &[(V1, 200, r#"{"data":{"token":{"planted":1}}}"#)],
        "absent: the secret's key does not hold text",
    )
    .await;
}

#[tokio::test]
async fn a_vault_in_trouble_is_away() {
    check(&[(V1, 503, "{}")], "away: vault answered 503").await;
    check(&[(V1, 301, "{}")], "away: vault answered 301").await;
    check(&[(V1, 200, "planted")], "away: vault answered no JSON").await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_shown() {
    let refused = given(&[], "planted-other").await.unwrap_err();
    assert_eq!(refused, Failure::Away("vault answered 403".to_owned()));
}

#[tokio::test]
async fn a_vault_that_is_silent_is_away_after_its_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let given = ask(address, "http", "planted-token", &client(&[])).await;
    assert_eq!(given, Err(Failure::Away("vault did not answer in 2 s".to_owned())));
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_refused_before_the_token_is_sent() {
    let names = vec!["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let certificate = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, &[(V1, 200, r#"{"data":{"token":"cf-1"}}"#)]).await;
            }
        }
    });
    let stranger = ask(address, "https", "planted-token", &client(&[])).await;
    assert_eq!(stranger, Err(Failure::Away("vault is not trusted".to_owned())));
    let trusted = ask(address, "https", "planted-token", &client(&[certificate])).await;
    assert_eq!(trusted.as_deref(), Ok("cf-1"));
}
