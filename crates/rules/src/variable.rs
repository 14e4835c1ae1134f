//! Variables of a request (`$remote_addr`, `$http_x_team`, `$arg_page`…) and texts that hold them.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::fact::Facts;
use crate::field::{arguments, cookies};

/// A variable, as nginx and APISIX name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    RemoteAddr,
    RemotePort,
    ServerAddr,
    ServerPort,
    Scheme,
    /// `server_protocol`: `HTTP/1.1`.
    Protocol,
    /// `method` and `request_method`.
    Method,
    Host,
    /// `http_host`: the host as sent, with its port.
    HostHeader,
    /// `uri`: the path in its normal form.
    Uri,
    /// `request_uri`: path and query as the client sent them.
    RequestUri,
    /// `args` and `query_string`.
    Args,
    RequestId,
    RouteId,
    RouteName,
    /// `consumer_name` and `agent`.
    ConsumerName,
    /// `consumer_group_id` and `team`.
    ConsumerGroupId,
    Organisation,
    Run,
    /// `arg_NAME`.
    Arg(Arc<str>),
    /// `http_NAME`.
    Header(HeaderName),
    /// `cookie_NAME`.
    Cookie(Arc<str>),
    /// Known once the request has ended; has no value before.
    Ended(EndVariable),
}

/// A variable of the record, known once the request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndVariable {
    Status,
    UpstreamAddr,
    UpstreamStatus,
    /// Seconds with milliseconds.
    RequestTime,
    UpstreamResponseTime,
    BodyBytesSent,
    /// Bytes of the request's body.
    RequestLength,
    TimeIso8601,
    /// Seconds since the epoch with milliseconds.
    Msec,
    RefusalCode,
    TraceId,
}

/// A text with variables and, in a rewrite, captures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    pub(crate) parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Text(Arc<str>),
    Variable(Variable),
    /// `$1` to `$9` of the pattern that matched; `$0` is the whole match.
    Capture(usize),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    #[error("unknown variable `${name}`")]
    UnknownVariable { name: String },
    #[error("`${{` at offset {offset} is not closed")]
    Unclosed { offset: usize },
    #[error("capture `${number}` is beyond `$9`; write `${{1}}` before a digit")]
    CaptureBeyond { number: String },
}

impl Variable {
    /// The variable of this name (without the `$`), or `None` when there is none.
    ///
    /// `http_` names are case-insensitive and an underscore stands for a hyphen; the names of
    /// arguments and cookies are taken as they are.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(fixed) = fixed(name) {
            return Some(fixed);
        }
        let (kind, rest) = name.split_once('_')?;
        if rest.is_empty() {
            return None;
        }
        match kind {
            "arg" => Some(Self::Arg(Arc::from(rest))),
            "cookie" => Some(Self::Cookie(Arc::from(rest))),
            "http" => rest.replace('_', "-").parse().ok().map(Self::Header),
            _ => None,
        }
    }

    /// The variable's value for a request; `None` while it has none.
    ///
    /// Arguments and cookies are given as sent, not decoded, and of several of one name the
    /// first. A header value that is not UTF-8 is none.
    #[must_use]
    pub fn value<'a>(&self, facts: &Facts<'a>) -> Option<Cow<'a, str>> {
        let text = match self {
            Self::RemoteAddr => return Some(facts.address().to_string().into()),
            Self::RemotePort => return Some(facts.client.port().to_string().into()),
            Self::ServerAddr => {
                return Some(facts.server.ip().to_canonical().to_string().into());
            }
            Self::ServerPort => return Some(facts.server.port().to_string().into()),
            Self::RequestId => return Some(facts.request_id.to_string().into()),
            Self::Scheme => facts.scheme.as_str(),
            Self::Protocol => facts.protocol.as_str(),
            Self::Method => facts.method,
            Self::Host => facts.host,
            Self::HostHeader => facts.host_header,
            Self::Uri => facts.target.normal(),
            Self::RequestUri => facts.target.raw(),
            Self::Args => facts.target.query()?,
            Self::RouteId => facts.route?.id.as_str(),
            Self::RouteName => &facts.route?.name,
            Self::ConsumerName => facts.identity?.agent.as_str(),
            Self::ConsumerGroupId => facts.identity?.team.as_ref()?.as_str(),
            Self::Organisation => facts.identity?.organisation.as_str(),
            Self::Run => facts.identity?.run.as_ref()?.as_str(),
            Self::Arg(name) => arguments(facts.target.query()?, name).next()?,
            Self::Header(name) => facts.headers.get(name).and_then(text)?,
            Self::Cookie(name) => cookies(facts.headers, name).next()?,
            Self::Ended(_) => return None,
        };
        Some(Cow::Borrowed(text))
    }

    /// Whether a test holds for one of the values, asked in the order sent. A request can hold
    /// arguments, header fields and cookies of one name several times.
    pub(crate) fn any_value(&self, facts: &Facts<'_>, test: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Self::Arg(name) => {
                facts.target.query().is_some_and(|query| arguments(query, name).any(test))
            }
            Self::Header(name) => facts.headers.get_all(name).iter().filter_map(text).any(test),
            Self::Cookie(name) => cookies(facts.headers, name).any(test),
            // Every other variable has one value.
            _ => self.value(facts).is_some_and(|value| test(&value)),
        }
    }
}

