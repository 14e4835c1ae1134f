//! HTTP/1.1 by hand, both ends: a client that sends exact bytes, an upstream that records them.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A head and a body, as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The first line, without its end.
    pub(crate) line: Vec<u8>,
    /// Lower-case names, trimmed values.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Without the framing of chunks.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The first field of a name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| std::str::from_utf8(value).expect("text"))
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(other, _)| other == name).count()
    }

    /// The second word of the first line: a request's target, or an answer's status.
    pub(crate) fn second(&self) -> &[u8] {
        self.line.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        let digits = std::str::from_utf8(self.second()).ok();
        let status = digits.and_then(|digits| digits.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {self:?}"))
    }

    /// A request's target.
    pub(crate) fn target(&self) -> String {
        String::from_utf8_lossy(self.second()).into_owned()
    }
}

/// A client's connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline");
        Self(BufReader::new(stream))
    }

    /// Sends exactly these bytes. The other end may have had enough of them before the last.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let sent = self.0.get_mut().write_all(bytes);
        if let Err(error) = sent {
            let gone = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            assert!(gone, "cannot send: {error}");
        }
    }

    /// Sends no more, and still listens.
    pub(crate) fn finish(&mut self) {
        // It fails where the other end has closed already.
        let _closed = self.0.get_mut().shutdown(std::net::Shutdown::Write);
    }

    /// Whether something comes, or the end, before the time is over.
    pub(crate) fn has_heard_within(&mut self, time: Duration) -> bool {
        let limited = |stream: &TcpStream, time| stream.set_read_timeout(Some(time));
        limited(self.0.get_ref(), time).expect("a deadline");
        let heard = self.0.fill_buf();
        let is_late = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        let has_heard = !heard.as_ref().is_err_and(is_late);
        limited(self.0.get_ref(), DEADLINE).expect("a deadline");
        has_heard
    }

    /// The next answer; `None` when the connection was closed before its first byte. Panics when
    /// none comes in time, or what comes is no HTTP.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        match read_message(&mut self.0, Side::Answer) {
            Ok(Some(interim)) if interim.status() < 200 => self.receive(),
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no well-formed answer: {error}"),
        }
    }

    /// A whole exchange: `head` without its last empty line.
    pub(crate) fn ask(&mut self, head: &str) -> Message {
        self.send(format!("{head}\r\n\r\n").as_bytes());
        self.receive().unwrap_or_else(|| panic!("no answer to {head}"))
    }
}

/// Gets a path, with fields as lines of a head.
pub(crate) fn get(address: &str, path: &str, fields: &[&str]) -> Message {
    let fields: String = fields.iter().map(|field| format!("\r\n{field}")).collect();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close{fields}");
    Client::connect(address).ask(&head)
}

/// A test's own upstream.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    arrivals: Vec<Message>,
    /// What was no request: its first bytes, or what broke it off.
    broken: Vec<String>,
}

impl Origin {
    /// Answers everything with 200.
    pub(crate) fn start() -> Self {
        Self::answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n".to_owned())
    }

    /// Answers what a function says, byte by byte.
    pub(crate) fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, answer) = (Arc::new(Mutex::new(Seen::default())), Arc::new(answer));
        let shared = Arc::clone(&seen);
        // The threads end with the connections, and these with the node.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, seen }
    }

    /// Every whole request so far.
    pub(crate) fn arrivals(&self) -> Vec<Message> {
        lock(&self.seen).arrivals.clone()
    }

    /// Every whole request since the last look, which are then forgotten; and what was none.
    pub(crate) fn take(&self) -> (Vec<Message>, Vec<String>) {
        let mut seen = lock(&self.seen);
        (std::mem::take(&mut seen.arrivals), std::mem::take(&mut seen.broken))
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, answer: &dyn Fn(&Message) -> String) {
    let patient = stream.set_read_timeout(Some(IDLE)).and_then(|()| stream.set_nodelay(true));
    patient.expect("a deadline");
    let mut stream = BufReader::new(stream);
    loop {
        match read_message(&mut stream, Side::Request) {
            Ok(Some(request)) => {
                let answer = answer(&request);
                lock(seen).arrivals.push(request);
                if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return lock(seen).broken.push(error.to_string()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Answer,
}

/// Reads one message by the letter of RFC 9112; anything else is an error.
fn read_message(stream: &mut BufReader<TcpStream>, side: Side) -> io::Result<Option<Message>> {
    let Some(line) = read_line(stream)? else { return Ok(None) };
    let mut message = Message { line, ..Message::default() };
    check_first_line(&message.line, side)?;
    loop {
        let line = read_line(stream)?.ok_or_else(|| wrong("a head without its end", &[]))?;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| wrong("no field", &line))?;
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(wrong("a bad name", &line));
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
            return Err(wrong("a bad value", &line));
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        message.fields.push((name, value.to_vec()));
    }
    message.body = read_body(stream, &message, side)?;
    Ok(Some(message))
}

fn check_first_line(line: &[u8], side: Side) -> io::Result<()> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let fits = match (side, &*words) {
        (Side::Request, [method, target, b"HTTP/1.1"]) => {
            let is_text = !target.iter().any(u8::is_ascii_control) && !target.is_empty();
            is_text && !method.is_empty() && method.iter().all(|byte| is_token(*byte))
        }
        (Side::Answer, [b"HTTP/1.1" | b"HTTP/1.0", status, ..]) => {
            status.len() == 3 && status.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(wrong("a bad first line", line)) }
}

fn read_body(
    stream: &mut BufReader<TcpStream>,
    message: &Message,
    side: Side,
) -> io::Result<Vec<u8>> {
    let lengths = message.count("content-length");
    let codings = message.count("transfer-encoding");
    if lengths + codings > 1 {
        return Err(wrong("more than one length", &message.line));
    }
    if codings == 1 {
        if message.field("transfer-encoding") != Some("chunked") {
            return Err(wrong("an unknown coding", &message.line));
        }
        return read_chunks(stream);
    }
    let mut body = Vec::new();
    if let Some(length) = message.field("content-length") {
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits);
        let length: u64 = length.ok_or_else(|| wrong("a bad length", &message.line))?;
        stream.take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Err(wrong("a body without its end", &message.line));
        }
    } else if side == Side::Answer && !matches!(message.status(), 100..=204 | 304) {
        stream.read_to_end(&mut body)?;
    }
    Ok(body)
}

fn read_chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?.ok_or_else(|| wrong("chunks without their end", &[]))?;
        let size = std::str::from_utf8(&line).ok();
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| wrong("a bad chunk", &line))?;
        let before = body.len() as u64;
        stream.take(size).read_to_end(&mut body)?;
        let end = read_line(stream)?.ok_or_else(|| wrong("a chunk without its end", &[]))?;
        if body.len() as u64 - before < size || !end.is_empty() {
            return Err(wrong("a bad chunk", &line));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A line without its CRLF; `None` at the end of the stream.
fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(LINE_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    match line.strip_suffix(b"\r\n") {
        Some(text) if !text.contains(&b'\r') => Ok(Some(text.to_vec())),
        _ => Err(wrong("a bad line", &line)),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn wrong(what: &str, line: &[u8]) -> io::Error {
    let start = line.get(..200).unwrap_or(line);
    io::Error::new(ErrorKind::InvalidData, format!("{what}: {}", start.escape_ascii()))
}

/// How long the gate may take for anything a test asks, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long a connection to an upstream may rest.
const IDLE: Duration = Duration::from_secs(120);

/// The longest line that is read.
const LINE_MAX: u64 = 1 << 20;
