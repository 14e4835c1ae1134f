//! A node's life: up, told things from outside, and an orderly end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin::DoorTls;
use anyhow::{Context as _, Result};
use ledger::Embedded;
use model::Clock;
use proxy::{Drained, Gate, ServerTls};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agree::Agreement;
use crate::settings::Settings;
use crate::{listen, start};

/// Reads a variable of the environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The parts of a running node that its end needs.
pub(crate) struct Node {
    pub(crate) gate: Gate,
    pub(crate) ledger: Arc<Embedded>,
    /// What speaks to Redis; ends with the gate.
    pub(crate) store: TaskTracker,
    pub(crate) records: audit::Handle,
    pub(crate) recorder: audit::Recorder,
    pub(crate) agreement: Agreement,
    pub(crate) telemetry: telemetry::Telemetry,
    /// What agents see, and what operators see.
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) door_tls: Option<Arc<DoorTls>>,
    pub(crate) doors: TaskTracker,
    pub(crate) stop: Stop,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How the doors are told to close, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// The node is stopping: it is not ready, and operators change nothing any more.
    pub(crate) node: CancellationToken,
    /// The gate has ended: nobody has to ask for readiness any more.
    pub(crate) probes: CancellationToken,
}

/// Where a node can be reached.
pub(crate) struct Addresses {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// Where peers come in; `None` for a node that is alone.
    pub(crate) cluster: Option<SocketAddr>,
}

/// Runs a node until it is told to stop.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let mut signals = Signals::watch()?;
    let (node, addresses) = start::start(&settings).await?;
    let Addresses { http, https, admin, metrics, cluster } = &addresses;
    let shown = |address: &Option<SocketAddr>| address.map(tracing::field::display);
    let (http, https, cluster) = (shown(http), shown(https), shown(cluster));
    tracing::info!(http, https, %admin, %metrics, cluster, "the node is up");
    let told = if settings.announce { announce(&settings, &addresses) } else { Ok(()) };
    if told.is_ok() {
        wait(&mut signals, &settings, &node).await;
    }
    let stopped = stop(node, &settings).await;
    told.and(stopped)
}

/// Tells the parent where the node is.
fn announce(settings: &Settings, addresses: &Addresses) -> Result<()> {
    let text = |address: &Option<SocketAddr>| address.map(|address| address.to_string());
    let line = serde_json::json!({
        "name": settings.node,
        "http": text(&addresses.http),
        "https": text(&addresses.https),
        "admin": addresses.admin.to_string(),
        "metrics": addresses.metrics.to_string(),
        "cluster": text(&addresses.cluster),
        "pid": std::process::id(),
    });
    writeln!(std::io::stdout(), "{line}").context("nobody reads the announcement")
}

/// What the node is told from outside. Watched before it says that it is up: a signal that comes
/// at once must not end it as if nobody cared.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    /// Never waited for: it is watched so that a file that may not grow (`ulimit -f`) is a write
    /// that fails, as on a full disk, and not the end of the node.
    _file_size: Signal,
}

impl Signals {
    fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch a signal");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            reload: watch(SignalKind::hangup())?,
            _file_size: watch(SignalKind::from_raw(nix::libc::SIGXFSZ))?,
        })
    }
}

/// Waits for a signal to stop, and takes those to reload.
async fn wait(signals: &mut Signals, settings: &Settings, node: &Node) {
    let Signals { terminate, interrupt, reload, .. } = signals;
    let mut parent = tokio::io::stdin();
    let mut nothing = [0; 64];
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = reload.recv() => reload_certificates(settings, node),
            read = parent.read(&mut nothing), if settings.announce => {
                if matches!(read, Ok(0) | Err(_)) {
                    return;
                }
            }
        }
    }
}

/// Uses the certificates that stand in the files now, and opens the records anew.
fn reload_certificates(settings: &Settings, node: &Node) {
    node.recorder.reopen();
    tracing::info!("the records are opened anew");
    if let Some(tls) = &node.tls {
        let replaced = start::gateway_pair(settings).and_then(|(chain, key)| {
            tls.replace(chain, key).context("the key does not fit the certificate")
        });
        tell_reloaded("agents", replaced);
    }
    if let (Some(tls), Some(files)) = (&node.door_tls, &settings.admin_tls) {
        tell_reloaded("operators", listen::server(files).map(|config| tls.replace(config)));
    }
    if let Some(replaced) = node.agreement.reload() {
        tell_reloaded("peers", replaced);
    }
}

fn tell_reloaded(seen_by: &str, replaced: Result<()>) {
    match replaced {
        Ok(()) => tracing::info!(seen_by, "the certificate was read again"),
        Err(error) => {
            tracing::error!(seen_by, error = format!("{error:#}"), "the old certificate stays");
        }
    }
}

/// Ends in the order of the traffic: the gate first, then what it writes to. The probes answer
/// until the gate has ended, so that load balancers see that it is going.
async fn stop(node: Node, settings: &Settings) -> Result<()> {
    tracing::info!("the node is stopping");
    node.stop.node.cancel();
    let (gate, notice, drain) = (node.gate, settings.notice, settings.drain);
    let drained = tokio::task::spawn_blocking(move || gate.drain(notice, drain)).await;
    if !matches!(drained, Ok(Drained::Whole)) {
        tracing::warn!(after = ?drain, "requests were cut off");
    }
    node.stop.probes.cancel();
    // What cannot be sent or written in time is said, and must not keep the rest from ending well.
    if let Err(error) = node.records.drain(RECORDS_MAX).await {
        tracing::warn!(%error, "the records did not end well");
    }
    drop(node.recorder);
    node.store.close();
    if tokio::time::timeout(STORE_MAX, node.store.wait()).await.is_err() {
        tracing::warn!("the connection to Redis did not end well");
    }
    let closed = node.ledger.close(node.clock.now(), node.clock.uptime());
    node.doors.close();
    node.doors.wait().await;
    node.agreement.stop().await;
    tracing::info!("the node has stopped");
    node.telemetry.shutdown(TRACES_MAX).await;
    closed.context("the counts are not saved; the next start takes every bucket as empty")
}

/// For the connection to Redis, which nobody uses any more.
const STORE_MAX: Duration = Duration::from_secs(2);

/// For the records that are still to be written.
const RECORDS_MAX: Duration = Duration::from_secs(10);

/// For the traces that are still to be sent.
const TRACES_MAX: Duration = Duration::from_secs(3);
