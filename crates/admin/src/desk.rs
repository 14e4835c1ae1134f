//! Takes each request of the operators' door: who asks, for what, and under which conditions.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use cluster::{Handle, Live, ProposeError};
use config::{Applied, Command};
use http::{HeaderName, HeaderValue, Method, StatusCode, header, request};
use ledger::Ledger;
use model::{Clock, Revision};
use tokio::sync::Semaphore;

use crate::auth::{KeyRing, Role, WRONG_KEY, identify, is_own_page};
use crate::budget::About;
use crate::document::DOCUMENTS_MAX;
use crate::envelope::Failure;
use crate::ledger::Errand;
use crate::precondition::Precondition;
use crate::query::Query;
use crate::record::Record;
use crate::target::Target;
use crate::throttle::Throttle;

/// What the operators' door works with.
#[derive(Clone)]
pub struct Options {
    /// The document, and what the node says of itself.
    pub cluster: Handle,
    /// Who may come in; `None` lets everybody in as an admin (APISIX's `admin_key_required:
    /// false`), which only fits a door that nobody else can reach. Pages of other sites stay out.
    pub keys: Option<KeyRing>,
    /// Whose accounts of budgets are shown and adjusted.
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The Admin API, under `/apisix/admin` and `/admin`.
///
/// Wrong keys are counted by the peer's address, which [`crate::serve()`] adds to each request.
pub fn router(options: Options) -> Router {
    let Options { cluster, keys, ledger, clock } = options;
    let desk = Arc::new(Desk {
        cluster,
        keys,
        ledger,
        clock,
        throttle: Throttle::default(),
        documents: Semaphore::new(DOCUMENTS_MAX),
    });
    let mut router = Router::new();
    for prefix in PREFIXES {
        router = router
            .route(prefix, any(enter))
            .route(&format!("{prefix}/"), any(enter))
            .route(&format!("{prefix}/{{*rest}}"), any(enter));
    }
    router.fallback(nowhere).with_state(desk)
}

/// What every request needs.
pub(crate) struct Desk {
    pub(crate) cluster: Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    keys: Option<KeyRing>,
    throttle: Throttle,
    /// Seats for whole documents.
    pub(crate) documents: Semaphore,
}

/// A request whose sender is known, without its body.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) precondition: Precondition,
    /// Delete even what is still referred to.
    pub(crate) force: bool,
    /// Judge, and change nothing.
    pub(crate) dry_run: bool,
    pub(crate) freshness: Freshness,
    /// Answer a write when every node that can be reached serves it.
    wait_for_all: bool,
    /// The name of the key's holder.
    pub(crate) holder: String,
    /// What is asked for, as records call it.
    pub(crate) about: String,
}

