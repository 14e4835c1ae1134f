//! A connection to a syslog server, and what was written to it lately.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rules::record::{SyslogTarget, SyslogTransport};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::json::push_number;

/// How servers over TLS are verified.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Trusts these roots and nobody else; the server's name must be the target's host.
    pub(crate) fn trusting(roots: Arc<rustls::RootCertStore>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has every version it names")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// An open connection.
pub(crate) struct Connection {
    channel: Channel,
    deadline: Duration,
    tail: Tail,
}

enum Channel {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Connection {
    /// Connects within the target's deadline, which covers the name's look-up and the handshake.
    pub(crate) async fn open(target: &SyslogTarget, tls: &Tls) -> io::Result<Self> {
        let channel = timeout(target.timeout, Channel::open(target, tls)).await??;
        Ok(Self { channel, deadline: target.timeout, tail: Tail::new(target.timeout) })
    }

    /// Writes messages. After an error, returns how many were written whole before it.
    pub(crate) async fn send(&mut self, messages: &[Arc<[u8]>]) -> Result<(), (usize, io::Error)> {
        match &mut self.channel {
            Channel::Datagrams(socket) => {
                for (sent, message) in messages.iter().enumerate() {
                    match timeout(self.deadline, socket.send(message)).await {
                        Ok(Ok(_)) => self.tail.push(message),
                        Ok(Err(error)) => return Err((sent, error)),
                        Err(late) => return Err((sent, late.into())),
                    }
                }
            }
            Channel::Stream(stream) => {
                let bytes = frames(messages);
                // Where a stream broke cannot be told, so all of these are tried again.
                write_all(stream, &bytes, self.deadline).await.map_err(|error| (0, error))?;
                messages.iter().for_each(|message| self.tail.push(message));
            }
        }
        Ok(())
    }

    /// Resolves when the connection is found to be broken or closed by the server. What a server
    /// says is of no interest.
    pub(crate) async fn broken(&mut self) -> io::Error {
        let mut ignored = [0; 512];
        loop {
            let result = match &mut self.channel {
                Channel::Datagrams(socket) => socket.recv(&mut ignored).await.map(|_| 1),
                Channel::Stream(stream) => stream.read(&mut ignored).await,
            };
            match result {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Ends the stream and waits a moment for the server to end it too: a socket that is closed
    /// while something of the server's stands unread in it makes the kernel reset the connection,
    /// which can cost the server what it has not read yet.
    pub(crate) async fn close(mut self) {
        if let Channel::Stream(stream) = &mut self.channel {
            let ended = timeout(self.deadline, stream.shutdown()).await;
            if matches!(ended, Ok(Ok(()))) {
                let _closed_either_way = timeout(CLOSE_MAX, self.broken()).await;
            }
        }
    }

    /// What may not have arrived before the connection broke.
    pub(crate) fn into_tail(self) -> VecDeque<Arc<[u8]>> {
        self.tail.unacknowledged()
    }
}

impl Channel {
    async fn open(target: &SyslogTarget, tls: &Tls) -> io::Result<Self> {
        let addresses = tokio::net::lookup_host((&*target.host, target.port)).await?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match Self::to(address, target, tls).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn to(address: SocketAddr, target: &SyslogTarget, tls: &Tls) -> io::Result<Self> {
        if target.transport == SyslogTransport::Udp {
            let own: SocketAddr =
                if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
            let socket = UdpSocket::bind(own).await?;
            socket.connect(address).await?;
            return Ok(Self::Datagrams(socket));
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_keepalive(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        // A server that acknowledges nothing for this long is away, whatever the kernel hopes.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(target.timeout))?;
        if target.transport == SyslogTransport::Tcp {
            return Ok(Self::Stream(Box::new(stream)));
        }
        let name = ServerName::try_from(target.host.to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Self::Stream(Box::new(tls.0.connect(name, stream).await?)))
    }
}

/// Messages with their lengths in front (RFC 6587 §3.4.1, RFC 5425 §4.3).
fn frames(messages: &[Arc<[u8]>]) -> Vec<u8> {
    let length: usize = messages.iter().map(|message| message.len() + 8).sum();
    let mut bytes = Vec::with_capacity(length);
    for message in messages {
        push_number(&mut bytes, message.len() as u64);
        bytes.push(b' ');
        bytes.extend_from_slice(message);
    }
    bytes
}

/// Writes everything; the deadline is for each piece, so that a slow server is no broken one.
async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    deadline: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(deadline, stream.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    timeout(deadline, stream.flush()).await?
}

/// What was written lately. The kernel reports a broken connection within the target's timeout
/// and holds at most its send buffer, so what is older than that timeout, or further back than
/// [`TAIL_BYTES_MAX`], was acknowledged by the server's machine.
struct Tail {
    messages: VecDeque<(Instant, Arc<[u8]>)>,
    bytes: usize,
    age_max: Duration,
}

impl Tail {
    const fn new(timeout: Duration) -> Self {
        let age_max = timeout.saturating_add(Duration::from_secs(1));
        Self { messages: VecDeque::new(), bytes: 0, age_max }
    }

    fn push(&mut self, message: &Arc<[u8]>) {
        let now = Instant::now();
        self.bytes += message.len();
        self.messages.push_back((now, Arc::clone(message)));
        while let Some((at, oldest)) = self.messages.front() {
            let is_within = self.bytes <= TAIL_BYTES_MAX && now - *at <= self.age_max;
            if is_within || self.messages.len() == 1 {
                break;
            }
            self.bytes -= oldest.len();
            self.messages.pop_front();
        }
    }

    fn unacknowledged(self) -> VecDeque<Arc<[u8]>> {
        let now = Instant::now();
        let recent = |(at, _): &(Instant, Arc<[u8]>)| now - *at <= self.age_max;
        self.messages.into_iter().filter(recent).map(|(_, message)| message).collect()
    }
}

/// The longest a server is waited for when the gate ends a connection.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// The kernel doubles it, for its own book-keeping.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Twice what the kernel may hold, and what TLS may hold above it.
const TAIL_BYTES_MAX: usize = 2 << 20;
