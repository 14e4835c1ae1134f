//! A connection to the store, checked: a master, of a known run, in a known epoch.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::address::{Address, Host};
use super::key::{LAYOUT, Organisation};
use super::memory::Memory;
use super::script::Script;

/// What it takes to connect.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) address: Address,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) organisation: Organisation,
    pub(crate) memory: Memory,
    /// The epoch in which the store was found to have forgotten something; 0: none.
    pub(crate) forgotten: u64,
    /// The number that the store has to keep, and the life of it that is known to count; 0: none.
    pub(crate) agreed: (u64, u64),
    /// What was found last, while which life was known to count.
    found: (u64, u64),
    /// Owns the tasks that read and write the connections.
    pub(crate) tasks: TaskTracker,
}

/// A connection on which takes may be sent.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: MultiplexedConnection,
    /// The epoch that every call names.
    pub(crate) epoch: u64,
    pub(crate) joined: Joined,
    /// What was agreed on when it was called.
    pub(crate) agreed: (u64, u64),
    pub(crate) host: Host,
    /// Reads and writes until the link is dropped.
    _driver: AbortOnDropHandle<()>,
}

/// How a node came to its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It was there.
    Old,
    /// The store never held one, and this node never knew one: every bucket begins full.
    First,
    /// The store forgot, started again or was replaced: every bucket begins empty.
    Lost,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot connect to {host}")]
    Connect {
        host: Host,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot speak with {host}")]
    Speak {
        host: Host,
        #[source]
        cause: RedisError,
    },
    #[error("{host} did not answer in {} ms", STEP_MAX.as_millis())]
    Late { host: Host },
    #[error("{host} is a replica")]
    Replica { host: Host },
    #[error("{host} says nothing of its run")]
    NoRun { host: Host },
    #[error("{host} counts under number {number}, which the cluster does not know yet")]
    Ahead { host: Host, number: u64 },
    #[error("{host} is written in layout {found} by a later version, and this node knows {LAYOUT}")]
    Layout { host: Host, found: u64 },
    #[error("no Sentinel knows a master `{service}`")]
    NoMaster { service: String },
    #[error("the cluster sent us from node to node and never to the slot")]
    Redirects,
}

impl Dialer {
    /// Knows what the last run of the node knew, where there is a directory.
    pub(crate) fn new(
        address: Address,
        tls: Arc<ClientConfig>,
        organisation: Organisation,
        directory: Option<&Path>,
        tasks: &TaskTracker,
    ) -> Self {
        let memory = Memory::read(directory, &address, &organisation);
        let tasks = tasks.clone();
        Self {
            address,
            tls,
            organisation,
            memory,
            forgotten: 0,
            agreed: (0, 0),
            found: (0, 0),
            tasks,
        }
    }

