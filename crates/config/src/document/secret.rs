//! Secret managers: `secrets/vault/ID`.

use http::Uri;
use model::Secret;
use serde_json::Value;

use super::head;
use crate::custody::{Custody, place};
use crate::keyring::SEALED;
use crate::reader::{Object, Reader, text};
use crate::reference::{Reference, VaultToken, Written, is_reference};

/// The settings of a vault (HashiCorp's KV, version 1).
#[derive(Debug)]
pub(crate) struct Document {
    uri: String,
    prefix: String,
    /// Sealed, or a reference into the environment or a file.
    token: Secret<String>,
    namespace: Option<String>,
}

/// Reads the settings of a secret manager. The id says which manager it is.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Document> {
    let mut object = reader.object(value)?;
    check_manager(&mut object);
    head::read_nested(&mut object);
    let uri = object.required("uri", |reader, value| {
        let uri = text(1, 2048)(reader, value)?;
        check_uri(uri).map_err(|why| reader.fault(why)).ok()?;
        Some(uri.trim_end_matches('/').to_owned())
    });
    let prefix = object.required("prefix", path);
    let token = object.required("token", token);
    let namespace = object.optional("namespace", text(1, 256)).map(str::to_owned);
    object.finish();
    Some(Document { uri: uri?, prefix: prefix?, token: token?, namespace })
}

fn check_manager(object: &mut Object<'_, '_>) {
    match object.reader.id().and_then(|id| id.split_once('/')) {
        Some(("vault", _)) => {}
        Some((manager @ ("aws" | "gcp"), _)) => {
            object.reader.fault(format!("the secret manager `{manager}` is not served yet"));
        }
        Some(_) => object.reader.fault("unknown secret manager; there is `vault`"),
        None if object.reader.id().is_some() => {
            object.reader.fault("names no secret manager: its id is `vault/ID`");
        }
        None => {}
    }
}

fn check_uri(text: &str) -> Result<(), &'static str> {
    let uri: Uri = text.parse().map_err(|_| "is not a URI")?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.host().is_none_or(str::is_empty) {
        return Err("expected `http://HOST` or `https://HOST`");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("may hold no user name: give the token as `token`");
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("may hold no query and no fragment");
    }
    Ok(())
}

/// A path inside a vault, without slashes around it.
fn path<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    let path = text(1, 1024)(reader, value)?.trim_matches('/');
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        reader.fault("is not a path inside a vault");
        return None;
    }
    Some(path.to_owned())
}

fn token<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Secret<String>> {
    let text = text(1, 8192)(reader, value)?;
    reader.hold(text, Custody::Seal);
    if matches!(Written::parse(text), Ok(Written::Vault { .. })) {
        reader.fault("may not lie in a vault itself");
        return None;
    }
    Some(Secret::new(text.to_owned()))
}

impl Document {
    /// The reference to a member of a secret in this vault, whose resource has this path.
    pub(crate) fn reference(
        &self,
        key_path: &str,
        path: &str,
        key: &str,
    ) -> Result<Reference, String> {
        let text = self.token.expose();
        let token = if text.starts_with(SEALED) {
            VaultToken::Sealed { place: place(key_path, "/token"), text: text.clone() }
        } else if is_reference(text) {
            VaultToken::Reference(Box::new(match Written::parse(text)? {
                Written::Env { name, json_key } => Reference::Env { name, json_key },
                Written::File { path } => Reference::File { path },
                Written::Vault { .. } => {
                    return Err(String::from("a vault's token may not lie in a vault itself"));
                }
            }))
        } else {
            return Err(String::from("the vault's token was stored unsealed; write it again"));
        };
        Ok(Reference::Vault {
            uri: self.uri.clone(),
            prefix: self.prefix.clone(),
            token,
            namespace: self.namespace.clone(),
            path: path.to_owned(),
            key: key.to_owned(),
        })
    }
}
