//! `syslog`: records sent to a syslog server.

use std::sync::Arc;
use std::time::Duration;

use rules::record::{Batch, Syslog, SyslogTarget, SyslogTransport};
use serde_json::Value;

use super::record;
use crate::reader::{
    Object, Reader, boolean, integer, matching, millis, one_of, port, seconds, text,
};

/// Reads the rule. Members that tune APISIX's own buffers are checked and have no effect.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<Syslog> {
    let host = object.required("host", host);
    let port = object.required("port", port);
    let transport = transport(object);
    let timeout = object.optional("timeout", millis(1)).unwrap_or(TIMEOUT);
    object.optional("pool_size", integer::<i64>(5, i64::MAX));
    object.optional("flush_limit", integer::<i64>(1, i64::MAX));
    object.optional("drop_limit", integer::<i64>(1, i64::MAX));
    let record = record::read(object);
    let batch = batch(object);
    let target =
        SyslogTarget { host: Arc::from(host?), port: port?, transport: transport?, timeout };
    Some(Syslog { target, record, batch })
}

fn host<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<&'v str> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
    matching((1, 253), allowed, "a host name or an IP address")(reader, value)
}

fn transport(object: &mut Object<'_, '_>) -> Option<SyslogTransport> {
    let socket = object.optional("sock_type", one_of(SOCKETS, &[]));
    let is_tls = object.optional("tls", boolean).unwrap_or_default();
    let socket = if object.has("sock_type") { socket? } else { SyslogTransport::Tcp };
    match (socket, is_tls) {
        (SyslogTransport::Udp, true) => {
            object.fault("tls", "needs `sock_type` to be `tcp`");
            None
        }
        (_, true) => Some(SyslogTransport::Tls),
        (plain, false) => Some(plain),
    }
}

const SOCKETS: &[(&str, SyslogTransport)] =
    &[("tcp", SyslogTransport::Tcp), ("udp", SyslogTransport::Udp)];

fn batch(object: &mut Object<'_, '_>) -> Batch {
    object.optional("name", text(1, 256));
    object.optional("buffer_duration", integer::<i64>(1, i64::MAX));
    let max_size = object.optional("batch_max_size", integer(1, MESSAGES_MAX));
    let inactive = object.optional("inactive_timeout", seconds(false));
    let max_retries = object.optional("max_retry_count", integer(0, i64::from(u32::MAX)));
    let retry_delay = object.optional("retry_delay", seconds(true));
    Batch {
        max_size: max_size.unwrap_or(1_000),
        inactive: inactive.unwrap_or(Duration::from_secs(5)),
        max_retries: max_retries.unwrap_or(0),
        retry_delay: retry_delay.unwrap_or(Duration::from_secs(1)),
        max_pending: PENDING_MAX,
    }
}

/// For connecting and for each write, where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Messages of one write.
const MESSAGES_MAX: i64 = 65_536;
/// Messages that wait while the server is away, as in APISIX; beyond it the oldest go, counted.
const PENDING_MAX: u32 = 8_192;
