//! `proxy-rewrite`: the request the upstream gets instead of the client's.

mod draft;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Captures;

use crate::fact::Facts;
use crate::regexp::Regexp;
use crate::target::{Target, TargetFault, normalise};
use crate::variable::{Part, Template};
use draft::{Draft, Ink};

/// A compiled `proxy-rewrite`.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The new path, with variables; wins over `regex_uri`.
    pub uri: Option<Template>,
    /// Pairs tried in order; the first whose pattern matches is applied once.
    pub regex_uri: Vec<(Regexp, Template)>,
    /// The `Host` and, over TLS, the server name the upstream is asked for.
    pub host: Option<HeaderValue>,
    pub method: Option<Method>,
    pub add: Vec<(HeaderName, HeaderText)>,
    pub set: Vec<(HeaderName, HeaderText)>,
    pub remove: Vec<HeaderName>,
    /// Rewrite the bytes the client sent without reading them both ways.
    pub use_real_request_uri: bool,
}

/// A header's new value.
#[derive(Clone, Debug)]
pub enum HeaderText {
    /// Known when compiled; sensitive when it came from a secret.
    Fixed(HeaderValue),
    /// With variables and captures (`$1`) of the pattern that matched the path.
    Template(Arc<Template>),
}

/// A request's new target, and what its headers are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Path and query for the upstream; `None` forwards the client's.
    pub target: Option<Target>,
    /// For [`Rewrite::headers`].
    pub captures: Captured,
}

/// The texts that the pattern of a path captured: at most ten, each within the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured(Vec<Box<str>>);

/// Why a request cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteFault {
    #[error("the path is rewritten to one target as sent and to another in normal form")]
    Ambiguous,
    #[error("the rewritten target is refused")]
    Target(#[source] TargetFault),
    #[error("the rewritten target is longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    #[error("the new value of header `{name}` is not a header value of {HEADER_BYTES_MAX} bytes")]
    Header { name: HeaderName },
    #[error("the request has more headers than a header map takes")]
    TooManyHeaders,
}

impl Rewrite {
    /// The target for the upstream.
    ///
    /// A pattern is applied to the bytes the client sent, so that an encoded slash survives. A
    /// path that is not in normal form is rewritten in normal form too, and both results must
    /// mean the same; when only the normal form matches, its result is taken. The client's query
    /// follows the query of the result, unless a variable has already put it there.
    ///
    /// # Errors
    /// When the path reads two ways, or the result is not a [`Target`].
    pub fn target(&self, facts: &Facts<'_>) -> Result<Rewritten, RewriteFault> {
        if let Some(uri) = &self.uri {
            let mut draft = Draft::default();
            fill(&mut draft, uri, facts, |_| None)?;
            return draft
                .finish(facts.target.query())
                .map(|target| Applied { target, captures: Captured::default() }.into());
        }
        let sent = self.apply(facts.target.path(), Ink::Sent, facts)?;
        if self.use_real_request_uri || !facts.target.is_respelled() {
            return Ok(sent.map(Applied::into).unwrap_or_default());
        }
        let normal = self.apply(facts.target.normal(), Ink::Normal, facts)?;
        match (sent, normal) {
            (None, None) => Ok(Rewritten::default()),
            (None, Some(normal)) => Ok(normal.into()),
            // Captures go into headers, where nothing is escaped.
            (Some(sent), Some(normal)) if mean_the_same(&sent.target, &normal.target) => {
                Ok(Applied { target: sent.target, captures: normal.captures }.into())
            }
            (Some(sent), None) if mean_the_same(&sent.target, facts.target) => Ok(sent.into()),
            (Some(_), _) => Err(RewriteFault::Ambiguous),
        }
    }

    /// Whether [`Rewrite::headers`] does anything.
    #[must_use]
    pub const fn changes_headers(&self) -> bool {
        !(self.add.is_empty() && self.set.is_empty() && self.remove.is_empty())
    }

    /// Changes the headers for the upstream: add, then set, then remove.
    ///
    /// # Errors
    /// When a filled value is not a header value, or the map is full. The map may then be half
    /// changed.
    pub fn headers(
        &self,
        headers: &mut HeaderMap,
        facts: &Facts<'_>,
        captures: &Captured,
    ) -> Result<(), RewriteFault> {
        for (name, text) in &self.add {
            let value = text.value(name, facts, captures)?;
            headers.try_append(name, value).map_err(|_| RewriteFault::TooManyHeaders)?;
        }
        for (name, text) in &self.set {
            let value = text.value(name, facts, captures)?;
            headers.try_insert(name, value).map_err(|_| RewriteFault::TooManyHeaders)?;
        }
        for name in &self.remove {
            headers.remove(name);
        }
        Ok(())
    }

