//! A gate under test: a node on free ports, its doors, its log, its memory and its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use model::{Clock as _, SystemClock, Uptime};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ANY, Audit, Message, announced, at, curl, signal, text_at, tollgate, wait_for};

/// A running node. It begins with an empty document, unless its data directory holds one.
pub(crate) struct Gate {
    child: Child,
    /// Where agents come in.
    pub(crate) http: String,
    /// Where they come in over TLS, if they do.
    pub(crate) https: Option<String>,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) pid: u32,
    /// Its data directory, which holds its log and its settings too.
    pub(crate) data: PathBuf,
    pub(crate) audit: Audit,
    /// The same directory, where it goes away with the gate.
    _own: Option<TempDir>,
}

/// What a gate may be started with besides free ports.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'a> {
    /// Its data directory; without one it has its own, which goes away with it.
    pub(crate) data: Option<&'a Path>,
    /// Its settings file.
    pub(crate) settings: Option<&'a Value>,
    /// Further settings, as on the command line.
    pub(crate) arguments: &'a [&'a str],
    /// Variables of its environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
}

/// How a gate ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) after: Duration,
}

impl Gate {
    /// With nothing but free ports.
    pub(crate) fn start() -> Self {
        Self::with(&Setup::default())
    }

    /// In front of one upstream, to which it carries everything.
    pub(crate) fn before(upstream: &Value) -> Self {
        Self::carrying(upstream, &json!({}), &[])
    }

    /// The same with members of the route, and settings as on the command line. Such a gate has one
    /// core, so that the connection that was kept last is the one used next.
    pub(crate) fn carrying(upstream: &Value, route: &Value, arguments: &[&str]) -> Self {
        let settings = json!({ "cores": 1 });
        let gate = Self::with(&Setup { settings: Some(&settings), arguments, ..Setup::default() });
        gate.carry(upstream, route);
        gate
    }

    /// With all that a test may say of it.
    pub(crate) fn with(setup: &Setup<'_>) -> Self {
        let (data, own) = setup.data.map_or_else(own_directory, |data| (data.to_owned(), None));
        let log = File::options().create(true).append(true).open(data.join(LOG));
        let mut command = tollgate();
        command
            .args(["run", "--announce", "--http", ANY, "--admin", ANY, "--metrics", ANY, "--data"])
            .arg(&data)
            .args(setup.arguments)
            .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
            .envs(setup.variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"));
        if let Some(settings) = setup.settings {
            let file = data.join("settings.yaml");
            std::fs::write(&file, settings.to_string()).expect("the settings are written");
            command.arg("--settings").arg(file);
        }
        let mut child = command.spawn().expect("the gate starts");
        let said = announced(&mut child);
        Self {
            http: text_at(&said, "/http"),
            https: at(&said, "/https").as_str().map(str::to_owned),
            admin: text_at(&said, "/admin"),
            metrics: text_at(&said, "/metrics"),
            pid: child.id(),
            audit: Audit::of(&data),
            data,
            child,
            _own: own,
        }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Asks with curl.
    pub(crate) fn ask(&self, arguments: &[&str], path: &str) -> Message {
        curl(&[arguments, &[&self.url(path)]].concat())
    }

    /// Asks the Admin API.
    pub(crate) fn administer(&self, arguments: &[&str], path: &str) -> Message {
        let key = format!("X-API-KEY: {ADMIN_KEY}");
        curl(&[&["-H", &key], arguments, &[&format!("http://{}{path}", self.admin)]].concat())
    }

    /// Puts a resource below `/apisix/admin/`; the Admin API must take it.
    pub(crate) fn put(&self, path: &str, body: &Value) {
        let arguments = ["-X", "PUT", "-d", &body.to_string()];
        let answer = self.administer(&arguments, &format!("/apisix/admin/{path}"));
        assert!(matches!(answer.status(), 200 | 201), "{path}: {answer}");
    }

    /// Sends every request to one upstream. Both in the Admin API's shape; the route's members are
    /// added to its `uri` and its upstream.
    pub(crate) fn carry(&self, upstream: &Value, route: &Value) {
        self.put("upstreams/only", upstream);
        let mut whole = json!({ "uri": "/*", "upstream_id": "only" });
        let members = whole.as_object_mut().expect("an object");
        members.extend(route.as_object().cloned().unwrap_or_default());
        self.put("routes/only", &whole);
    }

    /// Its numbers, as Prometheus gets them.
    pub(crate) fn numbers(&self) -> String {
        curl(&[&format!("http://{}/metrics", self.metrics)]).text()
    }

    /// What it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.join(LOG)).expect("the log can be read")
    }

    /// The most memory it ever held, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(path).expect("the gate lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kibibytes * 1_024
    }

    /// Makes it read certificates and open its records anew.
    pub(crate) fn reload(&self) {
        signal(self.pid, "HUP");
    }

    /// Tells it to stop, and waits for its end.
    pub(crate) fn stop(&mut self) -> Ended {
        let clock = SystemClock::start();
        signal(self.pid, "TERM");
        let status = self.wait();
        Ended { status, after: clock.uptime().since(Uptime::default()) }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the gate to end", || self.child.try_wait().expect("its status"))
    }

    /// Ends it without a warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is killed");
        drop(self.child.wait());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A new directory, and what makes it go away.
fn own_directory() -> (PathBuf, Option<TempDir>) {
    let own = tempfile::tempdir().expect("a temporary directory");
    (own.path().to_owned(), Some(own))
}

/// The key of every gate's Admin API.
pub(crate) const ADMIN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Where a gate's standard error goes, in its data directory.
const LOG: &str = "stderr.log";
