//! Variables of a request (`$remote_addr`, `$http_x_team`, `$arg_page`…) and texts that hold them.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;

use crate::fact::Facts;

/// A variable, as nginx and APISIX name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    RemoteAddr,
    RemotePort,
    ServerAddr,
    ServerPort,
    Scheme,
    /// `server_protocol`: `HTTP/1.1`.
    Protocol,
    /// `method` and `request_method`.
    Method,
    Host,
    /// `http_host`: the host as sent, with its port.
    HostHeader,
    /// `uri`: the path in its normal form.
    Uri,
    /// `request_uri`: path and query as the client sent them.
    RequestUri,
    /// `args` and `query_string`.
    Args,
    RequestId,
    RouteId,
    RouteName,
    /// `consumer_name` and `agent`.
    ConsumerName,
    /// `consumer_group_id` and `team`.
    ConsumerGroupId,
    Organisation,
    Run,
    /// `arg_NAME`.
    Arg(Arc<str>),
    /// `http_NAME`.
    Header(HeaderName),
    /// `cookie_NAME`.
    Cookie(Arc<str>),
    /// Known once the request has ended; has no value before.
    Ended(EndVariable),
}

/// A variable of the record, known once the request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndVariable {
    Status,
    UpstreamAddr,
    UpstreamStatus,
    /// Seconds with milliseconds.
    RequestTime,
    UpstreamResponseTime,
    BodyBytesSent,
    /// Bytes of the request's body.
    RequestLength,
    TimeIso8601,
    /// Seconds since the epoch with milliseconds.
    Msec,
    RefusalCode,
    TraceId,
}

/// A text with variables and, in a rewrite, captures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    pub(crate) parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Text(Arc<str>),
    Variable(Variable),
    /// `$1` to `$9` of the pattern that matched.
    Capture(usize),
}
