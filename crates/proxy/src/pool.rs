//! A core's connections to upstreams: lent, given back, forgotten.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hyper::client::conn::{http1, http2};
use model::Uptime;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use rules::upstream::KeepAlive;

use crate::body::RequestBody;
use crate::connect::{Channel, ConnectError, Connector, Endpoint};

/// Idle HTTP/1.1 connections and shared HTTP/2 ones, by endpoint.
///
/// Bounded by each upstream's `keepalive_pool`; endpoints without a connection are forgotten at
/// the next [`Pool::prune`].
#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    opened: Counter,
    /// Endpoints are named by operators, so a fast hash is safe.
    shelves: Mutex<HashMap<Endpoint, Shelf, FixedState>>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The last given back is the first lent again.
    idle: Vec<Idle>,
    shared: Vec<Shared>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    address: SocketAddr,
    since: Uptime,
    until: Uptime,
    used: u32,
}

#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    address: SocketAddr,
    used: u32,
    /// Each stream under way holds one more.
    streams: Arc<()>,
    /// When it last carried something, and how long it may carry nothing.
    since: Uptime,
    idle: Duration,
}

impl Shared {
    /// Whether it may be used: something that carried nothing for long may have been forgotten by
    /// what stands between.
    fn is_good(&self, now: Uptime) -> bool {
        let is_busy = Arc::strong_count(&self.streams) > 1;
        !self.sender.is_closed() && (is_busy || now < self.since.plus(self.idle))
    }

    fn has_room(&self) -> bool {
        Arc::strong_count(&self.streams) <= H2_STREAMS_MAX
    }
}

/// A connection for one request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) channel: Channel,
    pub(crate) address: SocketAddr,
    /// It has carried a request before, so its other end may have closed it unseen.
    pub(crate) is_reused: bool,
    endpoint: Endpoint,
    keepalive: KeepAlive,
    used: u32,
    /// Its place among the streams of a shared connection.
    stream: Option<Arc<()>>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, opened: Counter) -> Self {
        Self { connector, opened, shelves: Mutex::default() }
    }

    /// An idle connection, or a new one within the deadline.
    pub(crate) async fn lend(
        &self,
        endpoint: &Endpoint,
        keepalive: KeepAlive,
        deadline: Duration,
        now: Uptime,
    ) -> Result<Lease, ConnectError> {
        match self.find(endpoint, now) {
            Some((channel, address, used, stream)) => {
                let endpoint = endpoint.clone();
                Ok(Lease { channel, address, is_reused: true, endpoint, keepalive, used, stream })
            }
            // Boxed, because it is rare and large: every request's future would carry its room.
            None => Box::pin(self.open(endpoint, keepalive, deadline, now)).await,
        }
    }

    /// A new connection within the deadline.
    pub(crate) async fn open(
        &self,
        endpoint: &Endpoint,
        keepalive: KeepAlive,
        deadline: Duration,
        now: Uptime,
    ) -> Result<Lease, ConnectError> {
        let (channel, address) = self.connector.open(endpoint, deadline).await?;
        self.opened.inc();
        let mut stream = None;
        if let Channel::H2(sender) = &channel {
            let streams = Arc::clone(stream.insert(Arc::new(())));
            let (sender, idle) = (sender.clone(), keepalive.idle);
            let shared = Shared { sender, address, used: 1, streams, since: now, idle };
            self.shelves.lock().entry(endpoint.clone()).or_default().shared.push(shared);
        }
        let endpoint = endpoint.clone();
        Ok(Lease { channel, address, is_reused: false, endpoint, keepalive, used: 0, stream })
    }

    fn find(&self, endpoint: &Endpoint, now: Uptime) -> Option<Found> {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.get_mut(endpoint)?;
        shelf.shared.retain(|shared| shared.is_good(now) && shared.used < H2_REQUESTS_MAX);
        if let Some(shared) = shelf.shared.iter_mut().find(|shared| shared.has_room()) {
            shared.used += 1;
            shared.since = now;
            let stream = Some(Arc::clone(&shared.streams));
            return Some((Channel::H2(shared.sender.clone()), shared.address, shared.used, stream));
        }
        while let Some(idle) = shelf.idle.pop() {
            if now < idle.until && !idle.sender.is_closed() {
                return Some((Channel::H1(idle.sender), idle.address, idle.used, None));
            }
        }
        None
    }

    /// Takes a connection back whose answer has been read to its end.
    pub(crate) fn give_back(&self, lease: Lease, now: Uptime) {
        let Lease { channel, address, endpoint, keepalive, used, stream, .. } = lease;
        let sender = match (channel, stream) {
            (Channel::H1(sender), _) => sender,
            (Channel::H2(_), Some(stream)) => {
                let mut shelves = self.shelves.lock();
                let shared = shelves.get_mut(&endpoint).into_iter().flat_map(|one| &mut one.shared);
                for shared in shared.filter(|shared| Arc::ptr_eq(&shared.streams, &stream)) {
                    shared.since = now;
                }
                return;
            }
            (Channel::H2(_), None) => return,
        };
        let used = used.saturating_add(1);
        if sender.is_closed() || used >= keepalive.requests || keepalive.size == 0 {
            return;
        }
        let idle = Idle { sender, address, since: now, until: now.plus(keepalive.idle), used };
        let mut shelves = self.shelves.lock();
        let shelf = shelves.entry(endpoint).or_default();
        shelf.idle.push(idle);
        if shelf.idle.len() > usize::try_from(keepalive.size).unwrap_or(usize::MAX)
            && let Some(oldest) = (0..shelf.idle.len())
                .min_by_key(|index| shelf.idle.get(*index).map(|idle| idle.since))
        {
            shelf.idle.remove(oldest);
        }
    }

    /// Closes what has been idle too long. Call it now and then.
    pub(crate) fn prune(&self, now: Uptime) {
        self.shelves.lock().retain(|_, shelf| {
            shelf.idle.retain(|idle| now < idle.until && !idle.sender.is_closed());
            shelf.shared.retain(|shared| shared.is_good(now));
            !shelf.idle.is_empty() || !shelf.shared.is_empty()
        });
    }

    /// Closes every connection that is not lent.
    pub(crate) fn clear(&self) {
        self.shelves.lock().clear();
    }
}

/// A connection, its address, its requests so far, and a place among its streams.
type Found = (Channel, SocketAddr, u32, Option<Arc<()>>);

/// Streams at once on one shared connection, as many as every upstream should take (RFC 9113
/// §6.5.2). For one more another connection is opened.
pub(crate) const H2_STREAMS_MAX: usize = 100;

/// Requests after which a shared HTTP/2 connection is replaced, so that load moves to nodes that
/// joined behind a name.
const H2_REQUESTS_MAX: u32 = 100_000;
