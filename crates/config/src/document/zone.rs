//! Zones: the names that policies call them by.

use std::sync::Arc;

use rules::policy::Zone;
use serde_json::Value;

use super::head;
use crate::reader::{Reader, pattern};

/// Reads a zone; its own id in the document is its name.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Zone> {
    let name = reader.id().unwrap_or_default();
    let mut object = reader.object(value)?;
    head::read(&mut object);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        object.fault("id", "a zone's name is written in lower case");
    }
    let zone_id = object.required("zone_id", pattern((32, 32), identifier));
    let account = object.optional("account_id", pattern((32, 32), identifier));
    object.finish();
    Some(Zone { name: Arc::from(name), id: zone_id?, account })
}

/// An id as Cloudflare makes them.
fn identifier(text: &str) -> Result<Arc<str>, String> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    if text.bytes().all(is_hex) {
        return Ok(Arc::from(text));
    }
    Err(String::from("expected 32 hexadecimal digits in lower case"))
}
