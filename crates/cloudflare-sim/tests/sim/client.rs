//! A stand-in and a client of it, each test with its own.
use std::time::Duration;

use bytes::Bytes;
use cloudflare_sim::{DEFAULT_TOKEN, Options, Sim};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// A stand-in and a client.
pub(crate) struct House {
    pub(crate) sim: Sim,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What was missing when nothing came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection failed before the head, or spoke no HTTP.
    Head,
    /// The head came, the body did not to its end.
    End,
    /// Nothing came in time.
    Time,
}

/// One request, as it is put together.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    /// `GET /zones`, behind `/client/v4` unless it begins with `//`. `{account}` and `{zone}` stand
    /// for the identifiers of what the stand-in starts with.
    pub(crate) fn new(line: &str) -> Self {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let path = match path.strip_prefix('/').filter(|rest| rest.starts_with('/')) {
            Some(outside) => outside.to_owned(),
            None => format!("/client/v4{path}"),
        };
        let method = method.parse().expect("a method");
        let headers = vec![("authorization".to_owned(), format!("Bearer {DEFAULT_TOKEN}"))];
        Self { method, path, headers, body: Bytes::new() }
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        Self { body: body.to_string().into(), ..self }.header("content-type", "application/json")
    }

    pub(crate) fn bytes(self, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }.header("content-type", content_type)
    }

    /// Sets a header, or takes it away when `value` is empty.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

impl Came {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn result(&self) -> Value {
        self.json().get("result").cloned().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The status, and the code of the first error: `404 81044`.
    pub(crate) fn verdict(&self) -> String {
        let json = self.json();
        match json.pointer("/errors/0/code") {
            Some(code) => format!("{} {code}", self.status.as_u16()),
            None => self.status.as_u16().to_string(),
        }
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let sim = Sim::start(options).await.expect("a loopback port is free");
        Self { sim, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Asks, and expects an answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Came {
        self.try_ask(ask, PATIENCE).await.expect("an answer")
    }

    /// Asks, and tells what went wrong. After `patience` it is given up.
    pub(crate) async fn try_ask(&self, ask: Ask, patience: Duration) -> Result<Came, Lost> {
        timeout(patience, self.carry(ask)).await.unwrap_or(Err(Lost::Time))
    }

    async fn carry(&self, ask: Ask) -> Result<Came, Lost> {
        let response = self.client.request(self.request(ask)).await.map_err(|_| Lost::Head)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Lost::End)?.to_bytes();
        Ok(Came { status: head.status, headers: head.headers, body })
    }

    /// The request as it goes on the wire.
    pub(crate) fn request(&self, ask: Ask) -> Request<Full<Bytes>> {
        let path = self.filled(&ask.path);
        let mut request = Request::new(Full::new(ask.body));
        *request.method_mut() = ask.method;
        let uri = format!("http://{}{path}", self.sim.address());
        *request.uri_mut() = uri.parse().expect("an address and a path");
        for (name, value) in ask.headers {
            let name = http::HeaderName::try_from(name).expect("a header's name");
            request.headers_mut().append(name, value.parse().expect("a header's value"));
        }
        request
    }

    fn filled(&self, path: &str) -> String {
        let zone = self.sim.zone_id("example.com").unwrap_or_default();
        path.replace("{account}", &self.sim.account_id()).replace("{zone}", &zone)
    }
}

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
