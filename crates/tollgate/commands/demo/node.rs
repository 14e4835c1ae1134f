//! One node of the demo: a process of its own, which ends when the demo does.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::upstream::{API_HOST, TOKEN_VARIABLE, Upstream};
use crate::args::{Demo, Output, Ports, Server};

/// A node that runs.
pub(super) struct Node {
    child: Child,
    /// Waiting for a child closes its standard input, which would tell the node to stop.
    _leash: Option<ChildStdin>,
    /// What it said of itself when it was up.
    pub(super) announced: Value,
    admin_key: String,
}

/// The number of a node, and where its things lie.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// From 0.
    pub(super) number: u16,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
}

impl Plan {
    /// The plans of all nodes of a demo.
    pub(super) fn all(demo: &Demo) -> Vec<Self> {
        if demo.nodes == 1 {
            let (data, log) = (demo.data.join("node"), demo.data.join("node.log"));
            return vec![Self { number: 0, data, log }];
        }
        let plan = |number: u16| {
            let name = format!("node-{}", number + 1);
            let (data, log) = (demo.data.join(&name), demo.data.join(format!("{name}.log")));
            Self { number, data, log }
        };
        (0..).take(demo.nodes).map(plan).collect()
    }

    /// A port of this node, by the first node's.
    pub(super) const fn port(&self, first: u16) -> u16 {
        first + 2 * self.number
    }
}

impl Node {
    /// Starts a node and waits until it is up.
    pub(super) async fn start(
        demo: &Demo,
        upstream: &Upstream,
        admin_key: &str,
        plan: &Plan,
    ) -> Result<Self> {
        let mut child = spawn(demo, upstream, admin_key, plan)?;
        let leash = child.stdin.take();
        let announced = announcement(plan, &mut child).await?;
        Ok(Self { child, _leash: leash, announced, admin_key: admin_key.to_owned() })
    }

    /// A part of what it said of itself.
    pub(super) fn text(&self, name: &str) -> &str {
        self.announced.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its Admin API.
    pub(super) fn server(&self) -> Server {
        Server {
            server: format!("http://{}", self.text("admin")),
            admin_key: Some(self.admin_key.clone()),
            ca: None,
            output: Output::Text,
        }
    }

    /// How it ended, if it has.
    pub(super) fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot look after a node")
    }

    /// Tells it to drain, by the end of its standard input, and waits for its end.
    pub(super) async fn stop(self) {
        let Self { mut child, _leash: leash, .. } = self;
        drop(leash);
        if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
            // It would be killed when dropped anyway; this waits for it.
            let _killed = child.kill().await;
        }
    }
}

fn spawn(demo: &Demo, upstream: &Upstream, admin_key: &str, plan: &Plan) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let mut command = Command::new(program);
    command.args(["run", "--announce", "--data"]).arg(&plan.data);
    command.args(["--credential", &format!("{API_HOST}=$env://{TOKEN_VARIABLE}")]);
    for (flag, port) in [("--http", 9080), ("--admin", 9180), ("--metrics", 9091)] {
        let port = if demo.ports == Ports::Auto { 0 } else { plan.port(port) };
        command.args([flag, &format!("127.0.0.1:{port}")]);
    }
    if let (Some(sim), Some(ca)) = (&upstream.sim, &upstream.ca) {
        let resolve = format!("{API_HOST}:443={}", sim.address());
        command.args(["--resolve", &resolve, "--upstream-ca"]).arg(ca);
    }
    command.env(TOKEN_VARIABLE, &upstream.token).env("TOLLGATE_ADMIN_KEY", admin_key);
    if let Some(redis) = &demo.redis {
        // Not as an argument, which others on the machine could read.
        command.env("TOLLGATE_REDIS", redis);
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(&plan.log)
        .with_context(|| format!("cannot write a log at {}", plan.log.display()))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    command.spawn().context("cannot start the node")
}

/// The node's first line, or what its log says of why there is none.
async fn announcement(plan: &Plan, child: &mut Child) -> Result<Value> {
    let stdout = child.stdout.take().context("the node has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(START_MAX, lines.next_line()).await;
    if let Ok(Ok(Some(line))) = line {
        return serde_json::from_str(&line).context("the node announced nonsense");
    }
    let said = std::fs::read_to_string(&plan.log).unwrap_or_default();
    let mut last: Vec<&str> = said.lines().rev().take(3).collect();
    last.reverse();
    bail!("the node did not start; the end of {}:\n{}", plan.log.display(), last.join("\n"))
}

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(40);
