//! The request's head, read once: one host, one target, no contradiction.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Version};
use model::{Code, Protocol, Refusal};
use rules::target::Target;

use crate::park::Line;

/// A head that can be read in one way only.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: Target,
    /// Lower case, without the port.
    pub(crate) host: Box<str>,
    /// As the client sent it.
    pub(crate) host_header: Box<str>,
    pub(crate) headers: HeaderMap,
    /// The connection to lead elsewhere, when the request asks to speak WebSocket.
    pub(crate) upgrade: Option<Arc<Line>>,
}

/// Reads a head.
///
/// # Errors
/// When two parsers could read it differently, or it asks for what the gate does not carry.
pub(crate) fn read(parts: Parts) -> Result<Head, Refusal> {
    let Parts { method, uri, version, headers, mut extensions, .. } = parts;
    // First of all: where the body's end is in doubt, the connection ends with the refusal.
    framing(&headers)?;
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Refusal::new(Code::MethodRefused, format!("{method} is not carried")));
    }
    // A connection comes along only where `upgrade` is asked for over HTTP/1. Any other change of
    // protocol that is offered may be passed over (RFC 9110 §7.8).
    let line = extensions.remove::<Arc<Line>>();
    let upgrade = line.filter(|_| asks_for_websocket(&method, &headers));
    let host_header = host(uri.authority(), version, &headers)?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refusal::new(Code::TargetInvalid, "the target's scheme is not HTTP's"));
    }
    let target = Target::parse(&uri).map_err(|fault| {
        let code = if fault.is_ambiguous() { Code::TargetAmbiguous } else { Code::TargetInvalid };
        Refusal::new(code, fault.to_string())
    })?;
    let host = without_port(&host_header).to_ascii_lowercase().into_boxed_str();
    Ok(Head { method, target, host, host_header, headers, upgrade })
}

/// The opening of a WebSocket (RFC 6455 §4.1).
fn asks_for_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let mut wanted = headers.get_all(UPGRADE).iter();
    let one =
        wanted.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    one && wanted.next().is_none()
        && *method == Method::GET
        && !headers.contains_key(CONTENT_LENGTH)
        && !headers.contains_key(TRANSFER_ENCODING)
}

/// The protocol a request came in.
pub(crate) const fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_10 | Version::HTTP_09 => Protocol::Http10,
        _ => Protocol::Http11,
    }
}

/// RFC 9112 §6.3: lengths that repeat or contradict each other smuggle requests. Over HTTP/1 the
/// library merges most of them before they get here; over HTTP/2 nobody else looks.
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let codings = headers.get_all(TRANSFER_ENCODING).iter().count();
    if lengths > 1 || codings > 1 || (lengths > 0 && codings > 0) {
        return Err(Refusal::new(
            Code::FramingInvalid,
            "the body's length is given more than once",
        ));
    }
    // RFC 9112 §6.1: a coding that is not understood hides where the body ends.
    let coding = headers.get(TRANSFER_ENCODING).map(HeaderValue::as_bytes);
    if coding.is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::new(Code::FramingInvalid, "`transfer-encoding` is not `chunked`"));
    }
    let listed = headers.get(CONTENT_LENGTH).map(|value| value.as_bytes().contains(&b','));
    if listed == Some(true) {
        return Err(Refusal::new(Code::FramingInvalid, "`content-length` is a list"));
    }
    Ok(())
}

/// The one host of a request (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn host(
    authority: Option<&Authority>,
    version: Version,
    headers: &HeaderMap,
) -> Result<Box<str>, Refusal> {
    let refuse = |why: &'static str| Err(Refusal::new(Code::HostInvalid, why));
    let mut fields = headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return refuse("more than one host is named"),
        (field, None) => field,
    };
    let field = match field.map(|value| value.to_str()) {
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return refuse("the host is not text"),
        None => None,
    };
    let named = match (authority.map(Authority::as_str), field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => {
            return refuse("target and `host` name different hosts");
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) if version == Version::HTTP_10 => "",
        (None, None) => return refuse("no host is named"),
    };
    if !is_host(named) {
        return refuse("the host is not a host name");
    }
    Ok(Box::from(named))
}

/// A registered name or an address with an optional port; no user, no path.
fn is_host(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => {
            text.bytes().all(plain)
                && match text.split_once(':') {
                    Some((name, port)) => !name.is_empty() && is_port(port),
                    None => true,
                }
        }
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && !text.starts_with('+')
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.rsplit_once(']').map_or(host, |(address, _)| address.trim_start_matches('['));
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use http::HeaderName;

    use super::{Code, HeaderMap, Method, UPGRADE, asks_for_websocket, read};

    /// Reads a head made of a target and header fields: the host, or the code of the refusal.
    fn check(target: &str, fields: &[(&str, &str)], expected: Result<&str, Code>) {
        let mut request = Request::get(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let head = read(request.body(()).unwrap().into_parts().0);
        let host = head.as_ref().map(|head| &*head.host).map_err(|refusal| refusal.code);
        assert_eq!(host, expected, "{target} {fields:?}");
    }

    #[test]
    fn one_host_is_taken_in_lower_case_and_without_its_port() {
        check("/", &[("host", "Api.Example.com:9080")], Ok("api.example.com"));
        check("/", &[("host", "[2001:DB8::1]:80")], Ok("2001:db8::1"));
        check("http://a.example/x", &[("host", "A.example")], Ok("a.example"));
    }

    #[test]
    fn no_host_two_hosts_or_nonsense_is_refused() {
        for fields in [
            &[][..],
            &[("host", "a"), ("host", "a")],
            &[("host", "a/b")],
            &[("host", "user@a")],
            &[("host", "a:b")],
            &[("host", ":80")],
            &[("host", "a b")],
            &[("host", "a,b")],
        ] {
            check("/", fields, Err(Code::HostInvalid));
        }
        check("http://a/", &[("host", "b")], Err(Code::HostInvalid));
    }

    #[test]
    fn contradicting_lengths_are_refused() {
        let host = ("host", "a");
        for fields in [
            &[host, ("content-length", "1"), ("content-length", "1")][..],
            &[host, ("content-length", "1, 1")],
            &[host, ("content-length", "1"), ("transfer-encoding", "chunked")],
            &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            check("/", fields, Err(Code::FramingInvalid));
        }
    }

    #[test]
    fn a_doubtful_length_is_refused_as_such_whatever_else_is_wrong() {
        for method in [Method::TRACE, Method::CONNECT, Method::GET] {
            let request = Request::builder().method(method).uri("/").header("host", "a b");
            let request = request.header("transfer-encoding", "chunked, chunked").body(()).unwrap();
            let refused = read(request.into_parts().0).unwrap_err();
            assert_eq!(refused.code, Code::FramingInvalid);
        }
    }

    #[test]
    fn only_the_opening_of_a_websocket_is_taken_for_one() {
        let websocket = |upgrade: &str, more: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, upgrade.parse().unwrap());
            for (name, value) in more {
                headers.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            asks_for_websocket(&Method::GET, &headers)
        };
        assert!(websocket("WebSocket", &[]));
        assert!(!websocket("h2c", &[]));
        assert!(!websocket("websocket, h2c", &[]));
        assert!(!websocket("websocket", &[("content-length", "1")]));
    }

    #[test]
    fn a_target_that_reads_two_ways_is_refused() {
        check("/a/%2e%2e/b", &[("host", "a")], Err(Code::TargetAmbiguous));
        check("/a//b", &[("host", "a")], Err(Code::TargetAmbiguous));
        check("/a%00", &[("host", "a")], Err(Code::TargetInvalid));
    }
}
