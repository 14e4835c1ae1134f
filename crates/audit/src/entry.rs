//! What the proxy hands over when a request has ended.

use std::sync::Arc;

use model::Outcome;
use rules::expression::Expression;
use rules::fact::Facts;
use rules::plugin::{Plugin, Plugins, Sources};
use rules::record::{BodyCapture, FileLogger, RecordShape, Syslog};
use rules::variable::Variable;

use crate::format::{self, Wanted};

/// One request for the record.
#[derive(Debug)]
pub struct Entry {
    pub outcome: Outcome,
    /// Which loggers of the route want it.
    pub loggers: Loggers,
    /// What their formats need of the request.
    pub captures: Captures,
    pub bodies: Bodies,
    /// Dropped when its record stands in the audit file, or never will.
    pub due: Option<Due>,
}

/// Something that waits for a record.
pub type Due = Box<dyn std::any::Any + Send>;

/// The loggers that apply to a request, decided at its head.
#[derive(Clone, Debug, Default)]
pub struct Loggers {
    pub syslog: Option<Logger<Syslog>>,
    pub file: Option<Logger<FileLogger>>,
}

/// One logger and what it wants of the bodies.
#[derive(Debug)]
pub struct Logger<T> {
    pub plugin: Arc<Plugin<T>>,
    /// Bytes of the request's body it writes; `None` for none.
    pub request_body: Option<usize>,
    /// Bytes of the answer's body it writes; `None` for none.
    pub response_body: Option<usize>,
}

impl<T> Clone for Logger<T> {
    fn clone(&self) -> Self {
        Self { plugin: Arc::clone(&self.plugin), ..*self }
    }
}

/// What a logger's author makes its writing depend on.
pub trait Conditional {
    /// A request is written when all of these hold.
    fn conditions(&self) -> [Option<&Expression>; 2];

    fn record(&self) -> &RecordShape;
}

impl Conditional for Plugin<Syslog> {
    fn conditions(&self) -> [Option<&Expression>; 2] {
        [self.filter.as_ref(), None]
    }

    fn record(&self) -> &RecordShape {
        &self.rule.record
    }
}

impl Conditional for Plugin<FileLogger> {
    fn conditions(&self) -> [Option<&Expression>; 2] {
        [self.filter.as_ref(), self.rule.only.as_ref()]
    }

    fn record(&self) -> &RecordShape {
        &self.rule.record
    }
}

impl Loggers {
    /// Those of `plugins` whose conditions (`_meta.filter`, `match`, the ones on bodies) hold or
    /// may yet hold: a condition on what only the end will show is judged at the end, every other
    /// one here and never again. Costs nothing where no logger is configured.
    #[must_use]
    pub fn choose(plugins: &Plugins, facts: &Facts<'_>) -> Self {
        let syslog = plugins.syslog.as_ref().filter(|plugin| may_write(&***plugin, facts));
        let file = plugins.file_logger.as_ref().filter(|plugin| may_write(&***plugin, facts));
        Self {
            syslog: syslog.map(|plugin| Logger::new(plugin, facts)),
            file: file.map(|plugin| Logger::new(plugin, facts)),
        }
    }

    /// Whether no logger applies; the audit file takes the request all the same.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.syslog.is_none() && self.file.is_none()
    }

    /// Bytes of the request's body to keep for the record; 0 for none.
    #[must_use]
    pub fn request_body_max(&self) -> usize {
        let syslog = self.syslog.as_ref().and_then(|logger| logger.request_body);
        syslog.max(self.file.as_ref().and_then(|logger| logger.request_body)).unwrap_or(0)
    }

    /// Bytes of the answer's body to keep for the record; 0 for none.
    #[must_use]
    pub fn response_body_max(&self) -> usize {
        let syslog = self.syslog.as_ref().and_then(|logger| logger.response_body);
        syslog.max(self.file.as_ref().and_then(|logger| logger.response_body)).unwrap_or(0)
    }
}

