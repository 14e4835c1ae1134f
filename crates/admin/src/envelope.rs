//! Answers of the operators' door: APISIX's envelopes, and every refusal with its status.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cluster::{Kept, ProposeError};
use config::{Applied, Fault, Key, Kind, Rejected, Stored};
use http::{HeaderValue, Method, StatusCode, header};
use model::Revision;
use serde_json::{Value, json};

use crate::desk::Call;

/// Why a request is not carried out. Holds nothing of the request's body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The request is wrong: what, and where.
    Bad {
        message: String,
        errors: Vec<Value>,
    },
    /// APISIX answers this one without JSON.
    PageSize,
    Unauthorised(&'static str),
    /// Too many wrong keys came from this address.
    Throttled(Duration),
    /// There is nothing of this name to ask for.
    NotFound(String),
    /// There is no such resource.
    KeyNotFound,
    /// The kind's resources are not written that way.
    MethodOff {
        method: Method,
        kind: &'static str,
    },
    /// The document is at another revision than the request was made for.
    Conflict(String),
    /// `If-Match` or `If-None-Match` says no.
    Precondition(String),
    /// The body did not arrive in time.
    Slow,
    /// The node cannot decide now.
    Unavailable(String),
}

impl Failure {
    /// A wrong request without places.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::Bad { message: message.into(), errors: Vec::new() }
    }

    /// A resource with faults.
    pub(crate) fn faults(message: String, faults: &[Fault]) -> Self {
        let errors = faults.iter().map(|fault| json!(fault)).collect();
        Self::Bad { message, errors }
    }

    /// What is wrong, in words.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Bad { message, .. }
            | Self::NotFound(message)
            | Self::Conflict(message)
            | Self::Precondition(message)
            | Self::Unavailable(message) => message,
            Self::PageSize => "page_size must be between 10 and 500",
            Self::Unauthorised(why) => why,
            Self::Throttled(_) => "too many wrong keys from this address",
            Self::KeyNotFound => "Key not found",
            Self::MethodOff { .. } => "method not supported",
            Self::Slow => "the body did not arrive in time",
        }
    }

    /// The status that goes with it.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Bad { .. } | Self::PageSize => StatusCode::BAD_REQUEST,
            Self::Unauthorised(_) => StatusCode::UNAUTHORIZED,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound(_) | Self::KeyNotFound => StatusCode::NOT_FOUND,
            Self::MethodOff { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Precondition(_) => StatusCode::PRECONDITION_FAILED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn body(&self) -> Value {
        match self {
            Self::Bad { message, errors } if !errors.is_empty() => {
                json!({"error_msg": message, "errors": errors})
            }
            Self::KeyNotFound => json!({"message": self.message()}),
            Self::Unauthorised(why) => {
                json!({"error_msg": "failed to check token", "description": why})
            }
            Self::MethodOff { method, kind } => {
                json!({"error_msg": format!("not supported `{method}` method for {kind}")})
            }
            Self::Bad { .. }
            | Self::PageSize
            | Self::Throttled(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Precondition(_)
            | Self::Slow
            | Self::Unavailable(_) => json!({"error_msg": self.message()}),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self == Self::PageSize {
            return (self.status(), self.message().to_owned()).into_response();
        }
        let mut response = answer(self.status(), &self.body());
        if let Self::Throttled(wait) = self {
            let secs = HeaderValue::from(wait.as_secs().saturating_add(1));
            response.headers_mut().insert(header::RETRY_AFTER, secs);
        }
        response
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejected) => rejected.into(),
            ProposeError::Faults(faults) => compile_faults(&faults),
            ProposeError::Unavailable { why, kept: Kept::No } => Self::Unavailable(why),
            ProposeError::Unavailable { why, kept: Kept::Unknown } => Self::Unavailable(format!(
                "{why}; nobody knows whether the change was made: read before trying again"
            )),
        }
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        let message = rejected.to_string();
        match rejected {
            Rejected::Stale { .. } => Self::Precondition(message),
            Rejected::Base { .. } => Self::Conflict(message),
            Rejected::Missing { .. } => Self::KeyNotFound,
            Rejected::Dangling { key, missing, .. }
                if key.kind == Kind::Credential && missing.kind == Kind::Consumer =>
            {
                Self::consumer_missing()
            }
            Rejected::Dangling { key, path, .. } | Rejected::Duplicate { key, path, .. } => {
                let error = placed(&key, &Fault::new(path, message.clone()));
                Self::Bad { message, errors: vec![error] }
            }
            Rejected::Faults { key, faults } => {
                let errors = faults.iter().map(|fault| placed(&key, fault)).collect();
                Self::Bad { message, errors }
            }
            Rejected::Referenced { .. } => Self::bad(message),
        }
    }
}

