//! The node's place and its document, in numbers.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::lead::Leader;
use crate::{Handle, Role};

/// Read from the handle whenever somebody asks.
#[derive(Debug)]
struct Gauges(Handle);

impl Handle {
    /// Adds the node's numbers to those that are asked for.
    pub fn register(&self, registry: &mut telemetry::prometheus::Registry) {
        registry.register_collector(Gauges(self.clone()));
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let status = self.0.status();
        let (members, voters) = self.0.0.lead.counts();
        let leader = self.0.0.lead.leader();
        let is_leader = matches!(status.role, Role::Leader | Role::Single);
        let gauges = [
            ("document_revision", "The revision that this node has", status.revision.number()),
            ("document_live_revision", "The revision requests are judged by", status.live.number()),
            (
                "document_writable",
                "1 when this node can take changes",
                u64::from(status.why_not_writable.is_none()),
            ),
            ("cluster_is_leader", "1 when this node judges changes", u64::from(is_leader)),
            (
                "cluster_has_leader",
                "1 when this node knows who judges changes",
                u64::from(leader != Leader::Nobody),
            ),
            ("cluster_members", "Members that this node knows", members),
            ("cluster_voters", "Members with a vote", voters),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
