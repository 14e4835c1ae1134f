//! Invented requests and a running recorder, for the tests of this crate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{
    AgentId, Attempt, Ending, Identity, NodeName, Outcome, Protocol, RequestId, Revision, RouteId,
    Scheme, SystemClock, Timestamp, Timing, UpstreamId,
};
use rules::plugin::Plugin;
use rules::record::{Batch, FileLogger, Format, FormatValue, RecordShape, Syslog, SyslogTarget};
use rules::variable::Template;

use crate::{Bodies, Captures, Entry, Handle, Logger, Loggers, Metrics, Options, Recorder};

/// A call that went well. `number` is its request id.
pub(crate) fn outcome(number: u128) -> Outcome {
    Outcome {
        request_id: RequestId(number),
        node: NodeName::new("n1"),
        revision: Revision::new(7),
        started: Timestamp::from_micros(1_767_322_200_123_456),
        client: "192.0.2.7:4711".parse().unwrap(),
        scheme: Scheme::Https,
        protocol: Protocol::Http2,
        method: "GET".into(),
        host: Some(Arc::from("api.example.com")),
        path: Arc::from("/client/v4/zones"),
        query: Some(Arc::from("page=2&jwt=[secret]")),
        user_agent: Some(Arc::from("agent/1.0")),
        route: Some(RouteId::new("1")),
        identity: Some(Identity {
            organisation: model::OrganisationId::new("acme"),
            team: Some(model::TeamId::new("dns")),
            agent: AgentId::new("bot"),
            run: None,
            credential: None,
        }),
        operation: Some("zones.list".into()),
        ruling: None,
        limits: vec![model::LimitId::new("routes/1")],
        budgets: vec![model::Paid {
            budget: model::BudgetId::new("acme"),
            unit: model::Unit::requests(),
            per: "organisation",
            subject: Arc::from("acme"),
            every: "day",
            period: Timestamp::from_micros(1_767_312_000_000_000),
            held: model::Amount::from_parts(1).unwrap_or_default(),
            charged: model::Amount::from_parts(1).unwrap_or_default(),
        }],
        attempt: Some(Attempt {
            upstream: UpstreamId::new("cloudflare"),
            node: Arc::from("api.cloudflare.com:443"),
            address: Some("198.51.100.4:443".parse().unwrap()),
            tries: 1,
            status: Some(200),
        }),
        forwarded_path: None,
        replayed: false,
        status: 200,
        refusal: None,
        detail: None,
        ending: Ending::Complete,
        received: 0,
        sent: 512,
        timing: Timing {
            total: Duration::from_micros(35_123),
            queued: Duration::ZERO,
            upstream: Some(Duration::from_micros(34_000)),
        },
        trace: None,
        client_retry: None,
    }
}

pub(crate) fn entry(number: u128, loggers: &Loggers) -> Entry {
    Entry {
        outcome: outcome(number),
        loggers: loggers.clone(),
        captures: Captures::default(),
        bodies: Bodies::default(),
        due: None,
    }
}

/// A `log_format` of these members.
pub(crate) fn log_format(members: &[(&str, &str)]) -> RecordShape {
    RecordShape { format: Some(Arc::new(format(members))), ..RecordShape::default() }
}

pub(crate) fn format(members: &[(&str, &str)]) -> Format {
    let member = |(name, text): &(&str, &str)| {
        (Arc::from(*name), FormatValue::Text(Template::parse(text).unwrap()))
    };
    Format(members.iter().map(member).collect())
}

fn plugin<T>(rule: T) -> Arc<Plugin<T>> {
    Arc::new(Plugin { place: Arc::from("routes/1"), filter: None, error_response: None, rule })
}

fn logger<T>(rule: T) -> Option<Logger<T>> {
    Some(Logger { plugin: plugin(rule), request_body: None, response_body: None })
}

pub(crate) fn to_syslog(target: SyslogTarget, record: RecordShape, batch: Batch) -> Loggers {
    Loggers { syslog: logger(Syslog { target, record, batch }), file: None }
}

pub(crate) fn to_file(path: &Path, record: RecordShape) -> Loggers {
    let path = Arc::from(path.to_str().unwrap());
    Loggers { syslog: None, file: logger(FileLogger { path, record, only: None }) }
}

/// A recorder in a directory of its own.
pub(crate) struct Running {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) recorder: Recorder,
    pub(crate) handle: Handle,
    pub(crate) metrics: Metrics,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change)
    }

    pub(crate) fn start_in(
        directory: tempfile::TempDir,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let roots = Arc::new(rustls::RootCertStore::empty());
        let mut options = Options::new(directory.path().to_owned(), "gate 1", roots);
        change(&mut options);
        let metrics = Metrics::default();
        let clock = Arc::new(SystemClock::start());
        let (recorder, handle) = Recorder::start(options, clock, metrics.clone()).unwrap();
        Self { directory, recorder, handle, metrics }
    }

    pub(crate) fn record(&self, entry: Entry) {
        let entry = Box::new(entry);
        self.recorder.seat().unwrap().record(entry);
    }

    pub(crate) async fn drain(self) -> tempfile::TempDir {
        let Self { directory, handle, .. } = self;
        handle.drain(WAIT_MAX).await.unwrap();
        directory
    }
}

/// The lines of the audit file.
pub(crate) fn lines(directory: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(directory.join("audit.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The request ids of records, as the numbers they were made of.
pub(crate) fn numbers(records: &[serde_json::Value]) -> Vec<u128> {
    let number = |record: &serde_json::Value| {
        u128::from_str_radix(record["request_id"].as_str().unwrap(), 16).unwrap()
    };
    records.iter().map(number).collect()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let polling = async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !holds() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(WAIT_MAX, polling).await.is_ok(), "waited for {what}");
}

/// The longest a test waits for what must happen.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
