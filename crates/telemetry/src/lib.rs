//! Instruments: structured logs, traces over OTLP, metrics for Prometheus.
//!
//! Floor 0. What is absent: domain types, and the reading of the environment: variables arrive
//! through a lookup that the caller owns.

pub mod context;
mod error;
pub mod log;
pub mod prometheus;
pub mod trace;

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::Dispatch;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

pub use error::Error;

/// What [`start`] needs to know.
pub struct Options<'a> {
    pub log: log::Options,
    /// Looks up a variable of the OpenTelemetry specification (`OTEL_*`).
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// `service.version` of the resource.
    pub version: &'a str,
    /// `service.instance.id` of the resource: the node's name.
    pub instance: &'a str,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("log", &self.log)
            .field("version", &self.version)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// The running instruments. Ends with [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    sampler: context::Sampler,
    traces: Option<(trace::Spans, trace::Task)>,
    counts: trace::Counts,
    lines_dropped: Counter,
    flusher: log::Flusher,
}

/// Starts logs and traces for the whole process. Where traces are on, call it on the runtime that
/// shall send them: a multi-thread one, so that sending never shares a thread with requests.
///
/// # Errors
/// When a value is not usable (the error names its variable), or a subscriber is already set.
pub fn start(options: &Options<'_>) -> Result<Telemetry, Error> {
    let (dispatch, telemetry) = build(options, log::Output::stderr())?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| Error::AlreadyStarted)?;
    Ok(telemetry)
}

/// The same, for an output and a scope of the caller's choice.
///
/// # Errors
/// When a value is not usable; the error names its variable.
pub fn build(options: &Options<'_>, output: log::Output) -> Result<(Dispatch, Telemetry), Error> {
    let lines_dropped = Counter::default();
    let (lines, flusher) = log::layer(&options.log, output, lines_dropped.clone())?;
    let counts = trace::Counts::default();
    let running = trace::start(options, &counts)?;
    let subscriber = tracing_subscriber::registry().with(lines);
    let Some(running) = running else {
        let sampler = context::Sampler::OFF;
        let telemetry = Telemetry { sampler, traces: None, counts, lines_dropped, flusher };
        return Ok((Dispatch::new(subscriber), telemetry));
    };
    let trace::Running { sampler, spans, tracer, task } = running;
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let subscriber = subscriber.with(layer.with_filter(log::exported()));
    let traces = Some((spans, task));
    let telemetry = Telemetry { sampler, traces, counts, lines_dropped, flusher };
    Ok((Dispatch::new(subscriber), telemetry))
}

impl Telemetry {
    /// Decides at a request's head whether it is traced. While traces are off, a caller's decision
    /// is only passed on.
    #[must_use]
    pub const fn sampler(&self) -> context::Sampler {
        self.sampler
    }

    /// Where finished spans go; `None` while traces are off.
    #[must_use]
    pub fn spans(&self) -> Option<trace::Spans> {
        self.traces.as_ref().map(|(spans, _)| spans.clone())
    }

    /// Registers what was sent, dropped and failed.
    pub fn register(&self, registry: &mut prometheus::Registry) {
        self.counts.register(registry);
        let dropped = self.lines_dropped.clone();
        registry.register(
            "log_lines_dropped",
            "Lines of the log that nobody read in time",
            dropped,
        );
    }

    /// Sends what is left and flushes the log, within the deadline (and half a second for the
    /// log's reader); spans that are not sent by then are lost and counted.
    pub async fn shutdown(self, deadline: Duration) {
        let Self { traces, flusher, .. } = self;
        if let Some((_, task)) = traces {
            task.shutdown(deadline).await;
        }
        // Flushing waits for a reader of standard error, so it must not block the runtime.
        let _ended = tokio::task::spawn_blocking(move || drop(flusher)).await;
    }
}
