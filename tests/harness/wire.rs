//! HTTP/1.1 by hand: a connection that sends exact bytes, and reads by the letter of RFC 9112.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::Message;
use super::message::Field;

/// One end of a connection. A read or write that waits too long fails the test.
pub(crate) struct Wire<S = TcpStream> {
    stream: BufReader<S>,
    /// What comes from the other end.
    side: Side,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Answer,
}

impl Wire {
    /// A client's end.
    pub(crate) fn connect(address: &str) -> Self {
        Self::over(dial(address))
    }

    /// A server's end.
    pub(super) fn serve(stream: TcpStream) -> Self {
        limit(&stream, REST);
        Self { stream: BufReader::new(stream), side: Side::Request }
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends no more, and still listens.
    pub(crate) fn finish(&self) {
        // It fails where the other end has closed already.
        let _closed = self.socket().shutdown(Shutdown::Write);
    }

    /// Whether something comes, or the end, before the time is over.
    pub(crate) fn has_heard_within(&mut self, time: Duration) -> bool {
        self.socket().set_read_timeout(Some(time)).expect("an option");
        let has_heard = !self.stream.fill_buf().is_err_and(|error| is_late(&error));
        self.socket().set_read_timeout(Some(DEADLINE)).expect("an option");
        has_heard
    }
}

impl<S: Read + Write> Wire<S> {
    /// A client's end over a stream that was [`dial`]ed.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream), side: Side::Answer }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other end takes bytes");
    }

    /// The same to an end that may have had enough of them before the last.
    pub(crate) fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send(bytes) {
            assert!(is_gone(&error), "cannot send: {error}");
        }
    }

    /// The same, and says what came of it.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// Some bytes, as they come; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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

    /// A whole exchange: `head` without its last empty line.
    pub(crate) fn ask(&mut self, head: &str) -> Message {
        self.offer(format!("{head}\r\n\r\n"));
        self.final_answer().unwrap_or_else(|| panic!("no answer to {head}"))
    }

    /// The next answer, an interim one too; `None` where the connection is closed before it. One
    /// that breaks off fails the test.
    pub(crate) fn answer(&mut self, method: &str) -> Option<Message> {
        match self.try_answer(method) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no whole answer: {error}"),
        }
    }

    /// The next answer to anything but a `HEAD` that is no interim one.
    pub(crate) fn final_answer(&mut self) -> Option<Message> {
        let answer = self.answer("GET")?;
        if answer.status() < 200 { self.final_answer() } else { Some(answer) }
    }

    /// Whether the next answer to a `GET` breaks off.
    pub(crate) fn answer_breaks_off(&mut self) -> bool {
        whole(self.try_answer("GET")).is_none()
    }

    /// A message's head; `None` at the end of the connection.
    pub(crate) fn head(&mut self) -> Option<Message> {
        whole(self.read_head())
    }

    /// One chunk of a chunked body; empty at the body's end, `None` where it breaks off.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        whole(self.read_chunk().map(Some))
    }

    /// The next request with its body; `None` at the end of the connection.
    pub(super) fn try_request(&mut self) -> io::Result<Option<Message>> {
        let Some(mut message) = self.read_head()? else { return Ok(None) };
        self.read_body(&mut message)?;
        Ok(Some(message))
    }

    /// The next answer; the error is that of the connection, or says what is wrong with it.
    pub(super) fn try_answer(&mut self, method: &str) -> io::Result<Option<Message>> {
        let Some(mut message) = self.read_head()? else { return Ok(None) };
        if method != "HEAD" && !matches!(message.status(), 100..200 | 204 | 304) {
            self.read_body(&mut message)?;
        }
        Ok(Some(message))
    }

    fn read_head(&mut self) -> io::Result<Option<Message>> {
        let Some(line) = self.read_line()? else { return Ok(None) };
        check_first_line(&line, self.side)?;
        let fields = self.read_fields()?;
        Ok(Some(Message { line, fields, ..Message::default() }))
    }

    fn read_body(&mut self, message: &mut Message) -> io::Result<()> {
        if message.count("content-length") + message.count("transfer-encoding") > 1 {
            return Err(wrong("more than one length", &message.line));
        }
        match message.field("transfer-encoding") {
            None => {}
            Some("chunked") => return self.read_chunks(message),
            Some(_) => return Err(wrong("an unknown coding", &message.line)),
        }
        if let Some(length) = message.field("content-length") {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            let length = length.ok_or_else(|| wrong("a bad length", &message.line))?;
            return self.read_exactly(length, &mut message.body);
        }
        if self.side == Side::Answer {
            self.stream.read_to_end(&mut message.body)?;
        }
        Ok(())
    }

    fn read_chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let chunk = self.read_chunk()?;
            if chunk.is_empty() {
                message.trailers = self.read_fields()?;
                return Ok(());
            }
            message.body.extend(chunk);
        }
    }

    fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.read_line()?.ok_or(ErrorKind::UnexpectedEof)?;
        let digits = line.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(&line).ok().filter(|_| digits);
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| wrong("a bad chunk", &line))?;
        let mut chunk = Vec::new();
        self.read_exactly(size, &mut chunk)?;
        // Behind the last one its trailers come.
        if size > 0 && !self.read_line()?.ok_or(ErrorKind::UnexpectedEof)?.is_empty() {
            return Err(wrong("a bad chunk", &line));
        }
        Ok(chunk)
    }

    /// Fields and the empty line behind them.
    fn read_fields(&mut self) -> io::Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            let line = self.read_line()?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.push(read_field(&line)?);
        }
    }

    fn read_exactly(&mut self, length: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        let read = (&mut self.stream).take(length).read_to_end(bytes)?;
        if (read as u64) < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// A line without its CRLF; `None` at the end of the stream.
    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE_MAX).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) if !text.contains(&b'\r') => Ok(Some(text.to_vec())),
            None if read == 0 => Ok(None),
            None if !line.ends_with(b"\n") && (read as u64) < LINE_MAX => {
                Err(ErrorKind::UnexpectedEof.into())
            }
            _ => Err(wrong("a bad line", &line)),
        }
    }
}

