//! A node, put together: the one place that knows every part, and that reads the environment.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ledger::Embedded;
use model::{Clock, Entropy, NodeName, SystemClock, SystemEntropy};
use proxy::{Drained, Gate, Listeners, ServerTls};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen;
use crate::settings::{LogFormat, Role, Settings};

/// Reads a variable of the environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The parts of a running node that its end needs.
struct Node {
    gate: Gate,
    ledger: Arc<Embedded>,
    records: audit::Handle,
    recorder: audit::Recorder,
    cluster: cluster::Task,
    telemetry: telemetry::Telemetry,
    tls: Option<Arc<ServerTls>>,
    doors: TaskTracker,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
}

/// Where a node can be reached.
pub(crate) struct Addresses {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

/// Runs a node until it is told to stop.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let mut signals = Signals::watch()?;
    let (node, addresses) = start(&settings).await?;
    let Addresses { http, https, admin, metrics } = &addresses;
    tracing::info!(?http, ?https, %admin, %metrics, "the node is up");
    if settings.announce {
        announce(&addresses)?;
    }
    wait(&mut signals, &settings, &node).await;
    stop(node, settings.drain).await
}

async fn start(settings: &Settings) -> Result<(Node, Addresses)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let telemetry = start_telemetry(settings)?;
    let data = &settings.data;
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let roots = listen::roots(settings.upstream_ca.as_deref())?;
    let client = rustls::ClientConfig::builder().with_root_certificates(Arc::clone(&roots));
    let (handle, cluster) = cluster::open(cluster::Options {
        dir: data.clone(),
        node: NodeName::new(&settings.node),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        environment: Arc::new(variable),
        vault_tls: Arc::new(client.with_no_client_auth()),
        credentials: settings.credentials.clone(),
    })
    .await?;
    let mut registry = telemetry::prometheus::Registry::new();
    telemetry.register(&mut registry);
    let audit_metrics = audit::Metrics::default();
    audit_metrics.register(&mut registry);
    let options = audit::Options::new(data.join("audit"), &settings.node, Arc::clone(&roots));
    let (recorder, records) = audit::Recorder::start(options, Arc::clone(&clock), audit_metrics)?;
    let ledger = Arc::new(Embedded::open(&data.join("ledger"), clock.now(), clock.uptime())?);
    let tls = gateway_tls(settings)?;
    let gate = Gate::start(&proxy::Options {
        node: NodeName::new(&settings.node),
        listeners: Listeners { http: settings.http, https: settings.https.zip(tls.clone()) },
        cores: settings.cores,
        snapshots: handle.snapshots(),
        ledger: Arc::clone(&ledger),
        recorder: recorder.clone(),
        metrics: proxy::Metrics::register(&mut registry),
        spans: telemetry.spans(),
        sampler: telemetry.sampler(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        roots,
        overrides: settings.overrides.clone(),
    })?;
    let (doors, stop) = (TaskTracker::new(), CancellationToken::new());
    let keys = keys(settings, &*entropy)?;
    let desk =
        admin::Options { cluster: handle.clone(), keys: Some(keys), clock: Arc::clone(&clock) };
    let door_tls = settings.admin_tls.as_ref().map(listen::server).transpose()?;
    let (door, admin) = bind(settings.admin).await?;
    doors.spawn(admin::serve(door, admin::router(desk), door_tls, stop.clone()));
    let probes = admin::probes(admin::Probes {
        why_not_ready: why_not_ready(handle, stop.clone()),
        metrics: Arc::new(move || registry.encode()),
        metrics_type: telemetry::prometheus::CONTENT_TYPE,
    });
    let (door, metrics) = bind(settings.metrics).await?;
    doors.spawn(admin::serve(door, probes, None, stop.clone()));
    let addresses = Addresses { http: gate.http(), https: gate.https(), admin, metrics };
    let node =
        Node { gate, ledger, records, recorder, cluster, telemetry, tls, doors, stop, clock };
    Ok((node, addresses))
}

fn start_telemetry(settings: &Settings) -> Result<telemetry::Telemetry> {
    let format = match settings.log.format {
        Some(LogFormat::Human) => telemetry::log::Format::Human,
        Some(LogFormat::Json) => telemetry::log::Format::Json,
        None if std::io::IsTerminal::is_terminal(&std::io::stderr()) => {
            telemetry::log::Format::Human
        }
        None => telemetry::log::Format::Json,
    };
    let filter = variable("TOLLGATE_LOG").or_else(|| settings.log.filter.clone());
    let started = telemetry::start(&telemetry::Options {
        log: telemetry::log::Options { format, filter },
        variable: &variable,
        version: env!("CARGO_PKG_VERSION"),
        instance: &settings.node,
    });
    started.context("cannot start logs and traces")
}

