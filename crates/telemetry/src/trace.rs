//! Spans, and how they leave for a collector.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{
    SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
    TraceId as OtelTraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope};
pub use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, SpanData, SpanEvents, SpanExporter as _, SpanLinks,
};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Handle;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::context::{Sampler, SpanId, TraceContext, TraceId};
use crate::prometheus::Registry;
use crate::{Error, Options};

mod exporter;
mod queue;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use queue::Task;

/// A finished span, made after the event from what is known of it: a request that is not sampled
/// costs nothing, and one that is costs nothing until it has ended.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: Cow<'static, str>,
    pub kind: Kind,
    /// Its own place in the trace.
    pub context: TraceContext,
    pub parent: Parent,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<KeyValue>,
    /// What went wrong, without secrets; `None` leaves the status unset.
    pub error: Option<Cow<'static, str>>,
}

/// What a span hangs below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Nothing: it is the trace's root.
    None,
    /// A span of this process.
    Local(SpanId),
    /// A span that the caller told of.
    Remote(SpanId),
}

/// The role of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Server,
    Client,
    Internal,
}

/// Takes finished spans. Cheap to clone; never blocks and never fails.
#[derive(Clone, Debug)]
pub struct Spans {
    queue: queue::Queue,
    scope: InstrumentationScope,
}

impl Spans {
    /// Queues a span for export. One that is not sampled goes nowhere; when the queue is full
    /// (`OTEL_BSP_MAX_QUEUE_SIZE`) the span is dropped and counted.
    pub fn finish(&self, span: Span) {
        if !span.context.sampled {
            return;
        }
        let (parent, is_remote) = match span.parent {
            Parent::None => (OtelSpanId::INVALID, false),
            Parent::Local(id) => (otel_span_id(id), false),
            Parent::Remote(id) => (otel_span_id(id), true),
        };
        self.queue.push(SpanData {
            span_context: otel_context(&span.context, false),
            parent_span_id: parent,
            parent_span_is_remote: is_remote,
            span_kind: match span.kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Internal => SpanKind::Internal,
            },
            name: span.name,
            start_time: span.started,
            end_time: span.ended,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, |description| Status::Error { description }),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// Hangs a span of `tracing` below a remote one. To be called before the span is entered.
pub fn adopt(span: &tracing::Span, parent: &TraceContext) {
    let context = Context::new().with_remote_span_context(otel_context(parent, true));
    // It fails where traces are off, and then there is nothing to hang.
    let _ignored = span.set_parent(context);
}

/// The place in its trace of a span of `tracing`; `None` while traces are off.
#[must_use]
pub fn context_of(span: &tracing::Span) -> Option<TraceContext> {
    let context = span.context();
    let found = context.span().span_context().clone();
    found.is_valid().then(|| TraceContext {
        trace_id: TraceId::from_random(u128::from_be_bytes(found.trace_id().to_bytes())),
        span_id: SpanId::from_random(u64::from_be_bytes(found.span_id().to_bytes())),
        sampled: found.is_sampled(),
    })
}

/// What happened to spans. Clones count into the same cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Spans that a collector took.
    pub(crate) sent: Counter,
    /// Spans that were lost: the queue was full, or the collector did not take them.
    pub(crate) dropped: Counter,
    /// Exports that failed.
    pub(crate) failed: Counter,
}

impl Counts {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("trace_spans_sent", "Spans a collector took", self.sent.clone());
        registry.register("trace_spans_dropped", "Spans lost", self.dropped.clone());
        registry.register(
            "trace_exports_failed",
            "Exports of spans that failed",
            self.failed.clone(),
        );
    }
}

/// Traces that are on.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) sampler: Sampler,
    pub(crate) spans: Spans,
    pub(crate) tracer: SdkTracer,
    pub(crate) task: Task,
}

/// Starts the export of traces; `None` while they are off.
pub(crate) fn start(options: &Options<'_>, counts: &Counts) -> Result<Option<Running>, Error> {
    let Some(settings) = settings::Settings::read(options)? else { return Ok(None) };
    let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
    let resource = Resource::builder_empty().with_attributes(settings.resource).build();
    let mut exporter = exporter::build(&settings.target)?;
    exporter.set_resource(&resource);
    let (queue, task) = queue::Queue::start(settings.queue, exporter, counts.clone(), &runtime);
    let scope =
        InstrumentationScope::builder(SCOPE).with_version(options.version.to_owned()).build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(queue.clone())
        .with_sampler(settings.sampler.for_sdk())
        .with_resource(resource)
        .build();
    let tracer = provider.tracer_with_scope(scope.clone());
    Ok(Some(Running { sampler: settings.sampler, spans: Spans { queue, scope }, tracer, task }))
}

fn otel_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(
        OtelTraceId::from_bytes(context.trace_id.get().to_be_bytes()),
        otel_span_id(context.span_id),
        flags,
        is_remote,
        TraceState::NONE,
    )
}

const fn otel_span_id(id: SpanId) -> OtelSpanId {
    OtelSpanId::from_bytes(id.get().to_be_bytes())
}

/// The instrumentation scope of our spans.
const SCOPE: &str = "tollgate";