impl<T> Logger<T>
where
    Plugin<T>: Conditional,
{
    fn new(plugin: &Arc<Plugin<T>>, facts: &Facts<'_>) -> Self {
        let record = plugin.record();
        let wanted = |body: &Option<BodyCapture>| {
            let body = body.as_ref().filter(|body| may_hold(body.when.as_ref(), facts))?;
            Some(body.max_bytes)
        };
        Self {
            plugin: Arc::clone(plugin),
            request_body: wanted(&record.request_body),
            response_body: wanted(&record.response_body),
        }
    }

    /// What it writes of a request that has ended; `None` when a condition on the end does not
    /// hold.
    pub(crate) fn decide(&self, outcome: &Outcome, captures: &Captures) -> Option<Wanted> {
        let holds = |condition: Option<&Expression>| {
            let late = condition.filter(|condition| is_late(condition));
            late.is_none_or(|condition| {
                condition
                    .holds_with(&mut |variable| format::value_of(variable, (outcome, captures)))
            })
        };
        if !self.plugin.conditions().into_iter().all(holds) {
            return None;
        }
        let record = self.plugin.record();
        let wanted = |max: Option<usize>, body: &Option<BodyCapture>| {
            max.filter(|_| holds(body.as_ref().and_then(|body| body.when.as_ref())))
        };
        Some(Wanted {
            request_body: wanted(self.request_body, &record.request_body),
            response_body: wanted(self.response_body, &record.response_body),
        })
    }

    /// The conditions that are judged at the end.
    fn late(&self) -> impl Iterator<Item = &Expression> {
        let record = self.plugin.record();
        let bodies = [&record.request_body, &record.response_body].into_iter().flatten();
        let conditions = self.plugin.conditions().into_iter().flatten();
        conditions.chain(bodies.filter_map(|body| body.when.as_ref())).filter(|one| is_late(one))
    }
}

fn may_write(plugin: &impl Conditional, facts: &Facts<'_>) -> bool {
    plugin.conditions().into_iter().all(|condition| may_hold(condition, facts))
}

/// Whether a condition holds, or is to be judged at the end. An absent one holds.
fn may_hold(condition: Option<&Expression>, facts: &Facts<'_>) -> bool {
    condition.is_none_or(|condition| is_late(condition) || condition.holds(facts))
}

/// Whether a condition asks for what only the end will show.
fn is_late(condition: &Expression) -> bool {
    condition.variables().iter().any(|variable| matches!(variable, Variable::Ended(_)))
}

/// Further names whose values are credentials and are never written: what a route's `jwt-auth`
/// and `key-auth` read. The usual names need not be listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecretNames<'a> {
    pub sources: [Option<&'a Sources>; 2],
}

impl<'a> SecretNames<'a> {
    /// Where the plugins of a request look for credentials.
    #[must_use]
    pub fn of(plugins: &'a Plugins) -> Self {
        let jwt = plugins.jwt_auth.as_ref().map(|plugin| &plugin.rule.sources);
        let key = plugins.key_auth.as_ref().map(|plugin| &plugin.rule.sources);
        Self { sources: [jwt, key] }
    }

    fn iter(&self) -> impl Iterator<Item = &'a Sources> {
        self.sources.into_iter().flatten()
    }

    /// Whether arguments of a query hold credentials that would be none without these plugins.
    #[must_use]
    pub fn add_arguments(&self) -> bool {
        self.iter().any(|sources| !is_secret_query(&sources.query))
    }

    /// Whether an argument of a query holds a credential: one of those that do wherever they
    /// stand, or one that the plugins read. `name` is given as sent and compared decoded and in
    /// any case: the gate reads names byte by byte, but what it forwards to does not.
    #[must_use]
    pub fn hold_argument(&self, name: &str) -> bool {
        is_secret_query(name)
            || self.iter().any(|sources| {
                *sources.query == *name || is_named(name, name.contains('%'), &sources.query)
            })
    }

    /// Whether a variable's value is a credential. Every cookie counts as one: none that
    /// authenticates can be told from its name.
    fn hold(&self, variable: &Variable) -> bool {
        match variable {
            Variable::Cookie(_) => true,
            Variable::Header(name) => {
                SECRET_HEADERS.contains(&name.as_str())
                    || self.iter().any(|sources| sources.header == *name)
            }
            Variable::Arg(name) => self.hold_argument(name),
            _ => false,
        }
    }
}

