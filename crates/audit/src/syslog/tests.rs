//! The recorder with real syslog servers. Each defect of APISIX's `syslog` has its law.

use std::net::SocketAddr;

use rules::record::RecordShape;
use rules::variable::Variable;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::metrics::To;
use crate::sample::{Running, WAIT_MAX, entry, log_format, numbers, to_syslog, until};
use crate::{Entry, Loggers, Options};

const SYSLOG: To = To { sink: Sink::syslog };

/// A message as a server reads it.
#[derive(Debug)]
struct Message {
    header: String,
    sequence: u32,
    record: Value,
}

impl Message {
    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let (header, record) = text.split_once("\"] ").unwrap();
        let (header, sequence) = header.split_once(" [meta sequenceId=\"").unwrap();
        let record = serde_json::from_str(record).unwrap();
        Self { header: header.to_owned(), sequence: sequence.parse().unwrap(), record }
    }
}

fn ids(messages: &[Message]) -> Vec<u128> {
    numbers(&messages.iter().map(|message| message.record.clone()).collect::<Vec<_>>())
}

/// Reads messages by octet counting.
struct Frames<S>(BufReader<S>);

impl<S: AsyncRead + Unpin> Frames<S> {
    fn of(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// The next message; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        timeout(WAIT_MAX, self.read()).await.expect("a message was waited for")
    }

    async fn read(&mut self) -> Option<Message> {
        let mut length = 0;
        loop {
            match self.0.read_u8().await.ok()? {
                b' ' => break,
                digit => length = length * 10 + usize::from(digit - b'0'),
            }
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(Message::parse(&bytes))
    }

    async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.next().await.expect("the stream goes on"));
        }
        messages
    }
}

