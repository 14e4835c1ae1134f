//! References to secrets: texts that name a secret and hold none.
//!
//! * `$env://NAME` is a variable of the node's environment; `$env://NAME/member` a member of the
//!   JSON object in it.
//! * `$secret://file/run/secrets/token` is the file `/run/secrets/token`.
//! * `$secret://vault/ID/path…/member` is a member of a secret in the vault `secrets/vault/ID`.
//!
//! The scheme is read in any case (`$ENV://`), as in APISIX.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::document::{Document, seals, secret};
use crate::key::{Key, Kind};
use crate::pointer;
use crate::reader::unknown;
use crate::state::State;

/// A secret outside the document, with everything a node needs to fetch it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A variable of the node's environment, or a member of the JSON object it holds.
    Env { name: String, json_key: Option<String> },
    /// The content of a file, without its last line break. The path is absolute.
    File { path: String },
    /// A member of a secret in a vault (HashiCorp's KV, paths of version 1).
    Vault {
        uri: String,
        prefix: String,
        token: VaultToken,
        namespace: Option<String>,
        path: String,
        key: String,
    },
}

/// What opens a vault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VaultToken {
    /// A secret in the environment or a file; never in a vault.
    Reference(Box<Reference>),
    /// A sealed text: [`crate::Keyring::open`] it at this place.
    Sealed { place: String, text: String },
}

/// A reference as written; a vault's is not joined with its settings yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Written {
    Env { name: String, json_key: Option<String> },
    File { path: String },
    Vault { id: String, path: String, key: String },
}

/// Whether a text begins like a reference.
pub(crate) fn is_reference(text: &str) -> bool {
    scheme(text).is_some()
}

/// Where a reference begins in a text.
pub(crate) fn position(text: &str) -> Option<usize> {
    text.match_indices('$').map(|(at, _)| at).find(|at| text.get(*at..).is_some_and(is_reference))
}

fn scheme(text: &str) -> Option<(&'static str, &str)> {
    ["$env://", "$secret://"].into_iter().find_map(|scheme| {
        let (head, rest) = text.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some((scheme, rest))
    })
}

impl Written {
    /// Reads a reference, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match scheme(text) {
            Some(("$env://", rest)) => Self::env(rest),
            Some((_, rest)) => Self::secret(rest),
            None => Err(String::from("is not a reference: expected `$env://` or `$secret://`")),
        }
    }

    fn env(rest: &str) -> Result<Self, String> {
        let (name, json_key) = match rest.split_once('/') {
            Some((name, member)) => (name, Some(member)),
            None => (rest, None),
        };
        let named = !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if !named || json_key == Some("") {
            return Err(String::from(
                "names no variable: expected `$env://NAME` or `$env://NAME/member`",
            ));
        }
        Ok(Self::Env { name: name.to_owned(), json_key: json_key.map(str::to_owned) })
    }

    fn secret(rest: &str) -> Result<Self, String> {
        let (manager, rest) = rest.split_once('/').unwrap_or((rest, ""));
        match manager {
            "file" if rest.is_empty() || rest.starts_with('/') || has_dots(rest) => Err(
                String::from("names no file: expected `$secret://file/absolute/path` without `..`"),
            ),
            "file" => Ok(Self::File { path: format!("/{rest}") }),
            "vault" => Self::vault(rest),
            "aws" | "gcp" => Err(format!(
                "the secret manager `{manager}` is not served yet; there are `$env://NAME`, \
                 `$secret://file/PATH` and `$secret://vault/ID/PATH/MEMBER`"
            )),
            other => Err(unknown("secret manager", other, ["file", "vault"].into_iter())),
        }
    }

    fn vault(rest: &str) -> Result<Self, String> {
        let parsed = rest.split_once('/').and_then(|(id, rest)| {
            let (path, key) = rest.rsplit_once('/')?;
            let whole = !id.is_empty() && !path.is_empty() && !key.is_empty() && !has_dots(path);
            whole.then(|| Self::Vault { id: id.into(), path: path.into(), key: key.into() })
        });
        parsed.ok_or_else(|| {
            String::from("names no secret of a vault: expected `$secret://vault/ID/path/member`")
        })
    }

    /// The reference with the settings of its vault.
    pub(crate) fn join(&self, vaults: &Vaults) -> Result<Reference, String> {
        Ok(match self {
            Self::Env { name, json_key } => {
                Reference::Env { name: name.clone(), json_key: json_key.clone() }
            }
            Self::File { path } => Reference::File { path: path.clone() },
            Self::Vault { id, path, key } => {
                let (secret, place) = vaults
                    .by_id
                    .get(id)
                    .ok_or_else(|| format!("there is no secret manager `secrets/vault/{id}`"))?;
                secret.reference(place, path, key)?
            }
        })
    }
}