/// The values of the request's variables that the formats of its loggers name. Credentials are
/// masked as they are taken, so no entry ever holds one.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    values: Vec<(Variable, Box<str>)>,
}

impl Captures {
    /// Takes what the formats of `loggers` name and the outcome will not hold. Allocates nothing
    /// when there is no format.
    #[must_use]
    pub fn take(loggers: &Loggers, facts: &Facts<'_>, secrets: SecretNames<'_>) -> Self {
        let syslog = loggers.syslog.as_ref().map(|logger| &logger.plugin.rule.record);
        let file = loggers.file.as_ref().map(|logger| &logger.plugin.rule.record);
        let shapes = [syslog, file].into_iter().flatten();
        let formats = shapes.flat_map(|shape| [&shape.format, &shape.extra]).flatten();
        let mut captures = Self::default();
        for found in formats {
            format::for_each_variable(found, &mut |variable| {
                captures.take_one(variable, facts, secrets);
            });
        }
        let syslog = loggers.syslog.iter().flat_map(Logger::late);
        for condition in syslog.chain(loggers.file.iter().flat_map(Logger::late)) {
            for variable in condition.variables() {
                captures.take_one(variable, facts, secrets);
            }
        }
        captures
    }

    fn take_one(&mut self, variable: &Variable, facts: &Facts<'_>, secrets: SecretNames<'_>) {
        if format::is_of_the_outcome(variable) || self.value(variable).is_some() {
            return;
        }
        let Some(value) = variable.value(facts) else { return };
        let value = if secrets.hold(variable) { Box::from(MASK) } else { Box::from(&*value) };
        self.values.push((variable.clone(), value));
    }

    /// The value that was taken; `None` when the request had none.
    pub(crate) fn value(&self, variable: &Variable) -> Option<&str> {
        let found = self.values.iter().find(|(taken, _)| taken == variable);
        found.map(|(_, value)| &**value)
    }
}

fn is_secret_query(name: &str) -> bool {
    let is_escaped = name.contains('%');
    SECRET_QUERIES.iter().any(|secret| is_named(name, is_escaped, secret))
}

/// Whether an argument's name as sent stands for this one. Runs for every argument of every
/// request, so it allocates nothing and reads no further than the first difference.
fn is_named(sent: &str, is_escaped: bool, name: &str) -> bool {
    // A `+` is a space, which is in none of our names but may be in a plugin's.
    if !is_escaped && !name.contains(' ') {
        return sent.eq_ignore_ascii_case(name);
    }
    let sent = decoded(sent).map(|byte| byte.to_ascii_lowercase());
    sent.eq(name.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// The bytes that a name of a form stands for: `%41` is a byte, `+` a space (URL standard
/// §5.1). A broken escape is itself.
fn decoded(sent: &str) -> impl Iterator<Item = u8> {
    let mut rest = sent.as_bytes();
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        if first == b'%'
            && let [high, low, beyond @ ..] = after
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = beyond;
            return Some(high << 4 | low);
        }
        rest = after;
        Some(if first == b'+' { b' ' } else { first })
    })
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

/// The bodies that were kept for the record.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    pub request: Option<Body>,
    pub response: Option<Body>,
}

/// The beginning of a body.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// At most what [`Loggers::request_body_max`] or [`Loggers::response_body_max`] asked for.
    pub bytes: Vec<u8>,
    /// The body was longer than what was kept.
    pub is_cut: bool,
}

