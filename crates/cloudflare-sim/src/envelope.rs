//! The envelope every answer wears, and the errors that go in it.
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, Value, json};

/// What goes back on the wire. It fails only when a fault told it to.
pub(crate) type Body = UnsyncBoxBody<Bytes, Cut>;

/// What a handler says: an answer, or an error in the envelope.
pub(crate) type Reply = Result<Answer, Refusal>;

/// The end of an answer that was not allowed to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("answer cut short")]
pub(crate) struct Cut;

/// One answer, before the headers that all of them carry.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Answer {
    /// 200 with `result` in the envelope.
    pub(crate) fn result(result: impl Into<Value>) -> Self {
        Self::json(StatusCode::OK, &envelope(result.into(), json!([]), None))
    }

    /// 200 with `result` and its `result_info`.
    pub(crate) fn listed(result: impl Into<Value>, info: Value) -> Self {
        Self::json(StatusCode::OK, &envelope(result.into(), json!([]), Some(info)))
    }

    /// 200 with `result` and a word about it.
    pub(crate) fn remarked(result: impl Into<Value>, code: u32, message: &str) -> Self {
        let messages = json!([{ "code": code, "message": message, "type": Value::Null }]);
        Self::json(StatusCode::OK, &envelope(result.into(), messages, None))
    }

    /// JSON that wears no envelope.
    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::raw("application/json", value.to_string()).with_status(status)
    }

    /// 200 with bytes that wear no envelope.
    pub(crate) fn raw(content_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self::streamed(content_type, full(bytes))
    }

    /// 200 with a body that is made while it is read.
    pub(crate) fn streamed(content_type: &str, body: Body) -> Self {
        let kind = HeaderValue::from_str(content_type)
            .unwrap_or(HeaderValue::from_static("application/octet-stream"));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        Self { status: StatusCode::OK, headers, body }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header, unless `value` holds bytes that no header may.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// One entry of `errors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    code: u32,
    message: String,
    chain: Vec<Self>,
}

impl Complaint {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), chain: Vec::new() }
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({ "code": self.code, "message": self.message });
        if let (false, Some(entry)) = (self.chain.is_empty(), entry.as_object_mut()) {
            let chain = self.chain.iter().map(Self::to_json).collect();
            entry.insert("error_chain".to_owned(), Value::Array(chain));
        }
        entry
    }
}

/// The API says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    errors: Vec<Complaint>,
    retry_after_s: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        Self { status, errors: vec![Complaint::new(code, message)], retry_after_s: None }
    }

    /// 400: the request is at fault.
    pub(crate) fn bad(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 403: the caller may not.
    pub(crate) fn forbidden(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 404: there is no such thing.
    pub(crate) fn missing(code: u32, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 404: no such path, as the API's router words it.
    pub(crate) fn no_route(path: &str) -> Self {
        Self { errors: unroutable(path), ..Self::missing(0, "") }
    }

    /// 400: an identifier that is not one, as the API's router words it.
    pub(crate) fn bad_identifier(path: &str) -> Self {
        Self { errors: unroutable(path), ..Self::bad(0, "") }
    }

    /// Names the error under the last one.
    pub(crate) fn because(mut self, code: u32, message: impl Into<String>) -> Self {
        if let Some(last) = self.errors.last_mut() {
            last.chain.push(Complaint::new(code, message));
        }
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let errors: Vec<Value> = refusal.errors.iter().map(Complaint::to_json).collect();
        let body = json!({ "success": false, "errors": errors, "messages": [], "result": null });
        let answer = Self::json(refusal.status, &body);
        match refusal.retry_after_s {
            Some(seconds) => answer.with_header("retry-after", &seconds.to_string()),
            None => answer,
        }
    }
}

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn envelope(result: Value, messages: Value, info: Option<Value>) -> Value {
    let mut whole = Map::new();
    whole.insert("result".to_owned(), result);
    whole.insert("success".to_owned(), true.into());
    whole.insert("errors".to_owned(), Value::Array(Vec::new()));
    whole.insert("messages".to_owned(), messages);
    whole.extend(info.map(|info| ("result_info".to_owned(), info)));
    Value::Object(whole)
}

fn unroutable(path: &str) -> Vec<Complaint> {
    let first = format!("Could not route to {path}, perhaps your object identifier is invalid?");
    vec![Complaint::new(7003, first), Complaint::new(7000, "No route for that URI")]
}
