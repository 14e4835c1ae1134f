//! Where records go over the network: a syslog server, and how it reads them.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::{ANY, Certificate, listener, text_at, wait_for};

/// A syslog server that keeps every message it gets.
pub(crate) struct SyslogServer {
    pub(crate) port: u16,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl SyslogServer {
    /// One message a datagram.
    pub(crate) fn udp() -> Self {
        let socket = UdpSocket::bind(ANY).expect("a free port");
        let port = socket.local_addr().expect("an address").port();
        let server = Self { port, messages: Arc::default() };
        let messages = Arc::clone(&server.messages);
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut datagram) {
                keep(&messages, datagram.iter().take(length).copied().collect());
            }
        });
        server
    }

    /// In clear text.
    pub(crate) fn tcp(listener: TcpListener) -> Self {
        Self::streams(listener, |stream| Box::new(stream))
    }

    /// Over TLS, and the certificate that it shows.
    pub(crate) fn tls() -> (Self, Certificate) {
        let certificate = Certificate::of(&["127.0.0.1"]);
        let config = certificate.server(&[]);
        let server = Self::streams(listener(), move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            Box::new(rustls::StreamOwned::new(session, stream))
        });
        (server, certificate)
    }

    fn streams(
        listener: TcpListener,
        open: impl Fn(TcpStream) -> Box<dyn Read + Send> + Send + 'static,
    ) -> Self {
        let port = listener.local_addr().expect("an address").port();
        let server = Self { port, messages: Arc::default() };
        let messages = Arc::clone(&server.messages);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(open(stream));
                let messages = Arc::clone(&messages);
                std::thread::spawn(move || {
                    while let Some(message) = frame(&mut stream) {
                        keep(&messages, message);
                    }
                });
            }
        });
        server
    }

    /// The messages so far, as they came.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The messages, read, when there are as many; and there are no more.
    pub(crate) fn wait(&self, count: usize) -> Vec<Syslog> {
        wait_for("the messages", || (self.messages().len() >= count).then_some(()));
        let messages = self.messages();
        assert_eq!(messages.len(), count, "too many messages");
        messages.iter().map(|message| Syslog::read(message)).collect()
    }
}

/// A message by RFC 5424.
pub(crate) struct Syslog {
    pub(crate) sequence: u64,
    pub(crate) record: Value,
}

impl Syslog {
    /// Reads one that holds nothing but a record, and no secret of those that say they are planted.
    pub(crate) fn read(message: &[u8]) -> Self {
        let text = std::str::from_utf8(message).expect("UTF-8");
        assert!(!text.contains("planted"), "a secret is in {text}");
        let words: Vec<&str> = text.splitn(7, ' ').collect();
        let [start, time, _host, app, pid, id, rest] = words[..] else { panic!("short: {text}") };
        assert_eq!([start, app, id], ["<46>1", "tollgate", "request"], "{text}");
        assert!(time.ends_with('Z') && time.contains('T'), "{text}");
        assert!(pid.parse::<u32>().is_ok(), "{text}");
        let rest = rest.strip_prefix("[meta sequenceId=\"").expect("structured data");
        let (sequence, record) = rest.split_once("\"] ").expect("a message");
        Self {
            sequence: sequence.parse().expect("a number"),
            record: serde_json::from_str(record).expect("one JSON value and nothing else"),
        }
    }

    /// The request's id.
    pub(crate) fn id(&self) -> String {
        text_at(&self.record, "/request_id")
    }
}

fn keep(messages: &Mutex<Vec<Vec<u8>>>, message: Vec<u8>) {
    messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
}

/// A message with its length in front (RFC 6587 §3.4.1); `None` at the end of the stream.
pub(crate) fn frame(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length).ok().filter(|read| *read > 0)?;
    let digits = std::str::from_utf8(&length).expect("a length").trim_end();
    let mut message = vec![0; digits.parse().unwrap_or_else(|_| panic!("no length: {digits:?}"))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}
