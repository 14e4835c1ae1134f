//! The gate: a thread and a runtime a core, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ledger::repeat::Repeats;
use ledger::{Embedded, Ledger, Quotas};
use model::{Clock, Entropy, NodeName};
use rules::Snapshot;
use rules::suspension::Suspensions;
use socket2::{Domain, Protocol, Socket, Type};
use telemetry::context::Sampler;
use telemetry::trace::Spans;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Closing, Door, listen};
use crate::connect::Connector;
use crate::core::{Core, Shared};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::resolve::{Override, Resolver};
use crate::tls::{ClientTls, Roots, ServerTls};

/// What a gate is made of.
pub struct Options {
    pub node: NodeName,
    pub listeners: Listeners,
    /// Threads that carry traffic, each with a runtime and connections of its own.
    pub cores: usize,
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Who may do nothing for now.
    pub suspensions: watch::Receiver<Arc<Suspensions>>,
    pub ledger: Ledger,
    pub quotas: Quotas,
    /// What is remembered of requests that may be repeated.
    pub repeats: Repeats,
    pub recorder: audit::Recorder,
    pub metrics: Metrics,
    pub spans: Option<Spans>,
    pub sampler: Sampler,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub roots: Roots,
    pub overrides: Vec<Override>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// Where the gate listens. Port 0 picks a free one.
#[derive(Clone, Debug)]
pub struct Listeners {
    pub http: Option<SocketAddr>,
    pub https: Option<(SocketAddr, Arc<ServerTls>)>,
}

/// Why the gate cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("cannot start a core's thread")]
    Thread(#[source] io::Error),
    #[error("cannot read random bytes")]
    Entropy(#[source] io::Error),
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request was finished.
    Whole,
    /// The deadline cut some off.
    Cut,
}

/// A running gate.
#[derive(Debug)]
pub struct Gate {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Drained>>,
    leaving: CancellationToken,
    closing: CancellationToken,
    /// Connections still open are dropped.
    cutting: CancellationToken,
}

impl Gate {
    /// Binds the listeners and starts the cores.
    ///
    /// # Errors
    /// When an address cannot be bound or a thread cannot start; nothing runs then.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let cores = options.cores.max(1);
        let (http, plain) = bind_all(options.listeners.http, cores)?;
        let https = options.listeners.https.as_ref().map(|(address, _)| *address);
        let (https, secure) = bind_all(https, cores)?;
        let tls = options.listeners.https.as_ref().map(|(_, tls)| Arc::clone(tls));
        let shared = Arc::new(Shared {
            node: options.node.clone(),
            clock: Arc::clone(&options.clock),
            ledger: options.ledger.clone(),
            quotas: options.quotas.clone(),
            repeats: options.repeats.clone(),
            metrics: options.metrics.clone(),
            spans: options.spans.clone(),
            sampler: options.sampler,
            is_leaving: AtomicBool::new(false),
        });
        let mut gate = Self {
            shared: Arc::clone(&shared),
            http,
            https,
            threads: Vec::new(),
            closing: CancellationToken::new(),
            cutting: CancellationToken::new(),
            leaving: CancellationToken::new(),
        };
        let mut secure = secure.into_iter();
        let mut plain = plain.into_iter();
        for _ in 0..cores {
            let mut doors = Vec::new();
            doors.extend(plain.next().map(|socket| (socket, Door::Plain)));
            let secured = secure.next().zip(tls.clone());
            doors.extend(secured.map(|(socket, tls)| (socket, Door::Tls(tls))));
            gate.start_core(options, Arc::clone(&shared), doors)?;
        }
        Ok(gate)
    }

    /// The address of the clear-text listener.
    #[must_use]
    pub const fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The address of the TLS listener.
    #[must_use]
    pub const fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Stops in order: tells clients to leave for `notice`, takes no further connection, finishes
    /// the requests under way, and cuts off what is left at the deadline. Blocks; call it where
    /// blocking is allowed.
    #[must_use]
    pub fn drain(self, notice: Duration, deadline: Duration) -> Drained {
        self.shared.is_leaving.store(true, Ordering::Relaxed);
        self.leaving.cancel();
        std::thread::sleep(notice);
        self.closing.cancel();
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let cutting = self.cutting.clone();
        let watchdog = std::thread::spawn(move || {
            if is_done.recv_timeout(deadline).is_err() {
                cutting.cancel();
            }
        });
        let mut drained = Drained::Whole;
        for thread in self.threads {
            if thread.join().unwrap_or(Drained::Cut) == Drained::Cut {
                drained = Drained::Cut;
            }
        }
        // The watchdog may have barked already; then nobody listens.
        let _nobody_listens = done.send(());
        let _ended = watchdog.join();
        drained
    }

    fn start_core(
        &mut self,
        options: &Options,
        shared: Arc<Shared>,
        doors: Vec<(Socket, Door)>,
    ) -> Result<(), Error> {
        let connector = Connector {
            resolver: Resolver::new(&options.overrides),
            tls: ClientTls::new(&options.roots),
            tasks: TaskTracker::new(),
        };
        let pool = Pool::new(connector, options.metrics.upstream_connections.clone());
        let watches = (options.snapshots.clone(), options.suspensions.clone());
        let core = Core::new(shared, options.recorder.clone(), watches, pool, &*options.entropy);
        let core = Arc::new(core.map_err(Error::Entropy)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Thread)?;
        let closing = Closing { leaving: self.leaving.clone(), closing: self.closing.clone() };
        let cutting = self.cutting.clone();
        let thread = std::thread::Builder::new().name(format!("core-{}", self.threads.len()));
        let core = (core, self.threads.is_empty());
        let run = move || runtime.block_on(run_core(core, doors, closing, cutting));
        self.threads.push(thread.spawn(run).map_err(Error::Thread)?);
        Ok(())
    }
}

/// A core's life: traffic, and requests ended from outside, while it drains too.
async fn run_core(
    core: (Arc<Core>, bool),
    doors: Vec<(Socket, Door)>,
    closing: Closing,
    cutting: CancellationToken,
) -> Drained {
    let riding = Arc::clone(&core.0);
    let end_the_suspended = async {
        riding.riders.keep(|| riding.shared.clock.now()).await;
        std::future::pending().await
    };
    tokio::select! {
        drained = carry(core, doors, closing, cutting) => drained,
        never = end_the_suspended => never,
    }
}

/// Listens, keeps house, finishes.
async fn carry(
    (core, is_first): (Arc<Core>, bool),
    doors: Vec<(Socket, Door)>,
    closing: Closing,
    cutting: CancellationToken,
) -> Drained {
    for (socket, door) in doors {
        match TcpListener::from_std(socket.into()) {
            Ok(listener) => {
                core.tasks.spawn(listen(Arc::clone(&core), listener, door, closing.clone()));
            }
            Err(error) => tracing::error!(%error, "a listener cannot be watched"),
        }
    }
    let keep_house = async {
        loop {
            tokio::time::sleep(HOUSEKEEPING).await;
            let now = core.shared.clock.uptime();
            core.pool.prune(now);
            // The counts are everybody's: one core is enough, and it lets requests in between.
            if is_first {
                core.shared.ledger.own().accounts().prune(core.shared.clock.now());
                for part in 0..Embedded::PARTS {
                    core.shared.ledger.own().sweep_part(part, now);
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    tokio::select! {
        () = closing.closing.cancelled() => {}
        () = keep_house => {}
    }
    core.tasks.close();
    let drained = tokio::select! {
        () = core.tasks.wait() => Drained::Whole,
        () = cutting.cancelled() => Drained::Cut,
    };
    core.pool.clear();
    drained
}

/// A socket a core, all on one address: the system spreads connections over them.
fn bind_all(
    address: Option<SocketAddr>,
    cores: usize,
) -> Result<(Option<SocketAddr>, Vec<Socket>), Error> {
    let Some(address) = address else { return Ok((None, Vec::new())) };
    let failed = |cause| Error::Listen { address, cause };
    // Sockets that share a port would let a second node take part of the traffic unseen: a port
    // that is in use is found before it is shared.
    drop(std::net::TcpListener::bind(address).map_err(failed)?);
    let first = bind(address).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..cores {
        sockets.push(bind(bound).map_err(failed)?);
    }
    Ok((Some(bound), sockets))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Connections that wait to be accepted; the system refuses more.
const BACKLOG: i32 = 4_096;

/// How often idle connections and full buckets are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
