//! One node's settings: the file, with the command line over it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster::Home;
use model::Secret;
use serde::Deserialize;

use crate::args::{Run, cluster as args};
use crate::door::Door;
use crate::serve::variable;

/// The settings file. Every member may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    node: Option<String>,
    data: Option<PathBuf>,
    /// `none` for no clear text.
    http: Option<Door>,
    https: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    /// Where a member listens for its peers.
    cluster: Option<SocketAddr>,
    /// `host:port` at which peers reach a member.
    cluster_address: Option<String>,
    /// Threads that carry traffic; by default one a core.
    cores: Option<usize>,
    admin_keys: Vec<AdminKey>,
    /// The certificate agents see.
    tls: Option<Certificate>,
    /// The certificate operators see; without it the Admin API speaks clear text.
    admin_tls: Option<Certificate>,
    resolve: Vec<String>,
    credentials: Vec<String>,
    upstream_ca: Option<PathBuf>,
    /// A URL, or a reference to one.
    redis: Option<String>,
    /// Trusted beside the system's own when speaking to Redis.
    redis_ca: Option<PathBuf>,
    /// Nodes of one organisation share their limits in one Redis.
    organisation: Option<String>,
    log: Log,
    /// Seconds a stopping node gives to the requests it carries.
    drain_seconds: Option<u64>,
    /// Seconds in which a stopping node is not ready and still takes connections.
    notice_seconds: Option<f64>,
}

/// What an error is told under that the settings are to blame for: it ends with 64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unusable;

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the settings cannot be used")
    }
}

/// A key of the Admin API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminKey {
    pub(crate) name: String,
    pub(crate) role: Role,
    key: String,
}

impl AdminKey {
    pub(crate) fn secret(&self) -> Secret<String> {
        Secret::new(self.key.clone())
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Admin,
    Viewer,
}

/// PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `json` or `human`.
    pub(crate) format: Option<LogFormat>,
    /// As in `RUST_LOG`.
    pub(crate) filter: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Json,
    Human,
}

/// How a member of a cluster is reached.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) home: Home,
    pub(crate) listen: SocketAddr,
    /// `host:port`, as its peers know it.
    pub(crate) address: String,
}

/// Where the fleet counts.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) address: ledger::Address,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) organisation: ledger::Organisation,
}

/// What a node runs by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) node: String,
    pub(crate) data: PathBuf,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// `None` for a node that is alone.
    pub(crate) member: Option<Member>,
    pub(crate) cores: usize,
    pub(crate) admin_keys: Vec<AdminKey>,
    pub(crate) tls: Option<Certificate>,
    pub(crate) admin_tls: Option<Certificate>,
    pub(crate) overrides: Vec<proxy::Override>,
    pub(crate) credentials: Vec<config::HostCredential>,
    pub(crate) upstream_ca: Option<PathBuf>,
    /// `None` for a node that counts for itself.
    pub(crate) store: Option<Store>,
    pub(crate) log: Log,
    pub(crate) notice: Duration,
    pub(crate) drain: Duration,
    pub(crate) announce: bool,
}

impl Settings {
    /// The command line over the file over the defaults.
    ///
    /// # Errors
    /// What is wrong, with the place in the file.
    pub(crate) fn read(run: Run) -> Result<Self> {
        let file = match &run.settings {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let mut overrides = run.resolve;
        for text in &file.resolve {
            let read = text.parse().map_err(anyhow::Error::msg);
            overrides.push(read.context("the setting `resolve` is wrong")?);
        }
        let mut credentials = Vec::new();
        for text in run.credential.iter().chain(&file.credentials) {
            let read = text.parse().map_err(anyhow::Error::msg);
            credentials.push(read.context("the setting `credentials` is wrong")?);
        }
        let mut admin_keys = file.admin_keys;
        if let Some(key) = run.admin_key {
            let name = "command-line".to_owned();
            admin_keys.push(AdminKey { name, role: Role::Admin, key });
        }
        let cores = file.cores.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        if !(1..=1_024).contains(&cores) {
            bail!("the setting `cores` is {cores}, which is not from 1 to 1024");
        }
        let http = run.http.or(file.http).unwrap_or(GATEWAY).address();
        let https = run.https.or(file.https);
        if http.is_none() && https.is_none() {
            bail!("the setting `http` is `none` and `https` is not set: no agent could come in");
        }
        let data = run.data.or(file.data).unwrap_or_else(data_by_default);
        let (listen, address) =
            (run.cluster.or(file.cluster), run.cluster_address.or(file.cluster_address));
        let member = member(&data, listen, address)?;
        let store = store(run.redis.or(file.redis), file.redis_ca, file.organisation)?;
        let node = node(run.node.or(file.node), member.as_ref(), &data)?;
        Ok(Self {
            node,
            data,
            member,
            http,
            https,
            admin: run.admin.or(file.admin).unwrap_or(ADMIN),
            metrics: run.metrics.or(file.metrics).unwrap_or(METRICS),
            cores,
            admin_keys,
            tls: file.tls,
            admin_tls: file.admin_tls,
            overrides,
            credentials,
            upstream_ca: run.upstream_ca.or(file.upstream_ca),
            store,
            log: file.log,
            notice: notice(file.notice_seconds)?,
            drain: Duration::from_secs(file.drain_seconds.unwrap_or(30)),
            announce: run.announce,
        })
    }
}

/// Where the fleet counts, if it does. No error repeats a URL, since it may hold a password.
fn store(
    url: Option<String>,
    ca: Option<PathBuf>,
    organisation: Option<String>,
) -> Result<Option<Store>> {
    let organisation = organisation.map(|name| {
        let read = name.parse().map_err(anyhow::Error::new);
        read.with_context(|| format!("the setting `organisation` is wrong: `{name}`"))
    });
    let organisation = organisation.transpose()?.unwrap_or_default();
    let Some(url) = url.map(Secret::new) else { return Ok(None) };
    let url = dereferenced(url).context("the setting `redis` is wrong")?;
    let address = url.expose().parse().context("the setting `redis` is wrong")?;
    Ok(Some(Store { address, ca, organisation }))
}

/// A secret that may be named by a variable or a file.
fn dereferenced(text: Secret<String>) -> Result<Secret<String>> {
    if let Some(name) = text.expose().strip_prefix("$env://") {
        let value = variable(name).with_context(|| format!("the variable {name} is not set"))?;
        return Ok(Secret::new(value));
    }
    if let Some(path) = text.expose().strip_prefix("$secret://file") {
        let read = std::fs::read_to_string(path).map(Secret::new);
        let read = read.with_context(|| format!("cannot read {path}"))?;
        return Ok(Secret::new(read.expose().trim_end().to_owned()));
    }
    Ok(text)
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("the settings file {} is wrong", path.display()))
}

