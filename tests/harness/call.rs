//! One request on a connection of its own, by a client that takes a failure for an answer.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Duration;

use super::{Message, Wire};

/// A request to a door of a node.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Lines of the head.
    pub(crate) fields: &'a [&'a str],
    pub(crate) body: &'a str,
    /// How long nothing may come back.
    pub(crate) patience: Duration,
}

impl Call<'_> {
    /// Asks, over a connection that is closed afterwards.
    pub(crate) fn ask(&self, address: &str) -> io::Result<Message> {
        self.ask_on(&mut connect(address, self.patience)?, address, "close")
    }

    /// Asks on a connection that may be kept.
    pub(crate) fn ask_on(
        &self,
        wire: &mut Wire,
        address: &str,
        connection: &str,
    ) -> io::Result<Message> {
        let Self { method, path, fields, body, patience } = self;
        wire.socket().set_read_timeout(Some(*patience))?;
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let length = body.len();
        wire.try_send(format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: {connection}\r\n\
             content-length: {length}\r\n{fields}\r\n{body}"
        ))?;
        wire.try_answer(method)?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

/// A connection; the error is that of TCP.
pub(crate) fn connect(address: &str, patience: Duration) -> io::Result<Wire> {
    let address = address.parse().map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(patience))?;
    Ok(Wire::over(stream))
}

/// A request that only asks.
pub(crate) fn get_call<'a>(path: &'a str, fields: &'a [&'a str]) -> Call<'a> {
    Call { method: "GET", path, fields, body: "", patience: Duration::from_secs(20) }
}
