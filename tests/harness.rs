//! Starts the real program on free ports, and asks it with the real curl.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::Value;
use tempfile::TempDir;

/// A running demo: one node with two agents in front of the stand-in.
pub(crate) struct Demo {
    child: Child,
    pub(crate) http: String,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) node_pid: u32,
    pub(crate) admin_key: String,
    /// Alice's token.
    pub(crate) token: String,
    /// Where the stand-in listens, over TLS.
    pub(crate) upstream: String,
    pub(crate) data: TempDir,
}

impl Demo {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut child = tollgate()
            .args(["demo", "--ports", "auto", "--output", "json", "--data"])
            .arg(data.path())
            .env_remove("CLOUDFLARE_API_TOKEN")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let line = first_line(&mut child);
        let text = |pointer: &str| {
            let found = line.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_else(|| panic!("no {pointer} in {line}")).to_owned()
        };
        Self {
            http: text("/nodes/0/http"),
            admin: text("/nodes/0/admin"),
            metrics: text("/nodes/0/metrics"),
            node_pid: line
                .pointer("/nodes/0/pid")
                .and_then(Value::as_u64)
                .and_then(|pid| pid.try_into().ok())
                .expect("a pid"),
            admin_key: text("/admin_key"),
            token: text("/agents/0/token"),
            upstream: text("/upstream"),
            child,
            data,
        }
    }

    /// The URL of a path of Cloudflare's API through the article's route.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/ai-cloudflare/client/v4{path}", self.http)
    }

    /// Asks as Alice.
    pub(crate) fn ask(&self, arguments: &[&str], path: &str) -> Answer {
        let bearer = format!("Authorization: Bearer {}", self.token);
        let url = self.url(path);
        curl(&[&["-H", &bearer], arguments, &[&url]].concat())
    }

    /// Asks the Admin API.
    pub(crate) fn administer(&self, arguments: &[&str], path: &str) -> Answer {
        let key = format!("X-API-KEY: {}", self.admin_key);
        let url = format!("http://{}{path}", self.admin);
        curl(&[&["-H", &key], arguments, &[&url]].concat())
    }

    /// What the stand-in saw, as JSON.
    pub(crate) fn arrivals(&self) -> Value {
        curl(&["-k", &format!("https://{}/__sim/log", self.upstream)]).json()
    }

    /// The audit file as it is now.
    pub(crate) fn audit(&self) -> String {
        let path = self.data.path().join("node/audit/audit.jsonl");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Stops the demo as an operator would, and returns whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        signal(self.child.id(), "TERM");
        let ended = wait_for("the demo to end", || self.child.try_wait().expect("its status"));
        ended.success()
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

/// An answer as curl printed it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Runs curl with `-i`; interim answers (100) are passed over.
pub(crate) fn curl(arguments: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-s", "-i", "--path-as-is", "--max-time", "60"]).args(arguments);
    let Output { stdout, stderr, status } = command.output().expect("curl runs");
    assert!(status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).expect("text");
    let mut rest = text.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let first = lines.next().expect("a status line");
        let code = first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        if code < 200 {
            rest = body;
            continue;
        }
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        return Answer { status: code, headers: lines.map(pair).collect(), body: body.to_owned() };
    }
}

/// The program under test.
pub(crate) fn tollgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "no process {pid}");
}

/// Asks again until there is something, for a minute at most.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::start();
    let deadline = clock.uptime().plus(Duration::from_secs(60));
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(clock.uptime() < deadline, "waited a minute for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn first_line(child: &mut Child) -> Value {
    let stdout = child.stdout.take().expect("standard output");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
}
