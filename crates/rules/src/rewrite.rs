//! `proxy-rewrite`: the request the upstream gets instead of the client's.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use regex::Regex;

use crate::variable::Template;

/// A compiled `proxy-rewrite`.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The new path, with variables; wins over `regex_uri`.
    pub uri: Option<Template>,
    /// Pairs tried in order; the first whose pattern matches is applied once.
    pub regex_uri: Vec<(Regex, Template)>,
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