impl Template {
    /// Reads a text with variables, `$name` or `${name}`. A `$` before anything else is itself,
    /// and so is one behind a backslash.
    ///
    /// # Errors
    /// When it names an unknown variable or leaves a brace open.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        read(text, false)
    }

    /// Reads a text with variables and captures, `$1` or `${1}`.
    ///
    /// # Errors
    /// When it names an unknown variable or a capture beyond `$9`, or leaves a brace open.
    pub fn parse_with_captures(text: &str) -> Result<Self, TemplateFault> {
        read(text, true)
    }

    /// A text without variables, whatever it holds.
    #[must_use]
    pub fn constant(text: &str) -> Self {
        Self { parts: vec![Part::Text(Arc::from(text))] }
    }

    /// The text for a request. What has no value is empty.
    #[must_use]
    pub fn fill(&self, facts: &Facts<'_>, captures: Option<&regex::Captures<'_>>) -> String {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Variable(variable) => filled.extend(variable.value(facts)),
                Part::Capture(number) => {
                    filled.extend(
                        captures
                            .and_then(|captures| captures.get(*number))
                            .map(|found| found.as_str()),
                    );
                }
            }
        }
        filled
    }

    /// The text with values from elsewhere, as from a request that has ended. What has no value
    /// is empty, and so are captures.
    pub fn fill_with<'v>(
        &self,
        value: &mut dyn FnMut(&Variable) -> Option<Cow<'v, str>>,
    ) -> String {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Variable(variable) => filled.extend(value(variable)),
                Part::Capture(_) => {}
            }
        }
        filled
    }

    /// Whether at least one of the variables has a value.
    #[must_use]
    pub fn resolves(&self, facts: &Facts<'_>) -> bool {
        self.variables().any(|variable| variable.value(facts).is_some())
    }

    /// The variable, when the text is one variable and nothing else.
    #[must_use]
    pub fn lone_variable(&self) -> Option<&Variable> {
        match self.parts.as_slice() {
            [Part::Variable(variable)] => Some(variable),
            _ => None,
        }
    }

    /// The variables in the order of the text.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) | Part::Capture(_) => None,
        })
    }

    /// Whether there is any variable.
    #[must_use]
    pub fn has_variables(&self) -> bool {
        self.variables().next().is_some()
    }

    /// Whether there is any capture.
    #[must_use]
    pub fn has_captures(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(_)))
    }
}

/// The variables whose name is one word.
fn fixed(name: &str) -> Option<Variable> {
    Some(match name {
        "remote_addr" => Variable::RemoteAddr,
        "remote_port" => Variable::RemotePort,
        "server_addr" => Variable::ServerAddr,
        "server_port" => Variable::ServerPort,
        "scheme" => Variable::Scheme,
        "server_protocol" => Variable::Protocol,
        "method" | "request_method" => Variable::Method,
        "host" => Variable::Host,
        "http_host" => Variable::HostHeader,
        "uri" => Variable::Uri,
        "request_uri" => Variable::RequestUri,
        "args" | "query_string" => Variable::Args,
        "request_id" => Variable::RequestId,
        "route_id" => Variable::RouteId,
        "route_name" => Variable::RouteName,
        "consumer_name" | "agent" => Variable::ConsumerName,
        "consumer_group_id" | "team" => Variable::ConsumerGroupId,
        "organisation" => Variable::Organisation,
        "run" => Variable::Run,
        _ => return ended(name).map(Variable::Ended),
    })
}

