//! A node in a directory of its own, and questions to its door.

use std::sync::Arc;

use admin::{KeyRing, Role};
use axum::Router;
use axum::body::Body;
use cluster::Handle;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use ledger::{Embedded, Ledger};
use model::{NodeName, Secret, SystemClock, SystemEntropy};
use serde_json::Value;
use tower::ServiceExt as _;

pub(crate) const ADMIN: &str = "planted-admin-key";
pub(crate) const VIEWER: &str = "planted-viewer-key";

pub(crate) struct Bench {
    pub(crate) router: Router,
    pub(crate) handle: Handle,
    _task: cluster::Task,
    _dir: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

pub(crate) async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let options = cluster::Options {
        dir: dir.path().to_path_buf(),
        node: NodeName::new("one"),
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
        environment: Arc::new(|_| None),
        vault_tls: Arc::new(tls),
        credentials: Vec::new(),
    };
    let (handle, task) = cluster::open(options).await.unwrap();
    let mut keys = KeyRing::default();
    keys.add("ops", Role::Admin, &Secret::new(ADMIN.to_owned())).unwrap();
    keys.add("eyes", Role::Viewer, &Secret::new(VIEWER.to_owned())).unwrap();
    let router = admin::router(admin::Options {
        cluster: handle.clone(),
        keys: Some(keys),
        ledger: Ledger::embedded(Arc::new(Embedded::in_memory())),
        clock: Arc::new(SystemClock::start()),
    });
    Bench { router, handle, _task: task, _dir: dir }
}

impl Bench {
    /// Asks with the admin's key.
    pub(crate) async fn ask(&self, method: &str, uri: &str, body: &str) -> Answer {
        self.ask_with(method, uri, &[("x-api-key", ADMIN)], body).await
    }

    pub(crate) async fn ask_with(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Writes what a test starts from.
    pub(crate) async fn given(&self, uri: &str, body: &str) {
        let answer = self.ask("PUT", uri, body).await;
        assert!(matches!(answer.status, 200 | 201), "{uri}: {answer:?}");
    }

    /// One answer of the contract: its status, and what its JSON holds at least.
    pub(crate) async fn check(
        &self,
        (method, uri, body): (&str, &str, &str),
        status: u16,
        expected: Value,
    ) {
        let answer = self.ask(method, uri, body).await;
        assert_eq!(answer.status, status, "{method} {uri} {body}: {}", answer.text);
        let found = answer.json();
        assert!(holds(&found, &expected), "{method} {uri}: {found}, not {expected}");
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Whether a value has every member of another, at any depth.
fn holds(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| holds(found, value))),
        (found, expected) => found == expected,
    }
}
