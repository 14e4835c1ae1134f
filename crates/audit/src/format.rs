//! What one logger writes of one request: tollgate's record, or the `log_format` in its place.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Outcome, Timestamp};
use rules::record::{Format, FormatValue, RecordShape};
use rules::variable::{EndVariable, Variable};

use crate::entry::{Bodies, Body, Captures, Entry};
use crate::json::{Object, push_time};
use crate::record;

#[cfg(test)]
mod tests;

/// How much of each body one logger writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) request_body: Option<usize>,
    pub(crate) response_body: Option<usize>,
}

/// Writes one JSON object without a line's end.
pub(crate) fn write(out: &mut Vec<u8>, entry: &Entry, shape: &RecordShape, wanted: Wanted) {
    let Entry { outcome, captures, bodies, loggers: _, due: _ } = entry;
    let mut object = Object::begin(out);
    match &shape.format {
        Some(format) => {
            write_members(&mut object, format, (outcome, captures), &[]);
            let is_named = format.0.iter().any(|(name, _)| &**name == ROUTE_ID);
            if let (false, Some(route)) = (is_named, &outcome.route) {
                object.text(ROUTE_ID, route.as_str());
            }
        }
        None => {
            record::write(&mut object, outcome);
            if let Some(extra) = &shape.extra {
                // The record's own members mean what they say; nothing may be named like one.
                write_members(&mut object, extra, (outcome, captures), record::MEMBERS);
            }
        }
    }
    write_bodies(&mut object, bodies, wanted);
    object.end();
}

/// Calls `visit` for every variable a format names.
pub(crate) fn for_each_variable(format: &Format, visit: &mut dyn FnMut(&Variable)) {
    for (_, value) in &format.0 {
        match value {
            FormatValue::Text(template) => template.variables().for_each(&mut *visit),
            FormatValue::Object(inner) => for_each_variable(inner, visit),
        }
    }
}

/// Whether the outcome will hold a variable's value, so that it need not be taken at the
/// request's head. `request_uri` and `args` come from there too, because the outcome's query has
/// its credentials masked.
pub(crate) const fn is_of_the_outcome(variable: &Variable) -> bool {
    match variable {
        Variable::RemoteAddr
        | Variable::RemotePort
        | Variable::Scheme
        | Variable::Protocol
        | Variable::Method
        | Variable::RequestUri
        | Variable::Args
        | Variable::RequestId
        | Variable::RouteId
        | Variable::ConsumerName
        | Variable::ConsumerGroupId
        | Variable::Organisation
        | Variable::Run
        | Variable::Ended(_) => true,
        Variable::ServerAddr
        | Variable::ServerPort
        | Variable::Host
        | Variable::HostHeader
        | Variable::Uri
        | Variable::RouteName
        | Variable::Arg(_)
        | Variable::Header(_)
        | Variable::Cookie(_) => false,
    }
}

/// Writes the members of a format, but for those named as in `taken`. A member that is one
/// variable and nothing else is dropped when the variable has no value.
fn write_members(
    object: &mut Object<'_>,
    format: &Format,
    source: (&Outcome, &Captures),
    taken: &[&str],
) {
    for (name, value) in &format.0 {
        if taken.contains(&&**name) {
            continue;
        }
        match value {
            FormatValue::Object(inner) => {
                let mut inside = object.object(name);
                write_members(&mut inside, inner, source, &[]);
                inside.end();
            }
            FormatValue::Text(template) => match template.lone_variable() {
                Some(variable) => object.maybe_text(name, value_of(variable, source).as_deref()),
                None => {
                    object.text(
                        name,
                        &template.fill_with(&mut |variable| value_of(variable, source)),
                    );
                }
            },
        }
    }
}