    /// Connects to the master that holds the organisation's keys, and joins its epoch.
    ///
    /// # Errors
    /// The last thing that went wrong, of all hosts.
    pub(crate) async fn connect(&mut self) -> Result<Link, Error> {
        let candidates = match &self.address.service {
            Some(service) => vec![self.master(service).await?],
            None => self.address.hosts.clone(),
        };
        let mut last = Error::Redirects;
        for host in candidates {
            match self.follow(host).await {
                Ok(link) => {
                    self.memory.keep(link.epoch).await;
                    self.found = (link.epoch, self.agreed.1);
                    return Ok(link);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The life of the store that is known; an older one is not joined.
    fn known(&self) -> u64 {
        match (self.agreed, self.found) {
            ((_, 0), _) => self.memory.epoch(),
            // On a clock that is behind, what begins later may seem older.
            ((_, life), (found, of)) if life == of => life.min(found),
            // What this node found by itself may have been another server's.
            ((_, life), _) => life,
        }
    }

    /// Goes where the nodes of a cluster send us.
    async fn follow(&self, mut host: Host) -> Result<Link, Error> {
        for _ in 0..REDIRECTS_MAX {
            let attached = tokio::time::timeout(STEP_MAX, self.attach(&host)).await;
            match attached.unwrap_or(Err(Error::Late { host: host.clone() })) {
                Err(Error::Speak { cause, .. }) if is_moved(&cause) => {
                    host = moved_to(&cause, &host).ok_or(Error::Redirects)?;
                }
                other => return other,
            }
        }
        Err(Error::Redirects)
    }

    async fn attach(&self, host: &Host) -> Result<Link, Error> {
        let failed = |cause| Error::Speak { host: host.clone(), cause };
        let (mut connection, driver) = self.dial(host, &self.server()).await?;
        let info: String =
            Cmd::new().arg("INFO").query_async(&mut connection).await.map_err(failed)?;
        let info = Info(&info);
        if info.field("role") != Some("master") && info.field("cluster_enabled") != Some("1") {
            return Err(Error::Replica { host: host.clone() });
        }
        let run = info.field("run_id").ok_or_else(|| Error::NoRun { host: host.clone() })?;
        let (number, _) = self.agreed;
        let known = self.known().to_string();
        let [forgotten, asked, layout] =
            [self.forgotten, number, LAYOUT.into()].map(|it| it.to_string());
        let arguments = [
            run.as_bytes(),
            known.as_bytes(),
            forgotten.as_bytes(),
            asked.as_bytes(),
            layout.as_bytes(),
        ];
        let keys =
            [self.organisation.epoch(), self.organisation.number(), self.organisation.layout()];
        let answer = ATTACH.call(&mut connection, &keys, &arguments).await;
        let answer = answer.map_err(failed)?;
        let (epoch, joined) = match joined(&answer) {
            Some((epoch, Came::Joined(joined))) => (epoch, joined),
            Some((found, Came::Foreign)) => {
                return Err(Error::Layout { host: host.clone(), found });
            }
            Some((number, Came::Behind)) => {
                return Err(Error::Ahead { host: host.clone(), number });
            }
            None => return Err(Error::NoRun { host: host.clone() }),
        };
        info.warn_of_eviction(host);
        let host = host.clone();
        Ok(Link { connection, epoch, joined, agreed: self.agreed, host, _driver: driver })
    }

    /// A connection that has shown who we are.
    async fn dial(
        &self,
        host: &Host,
        identity: &RedisConnectionInfo,
    ) -> Result<(MultiplexedConnection, AbortOnDropHandle<()>), Error> {
        let failed = |cause| Error::Connect { host: host.clone(), cause };
        let socket = TcpStream::connect((&*host.name, host.port)).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        if !self.address.is_tls {
            return self.speak(host, identity, socket).await;
        }
        let name = ServerName::try_from(host.name.clone()).map_err(std::io::Error::other);
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let secured = tls.connect(name.map_err(failed)?, socket).await.map_err(failed)?;
        self.speak(host, identity, secured).await
    }

    async fn speak(
        &self,
        host: &Host,
        identity: &RedisConnectionInfo,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(MultiplexedConnection, AbortOnDropHandle<()>), Error> {
        // Deadlines are ours: each call's, and each step's of connecting.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let opened = MultiplexedConnection::new_with_config(identity, stream, config).await;
        let (connection, driver) =
            opened.map_err(|cause| Error::Speak { host: host.clone(), cause })?;
        Ok((connection, AbortOnDropHandle::new(self.tasks.spawn(driver))))
    }

    /// Who we are to the server.
    fn server(&self) -> RedisConnectionInfo {
        let Address { user, password, database, .. } = &self.address;
        let mut info = anonymous().set_db(*database);
        if let Some(user) = user {
            info = info.set_username(user);
        }
        if let Some(password) = password {
            info = info.set_password(password.expose());
        }
        info
    }

    /// The master that the first Sentinel that answers names.
    async fn master(&self, service: &str) -> Result<Host, Error> {
        for sentinel in &self.address.hosts {
            let ask = async {
                let (mut connection, _driver) = self.dial(sentinel, &anonymous()).await?;
                let mut command = Cmd::new();
                command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service);
                let found = command.query_async::<Option<(String, u16)>>(&mut connection).await;
                found.map_err(|cause| Error::Speak { host: sentinel.clone(), cause })
            };
            match tokio::time::timeout(STEP_MAX, ask).await {
                Ok(Ok(Some((name, port)))) => return Ok(Host { name, port }),
                Ok(Err(error)) => tracing::debug!(%error, "a Sentinel does not answer"),
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        Err(Error::NoMaster { service: service.to_owned() })
    }
}

/// Nothing is said of us that a server would need a permission for.
fn anonymous() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

fn is_moved(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::Moved)
}

/// Where a node of a cluster sends us; without a name it means its own.
fn moved_to(error: &RedisError, from: &Host) -> Option<Host> {
    let (target, _) = error.redirect_node()?;
    let (name, port) = target.rsplit_once(':')?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let name = if name.is_empty() { &from.name } else { name };
    Some(Host { name: name.to_owned(), port: port.parse().ok()? })
}

/// What a store answers who attaches.
enum Came {
    Joined(Joined),
    /// It counts under a number that the cluster does not know yet.
    Behind,
    /// It is written in a layout of a later version.
    Foreign,
}

/// The epoch and how it was come to; or the number or the layout that the store keeps.
fn joined(answer: &[u8]) -> Option<(u64, Came)> {
    let (epoch, rest) = answer.split_first_chunk()?;
    let came = match u64::from_le_bytes(rest.try_into().ok()?) {
        0 => Came::Joined(Joined::Old),
        1 => Came::Joined(Joined::First),
        3 => Came::Behind,
        4 => Came::Foreign,
        _ => Came::Joined(Joined::Lost),
    };
    Some((u64::from_le_bytes(*epoch), came))
}

/// What a server says of itself: `name:value`, a line each.
struct Info<'a>(&'a str);

impl<'a> Info<'a> {
    fn field(&self, name: &str) -> Option<&'a str> {
        let lines = self.0.lines().filter_map(|line| line.trim_end().split_once(':'));
        lines.into_iter().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// A server that evicts keys gives tokens away.
    fn warn_of_eviction(&self, host: &Host) {
        let policy = self.field("maxmemory_policy").unwrap_or("noeviction");
        if policy != "noeviction" && self.field("maxmemory") != Some("0") {
            tracing::warn!(
                %host,
                policy,
                "this Redis forgets keys when its memory is full, and limits with them: \
                 set maxmemory-policy to noeviction"
            );
        }
    }
}

static ATTACH: Script = Script::new(include_str!("attach.lua"));

/// For each step of connecting: one host, its handshakes and its epoch.
const STEP_MAX: Duration = Duration::from_secs(1);

/// A cluster that sends us on more often than this is confused.
const REDIRECTS_MAX: usize = 5;