impl Failure {
    /// A credential of nobody.
    pub(crate) fn consumer_missing() -> Self {
        Self::NotFound("consumer not found".to_owned())
    }
}

fn compile_faults(faults: &[(Key, Fault)]) -> Failure {
    let texts: Vec<String> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
    let message = format!("invalid configuration: {}", texts.join("; "));
    let errors = faults.iter().map(|(key, fault)| placed(key, fault)).collect();
    Failure::Bad { message, errors }
}

/// A fault with the resource it is in: several resources may be written at once.
pub(crate) fn placed(key: &Key, fault: &Fault) -> Value {
    json!({"resource": key.path(), "path": fault.path, "message": fault.message})
}

/// A JSON answer; it ends with a line break, as APISIX's do.
pub(crate) fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that tells the revision it made; that of a dry run made none.
pub(crate) fn revised(call: &Call, applied: &Applied, mut response: Response) -> Response {
    if !call.dry_run {
        response.extensions_mut().insert(applied.revision);
    }
    response
}

/// `{key,value}` of a write; secrets masked. Without a value when nobody knows it any more.
pub(crate) fn written(key: &Key, stored: Option<&Stored>) -> Value {
    match stored {
        Some(stored) => json!({"key": key.path(), "value": config::mask(key.kind, &stored.value)}),
        None => json!({"key": key.path()}),
    }
}

/// `{key,value,createdIndex,modifiedIndex}` of a read; secrets masked.
pub(crate) fn read(key: &Key, stored: &Stored) -> Value {
    json!({
        "key": key.path(),
        "value": config::mask(key.kind, &stored.value),
        "createdIndex": stored.created.number(),
        "modifiedIndex": stored.modified.number(),
    })
}

/// Adds the resource's entity tag: the revision that last changed it (RFC 9110 §8.8.3).
pub(crate) fn tag(mut response: Response, modified: Revision) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{modified}\""));
    response
        .headers_mut()
        .insert(header::ETAG, tag.expect("digits between quotes are a header value"));
    response
}

#[cfg(test)]
mod tests {
    use config::{Fault, Key, Kind, Rejected};
    use model::Revision;

    use super::Failure;

    fn check(rejected: Rejected, status: u16) {
        let text = rejected.to_string();
        assert_eq!(Failure::from(rejected).status().as_u16(), status, "{text}");
    }

    #[test]
    fn each_rejection_has_one_status() {
        let key = || Key::new(Kind::Route, "1");
        let path = || "/upstream_id".to_owned();
        let (one, two) = (Revision::new(1), Revision::new(2));
        check(Rejected::Stale { key: key(), expected: Some(one), found: None }, 412);
        check(Rejected::Base { expected: one, found: two }, 409);
        check(Rejected::Missing { key: key() }, 404);
        check(Rejected::Referenced { key: key(), by: key() }, 400);
        check(Rejected::Dangling { key: key(), path: path(), missing: key() }, 400);
        check(Rejected::Faults { key: key(), faults: vec![Fault::new("/uri", "x")] }, 400);
        let credential = Key::new(Kind::Credential, "alice/one");
        let missing = Key::new(Kind::Consumer, "alice");
        check(Rejected::Dangling { key: credential, path: String::new(), missing }, 404);
    }
}
