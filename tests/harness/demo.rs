//! The demo, as a newcomer starts it.

use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{Audit, Message, announced, curl, signal, text_at, tollgate, wait_for};

/// A running demo: one node with two agents in front of the stand-in.
pub(crate) struct Demo {
    child: Child,
    pub(crate) http: String,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) node_pid: u32,
    admin_key: String,
    /// Alice's token.
    pub(crate) token: String,
    /// Where the stand-in listens, over TLS.
    pub(crate) upstream: String,
    pub(crate) audit: Audit,
    data: TempDir,
}

impl Demo {
    /// Starts it on free ports.
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut child = tollgate()
            .args(["demo", "--ports", "auto", "--output", "json", "--data"])
            .arg(data.path())
            .env_remove("CLOUDFLARE_API_TOKEN")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let said = announced(&mut child);
        Self {
            http: text_at(&said, "/nodes/0/http"),
            admin: text_at(&said, "/nodes/0/admin"),
            metrics: text_at(&said, "/nodes/0/metrics"),
            node_pid: said
                .pointer("/nodes/0/pid")
                .and_then(Value::as_u64)
                .and_then(|pid| pid.try_into().ok())
                .expect("a pid"),
            admin_key: text_at(&said, "/admin_key"),
            token: text_at(&said, "/agents/0/token"),
            upstream: text_at(&said, "/upstream"),
            audit: Audit::of(&data.path().join("node")),
            child,
            data,
        }
    }

    /// Where it keeps its files.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The URL of a path of Cloudflare's API through the article's route.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/ai-cloudflare/client/v4{path}", self.http)
    }

    /// Asks as Alice.
    pub(crate) fn ask(&self, arguments: &[&str], path: &str) -> Message {
        let bearer = format!("Authorization: Bearer {}", self.token);
        let url = self.url(path);
        curl(&[&["-H", &bearer], arguments, &[&url]].concat())
    }

    /// Asks the Admin API.
    pub(crate) fn administer(&self, arguments: &[&str], path: &str) -> Message {
        let key = format!("X-API-KEY: {}", self.admin_key);
        let url = format!("http://{}{path}", self.admin);
        curl(&[&["-H", &key], arguments, &[&url]].concat())
    }

    /// What the stand-in saw, as JSON.
    pub(crate) fn arrivals(&self) -> Value {
        curl(&["-k", &format!("https://{}/__sim/log", self.upstream)]).json()
    }

    /// Stops the demo as an operator would, and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        wait_for("the demo to end", || self.child.try_wait().expect("its status"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), "TERM");
            drop(self.child.wait());
        }
    }
}
