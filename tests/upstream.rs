//! Upstreams of the tests' own: HTTP/1.1 byte by byte on raw sockets, and HTTP/2 over TLS.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

pub(crate) mod secure;

/// A message of HTTP/1.1 as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    /// Lower-case names, in the order of the wire.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// The value of a field that stands there once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(other, _)| other == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} more than once: {self:?}");
        first
    }

    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|coding| coding == "chunked")
    }

    fn length(&self) -> Option<usize> {
        self.field("content-length").and_then(|length| length.parse().ok())
    }
}

/// One end of a connection that speaks HTTP/1.1 byte by byte. No read or write waits longer than
/// [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    stream: BufReader<S>,
}

impl Wire {
    pub(crate) fn connect(address: &str) -> Self {
        Self::new(TcpStream::connect(address).expect("the listener takes a connection"))
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option");
        Self::over(stream)
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other end takes bytes");
    }

    /// The same where the other end may be gone.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// Some bytes, as they come; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Exactly so many bytes.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }

    /// Waits until the other end has closed or reset the connection; bytes before that are lost.
    pub(crate) fn wait_for_end(&mut self) {
        let mut nothing = [0; 4_096];
        loop {
            match self.stream.read(&mut nothing) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_late(&error) => panic!("the other end stays"),
                Err(_) => return,
            }
        }
    }

    /// A message's head; `None` at the end of the connection.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let start = self.line()?;
        let fields = self.fields()?;
        Some(Message { start, fields, ..Message::default() })
    }

    /// A request with its body; `None` at the end of the connection, in the middle too.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        if message.is_chunked() {
            self.chunks(&mut message)?;
        } else {
            self.exactly(&mut message)?;
        }
        Some(message)
    }

    /// A final answer with its body; `None` at the end of the connection, in the middle too.
    pub(crate) fn answer(&mut self, method: &str) -> Option<Message> {
        let mut message = self.head()?;
        if method == "HEAD" || matches!(message.status(), 100..200 | 204 | 304) {
            return Some(message);
        }
        if message.is_chunked() {
            self.chunks(&mut message)?;
        } else if message.length().is_some() {
            self.exactly(&mut message)?;
        } else {
            self.stream.read_to_end(&mut message.body).ok()?;
        }
        Some(message)
    }

    /// One chunk of a chunked body; empty at the body's end, `None` where it breaks off.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).expect("a chunk's size");
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).ok()?;
        if size > 0 {
            self.line()?;
        }
        Some(chunk)
    }

    fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                message.trailers = self.fields()?;
                return Some(());
            }
            message.body.extend(chunk);
        }
    }

    fn exactly(&mut self, message: &mut Message) -> Option<()> {
        message.body = vec![0; message.length().unwrap_or_default()];
        self.stream.read_exact(&mut message.body).ok()
    }

    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').expect("a field");
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) if line.ends_with("\r\n") => Some(line.trim_end().to_owned()),
            Ok(_) => None,
            Err(error) if is_late(&error) => panic!("nothing comes, after {line:?}"),
            Err(_) => None,
        }
    }
}

/// Whether a read or write only waited too long.
pub(crate) fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// One connection at an upstream.
pub(crate) struct Visit {
    pub(crate) wire: Wire,
    /// How many connections came before it.
    pub(crate) nth: usize,
    arrivals: Arc<Mutex<Vec<Message>>>,
}

impl Visit {
    /// The next request, noted among the arrivals.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let message = self.wire.request()?;
        self.note(message.clone());
        Some(message)
    }

    /// Notes a request that was read in another way.
    pub(crate) fn note(&self, message: Message) {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

/// An upstream that does with each connection what a test says.
pub(crate) struct Raw {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    arrivals: Arc<Mutex<Vec<Message>>>,
    is_over: Arc<AtomicBool>,
}

impl Raw {
    /// Serves each connection on a thread of its own, which ends with the connection.
    pub(crate) fn start(serve: impl Fn(Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let raw = Self {
            address: listener.local_addr().expect("an address"),
            accepted: Arc::default(),
            arrivals: Arc::default(),
            is_over: Arc::default(),
        };
        let (accepted, arrivals) = (Arc::clone(&raw.accepted), Arc::clone(&raw.arrivals));
        let is_over = Arc::clone(&raw.is_over);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let wire = Wire::new(stream.expect("a connection"));
                let nth = accepted.fetch_add(1, Ordering::SeqCst);
                let visit = Visit { wire, nth, arrivals: Arc::clone(&arrivals) };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(visit));
            }
        });
        raw
    }

    /// Answers every request at once and keeps the connection.
    pub(crate) fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |mut visit| {
            while let Some(request) = visit.request() {
                if visit.wire.try_send(answer(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// `host:port`.
    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Whole requests so far.
    pub(crate) fn arrivals(&self) -> Vec<Message> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener's thread, which then ends.
        drop(TcpStream::connect(self.address));
    }
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

/// Longest wait of a test for bytes; nothing that works takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
