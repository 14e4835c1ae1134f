//! A node, put together: the one place that knows every part. What the settings name is read
//! first and the ledger is opened last, so that a start that fails leaves what is saved as it was.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use admin::DoorTls;
use anyhow::{Context as _, Result};
use ledger::{Embedded, Ledger};
use model::{Clock, Entropy, NodeName, SystemClock, SystemEntropy};
use proxy::{Gate, Listeners, ServerTls};
use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::serve::{Addresses, Node, Stop, variable};
use crate::settings::{LogFormat, Role, Settings, Unusable};
use crate::{agree, counts, listen, notify, outage, unresolved};

/// Starts every part.
///
/// # Errors
/// What cannot be had; under [`Unusable`] where the settings are to blame.
pub(crate) async fn start(settings: &Settings) -> Result<(Node, Addresses)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let telemetry = start_telemetry(settings)?;
    let mut named = Named::read(settings).context(Unusable)?;
    let Doors { admin: (admin_door, admin), probes: (probes_door, metrics), peers } =
        Doors::bind(settings).await?;
    let (cluster, given) = (peers.as_ref().map(|(_, address)| *address), (&clock, &entropy));
    let (handle, agreement) = agree::open(settings, peers, &named.roots, given).await?;
    let (keys, tls) = (named.keys_or_made(settings, &*entropy)?, named.tls_or_own(settings)?);
    let mut registry = registry(&telemetry, &handle);
    let (recorder, records) = start_recorder(settings, &named.roots, &clock, &mut registry)?;
    let (directory, place) = (settings.data.join("ledger"), outage::place(&handle, &agreement));
    let own = open_own(&directory, &clock, &mut registry)?;
    let counts = named.counts.among(place);
    let counts = counts.over(&own, &directory, (&clock, &*entropy), &mut registry)?;
    let gate = start_gate(&proxy::Options {
        node: NodeName::new(&settings.node),
        listeners: Listeners { http: settings.http, https: settings.https.zip(tls.clone()) },
        cores: settings.cores,
        snapshots: handle.snapshots(),
        suspensions: handle.suspensions(),
        ledger: counts.ledger.clone(),
        quotas: counts.quotas,
        repeats: counts.repeats,
        recorder: recorder.clone(),
        metrics: proxy::Metrics::register(&mut registry),
        spans: telemetry.spans(),
        sampler: telemetry.sampler(),
        clock: Arc::clone(&clock),
        entropy,
        roots: Arc::clone(&named.roots),
        overrides: settings.overrides.clone(),
    })?;
    let (doors, stop) = (TaskTracker::new(), Stop::default());
    watch_snapshots(&doors, (&handle, &stop, &clock), &counts.ledger);
    let probes = admin::probes(probes(handle.clone(), registry, stop.node.clone()));
    doors.spawn(admin::serve(probes_door, probes, None, stop.probes.clone()));
    let told = (named.roots, handle.snapshots());
    doors.spawn(notify::watch(&counts.ledger, &clock, &settings.node, told, stop.probes.clone()));
    let (keys, ledger, door_tls) = (Some(keys), counts.ledger, named.door_tls);
    let desk = admin::Options { cluster: handle, keys, ledger, clock: Arc::clone(&clock) };
    doors.spawn(admin::serve(admin_door, admin::router(desk), door_tls.clone(), stop.node.clone()));
    let addresses = Addresses { http: gate.http(), https: gate.https(), admin, metrics, cluster };
    let node = Node {
        gate,
        ledger: own,
        store: counts.tasks,
        records,
        recorder,
        agreement,
        telemetry,
        tls,
        door_tls,
        doors,
        stop,
        clock,
    };
    Ok((node, addresses))
}

/// Tells of the secrets that are not resolved, begins money in the fleet's store once there are
/// budgets, and counts there as the cluster agrees.
fn watch_snapshots(
    doors: &TaskTracker,
    (handle, stop, clock): (&cluster::Handle, &Stop, &Arc<dyn Clock>),
    ledger: &Ledger,
) {
    let told = unresolved::tell(&handle.snapshots().borrow(), &BTreeSet::new());
    doors.spawn(unresolved::watch(handle.snapshots(), told, stop.node.clone()));
    if let Some(fleet) = ledger.fleet() {
        doors.spawn(counts::begin_money(handle.snapshots(), fleet.clone(), stop.node.clone()));
        let (handle, clock) = (handle.clone(), Arc::clone(clock));
        doors.spawn(outage::follow(handle, fleet.clone(), clock, stop.probes.clone()));
    }
}

/// What the node counts itself, and what it knows of money.
fn open_own(
    directory: &Path,
    clock: &Arc<dyn Clock>,
    registry: &mut telemetry::prometheus::Registry,
) -> Result<Arc<Embedded>> {
    let own = Embedded::open(directory, clock.now(), clock.uptime())?;
    own.accounts().metrics().register(registry);
    Ok(Arc::new(own))
}

/// The node's numbers, as far as they are everybody's.
fn registry(
    telemetry: &telemetry::Telemetry,
    cluster: &cluster::Handle,
) -> telemetry::prometheus::Registry {
    let mut registry = telemetry::prometheus::Registry::new();
    telemetry.register(&mut registry);
    cluster.register(&mut registry);
    registry
}

