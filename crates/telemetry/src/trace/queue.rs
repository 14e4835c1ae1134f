//! The queue between those who finish spans and the one who sends them.
//!
//! Not the SDK's own batch processor: its thread blocks on the exporter, cannot be stopped at a
//! deadline, and does not say how much it dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Counts;
use super::settings::QueueSettings;

/// The senders' end. Never blocks: what does not fit is dropped and counted.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    /// Capacity left at which a batch is complete.
    complete_at: usize,
    complete: Arc<Notify>,
    /// Spans that were taken in and neither sent nor lost yet.
    left: Arc<AtomicU64>,
    counts: Counts,
}

/// The owner's end.
#[derive(Debug)]
pub(crate) struct Task {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    left: Arc<AtomicU64>,
    counts: Counts,
}

impl Queue {
    /// Starts the task that sends.
    pub(crate) fn start(
        settings: QueueSettings,
        exporter: impl SpanExporter + 'static,
        counts: Counts,
        runtime: &Handle,
    ) -> (Self, Task) {
        let (sender, receiver) = mpsc::channel(settings.queue_max);
        let (stop, stopped) = oneshot::channel();
        let complete = Arc::new(Notify::new());
        let left = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            settings,
            exporter,
            spans: receiver,
            complete: Arc::clone(&complete),
            left: Arc::clone(&left),
            counts: counts.clone(),
            is_failing: false,
        };
        let task = runtime.spawn(worker.run(stopped));
        let complete_at = settings.queue_max - settings.batch_max;
        let task = Task { stop, task, left: Arc::clone(&left), counts: counts.clone() };
        (Self { spans: sender, complete_at, complete, left, counts }, task)
    }

    pub(crate) fn push(&self, span: SpanData) {
        self.left.fetch_add(1, Ordering::Relaxed);
        match self.spans.try_send(span) {
            Ok(()) if self.spans.capacity() <= self.complete_at => self.complete.notify_one(),
            Ok(()) => {}
            Err(_) => {
                self.left.fetch_sub(1, Ordering::Relaxed);
                self.counts.dropped.inc();
            }
        }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Task {
    /// Sends what is left until the deadline; the rest is lost and counted.
    pub(crate) async fn shutdown(mut self, deadline: Duration) {
        if self.stop.send(()).is_err() {
            return;
        }
        if timeout(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            self.counts.dropped.inc_by(self.left.load(Ordering::Relaxed));
        }
    }
}

/// The task's state.
struct Worker<E> {
    settings: QueueSettings,
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    complete: Arc<Notify>,
    left: Arc<AtomicU64>,
    counts: Counts,
    is_failing: bool,
}

impl<E: SpanExporter> Worker<E> {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let is_last = tokio::select! {
                _ = &mut stopped => true,
                () = self.complete.notified() => false,
                () = tokio::time::sleep(self.settings.delay) => false,
            };
            if is_last {
                self.spans.close();
            }
            self.send_waiting().await;
            if is_last {
                return;
            }
        }
    }

    async fn send_waiting(&mut self) {
        loop {
            let mut batch = Vec::new();
            while batch.len() < self.settings.batch_max {
                let Ok(span) = self.spans.try_recv() else { break };
                batch.push(span);
            }
            let count = batch.len() as u64;
            if batch.is_empty() {
                return;
            }
            let sent = timeout(self.settings.timeout, self.exporter.export(batch)).await;
            self.note(count, sent.unwrap_or(Err(OTelSdkError::Timeout(self.settings.timeout))));
        }
    }

    /// Counts, and logs once when sending begins to fail and once when it works again.
    fn note(&mut self, count: u64, result: OTelSdkResult) {
        self.left.fetch_sub(count, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.counts.sent.inc_by(count);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("traces are sent to the collector again");
                }
            }
            Err(error) => {
                self.counts.failed.inc();
                self.counts.dropped.inc_by(count);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "cannot send traces to the collector; they are dropped");
                }
            }
        }
    }
}
