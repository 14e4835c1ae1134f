//! What a route, a team or an agent adds to a request's path: one typed field a plugin.
//!
//! There is no plugin engine and no order: the pipeline asks each field at the stage it belongs
//! to. Whole plugins replace each other: agent over team over route.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use model::{AgentId, Bucket, RefusalBody};

use crate::expression::Expression;
use crate::record::{FileLogger, Syslog};
use crate::rewrite::Rewrite;
use crate::variable::{Template, Variable};

/// The plugins of one place. `None` leaves the decision to the place below.
#[derive(Clone, Debug, Default)]
pub struct Plugins {
    pub limit_req: Option<Arc<Plugin<LimitReq>>>,
    pub jwt_auth: Option<Arc<Plugin<JwtAuth>>>,
    pub key_auth: Option<Arc<Plugin<KeyAuth>>>,
    pub proxy_rewrite: Option<Arc<Plugin<Rewrite>>>,
    pub request_id: Option<Arc<Plugin<RequestIdHeader>>>,
    pub syslog: Option<Arc<Plugin<Syslog>>>,
    pub file_logger: Option<Arc<Plugin<FileLogger>>>,
}

impl Plugins {
    /// These plugins, and `below`'s where these have none.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let Self { limit_req, jwt_auth, key_auth, proxy_rewrite, request_id, syslog, file_logger } =
            self;
        Self {
            limit_req: first(limit_req, &below.limit_req),
            jwt_auth: first(jwt_auth, &below.jwt_auth),
            key_auth: first(key_auth, &below.key_auth),
            proxy_rewrite: first(proxy_rewrite, &below.proxy_rewrite),
            request_id: first(request_id, &below.request_id),
            syslog: first(syslog, &below.syslog),
            file_logger: first(file_logger, &below.file_logger),
        }
    }
}

fn first<T>(above: &Option<Arc<T>>, below: &Option<Arc<T>>) -> Option<Arc<T>> {
    above.as_ref().or(below.as_ref()).map(Arc::clone)
}

/// A plugin's rule with what `_meta` says of it.
#[derive(Clone, Debug)]
pub struct Plugin<T> {
    /// The place it stands in, such as `routes/1`: the scope of its counters.
    pub place: Arc<str>,
    /// The plugin applies only to requests for which this holds.
    pub filter: Option<Expression>,
    /// The body of its refusals (`_meta.error_response`), as JSON or plain text.
    pub error_response: Option<ErrorResponse>,
    pub rule: T,
}

impl<T> Plugin<T> {
    /// The body of this plugin's refusals, where its author wrote one.
    #[must_use]
    pub fn refusal_body(&self) -> Option<RefusalBody> {
        self.error_response.as_ref().map(|response| match response {
            ErrorResponse::Json(text) => {
                RefusalBody { content_type: "application/json", text: Arc::clone(text) }
            }
            ErrorResponse::Text(text) => {
                RefusalBody { content_type: "text/plain; charset=utf-8", text: Arc::clone(text) }
            }
        })
    }
}

/// The body that replaces a plugin's own refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorResponse {
    /// Sent as `application/json`.
    Json(Arc<str>),
    /// Sent as `text/plain`.
    Text(Arc<str>),
}

/// `limit-req`: a leaky bucket whose overflow waits its turn.
#[derive(Clone, Debug)]
pub struct LimitReq {
    /// Holds `burst + 1` tokens: one that may pass at once and `burst` that wait.
    pub bucket: Bucket,
    pub key: KeySource,
    /// Pass at once what would have to wait.
    pub nodelay: bool,
    /// The status of its refusal.
    pub rejected_code: u16,
    pub rejected_msg: Option<Arc<str>>,
    /// Let requests pass when the ledger cannot answer.
    pub allow_degradation: bool,
}

/// What a limit counts by.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// One variable; the client's address where it has no value.
    Variable(Variable),
    /// A text with variables; the client's address where none has a value.
    Combination(Template),
}

/// `jwt-auth`: where a token may stand, and what it must hold.
#[derive(Clone, Debug)]
pub struct JwtAuth {
    pub sources: Sources,
    /// The claim that names the consumer's key.
    pub key_claim: Arc<str>,
    /// Refuse tokens without `exp`.
    pub require_exp: bool,
    /// Refuse tokens without `nbf`.
    pub require_nbf: bool,
    pub realm: Arc<str>,
    /// The agent a request without a valid token acts as.
    pub anonymous: Option<AgentId>,
}

/// `key-auth`: where an API key may stand.
#[derive(Clone, Debug)]
pub struct KeyAuth {
    pub sources: Sources,
    pub realm: Arc<str>,
    /// The agent a request without a valid key acts as.
    pub anonymous: Option<AgentId>,
}

/// Where a credential may stand, asked in this order; the first that is present counts.
#[derive(Clone, Debug)]
pub struct Sources {
    pub header: HeaderName,
    pub query: Arc<str>,
    pub cookie: Option<Arc<str>>,
    /// Take the credential out before forwarding to an upstream of our own. From what goes to a
    /// foreign upstream it is always taken out.
    pub hide: bool,
}

/// `request-id`: an id of the client's or the gate's making, passed on and given back.
#[derive(Clone, Debug)]
pub struct RequestIdHeader {
    pub header: HeaderName,
    /// Give it to the client too.
    pub in_response: bool,
    pub algorithm: RequestIdAlgorithm,
}

/// How a request id is made when the client brings none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestIdAlgorithm {
    Uuid,
    Nanoid,
    /// Characters drawn from a set.
    RangeId {
        characters: Arc<str>,
        length: usize,
    },
    Ksuid,
}

/// A header name with its value, ready to send.
pub type HeaderField = (HeaderName, HeaderValue);