async fn accept(listener: &TcpListener) -> Frames<TcpStream> {
    let (stream, _) = timeout(WAIT_MAX, listener.accept()).await.unwrap().unwrap();
    Frames::of(stream)
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn target(address: SocketAddr, transport: SyslogTransport) -> SyslogTarget {
    let host = Arc::from("localhost");
    SyslogTarget { host, port: address.port(), transport, timeout: Duration::from_secs(3) }
}

fn batch() -> Batch {
    Batch {
        max_size: 1_000,
        inactive: Duration::from_millis(10),
        max_retries: 0,
        retry_delay: Duration::from_millis(10),
        max_pending: 8_192,
    }
}

fn over(transport: SyslogTransport, address: SocketAddr, batch: Batch) -> Loggers {
    to_syslog(target(address, transport), RecordShape::default(), batch)
}

fn over_tcp(address: SocketAddr) -> Loggers {
    over(SyslogTransport::Tcp, address, batch())
}

fn with_path(mut entry: Entry, length: usize) -> Entry {
    entry.outcome.path = Arc::from("x".repeat(length));
    entry
}

fn count(running: &Running, which: impl Fn(&Metrics) -> &Family) -> u64 {
    which(&running.metrics).get_or_create(&SYSLOG).get()
}

type Family =
    prometheus_client::metrics::family::Family<To, prometheus_client::metrics::counter::Counter>;

#[tokio::test]
async fn the_last_record_arrives_without_further_traffic() {
    let (listener, address) = listen().await;
    let running = Running::start();
    running.record(entry(1, &over_tcp(address)));
    let mut frames = accept(&listener).await;
    assert_eq!(ids(&frames.take(1).await), [1]);
    running.record(entry(2, &over_tcp(address)));
    assert_eq!(ids(&frames.take(1).await), [2]);
}

#[tokio::test]
async fn a_batch_of_any_size_arrives_whole_in_order_and_once() {
    let (listener, address) = listen().await;
    let running = Running::start();
    let full = Batch { max_size: 5_000, inactive: Duration::from_secs(3_600), ..batch() };
    let loggers = over(SyslogTransport::Tcp, address, full);
    for number in 0..5_000 {
        running.record(with_path(entry(number, &loggers), 2_000));
    }
    let messages = accept(&listener).await.take(5_000).await;
    assert_eq!(ids(&messages), (0..5_000).collect::<Vec<_>>());
    assert!(messages.iter().zip(1..).all(|(message, number)| message.sequence == number));
    assert_eq!(count(&running, |metrics| &metrics.dropped), 0);
}

#[tokio::test]
async fn a_server_that_is_away_loses_nothing_below_the_bound() {
    let (listener, address) = listen().await;
    drop(listener);
    let running = Running::start();
    for number in 0..500 {
        running.record(entry(number, &over_tcp(address)));
    }
    until("a failed try", || count(&running, |metrics| &metrics.errors) > 1).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let messages = accept(&listener).await.take(500).await;
    assert_eq!(ids(&messages), (0..500).collect::<Vec<_>>());
    until("nothing to wait", || running.metrics.pending.get() == 0).await;
    assert_eq!(count(&running, |metrics| &metrics.written), 500);
    assert_eq!(count(&running, |metrics| &metrics.dropped), 0);
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_records_go_and_are_counted() {
    let (listener, address) = listen().await;
    drop(listener);
    let running = Running::start();
    let few = Batch { max_pending: 100, ..batch() };
    for number in 0..250 {
        running.record(entry(number, &over(SyslogTransport::Tcp, address, few)));
    }
    until("the oldest to go", || count(&running, |metrics| &metrics.dropped) == 150).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let messages = accept(&listener).await.take(100).await;
    assert_eq!(ids(&messages), (150..250).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_connection_that_breaks_repeats_its_tail_and_loses_nothing() {
    let (listener, address) = listen().await;
    let running = Running::start();
    for number in 0..300 {
        running.record(with_path(entry(number, &over_tcp(address)), 5_000));
    }
    let mut first = accept(&listener).await;
    let mut read = first.take(20).await;
    // Unread data stands in the socket, so the kernel resets the connection.
    drop(first);
    let mut second = accept(&listener).await;
    while read.last().map(|message| message.sequence) != Some(300) {
        read.extend(second.take(1).await);
    }
    let mut once = ids(&read);
    once.sort_unstable();
    once.dedup();
    assert_eq!(once, (0..300).collect::<Vec<_>>());
    let again: Vec<u32> = read[20..].iter().map(|message| message.sequence).collect();
    assert!(again.is_sorted(), "{again:?}");
}

#[tokio::test]
async fn a_batch_is_given_up_after_its_last_retry() {
    let (listener, address) = listen().await;
    drop(listener);
    let running = Running::start();
    let twice = Batch { max_retries: 2, ..batch() };
    running.record(entry(1, &over(SyslogTransport::Tcp, address, twice)));
    until("the batch to be given up", || count(&running, |metrics| &metrics.dropped) == 1).await;
    assert_eq!(count(&running, |metrics| &metrics.errors), 3);
}

/// A certificate for `localhost` and who vouches for it.
fn certificate() -> (TlsAcceptor, Arc<rustls::RootCertStore>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), Arc::new(roots))
}

#[tokio::test]
async fn tls_is_tls() {
    let (acceptor, roots) = certificate();
    let (listener, address) = listen().await;
    let running = Running::start_with(|options: &mut Options| options.roots = roots);
    running.record(entry(1, &over(SyslogTransport::Tls, address, batch())));
    // What a listener without TLS sees is a handshake and no record.
    let (mut plain, _) = listener.accept().await.unwrap();
    let mut seen = vec![0; 4_096];
    let length = plain.read(&mut seen).await.unwrap();
    seen.truncate(length);
    assert_eq!(seen[..2], [0x16, 0x03]);
    assert!(!seen.windows(10).any(|window| window == b"request_id"));
    drop(plain);
    let (stream, _) = listener.accept().await.unwrap();
    let mut frames = Frames::of(acceptor.accept(stream).await.unwrap());
    assert_eq!(ids(&frames.take(1).await), [1]);
}

#[tokio::test]
async fn a_server_nobody_vouches_for_gets_nothing() {
    let (acceptor, _roots) = certificate();
    let (_acceptor, other_roots) = certificate();
    let (listener, address) = listen().await;
    let running = Running::start_with(|options: &mut Options| options.roots = other_roots);
    running.record(entry(1, &over(SyslogTransport::Tls, address, batch())));
    let (stream, _) = listener.accept().await.unwrap();
    if let Ok(stream) = acceptor.accept(stream).await {
        assert!(Frames::of(stream).next().await.is_none());
    }
    until("a failed try", || count(&running, |metrics| &metrics.errors) > 0).await;
    assert_eq!(count(&running, |metrics| &metrics.written), 0);
}

#[tokio::test]
async fn a_datagram_holds_one_message_of_at_most_65507_bytes() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let running = Running::start();
    let mut at_once = target(address, SyslogTransport::Udp);
    at_once.host = Arc::from("127.0.0.1");
    let loggers = to_syslog(at_once, RecordShape::default(), batch());
    let lengths = [10, 100_000, 65_000, 20];
    for (number, length) in (0..).zip(lengths) {
        running.record(with_path(entry(number, &loggers), length));
    }
    let mut messages = Vec::new();
    for _ in lengths {
        let mut datagram = vec![0; 70_000];
        let length = timeout(WAIT_MAX, socket.recv(&mut datagram)).await.unwrap().unwrap();
        assert!(length <= 65_507, "{length}");
        messages.push(Message::parse(&datagram[..length]));
    }
    assert_eq!(ids(&messages), [0, 1, 2, 3]);
    let is_shortened = |message: &Message| message.record["shortened"] == true;
    assert_eq!(messages.iter().map(is_shortened).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(running.metrics.shortened.get(), 2);
}

#[tokio::test]
async fn a_drain_sends_what_waits() {
    let (listener, address) = listen().await;
    let running = Running::start();
    let patient = Batch { inactive: Duration::from_secs(3_600), ..batch() };
    for number in 0..3 {
        running.record(entry(number, &over(SyslogTransport::Tcp, address, patient)));
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(running.drain());
    let mut frames = accept(&listener).await;
    assert_eq!(ids(&frames.take(3).await), [0, 1, 2]);
    assert!(frames.next().await.is_none());
    drop(frames);
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_while_the_server_is_away_says_what_is_left() {
    let (listener, address) = listen().await;
    drop(listener);
    let running = Running::start();
    running.record(entry(1, &over_tcp(address)));
    let result = running.handle.drain(Duration::from_millis(200)).await;
    let left = crate::Error::Unfinished { seats: 0, records: 0, messages: 1 };
    assert_eq!(result.unwrap_err().to_string(), left.to_string());
}

#[tokio::test]
async fn a_server_that_was_away_before_does_not_hold_up_the_end() {
    let (listener, address) = listen().await;
    drop(listener);
    let running = Running::start();
    running.record(entry(1, &over_tcp(address)));
    until("a failed try", || count(&running, |metrics| &metrics.errors) > 0).await;
    // An hour: it ends before that, or never.
    let result = running.handle.drain(Duration::from_secs(3_600)).await;
    let left = crate::Error::Unfinished { seats: 0, records: 0, messages: 1 };
    assert_eq!(result.unwrap_err().to_string(), left.to_string());
}

#[tokio::test]
async fn routes_with_the_same_target_share_one_connection() {
    let (listener, address) = listen().await;
    let running = Running::start();
    running.record(entry(1, &over_tcp(address)));
    running.record(entry(2, &over_tcp(address)));
    let mut frames = accept(&listener).await;
    assert_eq!(ids(&frames.take(2).await), [1, 2]);
}

#[tokio::test]
async fn a_header_is_of_rfc_5424_and_names_the_gate() {
    let (listener, address) = listen().await;
    let running = Running::start();
    let mut given = entry(1, &over_tcp(address));
    given.outcome.host = Some(Arc::from("evil host"));
    running.record(given);
    let messages = accept(&listener).await.take(1).await;
    let process = std::process::id();
    let expected = format!("<46>1 2026-01-02T02:50:00.123456Z gate1 tollgate {process} request");
    assert_eq!(messages[0].header, expected);
}

#[tokio::test]
async fn a_log_format_takes_the_record_s_place() {
    let (listener, address) = listen().await;
    let running = Running::start();
    let shape = log_format(&[("agent", "$agent"), ("line", "$status of $http_x_absent")]);
    running.record(entry(1, &to_syslog(target(address, SyslogTransport::Tcp), shape, batch())));
    let messages = accept(&listener).await.take(1).await;
    let expected = serde_json::json!({"agent": "bot", "line": "200 of ", "route_id": "1"});
    assert_eq!(messages[0].record, expected);
    assert!(Variable::parse("http_x_absent").is_some());
}