/// A variable's value once the request has ended.
pub(crate) fn value_of<'a>(
    variable: &Variable,
    (outcome, captures): (&'a Outcome, &'a Captures),
) -> Option<Cow<'a, str>> {
    let identity = outcome.identity.as_ref();
    let text = match variable {
        Variable::RemoteAddr => return Some(outcome.client.ip().to_canonical().to_string().into()),
        Variable::RemotePort => return Some(outcome.client.port().to_string().into()),
        Variable::RequestId => return Some(outcome.request_id.to_string().into()),
        Variable::RequestUri => return Some(target(outcome)),
        Variable::Ended(ended) => return value_at_end(*ended, outcome),
        Variable::Scheme => outcome.scheme.as_str(),
        Variable::Protocol => outcome.protocol.as_str(),
        Variable::Method => &outcome.method,
        Variable::Args => outcome.query.as_deref()?,
        Variable::RouteId => outcome.route.as_ref()?.as_str(),
        Variable::ConsumerName => identity?.agent.as_str(),
        Variable::ConsumerGroupId => identity?.team.as_ref()?.as_str(),
        Variable::Organisation => identity?.organisation.as_str(),
        Variable::Run => identity?.run.as_ref()?.as_str(),
        Variable::ServerAddr
        | Variable::ServerPort
        | Variable::Host
        | Variable::HostHeader
        | Variable::Uri
        | Variable::RouteName
        | Variable::Arg(_)
        | Variable::Header(_)
        | Variable::Cookie(_) => captures.value(variable)?,
    };
    Some(Cow::Borrowed(text))
}

fn target(outcome: &Outcome) -> Cow<'_, str> {
    match &outcome.query {
        Some(query) => format!("{}?{query}", outcome.path).into(),
        None => Cow::Borrowed(&outcome.path),
    }
}

fn value_at_end(variable: EndVariable, outcome: &Outcome) -> Option<Cow<'_, str>> {
    let attempt = outcome.attempt.as_ref();
    let seconds = |duration: std::time::Duration| format!("{:.3}", duration.as_secs_f64());
    let text = match variable {
        EndVariable::Status => outcome.status.to_string(),
        EndVariable::UpstreamAddr => attempt?.address?.to_string(),
        EndVariable::UpstreamStatus => attempt?.status?.to_string(),
        EndVariable::RequestTime => seconds(outcome.timing.total),
        EndVariable::UpstreamResponseTime => seconds(outcome.timing.upstream?),
        EndVariable::BodyBytesSent => outcome.sent.to_string(),
        EndVariable::RequestLength => outcome.received.to_string(),
        EndVariable::TimeIso8601 => time(ended(outcome)),
        EndVariable::Msec => {
            let millis = ended(outcome).as_millis();
            format!("{}.{:03}", millis / 1_000, millis % 1_000)
        }
        EndVariable::RefusalCode => return Some(Cow::Borrowed(outcome.refusal?.as_str())),
        EndVariable::TraceId => format!("{:032x}", outcome.trace?.trace_id),
    };
    Some(Cow::Owned(text))
}

/// As in nginx, times in a log line are those of its writing: the request's end.
fn ended(outcome: &Outcome) -> Timestamp {
    outcome.started.plus(outcome.timing.total)
}

fn time(at: Timestamp) -> String {
    let mut text = Vec::with_capacity(27);
    push_time(&mut text, at);
    String::from_utf8(text).unwrap_or_default()
}

fn write_bodies(object: &mut Object<'_>, bodies: &Bodies, wanted: Wanted) {
    let request = ["request_body", "request_body_base64", "request_body_cut"];
    let response = ["response_body", "response_body_base64", "response_body_cut"];
    if let (Some(body), Some(max)) = (&bodies.request, wanted.request_body) {
        write_body(object, body, max, request);
    }
    if let (Some(body), Some(max)) = (&bodies.response, wanted.response_body) {
        write_body(object, body, max, response);
    }
}

/// A body that is text is written as text, any other as base64, so that none is changed. What the
/// cut left of a character is cut too.
fn write_body(object: &mut Object<'_>, body: &Body, max: usize, names: [&str; 3]) {
    let [as_text, as_base64, cut] = names;
    let kept = body.bytes.get(..max).unwrap_or(&body.bytes);
    let is_cut = body.is_cut || kept.len() < body.bytes.len();
    match std::str::from_utf8(kept) {
        Ok(text) => object.text(as_text, text),
        Err(error) if is_cut && error.error_len().is_none() => {
            let whole = kept.get(..error.valid_up_to()).unwrap_or_default();
            object.text(as_text, std::str::from_utf8(whole).unwrap_or_default());
        }
        Err(_) => object.text(as_base64, &STANDARD.encode(kept)),
    }
    if is_cut {
        object.yes(cut);
    }
}

/// The member APISIX appends to every custom format.
const ROUTE_ID: &str = "route_id";
