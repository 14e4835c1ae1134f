//! The main job in one command: real nodes, two agents, the article's route, what to try.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Method;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

mod fleet;
mod node;
mod tell;
mod upstream;

use self::node::Node;
use self::upstream::{API_HOST, Upstream, article_route, upstream};
use crate::args::{Demo, Output};
use crate::commands::{agent, client, token};

/// Runs the demo until it is told to stop.
pub(crate) async fn run(demo: Demo) -> Result<()> {
    std::fs::create_dir_all(&demo.data)
        .with_context(|| format!("cannot create {}", demo.data.display()))?;
    let _lock = lock(&demo.data)?;
    let mut told = Told::watch()?;
    let upstream = upstream(&demo.data).await?;
    let admin_key = agent::random_text::<24>()?;
    let started = tokio::select! {
        started = fleet::start(&demo, &upstream, &admin_key) => Some(started),
        () = told.end() => None,
    };
    let ended = match started {
        Some(Ok(nodes)) => show(&demo, &upstream, &admin_key, nodes, &mut told).await,
        Some(Err(error)) => Err(error),
        // The nodes end with what started them.
        None => Ok(()),
    };
    if let Some(sim) = upstream.sim {
        sim.stop().await;
    }
    ended
}

/// Sets the nodes up, tells what to try, waits, and stops them all.
async fn show(
    demo: &Demo,
    upstream: &Upstream,
    admin_key: &str,
    mut nodes: Vec<Node>,
    told: &mut Told,
) -> Result<()> {
    let set_up = tokio::select! {
        set_up = set_up(demo, upstream, admin_key, &nodes) => Some(set_up),
        () = told.end() => None,
    };
    let ended = match set_up {
        Some(Ok(())) => wait(told, &mut nodes).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    let stopping = nodes.into_iter().map(Node::stop);
    let mut stopped = tokio::task::JoinSet::new();
    stopping.for_each(|stop| drop(stopped.spawn(stop)));
    stopped.join_all().await;
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

async fn set_up(demo: &Demo, upstream: &Upstream, admin_key: &str, nodes: &[Node]) -> Result<()> {
    let server = nodes.first().context("there is no node")?.server();
    let mut agents = Vec::new();
    for name in AGENTS {
        let secret = agent::put(&server, name, None, client::If::Always).await?;
        let token = token::sign(name, &secret, TOKEN_TTL, None)?;
        agents.push(json!({ "id": name, "token": token }));
    }
    // Whichever node is asked next serves it.
    let path = "/apisix/admin/routes/cloudflare-ai-agent?wait=all";
    client::ask(&server, Method::PUT, path, Some(&article_route())).await?;
    let mut out = std::io::stdout();
    match demo.output {
        Output::Json => {
            let at = upstream.sim.as_ref().map(|sim| sim.address().to_string());
            let line = json!({
                "nodes": nodes.iter().map(|node| &node.announced).collect::<Vec<_>>(),
                "admin_key": admin_key,
                "agents": agents,
                "upstream": at.unwrap_or_else(|| API_HOST.to_owned()),
            });
            writeln!(out, "{line}")?;
        }
        Output::Text => {
            let token = agents.first().and_then(|agent| agent.get("token")).and_then(Value::as_str);
            let keys = (admin_key, token.unwrap_or_default());
            writeln!(out, "{}", tell::tell(&demo.data, upstream, nodes, keys))?;
        }
    }
    out.flush()?;
    Ok(())
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

/// Waits until the demo is told to end, or no node is left. Those that were killed are missed by
/// nobody else.
async fn wait(told: &mut Told, nodes: &mut [Node]) -> Result<()> {
    let mut last = None;
    let mut living = nodes.len();
    while living > 0 {
        tokio::select! {
            () = told.end() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        living = 0;
        for node in &mut *nodes {
            match node.has_ended()? {
                Some(status) => last = Some(status),
                None => living += 1,
            }
        }
    }
    match last {
        Some(status) => bail!("the node ended by itself: {status}"),
        None => Ok(()),
    }
}

/// How often it is looked whether a node has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const AGENTS: [&str; 2] = ["alice", "bob"];
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);
