//! The main job in one command: a real node, two agents, the article's route, what to try.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloudflare_sim::Sim;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Demo, Output, Ports, Server};
use crate::commands::{agent, client, token};
use crate::{listen, serve};

/// What stands where Cloudflare's API is asked for.
struct Upstream {
    /// `None` for the real one.
    sim: Option<Sim>,
    ca: Option<PathBuf>,
    token: String,
}

/// Runs the demo until it is told to stop.
pub(crate) async fn run(demo: Demo) -> Result<()> {
    std::fs::create_dir_all(&demo.data)
        .with_context(|| format!("cannot create {}", demo.data.display()))?;
    let _lock = lock(&demo.data)?;
    let mut told = Told::watch()?;
    let upstream = upstream(&demo.data).await?;
    let admin_key = agent::random_text::<24>()?;
    let mut child = start_node(&demo, &upstream, &admin_key)?;
    // Waiting for a child closes its standard input, which would tell the node to stop.
    let leash = child.stdin.take();
    let started = tokio::select! {
        started = set_up(&demo, &upstream, &admin_key, &mut child) => Some(started),
        () = told.end() => None,
    };
    let ended = match started {
        Some(Ok(())) => wait(&mut told, &mut child).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    drop(leash);
    stop(child).await;
    if let Some(sim) = upstream.sim {
        sim.stop().await;
    }
    ended
}

/// Keeps a second demo away from the files of a running one, until the file is dropped.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let opened = File::options().create(true).append(true).open(&path);
    let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another demo runs in {}; choose another place with --data", data.display())
        }
        Err(TryLockError::Error(cause)) => {
            Err(cause).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The real API where there is a token for it; else the stand-in, over TLS under its own CA.
async fn upstream(data: &Path) -> Result<Upstream> {
    if let Some(token) = serve::variable(TOKEN_VARIABLE).filter(|token| !token.is_empty()) {
        return Ok(Upstream { sim: None, ca: None, token });
    }
    let made = rcgen::generate_simple_self_signed(vec![API_HOST.to_owned()])
        .context("cannot make the stand-in's certificate")?;
    let ca = data.join("stand-in.pem");
    listen::write_private(&ca, made.cert.pem().as_bytes())?;
    let tls = cloudflare_sim::Tls {
        chain_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    };
    let options = cloudflare_sim::Options { tls: Some(tls), ..cloudflare_sim::Options::default() };
    let sim = Sim::start(options).await.context("cannot start the stand-in")?;
    let token = cloudflare_sim::DEFAULT_TOKEN.to_owned();
    Ok(Upstream { sim: Some(sim), ca: Some(ca), token })
}

/// The node is a process of its own, and ends when this one does.
fn start_node(demo: &Demo, upstream: &Upstream, admin_key: &str) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let mut command = Command::new(program);
    let data = demo.data.join("node");
    command.args(["run", "--announce", "--data"]).arg(&data);
    command.args(["--credential", &format!("{API_HOST}=$env://{TOKEN_VARIABLE}")]);
    if demo.ports == Ports::Auto {
        let any = "127.0.0.1:0";
        command.args(["--http", any, "--admin", any, "--metrics", any]);
    } else {
        command.args(["--http", "127.0.0.1:9080"]);
    }
    if let (Some(sim), Some(ca)) = (&upstream.sim, &upstream.ca) {
        let resolve = format!("{API_HOST}:443={}", sim.address());
        command.args(["--resolve", &resolve, "--upstream-ca"]).arg(ca);
    }
    command.env(TOKEN_VARIABLE, &upstream.token).env("TOLLGATE_ADMIN_KEY", admin_key);
    let log = File::options()
        .create(true)
        .append(true)
        .open(demo.data.join("node.log"))
        .with_context(|| format!("cannot write a log in {}", demo.data.display()))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    command.spawn().context("cannot start the node")
}

