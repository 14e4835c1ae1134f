//! What a route wants written of its requests, and where.

use std::sync::Arc;
use std::time::Duration;

use crate::expression::Expression;
use crate::variable::Template;

/// `syslog`: records sent to a syslog server.
#[derive(Clone, Debug)]
pub struct Syslog {
    pub target: SyslogTarget,
    pub record: RecordShape,
    pub batch: Batch,
}

/// The connection of a syslog sink. Routes with equal targets share one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyslogTarget {
    pub host: Arc<str>,
    pub port: u16,
    pub transport: SyslogTransport,
    /// For connecting, and for each write.
    pub timeout: Duration,
}

/// How messages are framed and secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyslogTransport {
    /// One message a datagram (RFC 5426).
    Udp,
    /// Octet counting (RFC 6587 §3.4.1).
    Tcp,
    /// Octet counting over TLS (RFC 5425), the server's certificate verified.
    Tls,
}

/// How many messages wait, and how a failed batch is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Messages of one write.
    pub max_size: u32,
    /// The longest a message waits for others.
    pub inactive: Duration,
    pub max_retries: u32,
    pub retry_delay: Duration,
    /// Messages that may wait while the server is away; beyond it the oldest go, counted.
    pub max_pending: u32,
}

/// `file-logger`: records appended to a file, one JSON object a line.
#[derive(Clone, Debug)]
pub struct FileLogger {
    pub path: Arc<str>,
    pub record: RecordShape,
    /// Only requests for which this holds.
    pub only: Option<Expression>,
}

/// The content of a record.
#[derive(Clone, Debug, Default)]
pub struct RecordShape {
    /// `None` for tollgate's own record.
    pub format: Option<Arc<Format>>,
    /// Members added to tollgate's own record.
    pub extra: Option<Arc<Format>>,
    pub request_body: Option<BodyCapture>,
    pub response_body: Option<BodyCapture>,
}

/// Whether and how much of a body is written.
#[derive(Clone, Debug)]
pub struct BodyCapture {
    /// Only when this holds.
    pub when: Option<Expression>,
    /// Bytes; what is longer is cut and marked so.
    pub max_bytes: usize,
}

/// A `log_format`: an object of constants, variables and further objects.
#[derive(Clone, Debug)]
pub struct Format(pub Vec<(Arc<str>, FormatValue)>);

/// A member's value.
#[derive(Clone, Debug)]
pub enum FormatValue {
    /// Variables are filled in; a lone variable without a value drops the member.
    Text(Template),
    Object(Format),
}
