//! A node among others, put together: its data opened, its listener up, its certificate kept fresh.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, NodeName, Timestamp};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Certifier, Door, GrpcTransport, Listener, Local};
use crate::ca::{Fingerprint, is_due};
use crate::directory::kept_key;
use crate::membership::keep;
use crate::tls::{NodeTls, Papers, PapersError, Passport, TlsError, names};
use crate::token::Mint;
use crate::{Error, Handle, Home, LogBounds, Network, Options, Task, open_in_cluster};

/// What runs behind a member besides its data. Ends when it is stopped.
#[derive(Debug)]
#[must_use = "the member is not reachable any more when this is dropped"]
pub struct Station {
    task: Task,
    transport: Arc<GrpcTransport>,
    tls: Arc<NodeTls>,
    papers: Papers,
    name: NodeName,
    tasks: TaskTracker,
    /// Ends the listener and the rest, also when the station is dropped.
    stop: DropGuard,
}

/// Why a member did not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    #[error(transparent)]
    Data(#[from] Error),
    #[error(transparent)]
    Papers(#[from] PapersError),
    #[error("the member {name} has no certificate in its data directory")]
    NoCertificate { name: NodeName },
    #[error("the certificate in the data directory is not of a node called {name}")]
    OtherName { name: NodeName },
    #[error("the node's certificate cannot be used")]
    Tls(#[from] TlsError),
}

/// Opens a member's data, answers its peers at the socket, and looks after its place. The address
/// is the one at which peers reach it now.
///
/// # Errors
/// See [`StationError`].
pub async fn open_member(
    options: Options,
    home: &Home,
    address: &str,
    socket: TcpListener,
) -> Result<(Handle, Station), StationError> {
    let Home { name, papers, joined, .. } = home;
    let missing = || StationError::NoCertificate { name: name.clone() };
    let passport = papers.passport()?.ok_or_else(missing)?;
    check_name(&passport, name)?;
    let certifier = match papers.authority()? {
        Some(authority) => Certifier::Own(Box::new(authority)),
        None => Certifier::Operators(passport.authorities.clone()),
    };
    let tls = Arc::new(NodeTls::new(&passport)?);
    let transport = Arc::new(GrpcTransport::new(Arc::clone(&tls)));
    let network = Network {
        transport: Arc::<GrpcTransport>::clone(&transport),
        address: address.to_owned(),
        joined: *joined,
        log: LogBounds::default(),
    };
    let (dir, clock) = (options.dir.clone(), Arc::clone(&options.clock));
    let (handle, task) = open_in_cluster(options, network).await?;
    let local = handle.local(name);
    transport.introduce(local.clone());
    let fingerprint = fingerprint(&passport);
    let cluster_key = kept_key(&dir)?;
    let mint = || Mint::new(local.cluster, fingerprint, &cluster_key);
    // Set once: a handle is opened once.
    let _first = handle.0.mint.set(mint());
    let mint = mint();
    let (admission, clock_of_door) = (Arc::new(handle.clone()), Arc::clone(&clock));
    let door = Door { mint, certifier, cluster_key, admission, clock: clock_of_door };
    let door = Arc::new(door);
    let (service, roster) = (Arc::new(handle.clone()), Arc::new(handle.clone()));
    let listener = Listener::new(local, Arc::clone(&tls), service, roster).with_door(door);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(listener.serve(socket, stop.clone()));
    let keeping = keep(Arc::clone(&handle.0), home.clone(), (dir.clone(), address.to_owned()));
    let until = stop.clone();
    tasks.spawn(async move { until.run_until_cancelled(keeping).await });
    let renewing = renew(papers.clone(), Arc::clone(&tls), name.clone(), clock);
    let until = stop.clone();
    tasks.spawn(async move { until.run_until_cancelled(renewing).await });
    tasks.close();
    let stop = stop.drop_guard();
    Ok((
        handle,
        Station { task, transport, tls, papers: papers.clone(), name: name.clone(), tasks, stop },
    ))
}

/// Peers would refuse a node that shows another name.
fn check_name(passport: &Passport, name: &NodeName) -> Result<(), StationError> {
    match passport.chain.first() {
        Some(own) if names(own, name.as_str()) => Ok(()),
        Some(_) | None => Err(StationError::OtherName { name: name.clone() }),
    }
}

/// What tokens name the authority by; the first one counts while it is being replaced.
fn fingerprint(passport: &Passport) -> Fingerprint {
    passport.authorities.first().map_or(Fingerprint([0; 32]), Fingerprint::of)
}

impl Station {
    /// Uses the certificates that lie in the data directory now, for the connections to come.
    ///
    /// # Errors
    /// When they cannot be used; the old ones stay.
    pub fn reload(&self) -> Result<(), StationError> {
        if let Some(passport) = self.papers.passport()? {
            check_name(&passport, &self.name)?;
            self.tls.replace(&passport)?;
        }
        Ok(())
    }

    /// Takes no more changes, finishes those that wait, and gives the data directory back. Peers
    /// are spoken to until then.
    pub async fn stop(self) {
        self.task.stop().await;
        drop(self.stop);
        self.transport.close().await;
        if tokio::time::timeout(STOP_WAIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("what runs for the cluster did not end in time");
        }
    }
}

impl Handle {
    /// Who this node is to its peers.
    fn local(&self, name: &NodeName) -> Local {
        Local { cluster: self.0.cluster, id: self.0.lead.me(), name: name.clone() }
    }
}

/// Keeps the node's certificate from running out.
async fn renew(papers: Papers, tls: Arc<NodeTls>, name: NodeName, clock: Arc<dyn Clock>) {
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (papers, tls, name) = (papers.clone(), Arc::clone(&tls), name.clone());
        let now = clock.now();
        let looked = tokio::task::spawn_blocking(move || look(&papers, &tls, &name, now)).await;
        match looked {
            Ok(Ok(Look::Fresh)) => {}
            Ok(Ok(Look::Renewed)) => tracing::info!("the node's certificate was renewed"),
            Ok(Ok(Look::Due)) => {
                tracing::warn!("the node's certificate runs out; replace it and send SIGHUP");
            }
            Ok(Err(cause)) => {
                let cause = &cause as &dyn std::error::Error;
                tracing::error!(cause, "the node's certificate was not renewed");
            }
            Err(_) => tracing::error!("renewing the node's certificate met a defect"),
        }
    }
}

enum Look {
    Fresh,
    Renewed,
    /// Only operators can renew it.
    Due,
}

fn look(
    papers: &Papers,
    tls: &NodeTls,
    name: &NodeName,
    now: Timestamp,
) -> Result<Look, PapersError> {
    if papers.renew(tls, name, now)? {
        return Ok(Look::Renewed);
    }
    let own = papers.passport()?.and_then(|passport| passport.chain.into_iter().next());
    let is_due = own.is_some_and(|own| is_due(&own, now).unwrap_or(true));
    Ok(if is_due { Look::Due } else { Look::Fresh })
}

/// How often the certificate is looked at.
const RENEW_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// For what runs besides the listener.
const STOP_WAIT: Duration = Duration::from_secs(6);