fn data_by_default() -> PathBuf {
    PathBuf::from(".tollgate/data")
}

/// The node's name: a member keeps the one that its certificate has.
fn node(set: Option<String>, member: Option<&Member>, data: &Path) -> Result<String> {
    match (set, member.map(|member| member.home.name.as_str())) {
        (Some(set), Some(own)) if set != own => {
            bail!("the setting `node` is {set}, but {} is that of the member {own}", data.display())
        }
        (_, Some(own)) => Ok(own.to_owned()),
        (set, None) => Ok(set.unwrap_or_else(hostname)),
    }
}

/// How the node is reached by its peers, if its data directory makes it a member.
fn member(
    data: &Path,
    listen: Option<SocketAddr>,
    address: Option<String>,
) -> Result<Option<Member>> {
    let Some(home) = Home::read(data)? else {
        if listen.is_some() || address.is_some() {
            bail!(
                "the setting `cluster` is set, but {} is no member's: `tollgate cluster init` or \
                 `tollgate cluster join` makes it one",
                data.display()
            );
        }
        return Ok(None);
    };
    let address = address.unwrap_or_else(|| home.address.clone());
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let Some(port) = port.filter(|_| cluster::grpc::is_address(&address)) else {
        bail!("the setting `cluster_address` is `{address}`, which is not HOST:PORT");
    };
    let everywhere: IpAddr = match address.parse() {
        // Nobody else could come in there anyway.
        Ok(own) if SocketAddr::ip(&own).is_loopback() => own.ip(),
        Ok(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let listen = listen.unwrap_or_else(|| SocketAddr::new(everywhere, port));
    Ok(Some(Member { home, listen, address }))
}

/// Where a node that does not run keeps its data, and who it is to be.
pub(crate) struct Site {
    pub(crate) data: PathBuf,
    pub(crate) node: String,
    pub(crate) address: Option<String>,
}

/// What of a node's settings counts while it does not run.
///
/// # Errors
/// What is wrong, with the place in the file.
pub(crate) fn site(site: &args::Site) -> Result<Site> {
    let file = match &site.settings {
        Some(path) => read(path)?,
        None => File::default(),
    };
    Ok(Site {
        data: site.data.clone().or(file.data).unwrap_or_else(data_by_default),
        node: site.node.clone().or(file.node).unwrap_or_else(hostname),
        address: site.address.clone().or(file.cluster_address),
    })
}

fn notice(seconds: Option<f64>) -> Result<Duration> {
    let Some(seconds) = seconds else { return Ok(NOTICE) };
    let notice = Duration::try_from_secs_f64(seconds).ok().filter(|notice| *notice <= NOTICE_MAX);
    notice.with_context(|| {
        format!("the setting `notice_seconds` is {seconds}, which is not from 0 to 3600")
    })
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "tollgate".to_owned())
}

/// How long a stopping node is not ready before it takes no further connection.
const NOTICE: Duration = Duration::from_millis(300);
const NOTICE_MAX: Duration = Duration::from_secs(3_600);

const GATEWAY: Door = Door::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9080));
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9091);
