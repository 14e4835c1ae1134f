//! A client of the Admin API: one request, one connection.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::args::Server;
use crate::listen;

/// When a write is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum If {
    Always,
    /// Only if nothing of this name is there.
    New,
}

/// The Admin API said no.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// What it said, for people.
    text: String,
}

impl Refused {
    /// Whether what was asked for is not there.
    pub(crate) fn is_absent(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.text.ends_with("not found")
    }
}

/// Asks the Admin API; a refusal is a [`Refused`].
pub(crate) async fn ask(
    server: &Server,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    ask_if(server, method, path, body, If::Always).await
}

/// The same, under a condition.
pub(crate) async fn ask_if(
    server: &Server,
    method: Method,
    path: &str,
    body: Option<&Value>,
    condition: If,
) -> Result<Value> {
    let mut request = Request::builder().method(method).uri(path);
    if condition == If::New {
        request = request.header(header::IF_NONE_MATCH, "*");
    }
    let asked = tokio::time::timeout(DEADLINE, exchange(server, request, body)).await;
    let asked = asked.with_context(|| format!("{} did not answer in time", server.server))?;
    let (status, answer) = asked.with_context(|| format!("cannot ask {}", server.server))?;
    if !status.is_success() {
        bail!(Refused { status, text: refusal(status, &answer) });
    }
    Ok(answer)
}

/// A refusal for people: the message, and each fault with its place.
fn refusal(status: StatusCode, answer: &Value) -> String {
    let said = answer.get("error_msg").or_else(|| answer.get("message")).and_then(Value::as_str);
    let mut text = format!("{}: {}", status.as_u16(), said.unwrap_or("no reason given"));
    for fault in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
        text.extend(["\n  ", part("path"), ": ", part("message")]);
    }
    text
}

async fn exchange(
    server: &Server,
    request: http::request::Builder,
    body: Option<&Value>,
) -> Result<(StatusCode, Value)> {
    let base: Uri = server.server.trim_end_matches('/').parse().context("is not a URL")?;
    let host = base.host().context("names no host")?;
    let is_tls = base.scheme_str() == Some("https");
    let port = base.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let text = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let authority = base.authority().context("names no host")?.as_str();
    let mut request = request.header(header::HOST, authority);
    if let Some(key) = &server.admin_key {
        request = request.header("x-api-key", key);
    }
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Full::new(text))?;
    if !is_tls {
        return send(stream, request).await;
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(listen::roots(server.ca.as_deref())?);
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let name = ServerName::try_from(host.to_owned()).context("is no name for TLS")?;
    send(connector.connect(name, stream).await?, request).await
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Value)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        let answer = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        Ok((status, answer))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}

/// For a whole exchange.
const DEADLINE: Duration = Duration::from_secs(45);

/// The longest answer that is read.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
