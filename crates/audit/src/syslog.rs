//! `syslog`: records as RFC 5424 messages to servers over UDP, TCP or TLS.
//!
//! Each distinct target has one task with one connection, shared by every route that names it.
//! What is promised:
//!
//! - a record leaves when its batch is full or has waited `inactive_timeout`, with or without
//!   further traffic;
//! - while the server is away records wait, up to `max_pending_entries` and [`PENDING_BYTES_MAX`];
//!   beyond that the oldest are given up, counted and logged once;
//! - over TCP and TLS the order is kept. There is no acknowledgement in the protocol, so when a
//!   connection breaks, what was written in the last moments (see [`connection`]) is sent again:
//!   at least once for that tail, exactly once for everything else. `sequenceId` and the record's
//!   `request_id` tell a repetition;
//! - over UDP a message is one datagram, and the network may lose it;
//! - `max_retry_count` above zero gives a batch up after that many further tries, `retry_delay`
//!   is the first pause between two tries. Zero, APISIX's default, tries for as long as the bound
//!   of waiting records allows: there a failed batch is lost at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rules::record::{Batch, SyslogTarget, SyslogTransport};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::Metrics;
use crate::json::{push_number, push_time};
use crate::metrics::Sink;
use crate::shorten;

use connection::Tls;
use outbox::Outbox;
use sender::Sender;

mod connection;
mod outbox;
mod sender;
#[cfg(test)]
mod tests;

/// Every target, and the tasks that send to them.
#[derive(Debug)]
pub(crate) struct Targets {
    outboxes: HashMap<SyslogTarget, Arc<Outbox>>,
    tasks: JoinSet<()>,
    runtime: Handle,
    tls: Tls,
    hostname: Arc<str>,
    metrics: Metrics,
    /// Ended targets leave their outbox here until the next look.
    is_crowded: bool,
}

impl Targets {
    pub(crate) fn new(
        runtime: Handle,
        roots: Arc<rustls::RootCertStore>,
        hostname: &str,
        metrics: Metrics,
    ) -> Self {
        Self {
            outboxes: HashMap::new(),
            tasks: JoinSet::new(),
            runtime,
            tls: Tls::trusting(roots),
            hostname: Arc::from(host_field(hostname)),
            metrics,
            is_crowded: false,
        }
    }

    /// Queues a record. Never blocks.
    pub(crate) fn send(
        &mut self,
        target: &SyslogTarget,
        batch: Batch,
        at: model::Timestamp,
        json: &[u8],
    ) {
        let hostname = Arc::clone(&self.hostname);
        let Some(outbox) = self.outbox(target) else {
            self.metrics.gave_up(Sink::syslog, 1);
            return;
        };
        let sequence = outbox.next_sequence();
        let mut message = Vec::with_capacity(json.len() + 128);
        push_header(&mut message, at, &hostname, sequence);
        let max = message_bytes_max(target.transport) - message.len();
        if json.len() <= max {
            message.extend_from_slice(json);
        } else {
            message.extend_from_slice(&shorten::to_fit(json, max));
            self.metrics.shortened.inc();
        }
        outbox.push(Arc::from(message), batch);
    }

    /// Sends what waits, until the deadline. Returns how many records are left.
    pub(crate) async fn drain(&mut self, deadline: Duration) -> u64 {
        for outbox in self.outboxes.values() {
            outbox.drain();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            self.tasks.shutdown().await;
        }
        let left = self.outboxes.values().map(|outbox| outbox.len() as u64).sum();
        self.metrics.gave_up(Sink::syslog, left);
        left
    }

    /// The target's outbox; a new one where there is none or its task has ended for want of
    /// traffic. `None` when there are too many.
    fn outbox(&mut self, target: &SyslogTarget) -> Option<Arc<Outbox>> {
        if let Some(outbox) = self.outboxes.get(target).filter(|outbox| !outbox.is_closed()) {
            return Some(Arc::clone(outbox));
        }
        self.outboxes.retain(|_, outbox| !outbox.is_closed());
        while self.tasks.try_join_next().is_some() {}
        if self.outboxes.len() >= TARGETS_MAX {
            if !std::mem::replace(&mut self.is_crowded, true) {
                tracing::error!(max = TARGETS_MAX, "too many syslog targets; records are given up");
            }
            return None;
        }
        self.is_crowded = false;
        let outbox = Arc::new(Outbox::new(self.metrics.clone()));
        let sender = Sender::new(target, Arc::clone(&outbox), &self.tls, self.metrics.clone());
        self.tasks.spawn_on(sender.run(), &self.runtime);
        self.outboxes.insert(target.clone(), Arc::clone(&outbox));
        Some(outbox)
    }
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD` and the space before the message.
///
/// `sequenceId` counts the messages of one target from 1 (RFC 5424 §7.3.1).
fn push_header(out: &mut Vec<u8>, at: model::Timestamp, hostname: &str, sequence: u32) {
    out.extend_from_slice(PRIORITY);
    out.extend_from_slice(b"1 ");
    push_time(out, at);
    out.push(b' ');
    out.extend_from_slice(hostname.as_bytes());
    out.extend_from_slice(b" tollgate ");
    push_number(out, u64::from(std::process::id()));
    out.extend_from_slice(b" request [meta sequenceId=\"");
    push_number(out, u64::from(sequence));
    out.extend_from_slice(b"\"] ");
}

/// A name that fits the HOSTNAME field: printable ASCII without blanks, at most 255 characters;
/// `-` stands for none (RFC 5424 §6.2.4).
fn host_field(name: &str) -> String {
    let field: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

const fn message_bytes_max(transport: SyslogTransport) -> usize {
    match transport {
        SyslogTransport::Udp => DATAGRAM_BYTES_MAX,
        SyslogTransport::Tcp | SyslogTransport::Tls => STREAM_MESSAGE_BYTES_MAX,
    }
}

/// Facility syslog (5), severity informational (6): what APISIX sends, so that rules of a server
/// that sort its records by facility go on working; "log audit" (13) would be lost by them.
const PRIORITY: &[u8] = b"<46>";
/// What one UDP datagram over IPv4 can carry; a longer record is shortened and says so.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// A longer record is shortened and says so.
const STREAM_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Targets at once; records for further ones are given up, counted, and logged once.
const TARGETS_MAX: usize = 256;
/// Bytes that wait for one target; beyond it the oldest records are given up.
const PENDING_BYTES_MAX: usize = 64 << 20;