async fn set_up(
    demo: &Demo,
    upstream: &Upstream,
    admin_key: &str,
    child: &mut Child,
) -> Result<()> {
    let announced = announcement(demo, child).await?;
    let text = |name: &str| announced.get(name).and_then(Value::as_str).unwrap_or_default();
    let server = Server {
        server: format!("http://{}", text("admin")),
        admin_key: Some(admin_key.to_owned()),
        ca: None,
        output: Output::Text,
    };
    let mut agents = Vec::new();
    for name in AGENTS {
        let secret = agent::put(&server, name, None, client::If::Always).await?;
        let token = token::sign(name, &secret, TOKEN_TTL, None)?;
        agents.push(json!({ "id": name, "token": token }));
    }
    let path = "/apisix/admin/routes/cloudflare-ai-agent";
    client::ask(&server, Method::PUT, path, Some(&article_route())).await?;
    let mut out = std::io::stdout();
    match demo.output {
        Output::Json => {
            let node = json!({
                "http": text("http"),
                "admin": text("admin"),
                "metrics": text("metrics"),
                "pid": announced.get("pid"),
            });
            let at = upstream
                .sim
                .as_ref()
                .map_or_else(|| API_HOST.to_owned(), |sim| sim.address().to_string());
            let line = json!({
                "nodes": [node],
                "admin_key": admin_key,
                "agents": agents,
                "upstream": at,
            });
            writeln!(out, "{line}")?;
        }
        Output::Text => {
            let token = agents.first().and_then(|agent| agent.get("token")).and_then(Value::as_str);
            let told = tell(demo, upstream, &announced, admin_key, token.unwrap_or_default());
            writeln!(out, "{told}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The node's first line, or what its log says of why there is none.
async fn announcement(demo: &Demo, child: &mut Child) -> Result<Value> {
    let stdout = child.stdout.take().context("the node has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(START_MAX, lines.next_line()).await;
    match line {
        Ok(Ok(Some(line))) => serde_json::from_str(&line).context("the node announced nonsense"),
        _ => {
            let log = demo.data.join("node.log");
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let mut last: Vec<&str> = said.lines().rev().take(3).collect();
            last.reverse();
            bail!("the node did not start; the end of {}:\n{}", log.display(), last.join("\n"))
        }
    }
}

/// The article's route as printed. The real credential belongs to the API's host, on the node.
fn article_route() -> Value {
    json!({
        "uri": "/ai-cloudflare/*",
        "name": "AI Agent Cloudflare Proxy",
        "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"],
        "upstream": {
            "type": "roundrobin",
            "nodes": { "api.cloudflare.com:443": 1 },
            "scheme": "https",
        },
        "plugins": {
            "limit-req": {
                "rate": 10, "burst": 5, "key": "remote_addr",
                "rejected_code": 429, "allow_degradation": true,
            },
            "proxy-rewrite": { "regex_uri": ["^/ai-cloudflare/(.*)", "/$1"] },
            "jwt-auth": {},
            "syslog": { "host": "127.0.0.1", "port": 514, "log_format": "json" },
        },
    })
}

fn tell(demo: &Demo, upstream: &Upstream, node: &Value, admin_key: &str, token: &str) -> String {
    let at = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (http, admin, metrics) = (at("http"), at("admin"), at("metrics"));
    let audit = demo.data.join("node/audit/audit.jsonl");
    let audit = audit.display();
    let behind = match &upstream.sim {
        Some(sim) => format!("the stand-in for {API_HOST} at {}", sim.address()),
        None => format!("{API_HOST} itself, with the token of ${TOKEN_VARIABLE}"),
    };
    let call = format!("http://{http}/ai-cloudflare/client/v4");
    format!(
        "tollgate carries agents' calls at http://{http} to {behind}.\n\
         In another terminal:\n\n\
         export TOKEN={token}\n\n\
         # A call goes through; the agent never sees the real credential.\n\
         curl -i -H \"Authorization: Bearer $TOKEN\" {call}/user/tokens/verify\n\n\
         # Of twenty at once, six are served in turn, ten a second; the rest get 429.\n\
         seq 20 | xargs -P 20 -I{{}} curl -s -o /dev/null -w '%{{http_code}}\\n' \
         -H \"Authorization: Bearer $TOKEN\" {call}/zones | sort | uniq -c\n\n\
         # What was recorded of them.\n\
         tail -n 3 {audit}\n\n\
         # The rules, and the numbers.\n\
         curl -H \"X-API-KEY: {admin_key}\" http://{admin}/apisix/admin/routes\n\
         curl -s http://{metrics}/metrics | grep tollgate_requests\n\n\
         Ctrl-C ends it."
    )
}

/// Signals that end the demo. Watched from the beginning: one that comes while it starts, or
/// right after its first line, must still end it in order.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch a signal");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn end(&mut self) {
        let Self { terminate, interrupt } = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

async fn wait(told: &mut Told, child: &mut Child) -> Result<()> {
    tokio::select! {
        () = told.end() => Ok(()),
        ended = child.wait() => bail!("the node ended by itself: {}", ended?),
    }
}

/// Waits for a node that was told to drain by the end of its standard input.
async fn stop(mut child: Child) {
    if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
        // It would be killed when dropped anyway; this waits for it.
        let _killed = child.kill().await;
    }
}

const API_HOST: &str = "api.cloudflare.com";
const TOKEN_VARIABLE: &str = "CLOUDFLARE_API_TOKEN";
const AGENTS: [&str; 2] = ["alice", "bob"];
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(40);
