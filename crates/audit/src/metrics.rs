//! What the recorder counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use telemetry::prometheus::Registry;

/// The recorder's metrics. Clones count into the same cells.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Records written, by where: the audit file, a route's file, or a syslog server's connection.
    pub(crate) written: Family<To, Counter>,
    /// Bytes of those records.
    pub(crate) bytes: Family<To, Counter>,
    /// Records given up: a route's file could not be written, or a server was away too long. The
    /// audit file never gives one up while the process lives.
    pub(crate) dropped: Family<To, Counter>,
    /// Records cut down to what a message may hold.
    pub(crate) shortened: Counter,
    /// Writes, connections and flushes that failed; each is tried again.
    pub(crate) errors: Family<To, Counter>,
    /// Seats that are taken: requests on their way and records not yet written. Moves whenever
    /// the writer looks at the queue.
    pub(crate) seats: Gauge,
    /// Requests that found no seat.
    pub(crate) refused: Counter,
    /// Records that wait for a syslog server.
    pub(crate) pending: Gauge,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct To {
    pub(crate) sink: Sink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Sink {
    #[expect(non_camel_case_types, reason = "the variant's name is the label's value")]
    audit,
    #[expect(non_camel_case_types, reason = "the variant's name is the label's value")]
    file,
    #[expect(non_camel_case_types, reason = "the variant's name is the label's value")]
    syslog,
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self { written, bytes, dropped, shortened, errors, seats, refused, pending } = self;
        registry.register("records_written", "Records written, by sink", written.clone());
        registry.register("records_bytes", "Bytes of records written, by sink", bytes.clone());
        registry.register("records_dropped", "Records given up, by sink", dropped.clone());
        registry.register("records_shortened", "Records cut to fit a message", shortened.clone());
        registry.register(
            "records_errors",
            "Writes of records that failed, by sink",
            errors.clone(),
        );
        registry.register("records_seats", "Seats taken in the recorder's queue", seats.clone());
        registry.register("records_refused", "Requests that found no seat", refused.clone());
        registry.register(
            "records_pending",
            "Records waiting for a syslog server",
            pending.clone(),
        );
    }

    /// Counts records that were written.
    pub(crate) fn wrote(&self, sink: Sink, records: u64, bytes: usize) {
        let to = To { sink };
        self.written.get_or_create(&to).inc_by(records);
        self.bytes.get_or_create(&to).inc_by(bytes as u64);
    }

    /// Counts records that were given up.
    pub(crate) fn gave_up(&self, sink: Sink, records: u64) {
        self.dropped.get_or_create(&To { sink }).inc_by(records);
    }

    /// Counts a write that failed.
    pub(crate) fn failed(&self, sink: Sink) {
        self.errors.get_or_create(&To { sink }).inc();
    }
}
