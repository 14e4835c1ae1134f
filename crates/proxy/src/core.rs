//! What a core owns, and what all cores share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, UNIX_EPOCH};

use ledger::repeat::Repeats;
use ledger::{Ledger, Quotas};
use model::{Clock, Entropy, NodeName, Outcome};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use rules::Snapshot;
use rules::plugin::{JwtAuth, KeyAuth};
use rules::suspension::Suspensions;
use telemetry::context::{Sampler, TraceContext};
use telemetry::trace::{Kind, Parent, Span, Spans};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::balance::Turns;
use crate::cache::Tokens;
use crate::metrics::{Counts, Metrics};
use crate::pool::Pool;
use crate::suspension::Riders;

/// Shared by all cores: read, or counted into, never locked for long.
pub(crate) struct Shared {
    pub(crate) node: NodeName,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    pub(crate) quotas: Quotas,
    pub(crate) repeats: Repeats,
    pub(crate) metrics: Metrics,
    pub(crate) spans: Option<Spans>,
    pub(crate) sampler: Sampler,
    /// Set when the node stops: answers then ask clients to leave their connections.
    pub(crate) is_leaving: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("node", &self.node).finish_non_exhaustive()
    }
}

/// One core's own: nothing here is touched by another core, so its locks are never waited for.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeName,
    pub(crate) counts: Arc<Counts>,
    pub(crate) recorder: audit::Recorder,
    pub(crate) pool: Pool,
    pub(crate) tokens: Mutex<Tokens<JwtAuth>>,
    pub(crate) keys: Mutex<Tokens<KeyAuth>>,
    pub(crate) turns: Mutex<Turns>,
    /// What policies decided already.
    pub(crate) rulings: Mutex<rules::policy::Memory>,
    /// The requests under way, to be ended when their agent is suspended.
    pub(crate) riders: Riders,
    /// Connections and what they spawned; waited for when the core stops.
    pub(crate) tasks: TaskTracker,
    rules: Mutex<Rules>,
    chance: Mutex<Chance>,
}

#[derive(Debug)]
struct Rules {
    watch: watch::Receiver<Arc<Snapshot>>,
    current: Arc<CoreSnapshot>,
}

/// The rules as one core holds them: its requests count their references here, not on a cache
/// line that all cores want.
#[derive(Debug)]
pub(crate) struct CoreSnapshot(Arc<Snapshot>);

impl std::ops::Deref for CoreSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// Random ids of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) request: u128,
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

/// What a core is told from outside: the rules, and who is suspended.
pub(crate) type Watches = (watch::Receiver<Arc<Snapshot>>, watch::Receiver<Arc<Suspensions>>);

impl Core {
    pub(crate) fn new(
        shared: Arc<Shared>,
        recorder: audit::Recorder,
        (mut watch, suspensions): Watches,
        pool: Pool,
        entropy: &dyn Entropy,
    ) -> std::io::Result<Self> {
        let current = Arc::new(CoreSnapshot(Arc::clone(&watch.borrow_and_update())));
        Ok(Self {
            node: NodeName::new(shared.node.as_str()),
            counts: shared.metrics.for_core(),
            shared,
            recorder,
            pool,
            tokens: Mutex::default(),
            keys: Mutex::default(),
            turns: Mutex::default(),
            rulings: Mutex::default(),
            riders: Riders::new(suspensions),
            tasks: TaskTracker::new(),
            rules: Mutex::new(Rules { watch, current }),
            chance: Mutex::new(Chance::seeded(entropy)?),
        })
    }

    /// The rules in force. A change is seen at the next request.
    pub(crate) fn snapshot(&self) -> Arc<CoreSnapshot> {
        let mut rules = self.rules.lock();
        // A watch whose sender is gone keeps its last rules.
        if rules.watch.has_changed().unwrap_or(false) {
            let newest = Arc::clone(&rules.watch.borrow_and_update());
            rules.current = Arc::new(CoreSnapshot(newest));
            self.tokens.lock().clear();
            self.keys.lock().clear();
            self.turns.lock().clear();
        }
        Arc::clone(&rules.current)
    }

    pub(crate) fn ids(&self) -> Ids {
        let mut chance = self.chance.lock();
        Ids { request: chance.wide(), trace: chance.wide(), span: chance.next() }
    }
}

/// Counts something while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A generator of ids: unique, not secret (xoshiro256++, Blackman and Vigna 2019).
#[derive(Debug)]
struct Chance([u64; 4]);

impl Chance {
    fn seeded(entropy: &dyn Entropy) -> std::io::Result<Self> {
        let mut seed = [[0; 8]; 4];
        for word in &mut seed {
            entropy.fill(word)?;
        }
        Ok(Self(seed.map(|word| u64::from_le_bytes(word) | 1)))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// The span of a request that has ended (OpenTelemetry's conventions for HTTP servers).
pub(crate) fn span_of(
    outcome: &Outcome,
    context: TraceContext,
    parent: Option<TraceContext>,
) -> Span {
    let started = UNIX_EPOCH + Duration::from_micros(outcome.started.as_micros());
    let text = |key: &'static str, value: &str| opentelemetry::KeyValue::new(key, value.to_owned());
    let mut attributes = vec![
        text("http.request.method", &outcome.method),
        text("url.path", &outcome.path),
        text("url.scheme", outcome.scheme.as_str()),
        text("client.address", &outcome.client.ip().to_string()),
        text("tollgate.request_id", &outcome.request_id.to_string()),
        opentelemetry::KeyValue::new("http.response.status_code", i64::from(outcome.status)),
    ];
    let route = outcome.route.as_ref().map(model::RouteId::as_str);
    attributes.extend(route.map(|route| text("http.route", route)));
    let operation = outcome.operation.as_deref();
    attributes.extend(operation.map(|name| text("tollgate.operation", name)));
    let agent = outcome.identity.as_ref().map(|identity| identity.agent.as_str());
    attributes.extend(agent.map(|agent| text("tollgate.agent", agent)));
    attributes.extend(outcome.refusal.map(|code| text("tollgate.refusal", code.as_str())));
    let upstream = outcome.attempt.as_ref().map(|attempt| &*attempt.node);
    attributes.extend(upstream.map(|node| text("server.address", node)));
    Span {
        name: format!("{} {}", outcome.method, route.unwrap_or("-")).into(),
        kind: Kind::Server,
        context,
        parent: parent.map_or(Parent::None, |parent| Parent::Remote(parent.span_id)),
        started,
        ended: started + outcome.timing.total,
        attributes,
        error: (outcome.status >= 500)
            .then(|| outcome.refusal.map_or("upstream error", model::Code::as_str).into()),
    }
}
