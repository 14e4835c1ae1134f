//! Reads one key of a HashiCorp Vault key-value engine, version 1 or 2.
//!
//! One request on one connection, which is closed after it: a value is read once in minutes, so a
//! pool would only keep idle connections. Redirects are not followed: the token would go with
//! them. The API is `GET {uri}/v1/{prefix}/{path}` (Vault's HTTP API, "KV secrets engine").

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use model::Secret;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::secret::Failure;

/// Where a value lies, and what opens it.
pub(crate) struct Place<'a> {
    /// The server: `https://vault:8200`.
    pub(crate) uri: &'a str,
    /// The engine's mount, with more of the path if the operator likes.
    pub(crate) prefix: &'a str,
    pub(crate) path: &'a str,
    pub(crate) key: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) token: &'a Secret<String>,
}

/// Reads the value, within the deadline.
pub(crate) async fn read(
    place: Place<'_>,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Secret<String>, Failure> {
    let read = read_either_version(&place, tls);
    tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| {
        Err(Failure::Away(format!("vault did not answer in {} s", DEADLINE.as_secs())))
    })
}

/// Version 2 keeps values under `MOUNT/data/…`. Where version 1 would look, it answers 404, or 403
/// to a token whose policy is written for version 2.
async fn read_either_version(
    place: &Place<'_>,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Secret<String>, Failure> {
    let prefix = place.prefix.trim_matches('/');
    let first = get(place, &format!("/v1/{prefix}/{}", place.path), tls).await?;
    if !matches!(first.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) {
        return first.value(place.key);
    }
    let (mount, rest) = prefix.split_once('/').unwrap_or((prefix, ""));
    if rest == "data" || rest.starts_with("data/") {
        return first.value(place.key);
    }
    let rest = if rest.is_empty() { String::new() } else { format!("{rest}/") };
    let second = get(place, &format!("/v1/{mount}/data/{rest}{}", place.path), tls).await?;
    let answer = if second.status == StatusCode::OK { second } else { first };
    answer.value(place.key)
}

/// What a vault answered.
struct Answer {
    status: StatusCode,
    body: Secret<Vec<u8>>,
}

async fn get(
    place: &Place<'_>,
    path: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Answer, Failure> {
    let base: Uri = place.uri.parse().map_err(|_| absent("the vault's uri is not a URI"))?;
    let host = base.host().ok_or_else(|| absent("the vault's uri names no host"))?;
    let request = request(place, &base, path)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let secure = base.scheme_str() == Some("https");
    let port = base.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((bare, port)).await.map_err(|_| away("cannot be reached"))?;
    if secure {
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| absent("the vault's host is not a name that a certificate can hold"))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(|_| away("is not trusted"))?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    }
}

fn request(place: &Place<'_>, base: &Uri, path: &str) -> Result<Request<Empty<Bytes>>, Failure> {
    let root = base.path().trim_end_matches('/');
    let mut token = HeaderValue::from_str(place.token.expose())
        .map_err(|_| absent("the vault's token cannot stand in a header"))?;
    token.set_sensitive(true);
    let mut request = Request::get(format!("{root}{path}"))
        .header("x-vault-token", token)
        .header("x-vault-request", "true");
    if let Some(authority) = base.authority() {
        request = request.header(http::header::HOST, authority.as_str());
    }
    if let Some(namespace) = place.namespace {
        request = request.header("x-vault-namespace", namespace);
    }
    request.body(Empty::new()).map_err(|_| absent("the secret's path cannot stand in a URI"))
}

/// Sends the request and reads the whole answer; the connection ends with this future.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| away("broke off"))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|_| away("broke off"))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| away("broke off, or answered too much"))?;
        Ok(Answer { status, body: Secret::new(body.to_bytes().to_vec()) })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        done = &mut answer => done,
        // The answer's last bytes may be in the sender's hands when the connection has ended.
        _ = &mut connection => answer.await,
    }
}

impl Answer {
    fn value(&self, key: &str) -> Result<Secret<String>, Failure> {
        match self.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(absent("vault has no such secret")),
            refused => return Err(Failure::Away(format!("vault answered {}", refused.as_u16()))),
        }
        let body: serde_json::Value =
            serde_json::from_slice(self.body.expose()).map_err(|_| away("answered no JSON"))?;
        let data = body.get("data");
        // Version 2 wraps the pairs once more, beside their metadata.
        let wrapped = data.filter(|data| data.get("metadata").is_some());
        let inner = wrapped.and_then(|data| data.get("data"));
        match inner.or(data).and_then(|data| data.get(key)) {
            Some(serde_json::Value::String(text)) => Ok(Secret::new(text.clone())),
            Some(_) => Err(absent("the secret's key does not hold text")),
            None => Err(absent("the secret has no such key")),
        }
    }
}

fn absent(why: &str) -> Failure {
    Failure::Absent(why.to_owned())
}

fn away(what: &str) -> Failure {
    Failure::Away(format!("vault {what}"))
}

/// From the first look-up of the name to the answer's last byte.
const DEADLINE: Duration = Duration::from_secs(2);

/// A longer answer is refused: a secret is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
pub(crate) mod tests;
