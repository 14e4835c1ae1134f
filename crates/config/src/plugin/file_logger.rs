//! `file-logger`: records appended to a file.

use std::sync::Arc;

use rules::record::FileLogger;

use super::record;
use crate::document::route::expression;
use crate::reader::{Object, pattern};

/// Reads the rule.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<FileLogger> {
    let path = object.required("path", pattern((1, 4096), path));
    let only = object.optional("match", expression);
    let record = record::read(object);
    Some(FileLogger { path: path?, record, only })
}

fn path(text: &str) -> Result<Arc<str>, String> {
    if text.contains('\0') || text.ends_with('/') || text.split('/').any(|step| step == "..") {
        return Err(String::from("is not the path of a file, or holds `..`"));
    }
    Ok(Arc::from(text))
}
