//! `file-logger`: records appended to a file.

use std::sync::Arc;

use rules::expression::Expression;
use rules::record::FileLogger;
use serde_json::Value;

use super::record;
use crate::document::route::expression;
use crate::reader::{Object, Reader, list, pattern};

/// Reads the rule.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<FileLogger> {
    let path = object.required("path", pattern((1, 4096), path));
    let only = object.optional("match", one_of_expressions);
    let record = record::read(object);
    Some(FileLogger { path: path?, record, only })
}

fn path(text: &str) -> Result<Arc<str>, String> {
    if text.contains('\0') || text.ends_with('/') || text.split('/').any(|step| step == "..") {
        return Err(String::from("is not the path of a file, or holds `..`"));
    }
    Ok(Arc::from(text))
}

/// Reads a list of expressions of which one must hold, as APISIX joins them.
///
/// Conditions that stand in it bare, as in `vars`, would all have to hold there. So several of
/// them are refused, for whoever wrote them means one or the other.
fn one_of_expressions<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Expression> {
    let is_lone = value.as_array().is_some_and(|items| items.len() == 1);
    let member = |reader: &mut Reader<'v>, value: &'v Value| {
        if !is_lone && is_bare(value) {
            reader.fault(
                "is a condition where a list of conditions belongs: wrap it in brackets. One of \
                 the lists must hold, and in a list every condition",
            );
            return None;
        }
        expression(reader, value)
    };
    list(0, EXPRESSIONS_MAX, member)(reader, value).map(Expression::any)
}

/// Whether this is a condition and no list of them: it starts with a variable's name.
fn is_bare(value: &Value) -> bool {
    let first = value.as_array().and_then(|members| members.first()).and_then(Value::as_str);
    first.is_some_and(|word| !["AND", "OR", "!AND", "!OR"].contains(&word))
}

/// Expressions in one `match`.
const EXPRESSIONS_MAX: usize = 256;
