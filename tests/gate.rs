//! A node whose environment is chosen, whose log is kept and whose end is watched.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::Value;

use crate::harness::{ADMIN_KEY, Answer, curl, first_line, signal, tollgate, wait_for};

/// A node with an empty document.
pub(crate) struct Gate {
    child: Child,
    pub(crate) http: String,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) pid: u32,
    pub(crate) data: PathBuf,
}

/// How a node ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) after: Duration,
}

impl Gate {
    /// Starts a node on free ports over a data directory, with further settings as on the command
    /// line and variables of its environment.
    pub(crate) fn start(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(data.join(LOG));
        let mut child = tollgate()
            .args(["run", "--announce", "--http", ANY, "--admin", ANY, "--metrics", ANY, "--data"])
            .arg(data)
            .args(arguments)
            .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("the node starts");
        let line = first_line(&mut child);
        let text = |name: &str| {
            let found = line.get(name).and_then(Value::as_str);
            found.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
        };
        Self {
            http: text("http"),
            admin: text("admin"),
            metrics: text("metrics"),
            pid: child.id(),
            data: data.to_owned(),
            child,
        }
    }

    /// Asks the Admin API.
    pub(crate) fn administer(&self, arguments: &[&str], path: &str) -> Answer {
        let key = format!("X-API-KEY: {ADMIN_KEY}");
        curl(&[&["-H", &key], arguments, &[&format!("http://{}{path}", self.admin)]].concat())
    }

    /// Puts a resource below `/admin/`; the Admin API must take it.
    pub(crate) fn put(&self, path: &str, body: &Value) {
        let answer = self.try_put(path, body);
        assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
    }

    /// Puts a resource below `/admin/`, and says what the Admin API said.
    pub(crate) fn try_put(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.administer(&["-X", "PUT", "-d", &body], &format!("/apisix/admin/{path}"))
    }

    /// The URL of a path of the gateway.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// What the node wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.join(LOG)).expect("the log can be read")
    }

    /// The numbers of the node, as Prometheus gets them.
    pub(crate) fn numbers(&self) -> String {
        curl(&[&format!("http://{}/metrics", self.metrics)]).body
    }

    /// Makes it read certificates and open its records anew.
    pub(crate) fn reload(&self) {
        signal(self.pid, "HUP");
    }

    /// Tells it to stop, and waits for its end.
    pub(crate) fn stop(&mut self) -> Ended {
        let clock = SystemClock::start();
        signal(self.pid, "TERM");
        let status = wait_for("the node to end", || self.child.try_wait().expect("its status"));
        Ended { status, after: clock.uptime().since(model::Uptime::default()) }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where a node's standard error goes, in its data directory.
const LOG: &str = "stderr.log";

/// A free port on loopback.
const ANY: &str = "127.0.0.1:0";
