//! Origin servers: what a test puts behind the gate, in clear text.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{Message, Wire, listener};

/// A server that does with each connection what a test says, and keeps what arrives.
pub(crate) struct Origin {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Seen {
    arrivals: Vec<Message>,
    broken: Vec<String>,
}

/// One connection at an origin.
pub(crate) struct Visit {
    pub(crate) wire: Wire,
    /// How many connections came before it.
    pub(crate) nth: usize,
    seen: Arc<Mutex<Seen>>,
}

impl Visit {
    /// The next request, noted among the arrivals; `None` at the end of the connection, in the
    /// middle of a request too.
    pub(crate) fn request(&mut self) -> Option<Message> {
        match self.wire.try_request() {
            Ok(found) => {
                let request = found?;
                self.note(request.clone());
                Some(request)
            }
            Err(error) => {
                lock(&self.seen).broken.push(error.to_string());
                None
            }
        }
    }

    /// Notes a request that was read in another way.
    pub(crate) fn note(&self, request: Message) {
        lock(&self.seen).arrivals.push(request);
    }
}

impl Origin {
    /// Answers every request with 200.
    pub(crate) fn start() -> Self {
        Self::answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n".to_owned())
    }

    /// Answers every request at once, byte by byte as a test says, and keeps the connection.
    pub(crate) fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        Self::serving(move |mut visit| {
            while let Some(request) = visit.request() {
                if visit.wire.try_send(answer(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// Serves each connection on a thread of its own, which ends with the connection.
    pub(crate) fn serving(serve: impl Fn(Visit) + Send + Sync + 'static) -> Self {
        let listener = listener();
        let origin = Self {
            address: listener.local_addr().expect("an address"),
            accepted: Arc::default(),
            seen: Arc::default(),
            is_over: Arc::default(),
        };
        let (accepted, seen) = (Arc::clone(&origin.accepted), Arc::clone(&origin.seen));
        let is_over = Arc::clone(&origin.is_over);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let wire = Wire::serve(stream.expect("a connection"));
                let nth = accepted.fetch_add(1, Ordering::SeqCst);
                let visit = Visit { wire, nth, seen: Arc::clone(&seen) };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(visit));
            }
        });
        origin
    }

    /// `host:port`.
    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }

    /// The upstream that has this node only, as the Admin API takes it.
    pub(crate) fn upstream(&self) -> Value {
        json!({ "nodes": { self.node(): 1 } })
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Whole requests so far.
    pub(crate) fn arrivals(&self) -> Vec<Message> {
        lock(&self.seen).arrivals.clone()
    }

    /// The same since the last look, which are then forgotten; and why something was no whole
    /// request.
    pub(crate) fn take(&self) -> (Vec<Message>, Vec<String>) {
        let Seen { arrivals, broken } = std::mem::take(&mut *lock(&self.seen));
        (arrivals, broken)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener's thread, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port of loopback that refuses connections, and is nobody else's meanwhile.
pub(crate) struct Refusing {
    _socket: Socket,
    address: SocketAddr,
}

impl Refusing {
    pub(crate) fn start() -> Self {
        let (socket, address) = bound();
        Self { _socket: socket, address }
    }

    /// `host:port`.
    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }
}

/// A port of loopback that neither takes nor refuses connections: its queue is full.
pub(crate) struct Deaf {
    _socket: Socket,
    _queued: Vec<TcpStream>,
    address: SocketAddr,
}

impl Deaf {
    pub(crate) fn start() -> Self {
        let (socket, address) = bound();
        socket.listen(0).expect("it listens");
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        Self { _socket: socket, _queued: queued, address }
    }

    /// `host:port`.
    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }
}

fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    (socket, address)
}
