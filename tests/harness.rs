//! Starts the real program on free ports, and asks it with the real curl.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::{Value, json};
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

/// A node with an empty document, in front of whatever a test puts there.
pub(crate) struct Node {
    child: Child,
    pub(crate) http: String,
    /// Where agents come in over TLS, if they do.
    pub(crate) https: Option<String>,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) pid: u32,
}

impl Node {
    /// Starts a node on free ports over a data directory. Further settings as on the command line.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut child = tollgate()
            .args(["run", "--announce", "--http", ANY, "--admin", ANY, "--metrics", ANY, "--data"])
            .arg(data)
            .args(arguments)
            .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the node starts");
        let line = first_line(&mut child);
        let text = |pointer: &str| {
            let found = line.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_else(|| panic!("no {pointer} in {line}")).to_owned()
        };
        let https = line.pointer("/https").and_then(Value::as_str).map(str::to_owned);
        let (http, admin, metrics) = (text("/http"), text("/admin"), text("/metrics"));
        Self { pid: child.id(), child, http, https, admin, metrics }
    }

    /// Asks the Admin API.
    pub(crate) fn administer(&self, arguments: &[&str], path: &str) -> Answer {
        let key = format!("X-API-KEY: {ADMIN_KEY}");
        curl(&[&["-H", &key], arguments, &[&format!("http://{}{path}", self.admin)]].concat())
    }

    /// Puts a resource; the Admin API must take it.
    pub(crate) fn put(&self, path: &str, body: &Value) {
        let answer = self.administer(&["-X", "PUT", "-d", &body.to_string()], path);
        assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
    }

    /// Sends every request to one upstream. Both in the Admin API's shape; the route's members are
    /// added to its `uri` and its upstream.
    pub(crate) fn carry(&self, upstream: &Value, route: &Value) {
        self.put("/apisix/admin/upstreams/only", upstream);
        let mut whole = json!({ "uri": "/*", "upstream_id": "only" });
        let members = route.as_object().into_iter().flatten();
        whole
            .as_object_mut()
            .expect("an object")
            .extend(members.map(|(n, v)| (n.clone(), v.clone())));
        self.put("/apisix/admin/routes/only", &whole);
    }

    /// The most memory it ever held, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(path).expect("the node lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kibibytes * 1_024
    }

    /// Ends it without a warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is killed");
        drop(self.child.wait());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A node of one core, so that a kept connection is the one used next, in front of one upstream.
pub(crate) struct Gate {
    pub(crate) node: Node,
    pub(crate) data: TempDir,
}

impl Gate {
    /// Carries everything to an upstream.
    pub(crate) fn before(upstream: &Value) -> Self {
        Self::start(upstream, &json!({}), &[])
    }

    /// The same with members of the route, and settings as on the command line.
    pub(crate) fn start(upstream: &Value, route: &Value, arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let settings = data.path().join("settings.yaml");
        std::fs::write(&settings, "cores: 1\n").expect("the settings are written");
        let settings = settings.to_str().expect("a path in text");
        let node = Node::start(
            &data.path().join("node"),
            &[&["--settings", settings], arguments].concat(),
        );
        node.carry(upstream, route);
        Self { node, data }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.node.http)
    }

    /// Asks with curl.
    pub(crate) fn ask(&self, arguments: &[&str], path: &str) -> Answer {
        curl(&[arguments, &[&self.url(path)]].concat())
    }

    /// The records of a path so far.
    pub(crate) fn records(&self, path: &str) -> Vec<Value> {
        let file = self.data.path().join("node/audit/audit.jsonl");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // A line that is still being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let read = |line| serde_json::from_str::<Value>(line).expect("a record is JSON");
        whole.lines().map(read).filter(|record| at(record, "/path") == path).collect()
    }

    /// The records of so many requests to a path, once they are there.
    pub(crate) fn records_of(&self, path: &str, count: usize) -> Vec<Value> {
        let records = wait_for("the records", || {
            Some(self.records(path)).filter(|records| records.len() >= count)
        });
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }

    /// The record of the only request to a path, once it is there.
    pub(crate) fn record(&self, path: &str) -> Value {
        self.records_of(path, 1).remove(0)
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

    /// The status and the code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let code = at(&self.json(), "/code").as_str().map(str::to_owned);
        (self.status, code.unwrap_or_else(|| panic!("no refusal: {self:?}")))
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

/// What stands in a JSON value at a pointer (RFC 6901); `null` where nothing does.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
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

/// The key of every [`Node`]'s Admin API.
pub(crate) const ADMIN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// A free port on loopback.
const ANY: &str = "127.0.0.1:0";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn first_line(child: &mut Child) -> Value {
    let stdout = child.stdout.take().expect("standard output");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
}