fn ended(name: &str) -> Option<EndVariable> {
    Some(match name {
        "status" => EndVariable::Status,
        "upstream_addr" => EndVariable::UpstreamAddr,
        "upstream_status" => EndVariable::UpstreamStatus,
        "request_time" => EndVariable::RequestTime,
        "upstream_response_time" => EndVariable::UpstreamResponseTime,
        "body_bytes_sent" => EndVariable::BodyBytesSent,
        "request_length" => EndVariable::RequestLength,
        "time_iso8601" => EndVariable::TimeIso8601,
        "msec" => EndVariable::Msec,
        "refusal_code" => EndVariable::RefusalCode,
        "trace_id" => EndVariable::TraceId,
        _ => return None,
    })
}

fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// Reads a template. Offsets of faults count bytes of the whole text.
fn read(text: &str, with_captures: bool) -> Result<Template, TemplateFault> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if let Some(before) = before.strip_suffix('\\') {
            plain.push_str(before);
            plain.push('$');
            rest = after;
            continue;
        }
        plain.push_str(before);
        let (name, tail) = match after.strip_prefix('{') {
            Some(inside) => inside
                .split_once('}')
                .ok_or(TemplateFault::Unclosed { offset: text.len() - after.len() - 1 })?,
            None => word(after),
        };
        rest = tail;
        if name.is_empty() && !after.starts_with('{') {
            plain.push('$');
            continue;
        }
        let part = part(name, with_captures)?;
        if !plain.is_empty() {
            parts.push(Part::Text(Arc::from(std::mem::take(&mut plain))));
        }
        parts.push(part);
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(Arc::from(plain)));
    }
    Ok(Template { parts })
}

/// The longest name at the start of a text, and what follows.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, ""))
}

fn part(name: &str, with_captures: bool) -> Result<Part, TemplateFault> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty();
    if with_captures && is_number {
        let number = name.parse().ok().filter(|number| *number <= CAPTURE_LAST);
        return number
            .map(Part::Capture)
            .ok_or_else(|| TemplateFault::CaptureBeyond { number: name.to_owned() });
    }
    Variable::parse(name)
        .map(Part::Variable)
        .ok_or_else(|| TemplateFault::UnknownVariable { name: name.to_owned() })
}

