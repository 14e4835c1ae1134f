//! What a route, a team or an agent adds to a request's path: one typed field a plugin.
//!
//! There is no plugin engine and no order: the pipeline asks each field at the stage it belongs
//! to. Whole plugins replace each other, and a plugin that is switched off is one of them: agent
//! over team over route.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use model::{AgentId, Bucket, RefusalBody};

use crate::expression::Expression;
use crate::record::{FileLogger, Syslog};
use crate::rewrite::Rewrite;
use crate::variable::{Template, Variable};

/// The plugins that apply to a request: a route's own, or those with the agent's over them.
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

/// What an agent or its team says of the plugins of every route it uses.
///
/// Who must prove what is the route's word alone: an auth plugin can neither be replaced nor be
/// switched off here, because there is none.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub limit_req: Slot<LimitReq>,
    pub proxy_rewrite: Slot<Rewrite>,
    pub request_id: Slot<RequestIdHeader>,
    pub syslog: Slot<Syslog>,
    pub file_logger: Slot<FileLogger>,
}

/// What a place says of one plugin.
#[derive(Debug, Default)]
pub enum Slot<T> {
    /// Nothing: the place below decides.
    #[default]
    Open,
    /// The plugin does nothing (`_meta.disable`), whatever stands below.
    Off,
    /// This rule, instead of the one below.
    Rule(Arc<Plugin<T>>),
}

impl Layer {
    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { limit_req, proxy_rewrite, request_id, syslog, file_logger } = self;
        limit_req.is_open()
            && proxy_rewrite.is_open()
            && request_id.is_open()
            && syslog.is_open()
            && file_logger.is_open()
    }

    /// This layer, and `below` where it says nothing: agent over team.
    #[must_use]
    pub fn or(&self, below: &Self) -> Self {
        let Self { limit_req, proxy_rewrite, request_id, syslog, file_logger } = self;
        Self {
            limit_req: limit_req.or(&below.limit_req),
            proxy_rewrite: proxy_rewrite.or(&below.proxy_rewrite),
            request_id: request_id.or(&below.request_id),
            syslog: syslog.or(&below.syslog),
            file_logger: file_logger.or(&below.file_logger),
        }
    }

    /// What applies to a request of a route with these plugins.
    #[must_use]
    pub fn over(&self, route: &Plugins) -> Plugins {
        let Self { limit_req, proxy_rewrite, request_id, syslog, file_logger } = self;
        Plugins {
            limit_req: limit_req.over(route.limit_req.as_ref()),
            jwt_auth: route.jwt_auth.clone(),
            key_auth: route.key_auth.clone(),
            proxy_rewrite: proxy_rewrite.over(route.proxy_rewrite.as_ref()),
            request_id: request_id.over(route.request_id.as_ref()),
            syslog: syslog.over(route.syslog.as_ref()),
            file_logger: file_logger.over(route.file_logger.as_ref()),
        }
    }
}

impl<T> Slot<T> {
    const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// This slot, or `below` where it is open.
    #[must_use]
    pub fn or(&self, below: &Self) -> Self {
        match self {
            Self::Open => below.clone(),
            Self::Off | Self::Rule(_) => self.clone(),
        }
    }

    /// The rule that counts over the one below.
    #[must_use]
    pub fn over(&self, below: Option<&Arc<Plugin<T>>>) -> Option<Arc<Plugin<T>>> {
        match self {
            Self::Open => below.map(Arc::clone),
            Self::Off => None,
            Self::Rule(rule) => Some(Arc::clone(rule)),
        }
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Open => Self::Open,
            Self::Off => Self::Off,
            Self::Rule(rule) => Self::Rule(Arc::clone(rule)),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Plugin, Slot};

    /// The rule that counts: `-` leaves it to the place below, `x` switches it off, any other
    /// letter is a rule.
    fn check(agent: char, team: char, route: char, expected: Option<char>) {
        let plugin = |rule| {
            let place = Arc::from("");
            Arc::new(Plugin { place, filter: None, error_response: None, rule })
        };
        let slot = |letter| match letter {
            '-' => Slot::Open,
            'x' => Slot::Off,
            rule => Slot::Rule(plugin(rule)),
        };
        let route = (route != '-').then(|| plugin(route));
        let found = slot(agent).or(&slot(team)).over(route.as_ref());
        assert_eq!(found.map(|plugin| plugin.rule), expected, "{agent} {team}");
    }

    #[test]
    fn the_agent_s_word_counts_before_its_team_s_and_that_before_the_route_s() {
        check('a', 't', 'r', Some('a'));
        check('-', 't', 'r', Some('t'));
        check('-', '-', 'r', Some('r'));
        check('-', '-', '-', None);
        check('a', '-', '-', Some('a'));
    }

    #[test]
    fn a_plugin_that_is_switched_off_is_off_whatever_stands_below() {
        check('x', 't', 'r', None);
        check('-', 'x', 'r', None);
        check('a', 'x', 'r', Some('a'));
        check('x', '-', '-', None);
    }
}
