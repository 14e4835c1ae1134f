//! Structured logs, written by a thread of their own.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter::Targets};

use crate::Error;

/// How logs are written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub format: Format,
    /// Directives as in `RUST_LOG`; `None` for `info`. The crates that carry the network are kept
    /// to warnings, and the exporter of traces to nothing, unless a directive names them.
    pub filter: Option<String>,
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people; coloured on a terminal.
    #[default]
    Human,
}

/// Where lines go.
pub struct Output {
    pub writer: Box<dyn Write + Send>,
    /// Whether colours make sense there.
    pub is_terminal: bool,
}

impl Output {
    /// Standard error, coloured on a terminal.
    #[must_use]
    pub fn stderr() -> Self {
        let stderr = io::stderr();
        let is_terminal = io::IsTerminal::is_terminal(&stderr);
        Self { writer: Box::new(stderr), is_terminal }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

/// The layer that writes, and the owner's end of its thread.
pub(crate) fn layer<S>(
    options: &Options,
    output: Output,
    dropped: Counter,
) -> Result<(Box<dyn Layer<S> + Send + Sync>, Flusher), Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = filter(options.filter.as_deref())?;
    let is_terminal = output.is_terminal;
    let (lines, flusher) = Lines::start(output.writer, dropped)?;
    let layer = fmt::layer().with_writer(lines).with_ansi(is_terminal);
    let layer = match options.format {
        Format::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false);
            layer.with_span_list(false).with_filter(filter).boxed()
        }
        Format::Human => layer.with_filter(filter).boxed(),
    };
    Ok((layer, flusher))
}

/// The spans worth exporting: ours, never those of what carries the export.
pub(crate) fn exported() -> Targets {
    use tracing::level_filters::LevelFilter;
    let quiet = NETWORK_CRATES.iter().chain(EXPORTER_CRATES).chain(AGREEMENT_CRATES);
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(quiet.map(|name| (*name, LevelFilter::OFF)))
}

fn filter(directives: Option<&str>) -> Result<EnvFilter, Error> {
    let network = NETWORK_CRATES.iter().map(|name| format!("{name}=warn"));
    let silent = EXPORTER_CRATES.iter().chain(AGREEMENT_CRATES);
    let silent = silent.map(|name| format!("{name}=off"));
    // A directive that comes later replaces one of the same target.
    let own = directives.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("info");
    let all: Vec<String> = network.chain(silent).chain([own.to_owned()]).collect();
    EnvFilter::builder().parse(all.join(",")).map_err(Error::Filter)
}

/// Takes lines and hands them to the thread; when it is [`LINES_WAITING_MAX`] behind, because
/// nobody reads the other end, further lines are dropped and counted. Logging never blocks.
#[derive(Clone, Debug)]
struct Lines {
    sender: SyncSender<Message>,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when every line before it is written.
    Flush(SyncSender<()>),
}

impl Lines {
    fn start(writer: Box<dyn Write + Send>, dropped: Counter) -> Result<(Self, Flusher), Error> {
        let (sender, receiver) = sync_channel(LINES_WAITING_MAX);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(writer, &receiver))
            .map_err(Error::Thread)?;
        Ok((Self { sender: sender.clone(), dropped }, Flusher { sender }))
    }
}

/// Ends when the last subscriber and the flusher are gone.
fn write_lines(mut writer: Box<dyn Write + Send>, lines: &Receiver<Message>) {
    for message in lines {
        // When standard error is gone there is nobody left to tell.
        let _ignored = match message {
            Message::Line(line) => writer.write_all(&line),
            Message::Flush(done) => {
                let flushed = writer.flush();
                let _nobody_waits = done.try_send(());
                flushed
            }
        };
    }
}

impl Write for Lines {
    /// Takes one whole line, as the formatter writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.inc();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Waits for lines to be written. Flushes when dropped, so that a process that ends early still
/// says why.
#[derive(Debug)]
pub(crate) struct Flusher {
    sender: SyncSender<Message>,
}

impl Drop for Flusher {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            match wait.recv_timeout(FLUSH_MAX) {
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }
}

/// Crates whose chatter drowns ours.
const NETWORK_CRATES: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tonic",
    "tower",
    "reqwest",
    "hickory_proto",
    "hickory_resolver",
];
/// While a peer is away it says so many times a second; `cluster` says what matters, once.
const AGREEMENT_CRATES: &[&str] = &["openraft"];
/// Crates that must not trace their own work: each export would cause the next.
const EXPORTER_CRATES: &[&str] = &["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp"];
/// Lines that may wait for a slow reader; at about 300 bytes a line, 2.5 MB.
const LINES_WAITING_MAX: usize = 8_192;
/// The longest the end of the process waits for a reader.
const FLUSH_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Hands on what it is given.
    struct Sent(Sender<Vec<u8>>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gone = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(options: &Options, log: impl FnOnce()) -> Vec<String> {
        let (sender, receiver) = channel();
        let output = Output { writer: Box::new(Sent(sender)), is_terminal: false };
        let (layer, flusher) = layer(options, output, Counter::default()).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        drop(flusher);
        receiver.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    fn check(filter: Option<&str>, expected: &[&str]) {
        let options = Options { format: Format::Json, filter: filter.map(str::to_owned) };
        let lines = lines(&options, || {
            tracing::info!("own info");
            tracing::debug!("own debug");
            tracing::info!(target: "h2::codec", "h2 info");
            tracing::error!(target: "opentelemetry_sdk", "sdk error");
            tracing::error!(target: "openraft::replication", "raft error");
        });
        assert_eq!(lines.len(), expected.len(), "{filter:?}: {lines:?}");
        for (line, text) in lines.iter().zip(expected) {
            assert!(line.contains(text), "{line}");
        }
    }

    #[test]
    fn the_network_and_the_exporter_are_quiet_unless_named() {
        check(None, &["own info"]);
        check(Some(""), &["own info"]);
        check(Some("debug"), &["own info", "own debug"]);
        check(Some("info,h2=info"), &["own info", "h2 info"]);
        check(Some("warn"), &[]);
    }

    #[test]
    fn a_line_of_json_holds_its_fields() {
        let options = Options { format: Format::Json, filter: None };
        let lines = lines(&options, || tracing::warn!(count = 3, "queue is full"));
        assert!(lines[0].starts_with("{\"timestamp\":\""), "{}", lines[0]);
        assert!(
            lines[0].contains(r#""level":"WARN","message":"queue is full","count":3"#),
            "{}",
            lines[0]
        );
        assert!(lines[0].ends_with("}\n"));
    }

    #[test]
    fn a_line_for_people_has_no_colours_off_a_terminal() {
        let lines = lines(&Options::default(), || tracing::warn!(count = 3, "queue is full"));
        assert!(lines[0].contains("queue is full") && !lines[0].contains('\u{1b}'));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let options = Options { format: Format::Json, filter: Some("tollgate=loud".to_owned()) };
        let output = Output::stderr();
        let result = layer::<tracing_subscriber::Registry>(&options, output, Counter::default());
        assert_eq!(result.err().unwrap().to_string(), "cannot read the log filter");
    }

    #[test]
    fn a_reader_that_stops_reading_costs_lines_and_no_time() {
        /// Blocks for ever in its first write.
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _gone = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = channel();
        let dropped = Counter::default();
        let (mut lines, flusher) = Lines::start(Box::new(Stuck(stuck)), dropped.clone()).unwrap();
        for _ in 0..LINES_WAITING_MAX + 10 {
            lines.write_all(b"line\n").unwrap();
        }
        assert!(dropped.get() >= 9, "{}", dropped.get());
        drop(release);
        drop(flusher);
    }
}