async fn enter(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answered = desk.answer(parts, body).await;
    let mut response = answered.unwrap_or_else(axum::response::IntoResponse::into_response);
    let revision = HeaderValue::from(desk.cluster.state().revision().number());
    let headers = response.headers_mut();
    headers.entry(REVISION).or_insert(revision);
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn nowhere() -> Response {
    Failure::NotFound("404 Route Not Found".to_owned()).into_response()
}

impl Desk {
    async fn answer(&self, parts: request::Parts, body: Body) -> Result<Response, Failure> {
        if parts.method == Method::OPTIONS {
            return Ok(preflight());
        }
        let target = Target::parse(below_prefix(parts.uri.path()));
        if parts.method == Method::HEAD && target == Ok(Target::Root) {
            return Ok(StatusCode::OK.into_response());
        }
        let query = Query::parse(&parts.uri)?;
        let holder = self.identify(&parts, &query)?;
        let target = target?;
        let call = Call {
            precondition: Precondition::read(&parts.headers)?,
            force: query.switch("force")?,
            dry_run: query.switch("dry_run")?,
            freshness: Freshness::read(&query)?,
            wait_for_all: wait_for_all(&query)?,
            about: target.name(),
            method: parts.method,
            query,
            holder,
        };
        if call.freshness == Freshness::Own && !call.reads() && target != Target::Diff {
            return Err(Failure::bad(
                "invalid argument stale: a change is judged by what is newest",
            ));
        }
        let mut response = self.dispatch(&call, target, body).await?;
        if let Some(revision) = response.extensions().get::<Revision>().copied() {
            let headers = response.headers_mut();
            headers.insert(REVISION, HeaderValue::from(revision.number()));
            if call.wait_for_all {
                let live = self.cluster.wait_until_live(revision).await;
                headers.insert(LIVE, live_value(live));
            }
        }
        Ok(response)
    }

    /// The document: with everything that was answered anywhere, unless the call is content with
    /// what this node has.
    pub(crate) async fn newest(&self, call: &Call) -> Result<Arc<config::State>, Failure> {
        if call.freshness == Freshness::Own {
            return Ok(self.cluster.state());
        }
        let read = self.cluster.read().await;
        read.map_err(|cause| {
            Failure::Unavailable(format!("{cause}; `?stale=true` reads what this node has"))
        })
    }

    async fn dispatch(&self, call: &Call, target: Target, body: Body) -> Result<Response, Failure> {
        call.refuse_ttl()?;
        match target {
            Target::Collection(kind) => self.collection(call, kind, None, body).await,
            Target::Under { kind, parent } => {
                self.collection(call, kind, Some(&parent), body).await
            }
            Target::One(key) => self.one(call, key, body).await,
            Target::Inside(key, path) => self.inside(call, key, &path, body).await,
            Target::Apply if call.method == Method::POST => self.apply(call, body).await,
            Target::Diff if call.method == Method::POST => self.diff(call, body).await,
            Target::Validate(kind) if call.method == Method::POST => {
                Self::validate(kind, body).await
            }
            Target::ValidateAll if call.method == Method::POST => self.validate_all(body).await,
            Target::Export if call.reads() => self.export(call).await,
            Target::Status if call.reads() => Ok(self.status(call).await),
            Target::Budget(id, about) if call.reads() && about != About::Adjust => {
                self.budget(call, &id, about).await
            }
            Target::Budget(id, About::Adjust) if call.method == Method::POST => {
                self.adjust(call, &id, body).await
            }
            Target::Ledger(Errand::Status) if call.reads() => self.ledger(),
            Target::Ledger(Errand::Journal) if call.reads() => Ok(self.journal()),
            Target::Ledger(errand @ (Errand::Recover | Errand::Reconcile))
                if call.method == Method::POST =>
            {
                self.go_on(call, errand, body).await
            }
            Target::Cluster(deed) if call.method == Method::POST => {
                self.members(call, deed, body).await
            }
            Target::Suspensions if call.reads() => Ok(self.suspensions()),
            Target::Suspension(whom) => self.suspension(call, &whom, body).await,
            Target::PluginNames if call.reads() => Ok(Self::plugin_names()),
            Target::Root
            | Target::Apply
            | Target::Diff
            | Target::Validate(_)
            | Target::ValidateAll
            | Target::Export
            | Target::Status
            | Target::PluginNames
            | Target::Budget(..)
            | Target::Ledger(_)
            | Target::Suspensions
            | Target::Cluster(_) => Err(Failure::NotFound("not found".to_owned())),
        }
    }

    /// The name of whoever asks, or why they may not.
    fn identify(&self, parts: &request::Parts, query: &Query) -> Result<String, Failure> {
        let Some(keys) = &self.keys else {
            let own = is_own_page(&parts.headers);
            return own.then(|| "anybody".to_owned()).ok_or(Failure::Unauthorised("foreign page"));
        };
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        let now = self.clock.uptime();
        if let Some(wait) = self.throttle.wait(address, now) {
            return Err(Failure::Throttled(wait));
        }
        let identified = identify(keys, &parts.method, &parts.headers, query);
        if matches!(identified, Err(Failure::Unauthorised(WRONG_KEY))) {
            self.throttle.count(address, now);
            tracing::warn!(%address, "a wrong admin key was given");
        }
        let holder = identified?;
        debug_assert!(holder.role == Role::Admin || parts.method.is_safe());
        Ok(holder.name.clone())
    }

    /// Makes a change, or judges it when the call is a dry run.
    pub(crate) async fn make(&self, call: &Call, command: Command) -> Result<Applied, Failure> {
        Ok(self.try_make(call, command).await?)
    }

    /// As [`Desk::make`], for who can do something about a rejection.
    pub(crate) async fn try_make(
        &self,
        call: &Call,
        command: Command,
    ) -> Result<Applied, ProposeError> {
        let mut record = Record::of(call);
        let made = if call.dry_run {
            // Judged by what is newest, if that can be known.
            let _newest = self.cluster.read().await;
            self.cluster.dry_run(command).await
        } else {
            self.cluster.propose(command).await
        };
        record.end(&made);
        made
    }
}

/// What a reader is content with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Everything that was answered anywhere before.
    Newest,
    /// What this node has, without asking the others.
    Own,
}

impl Freshness {
    fn read(query: &Query) -> Result<Self, Failure> {
        Ok(if query.switch("stale")? { Self::Own } else { Self::Newest })
    }
}

impl Call {
    pub(crate) fn reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Resources that disappear by themselves are not served; to keep one for ever instead would
    /// be worse than to refuse it.
    fn refuse_ttl(&self) -> Result<(), Failure> {
        match self.query.first("ttl") {
            Some(ttl) if ttl.parse::<f64>().is_err() => {
                Err(Failure::bad("invalid argument ttl: should be a number"))
            }
            Some(_) => Err(Failure::bad(
                "invalid argument ttl: nothing disappears by itself here; write the resource \
                 without it, and delete it when its time is over",
            )),
            None => Ok(()),
        }
    }
}

/// Whether `?wait=all` is said.
fn wait_for_all(query: &Query) -> Result<bool, Failure> {
    match query.first("wait") {
        None => Ok(false),
        Some("all") => Ok(true),
        Some(_) => Err(Failure::bad("invalid argument wait: should be all")),
    }
}

/// `2/3`: live on two nodes of three.
fn live_value(Live { on, of }: Live) -> HeaderValue {
    HeaderValue::try_from(format!("{on}/{of}")).unwrap_or(HeaderValue::from_static("?"))
}

/// Answers a browser that asks before it asks (the Fetch standard's CORS preflight).
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, PUT, OPTIONS, DELETE, PATCH"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
    ];
    (StatusCode::OK, headers).into_response()
}

fn below_prefix(path: &str) -> &str {
    PREFIXES.into_iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path)
}

const PREFIXES: [&str; 2] = ["/apisix/admin", "/admin"];

/// The revision of the document that an answer is about.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("x-tollgate-revision");

/// On how many nodes a change is live, of how many there are.
const LIVE: HeaderName = HeaderName::from_static("x-tollgate-live");

/// Headers of every answer; all but the last are APISIX's.
const ALWAYS: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("x-api-version"), "v3"),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
    (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    (header::CACHE_CONTROL, "no-store"),
];