/// A connection on which no read or write waits for ever.
pub(crate) fn dial(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener takes a connection");
    limit(&stream, DEADLINE);
    stream
}

/// Gets a path over a connection of its own, with fields as lines of a head.
pub(crate) fn get(address: &str, path: &str, fields: &[&str]) -> Message {
    let fields: String = fields.iter().map(|field| format!("\r\n{field}")).collect();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close{fields}");
    Wire::connect(address).ask(&head)
}

/// Whether a read or write only waited too long.
pub(crate) fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Whether the other end has gone.
fn is_gone(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// What was read; `None` at the end of the connection, in the middle too.
fn whole<T>(read: io::Result<Option<T>>) -> Option<T> {
    match read {
        Ok(found) => found,
        Err(error) if is_gone(&error) => None,
        Err(error) => panic!("cannot read: {error}"),
    }
}

fn limit(stream: &TcpStream, time: Duration) {
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(time)).expect("an option");
    stream.set_write_timeout(Some(time)).expect("an option");
}

fn check_first_line(line: &[u8], side: Side) -> io::Result<()> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let fits = match (side, &*words) {
        (Side::Request, [method, target, b"HTTP/1.1"]) => {
            let is_text = !target.iter().any(u8::is_ascii_control) && !target.is_empty();
            is_text && is_token(method)
        }
        (Side::Answer, [b"HTTP/1.1" | b"HTTP/1.0", status, ..]) => {
            status.len() == 3 && status.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(wrong("a bad first line", line)) }
}

fn read_field(line: &[u8]) -> io::Result<Field> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or_else(|| wrong("no field", line))?);
    if !is_token(name) {
        return Err(wrong("a bad name", line));
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(wrong("a bad value", line));
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

/// A token (RFC 9110 §5.6.2).
fn is_token(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(fits)
}

fn wrong(what: &str, line: &[u8]) -> io::Error {
    let start = line.get(..200).unwrap_or(line);
    io::Error::new(ErrorKind::InvalidData, format!("{what}: {}", start.escape_ascii()))
}

/// How long the gate may take for anything a client asks, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long a connection to a server may rest.
const REST: Duration = Duration::from_secs(120);

/// The longest line that is read.
const LINE_MAX: u64 = 1 << 20;
