//! `_meta`: what every plugin may say of itself.

use std::sync::Arc;

use rules::expression::Expression;
use rules::plugin::ErrorResponse;
use serde_json::Value;

use crate::document::route::expression;
use crate::reader::{Object, Reader, boolean};

/// What `_meta` says of a rule that is on.
#[derive(Debug, Default)]
pub(super) struct Meta {
    pub(super) filter: Option<Expression>,
    pub(super) error_response: Option<ErrorResponse>,
}

/// Reads `_meta` of a rule.
pub(super) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Meta> {
    let mut object = reader.object(value)?;
    object.optional("disable", boolean);
    let filter = object.optional("filter", expression);
    let error_response = object.optional("error_response", error_response);
    refuse(&mut object);
    object.finish();
    Some(Meta { filter, error_response })
}

/// Reads `_meta` of a proof.
pub(super) fn read_bare<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<()> {
    let mut object = reader.object(value)?;
    object.optional("disable", boolean);
    for name in ["filter", "error_response"] {
        object.refused(name, "has no effect here: it belongs in the route's plugin");
    }
    refuse(&mut object);
    object.finish();
    Some(())
}

fn refuse(object: &mut Object<'_, '_>) {
    object.refused("priority", "is refused: plugins run in one order, which is always right");
    object.refused("pre_function", "is refused: code in documents is not run");
}

fn error_response<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<ErrorResponse> {
    match value {
        Value::String(text) => Some(ErrorResponse::Text(Arc::from(text.as_str()))),
        Value::Object(_) => Some(ErrorResponse::Json(Arc::from(value.to_string()))),
        other => {
            reader.expected("a string or an object", other);
            None
        }
    }
}