/// The certificate of the gateway's TLS listener, if there is one.
fn gateway_tls(settings: &Settings) -> Result<Option<Arc<ServerTls>>> {
    if settings.https.is_none() {
        return Ok(None);
    }
    let (chain, key) = gateway_pair(settings)?;
    let tls = ServerTls::new(chain, key).context("the key does not fit the certificate")?;
    Ok(Some(Arc::new(tls)))
}

fn gateway_pair(settings: &Settings) -> Result<listen::Pair> {
    match &settings.tls {
        Some(files) => listen::pair(files),
        None => listen::own_pair(&settings.data),
    }
}

/// The operators' keys. Where none is configured, one is made at the first start, shown once, and
/// kept as a digest.
fn keys(settings: &Settings, entropy: &dyn Entropy) -> Result<admin::KeyRing> {
    let mut ring = admin::KeyRing::default();
    for key in &settings.admin_keys {
        let role = match key.role {
            Role::Admin => admin::Role::Admin,
            Role::Viewer => admin::Role::Viewer,
        };
        let added = ring.add(&key.name, role, &key.secret());
        added.with_context(|| format!("the admin key `{}` cannot be used", key.name))?;
    }
    if ring.is_empty() {
        let kept = made_key(&settings.data.join("admin.key"), entropy)?;
        ring.add("made-at-first-start", admin::Role::Admin, &model::Secret::new(kept))?;
    }
    Ok(ring)
}

fn made_key(path: &Path, entropy: &dyn Entropy) -> Result<String> {
    if path.exists() {
        let kept = std::fs::read_to_string(path);
        let kept = kept.with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(kept.trim().to_owned());
    }
    let (key, kept) = admin::KeyRing::generate(entropy).context("cannot make an admin key")?;
    listen::write_private(path, kept.as_bytes())?;
    // Not by the log, whose filter could swallow it and whose collectors would keep it.
    let told = format!("no admin key is set: made one, shown only now: {}", key.expose());
    writeln!(std::io::stderr(), "{told}").context("nobody can be told the admin key")?;
    Ok(kept)
}

fn why_not_ready(
    cluster: cluster::Handle,
    stop: CancellationToken,
) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    Arc::new(move || {
        let mut reasons = cluster.status().why_not_ready;
        if stop.is_cancelled() {
            reasons.push("the node is stopping".to_owned());
        }
        reasons
    })
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr().context("a listener has no address")?;
    Ok((listener, bound))
}

/// Tells the parent where the node is.
fn announce(addresses: &Addresses) -> Result<()> {
    let text = |address: &Option<SocketAddr>| address.map(|address| address.to_string());
    let line = serde_json::json!({
        "http": text(&addresses.http),
        "https": text(&addresses.https),
        "admin": addresses.admin.to_string(),
        "metrics": addresses.metrics.to_string(),
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
}

impl Signals {
    fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch a signal");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            reload: watch(SignalKind::hangup())?,
        })
    }
}

/// Waits for a signal to stop, and takes those to reload.
async fn wait(signals: &mut Signals, settings: &Settings, node: &Node) {
    let Signals { terminate, interrupt, reload } = signals;
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

/// Uses the certificate that stands in the files now, and opens the records anew.
fn reload_certificates(settings: &Settings, node: &Node) {
    node.recorder.reopen();
    let Some(tls) = &node.tls else { return };
    let replaced = gateway_pair(settings).and_then(|(chain, key)| {
        tls.replace(chain, key).context("the key does not fit the certificate")
    });
    match replaced {
        Ok(()) => tracing::info!("the certificate was read again"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "the old certificate stays"),
    }
}

/// Ends in the order of the traffic: the gate first, then what it writes to.
async fn stop(node: Node, drain: Duration) -> Result<()> {
    tracing::info!("the node is stopping");
    node.stop.cancel();
    let gate = node.gate;
    let drained = tokio::task::spawn_blocking(move || gate.drain(NOTICE, drain)).await;
    if !matches!(drained, Ok(Drained::Whole)) {
        tracing::warn!(after = ?drain, "requests were cut off");
    }
    // What cannot be sent or written in time is said, and must not keep the rest from ending well.
    if let Err(error) = node.records.drain(RECORDS_MAX).await {
        tracing::warn!(%error, "the records did not end well");
    }
    drop(node.recorder);
    let closed = node.ledger.close(node.clock.now(), node.clock.uptime());
    node.doors.close();
    node.doors.wait().await;
    node.cluster.stop().await;
    tracing::info!("the node has stopped");
    node.telemetry.shutdown(TRACES_MAX).await;
    closed.context("the counts are not saved; the next start takes every bucket as empty")
}

/// How long clients are told to leave before connections close.
const NOTICE: Duration = Duration::from_millis(300);

/// For the records that are still to be written.
const RECORDS_MAX: Duration = Duration::from_secs(10);

/// For the traces that are still to be sent.
const TRACES_MAX: Duration = Duration::from_secs(3);
