//! `proxy-rewrite`: the request the upstream gets instead of the client's.

mod headers;

use http::Method;
use rules::regexp::{Case, Regexp};
use rules::rewrite::Rewrite;
use rules::variable::Template;
use serde_json::Value;

use crate::document::upstream::host;
use crate::reader::{Object, Reader, boolean, list, one_of, text};

/// Reads the rule, which must say something.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<Rewrite> {
    let uri = object.optional("uri", uri);
    let regex_uri = object.optional("regex_uri", regex_uri);
    let host = object.optional("host", host);
    let method = object.optional("method", one_of(METHODS, &[]));
    let headers = object.optional("headers", headers::read).unwrap_or_default();
    let real = object.optional("use_real_request_uri_unsafe", boolean);
    let members = ["uri", "regex_uri", "host", "method", "headers", "use_real_request_uri_unsafe"];
    if !members.iter().any(|name| object.has(name)) {
        object.reader.fault("expect object to have at least 1 properties");
    }
    let headers::Changes { add, set, remove } = headers;
    Some(Rewrite {
        uri,
        regex_uri: regex_uri.unwrap_or_default(),
        host,
        method: method.and_then(|name| name.parse::<Method>().ok()),
        add,
        set,
        remove,
        use_real_request_uri: real.unwrap_or_default(),
    })
}

const METHODS: &[(&str, &str)] = &[
    ("GET", "GET"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("HEAD", "HEAD"),
    ("DELETE", "DELETE"),
    ("OPTIONS", "OPTIONS"),
    ("MKCOL", "MKCOL"),
    ("COPY", "COPY"),
    ("MOVE", "MOVE"),
    ("PROPFIND", "PROPFIND"),
    ("LOCK", "LOCK"),
    ("UNLOCK", "UNLOCK"),
    ("PATCH", "PATCH"),
    ("TRACE", "TRACE"),
];

fn uri<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Template> {
    let written = text(1, 4096)(reader, value)?;
    if !written.starts_with('/') {
        reader.fault("expected a path that starts with `/`");
        return None;
    }
    Template::parse(written).map_err(|fault| reader.fault(fault.to_string())).ok()
}

/// Reads pairs of a pattern and what replaces it.
fn regex_uri<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Vec<(Regexp, Template)>> {
    let texts = list(1, REGEX_TEXTS_MAX, text(0, 4096))(reader, value)?;
    if value.as_array().is_some_and(|items| items.len() != texts.len()) {
        return None;
    }
    if texts.len() % 2 != 0 {
        reader.fault("The length of regex_uri should be an even number");
        return None;
    }
    let mut pairs = Vec::with_capacity(texts.len() / 2);
    for (index, pair) in texts.chunks_exact(2).enumerate() {
        let [pattern, replacement] = pair else { continue };
        let pattern = reader.element(index * 2, |reader| compile(reader, pattern, replacement));
        let replacement = reader.element(index * 2 + 1, |reader| {
            let template = Template::parse_with_captures(replacement);
            template.map_err(|fault| reader.fault(fault.to_string())).ok()
        });
        pairs.extend(pattern.zip(replacement));
    }
    Some(pairs)
}

fn compile(reader: &mut Reader<'_>, pattern: &str, replacement: &str) -> Option<Regexp> {
    let error = match Regexp::parse(pattern, Case::Minded, REGEX_DEPTH_MAX) {
        Ok(regex) => return Some(regex),
        Err(error) => error,
    };
    let why = match error {
        regex::Error::CompiledTooBig(_) => format!("compiles to over {} bytes", Regexp::BYTES_MAX),
        other => {
            let why = other.to_string();
            why.lines().last().unwrap_or_default().trim().to_owned()
        }
    };
    reader.fault(format!("invalid regex_uri({pattern}, {replacement}): {why}"));
    None
}

/// Patterns and replacements together.
const REGEX_TEXTS_MAX: usize = 128;
/// Groups in groups of a pattern. A deeper one is refused.
const REGEX_DEPTH_MAX: u32 = 64;