/// Where others come in besides agents, bound before anything is opened.
struct Doors {
    admin: (TcpListener, SocketAddr),
    probes: (TcpListener, SocketAddr),
    peers: agree::Peers,
}

impl Doors {
    async fn bind(settings: &Settings) -> Result<Self> {
        let peers = match &settings.member {
            Some(member) => Some(bind(member.listen).await?),
            None => None,
        };
        let (admin, probes) = (bind(settings.admin).await?, bind(settings.metrics).await?);
        Ok(Self { admin, probes, peers })
    }
}

fn start_recorder(
    settings: &Settings,
    roots: &Arc<RootCertStore>,
    clock: &Arc<dyn Clock>,
    registry: &mut telemetry::prometheus::Registry,
) -> Result<(audit::Recorder, audit::Handle)> {
    let metrics = audit::Metrics::default();
    metrics.register(registry);
    let directory = settings.data.join("audit");
    let options = audit::Options::new(directory, &settings.node, Arc::clone(roots));
    Ok(audit::Recorder::start(options, Arc::clone(clock), metrics)?)
}

/// What the settings name, read and checked. Nothing is made or changed for it.
struct Named {
    roots: Arc<RootCertStore>,
    keys: admin::KeyRing,
    /// What agents see, whether or not there is a listener that shows it.
    tls: Option<ServerTls>,
    /// What operators see.
    door_tls: Option<Arc<DoorTls>>,
    counts: counts::Named,
}

impl Named {
    fn read(settings: &Settings) -> Result<Self> {
        let mut keys = admin::KeyRing::default();
        for key in &settings.admin_keys {
            let role = match key.role {
                Role::Admin => admin::Role::Admin,
                Role::Viewer => admin::Role::Viewer,
            };
            let added = keys.add(&key.name, role, &key.secret());
            added.with_context(|| format!("the admin key `{}` cannot be used", key.name))?;
        }
        let tls = match &settings.tls {
            Some(files) => Some(server_tls(listen::pair(files)?)?),
            None => None,
        };
        let door_tls = settings.admin_tls.as_ref().map(listen::server).transpose()?;
        Ok(Self {
            roots: listen::roots(settings.upstream_ca.as_deref())?,
            keys,
            tls,
            door_tls: door_tls.map(|config| Arc::new(DoorTls::new(config))),
            counts: counts::Named::read(settings)?,
        })
    }

    /// The operators' keys. Where none is set, one is made at the first start, shown once, and
    /// kept as a digest.
    fn keys_or_made(
        &mut self,
        settings: &Settings,
        entropy: &dyn Entropy,
    ) -> Result<admin::KeyRing> {
        let mut keys = std::mem::take(&mut self.keys);
        if keys.is_empty() {
            let kept = made_key(&settings.data.join("admin.key"), entropy)?;
            keys.add("made-at-first-start", admin::Role::Admin, &model::Secret::new(kept))?;
        }
        Ok(keys)
    }

    /// The certificate of the agents' TLS listener, if there is one.
    fn tls_or_own(&mut self, settings: &Settings) -> Result<Option<Arc<ServerTls>>> {
        if settings.https.is_none() {
            return Ok(None);
        }
        let tls = match self.tls.take() {
            Some(tls) => tls,
            None => server_tls(listen::own_pair(&settings.data)?)?,
        };
        Ok(Some(Arc::new(tls)))
    }
}

fn server_tls((chain, key): listen::Pair) -> Result<ServerTls> {
    ServerTls::new(chain, key).context("the key does not fit the certificate")
}

/// The certificate that agents see and its key, as they stand in the files now.
pub(crate) fn gateway_pair(settings: &Settings) -> Result<listen::Pair> {
    match &settings.tls {
        Some(files) => listen::pair(files),
        None => listen::own_pair(&settings.data),
    }
}

/// Starts the gate; where that fails, the counts are saved again as they were.
fn start_gate(options: &proxy::Options) -> Result<Gate> {
    Gate::start(options).map_err(|error| {
        let closed = options.ledger.own().close(options.clock.now(), options.clock.uptime());
        if let Err(error) = closed {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(error, "the counts are not saved");
        }
        anyhow::Error::new(error)
    })
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
    started.map_err(|error| {
        let is_ours = match &error {
            telemetry::Error::Variable { .. }
            | telemetry::Error::Filter(_)
            | telemetry::Error::Certificate { .. } => false,
            telemetry::Error::AlreadyStarted
            | telemetry::Error::NoRuntime
            | telemetry::Error::Thread(_)
            | telemetry::Error::Exporter(_) => true,
        };
        let error = anyhow::Error::new(error).context("cannot start logs and traces");
        if is_ours { error } else { error.context(Unusable) }
    })
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

/// What load balancers ask.
fn probes(
    cluster: cluster::Handle,
    registry: telemetry::prometheus::Registry,
    stop: CancellationToken,
) -> admin::Probes {
    admin::Probes {
        why_not_ready: why_not_ready(cluster, stop),
        metrics: Arc::new(move || registry.encode()),
        metrics_type: telemetry::prometheus::CONTENT_TYPE,
    }
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