/// What stands in a record instead of a credential.
const MASK: &str = "[secret]";
/// Headers that carry credentials, of clients, of gateways and of Cloudflare.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "apikey",
    "x-api-key",
    "x-auth-key",
    "x-auth-user-service-key",
    "cf-access-client-secret",
    "cf-access-jwt-assertion",
    "cf-access-token",
];
/// Query arguments that carry credentials, of agents, of APIs and of presigned URLs. A bare `key`
/// is none: it names things (of KV, of lists) far more often than it opens them, and where
/// `key-auth` reads it, it is masked.
const SECRET_QUERIES: &[&str] = &[
    "jwt",
    "apikey",
    "api_key",
    "access_token",
    "token",
    "api_token",
    "auth_token",
    "refresh_token",
    "id_token",
    "password",
    "passwd",
    "secret",
    "client_secret",
    "sig",
    "signature",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderName;
    use proptest::prelude::*;
    use rules::field::masked_arguments;

    use super::{SECRET_QUERIES, SecretNames, Sources};

    /// What is recorded of a query, on a route whose plugins read the argument `my key`.
    fn recorded(query: &str) -> String {
        let sources = Sources {
            header: HeaderName::from_static("x-token"),
            query: Arc::from("my key"),
            cookie: None,
            hide: false,
        };
        let names = SecretNames { sources: [Some(&sources), None] };
        masked_arguments(query, &|name| names.hold_argument(name))
            .unwrap_or_else(|| query.to_owned())
    }

    #[track_caller]
    fn check(query: &str, expected: &str) {
        assert_eq!(recorded(query), expected);
    }

    #[test]
    fn a_credential_is_masked_by_its_name_in_any_case() {
        for name in SECRET_QUERIES {
            check(&format!("a=1&{name}=hunter2"), &format!("a=1&{name}=[secret]"));
            let name = name.to_uppercase();
            check(&format!("{name}=hunter2&a=1"), &format!("{name}=[secret]&a=1"));
        }
    }

    #[test]
    fn an_escaped_name_hides_no_credential() {
        check("access%5Ftoken=x", "access%5Ftoken=[secret]");
        check("access%5ftoken=x", "access%5ftoken=[secret]");
        check("%54oken=x&b=%20", "%54oken=[secret]&b=%20");
        check("X%2DAmz-Signature=x", "X%2DAmz-Signature=[secret]");
        check(
            "my+key=x&my%20key=y&My%20Key=z",
            "my+key=[secret]&my%20key=[secret]&My%20Key=[secret]",
        );
    }

    #[test]
    fn a_name_that_only_resembles_one_is_kept() {
        for query in ["tokens=1", "xtoken=1", "key=1", "page=2", "token", "=token", "a=token"] {
            check(query, query);
        }
        // Decoded once, as whoever reads it does; and a broken escape is itself.
        for query in ["access%255Ftoken=1", "token%=1", "token%5=1", "%zztoken=1", "my%2Bkey=1"] {
            check(query, query);
        }
    }

    proptest! {
        #[test]
        fn however_a_name_is_escaped_its_value_is_not_recorded(
            at in 0..SECRET_QUERIES.len(),
            ways in prop::collection::vec(0..4_u8, 32),
        ) {
            let spelt: String = SECRET_QUERIES[at]
                .bytes()
                .zip(ways)
                .map(|(byte, way)| match way {
                    0 => char::from(byte).to_string(),
                    1 => char::from(byte).to_ascii_uppercase().to_string(),
                    2 => format!("%{byte:02x}"),
                    _ => format!("%{:02X}", byte.to_ascii_uppercase()),
                })
                .collect();
            prop_assert_eq!(recorded(&format!("{spelt}=hunter2")), format!("{spelt}=[secret]"));
        }
    }
}