fn has_dots(path: &str) -> bool {
    path.split('/').any(|segment| segment == "..")
}

/// The settings of the vaults, by id.
#[derive(Debug, Default)]
pub(crate) struct Vaults {
    by_id: BTreeMap<String, (secret::Document, String)>,
}

impl Vaults {
    /// The vaults of a state. Settings with faults are no settings.
    pub(crate) fn of(state: &State) -> Self {
        let by_id = state.list(Kind::Secret).filter_map(|(key, stored)| {
            let document = crate::document::read(key, &stored.value).ok()?;
            let Document::Secret(settings) = document else { return None };
            let id = key.id.strip_prefix("vault/")?;
            Some((id.to_owned(), (settings, key.path())))
        });
        Self { by_id: by_id.collect() }
    }
}

/// Every reference the state holds, with the settings of the vaults joined in.
///
/// A reference into a vault without settings is left out: no node could fetch it.
#[must_use]
pub fn references(state: &State) -> BTreeSet<Reference> {
    let vaults = Vaults::of(state);
    state.written_references().filter_map(|written| written.join(&vaults).ok()).collect()
}

/// Visits every reference of a resource.
pub(crate) fn mentioned(key: &Key, value: &Value, visit: &mut dyn FnMut(Written)) {
    // The token of a vault is part of the references into it.
    let hidden = if key.kind == Kind::Secret { seals(key.kind, value) } else { Vec::new() };
    pointer::texts(value, "", &mut |at, text| {
        if hidden.iter().any(|seal| seal.pointer == at) {
            return;
        }
        let written = position(text).and_then(|from| Written::parse(text.get(from..)?).ok());
        if let Some(written) = written {
            visit(written);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Written, position};

    fn check(text: &str, expected: Option<&Written>) {
        assert_eq!(Written::parse(text).ok().as_ref(), expected, "{text}");
    }

    #[test]
    fn an_environment_variable_is_named_in_any_case_of_the_scheme() {
        let name = String::from("CF_TOKEN");
        check("$env://CF_TOKEN", Some(&Written::Env { name: name.clone(), json_key: None }));
        check("$ENV://CF_TOKEN", Some(&Written::Env { name: name.clone(), json_key: None }));
        let json_key = Some(String::from("a/b"));
        check("$env://CF_TOKEN/a/b", Some(&Written::Env { name, json_key }));
    }

    #[test]
    fn a_file_is_named_by_its_absolute_path() {
        check("$secret://file/run/s", Some(&Written::File { path: String::from("/run/s") }));
    }

    #[test]
    fn a_vault_s_secret_is_named_by_manager_path_and_member() {
        let (id, path, key) = (String::from("1"), String::from("a/b"), String::from("token"));
        check("$secret://vault/1/a/b/token", Some(&Written::Vault { id, path, key }));
    }

    #[test]
    fn what_names_no_secret_is_refused() {
        for text in [
            "plain",
            "$env://",
            "$env://A/",
            "$env://A B",
            "$secret://",
            "$secret://file/",
            "$secret://file//a",
            "$secret://file/a/../b",
            "$secret://vault/1/a",
            "$secret://vault/1//k",
            "$secret://aws/1/a/b",
            "$secret://other/1/a/b",
            "$",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_reference_is_found_behind_a_prefix() {
        assert_eq!(position("Bearer $env://X"), Some(7));
        assert_eq!(position("$remote_addr $x"), None);
    }
}
