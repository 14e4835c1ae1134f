//! One call of the API, with its body read: what a handler sees.
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::envelope::Refusal;
use crate::path::{Query, decode};

/// One call of the API.
pub(crate) struct Call<'a> {
    pub(crate) now: Timestamp,
    /// The path as it came, escapes and all.
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    /// What the route's pattern bound, as it came.
    pub(crate) params: Vec<(&'static str, String)>,
    /// The id of the token that calls; empty for the global key and for open paths.
    pub(crate) token: String,
}

impl Call<'_> {
    /// A parameter of the route as it came; empty if the pattern has no such name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
    }

    /// A parameter of the route, decoded: the name of a KV key or of an R2 object.
    pub(crate) fn decoded(&self, name: &str) -> String {
        decode(self.param(name))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str()).unwrap_or_default()
    }

    /// The body, read as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| malformed(&error))
    }

    /// The body, read as a JSON object.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        self.json()
    }
}

fn malformed(error: &serde_json::Error) -> Refusal {
    Refusal::bad(6007, format!("Malformed JSON in request body: {error}"))
}