/// As in nginx, captures are named by one digit.
const CAPTURE_LAST: usize = 9;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{EndVariable, Template, TemplateFault, Variable};
    use crate::fact::sample::Sample;

    /// The value of a variable, or of a text with variables.
    fn check(text: &str, expected: &str) {
        let sample = Sample::new("/a%41b/%2f?page=1&page=2&q=a%20b&flag&=x&e=")
            .header("x-team-name", b"dns")
            .header("x-bytes", b"\xff\xfe")
            .header("cookie", b"a=1; sid=\"s 1\"; b")
            .header("cookie", b"late=2;sid=3");
        let filled = Template::parse(text).unwrap().fill(&sample.facts(), None);
        assert_eq!(filled, expected, "{text}");
    }

    fn check_resolves(text: &str, expected: bool) {
        let sample = Sample::new("/?a=");
        assert_eq!(Template::parse(text).unwrap().resolves(&sample.facts()), expected, "{text}");
    }

    fn fault(text: &str) -> TemplateFault {
        Template::parse_with_captures(text).unwrap_err()
    }

    #[test]
    fn a_variable_has_the_request_s_value() {
        check("$remote_addr:$remote_port", "192.0.2.7:4711");
        check("$server_addr:$server_port", "10.0.0.1:9080");
        check("$scheme $server_protocol $method $request_method", "https HTTP/2.0 GET GET");
        check("$host $http_host", "api.example.com Api.Example.com:9080");
        check(
            "$consumer_name $agent $team $consumer_group_id $organisation",
            "bot bot dns dns acme",
        );
        check("$request_id", "00000000000000000000000000000abc");
    }

    #[test]
    fn the_uri_is_normal_and_the_request_uri_is_as_sent() {
        check("$uri", "/aAb/%2F");
        check("$request_uri", "/a%41b/%2f?page=1&page=2&q=a%20b&flag&=x&e=");
        check("$args", "page=1&page=2&q=a%20b&flag&=x&e=");
    }

    #[test]
    fn arguments_and_cookies_are_the_first_of_their_name_as_sent() {
        check("$arg_page $arg_q [$arg_flag] [$arg_e] [$arg_PAGE]", "1 a%20b [] [] []");
        check("$cookie_sid $cookie_late [$cookie_b]", "\"s 1\" 2 []");
    }

    #[test]
    fn a_header_is_named_in_any_case_with_underscores() {
        check("$http_x_team_name$http_X_Team_Name", "dnsdns");
        check("[$http_x_bytes] [$http_absent]", "[] []");
    }

    #[test]
    fn a_dollar_before_no_name_is_itself() {
        check("$ 5$", "$ 5$");
        check("$-$$", "$-$$");
        check("$$host", "$api.example.com");
        check("\\$host \\${host} \\n", "$host ${host} \\n");
    }

    #[test]
    fn braces_end_a_name() {
        check("${host}s", "api.example.coms");
        check("a${scheme}://${host}/", "ahttps://api.example.com/");
    }

    #[test]
    fn an_unknown_name_is_a_fault() {
        for name in ["hosts", "arg_", "http_", "cookie_", "HOST", "uri_param_x", "http_é"] {
            let unknown = TemplateFault::UnknownVariable { name: name.to_owned() };
            assert_eq!(fault(&format!("a ${{{name}}}")), unknown);
            assert_eq!(Variable::parse(name), None);
        }
        assert_eq!(fault("$hosts").to_string(), "unknown variable `$hosts`");
        assert!(Template::parse("$1").is_err());
    }

    #[test]
    fn an_open_brace_is_a_fault() {
        assert_eq!(fault("ab${host"), TemplateFault::Unclosed { offset: 2 });
        assert_eq!(fault("${"), TemplateFault::Unclosed { offset: 0 });
        assert_eq!(fault("${}"), TemplateFault::UnknownVariable { name: String::new() });
    }

    #[test]
    fn captures_have_one_digit() {
        let pattern = regex::Regex::new("(a)(b)?").unwrap();
        let captures = pattern.captures("a").unwrap();
        let template = Template::parse_with_captures("$0-$1-$2-$9-${1}0").unwrap();
        let sample = Sample::new("/");
        assert_eq!(template.fill(&sample.facts(), Some(&captures)), "a-a---a0");
        assert_eq!(template.fill(&sample.facts(), None), "----0");
        assert_eq!(fault("$10"), TemplateFault::CaptureBeyond { number: "10".to_owned() });
    }

    #[test]
    fn a_text_resolves_once_one_variable_has_a_value() {
        check_resolves("$arg_b $arg_a", true);
        check_resolves("$arg_b $run", false);
        check_resolves("text", false);
        check_resolves("$status", false);
    }

    #[test]
    fn a_lone_variable_is_seen() {
        let lone = |text| Template::parse(text).unwrap().lone_variable().cloned();
        assert_eq!(lone("$status"), Some(Variable::Ended(EndVariable::Status)));
        assert_eq!(lone("$status "), None);
        assert_eq!(lone(""), None);
    }

    #[test]
    fn a_constant_is_not_read() {
        let sample = Sample::new("/");
        let constant = Template::constant("$host ${");
        assert_eq!(constant.fill(&sample.facts(), None), "$host ${");
        assert!(!constant.has_variables());
    }

    #[test]
    fn values_can_come_from_elsewhere() {
        let template = Template::parse("$status $host $msec").unwrap();
        let filled = template.fill_with(&mut |variable| match variable {
            Variable::Ended(EndVariable::Status) => Some(Cow::Borrowed("200")),
            Variable::Host => Some(Cow::Owned("h".to_owned())),
            _ => None,
        });
        assert_eq!(filled, "200 h ");
    }
}
