//! Why the instruments cannot start.

use std::io;
use std::path::PathBuf;

/// Why the instruments cannot start. The text names the variable, never a secret value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{variable} {problem}")]
    Variable { variable: &'static str, problem: String },
    #[error("cannot read the log filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("the process already has a subscriber for logs")]
    AlreadyStarted,
    #[error("traces need a tokio runtime to be sent from")]
    NoRuntime,
    #[error("cannot start the thread that writes logs")]
    Thread(#[source] io::Error),
    #[error("cannot read {}, which OTEL_EXPORTER_OTLP_CERTIFICATE names", path.display())]
    Certificate {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot make an exporter for the traces")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}
