//! Credentials: further ways for an agent to prove who it is.

use model::CredentialId;
use serde_json::Value;

use super::head;
use crate::plugin::{self, Proofs, Side};
use crate::reader::Reader;

/// A credential of an agent.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) id: CredentialId,
    pub(crate) proofs: Proofs,
}

/// Reads a credential, which holds exactly one plugin.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Document> {
    let whole = reader.id().unwrap_or_default();
    let mut object = reader.object(value)?;
    head::read_nested(&mut object);
    let plugins = object.required("plugins", |reader, value| {
        if value.as_object().is_some_and(|map| map.len() != 1) {
            reader.fault("a credential holds exactly one plugin");
        }
        plugin::read(reader, value, Side::Credential, "")
    });
    object.finish();
    let (_, id) = whole.split_once('/').unwrap_or(("", whole));
    Some(Document { id: CredentialId::new(id), proofs: plugins?.proofs })
}
