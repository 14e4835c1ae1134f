//! Judges documents without writing them.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use config::{Fault, Kind};
use http::StatusCode;
use serde_json::{Value, json};

use crate::body;
use crate::desk::Desk;
use crate::document::aside;
use crate::envelope::{Failure, answer};

impl Desk {
    /// One resource of a kind: an empty answer, or every fault.
    pub(crate) async fn validate(kind: Kind, body: Body) -> Result<Response, Failure> {
        let value = body::required(body).await?;
        let faults = config::check(kind, None, &value);
        if faults.is_empty() {
            return Ok(StatusCode::OK.into_response());
        }
        Err(Failure::faults(summary(&faults), &faults))
    }

    /// A whole configuration, `{"routes": [...], …}`: `{}`, or every fault of every resource.
    pub(crate) async fn validate_all(&self, body: Body) -> Result<Response, Failure> {
        let _seat = self.seat().await?;
        let whole = body::json(body, body::DOCUMENT_BYTES_MAX).await?;
        let Some(Value::Object(kinds)) = whole else {
            return Err(Failure::bad("missing configurations"));
        };
        let errors = aside(move || {
            let errors = kinds.iter().flat_map(|(name, items)| of_kind(name, items));
            errors.collect::<Vec<Value>>()
        });
        let errors = errors.await?;
        if errors.is_empty() {
            return Ok(answer(StatusCode::OK, &json!({})));
        }
        Err(Failure::Bad { message: "Configuration validation failed".to_owned(), errors })
    }
}

/// The faults of one kind's resources, in APISIX's form and with their places.
fn of_kind(name: &str, items: &Value) -> Vec<Value> {
    let error = |id: &Value, index: usize, faults: &[Fault]| {
        json!({
            "resource_type": name,
            "resource_id": id,
            "index": index,
            "error": summary(faults),
            "errors": faults,
        })
    };
    let Some(kind) = Kind::from_name(name) else {
        return vec![error(&Value::Null, 0, &[Fault::new("", "Unsupported resource type")])];
    };
    let Value::Array(items) = items else {
        return vec![error(&Value::Null, 0, &[Fault::new("", "expected a list")])];
    };
    let judge = |(index, item): (usize, &Value)| {
        let faults = config::check(kind, None, item);
        let id = item.get("id").or_else(|| item.get("username")).unwrap_or(&Value::Null);
        (!faults.is_empty()).then(|| error(id, index, &faults))
    };
    items.iter().enumerate().filter_map(judge).collect()
}

/// Every fault on one line, as `error_msg` holds it.
fn summary(faults: &[Fault]) -> String {
    let texts: Vec<String> = faults.iter().map(Fault::to_string).collect();
    format!("invalid configuration: {}", texts.join("; "))
}
