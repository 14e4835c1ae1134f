//! Records: who did what, written to a file, and sent where routes ask for it.
//!
//! Floor 2. What is absent: HTTP serving, policy. The proxy takes a [`Seat`] before a request's
//! trip begins and hands over one [`Entry`] at its end; everything else happens on the
//! recorder's own thread and tasks.

mod entry;
mod file;
mod file_logger;
mod format;
mod json;
mod metrics;
mod record;
mod recorder;
#[cfg(test)]
mod sample;
mod shorten;
mod syslog;
mod writer;

pub use entry::{Bodies, Body, Captures, Due, Entry, Logger, Loggers, SecretNames};
pub use file::OpenError;
pub use metrics::Metrics;
pub use recorder::{Error, Handle, Options, Recorder, Rotation, Seat};