    /// Applies the first pair whose pattern matches, once; `None` when none does.
    fn apply(
        &self,
        path: &str,
        ink: Ink,
        facts: &Facts<'_>,
    ) -> Result<Option<Applied>, RewriteFault> {
        let mut pairs = self.regex_uri.iter();
        let Some((found, replacement)) =
            pairs.find_map(|(pattern, text)| Some((pattern.regex().captures(path)?, text)))
        else {
            return Ok(None);
        };
        let whole = found.get_match().range();
        let mut draft = Draft::default();
        draft.push(ink, path.get(..whole.start).unwrap_or_default())?;
        fill(&mut draft, replacement, facts, |number| {
            found.get(number).map(|text| (ink, text.as_str()))
        })?;
        draft.push(ink, path.get(whole.end..).unwrap_or_default())?;
        let target = draft.finish(facts.target.query())?;
        Ok(Some(Applied { target, captures: self.keep(&found) }))
    }

    /// The captures, when a header asks for any.
    fn keep(&self, found: &Captures<'_>) -> Captured {
        let mut texts = self.add.iter().chain(&self.set).map(|(_, text)| text);
        if !texts.any(HeaderText::has_captures) {
            return Captured::default();
        }
        let text = |number| found.get(number).map_or("", |text| text.as_str());
        Captured((0..found.len().min(CAPTURES_MAX)).map(|number| text(number).into()).collect())
    }
}

impl HeaderText {
    fn has_captures(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Template(template) => template.has_captures(),
        }
    }

    fn value(
        &self,
        name: &HeaderName,
        facts: &Facts<'_>,
        captures: &Captured,
    ) -> Result<HeaderValue, RewriteFault> {
        let template = match self {
            Self::Fixed(value) => return Ok(value.clone()),
            Self::Template(template) => template,
        };
        let fault = || RewriteFault::Header { name: name.clone() };
        let mut filled = String::new();
        for part in &template.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Variable(variable) => filled.extend(variable.value(facts)),
                Part::Capture(number) => {
                    filled.push_str(captures.0.get(*number).map_or("", |text| text));
                }
            }
            if filled.len() > HEADER_BYTES_MAX {
                return Err(fault());
            }
        }
        HeaderValue::try_from(filled).map_err(|_| fault())
    }
}

/// A rewritten target that was found good, and what its pattern captured.
struct Applied {
    target: Target,
    captures: Captured,
}

impl From<Applied> for Rewritten {
    fn from(applied: Applied) -> Self {
        Self { target: Some(applied.target), captures: applied.captures }
    }
}

/// Writes a template into a draft.
fn fill<'c>(
    draft: &mut Draft,
    template: &Template,
    facts: &Facts<'_>,
    capture: impl Fn(usize) -> Option<(Ink, &'c str)>,
) -> Result<(), RewriteFault> {
    for part in &template.parts {
        match part {
            Part::Text(text) => draft.push(Ink::Written, text)?,
            Part::Variable(variable) => {
                if let Some(value) = variable.value(facts) {
                    draft.push_variable(variable, &value)?;
                }
            }
            Part::Capture(number) => {
                if let Some((ink, text)) = capture(*number) {
                    draft.push(ink, text)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether two targets have one path in normal form and queries that differ in spelling only.
fn mean_the_same(one: &Target, other: &Target) -> bool {
    let is_delimiter = |byte| b"&=+;#".contains(&byte);
    let query = |target: &Target| match target.query() {
        None | Some("") => None,
        Some(query) => Some(normalise(query, is_delimiter).into_owned()),
    };
    one.normal() == other.normal() && query(one) == query(other)
}

/// Bytes of path and query, as many as [`PathAndQuery`] holds. A longer target is a fault.
const TARGET_BYTES_MAX: usize = 65_534;

/// Bytes of a header's filled value. A longer one is a fault.
const HEADER_BYTES_MAX: usize = 16_384;

/// `$0` to `$9`.
const CAPTURES_MAX: usize = 10;

#[cfg(test)]
mod tests;
