//! Where secrets stand in a resource, and how a node opens them.

use std::sync::Arc;

use model::Secret;
use rules::identity::KeyDigest;

use crate::compile::Resolve;
use crate::key::Key;
use crate::keyring::{HASHED, Keyring, SEALED};
use crate::reference::{Vaults, Written, is_reference};

/// How a secret of a document is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Custody {
    /// Encrypted.
    Seal,
    /// As a keyed digest: nobody needs it back.
    Hash,
    /// As it is: only a reference in its place is a secret.
    Plain,
}

/// A place of a document that may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// JSON pointer inside the resource.
    pub(crate) pointer: String,
    pub(crate) custody: Custody,
}

/// A secret as far as it could be read.
#[derive(Clone, Debug)]
pub(crate) enum Opened {
    Text(Secret<String>),
    /// Not known here: a document is only being checked, or this node cannot resolve it. Holds
    /// the reference, or what else stands there.
    Closed(Arc<str>),
}

/// Opens the secrets of one resource.
#[derive(Clone, Copy)]
pub(crate) struct Opener<'a> {
    pub(crate) key: &'a Key,
    pub(crate) keyring: &'a Keyring,
    pub(crate) vaults: &'a Vaults,
    pub(crate) resolve: &'a Resolve<'a>,
}

impl Opener<'_> {
    /// The secret at a place of the resource, or why there is none on this node.
    pub(crate) fn open(&self, pointer: &str, text: &str) -> Result<Secret<String>, String> {
        if text.starts_with(SEALED) {
            let place = place(&self.key.path(), pointer);
            return self.keyring.open(&place, text).map_err(|error| error.to_string());
        }
        if !is_reference(text) {
            return Ok(Secret::new(text.to_owned()));
        }
        (self.resolve)(&Written::parse(text)?.join(self.vaults)?)
    }

    /// The digest of an API key at a place of the resource, or why there is none on this node.
    pub(crate) fn digest(&self, pointer: &str, text: &str) -> Result<KeyDigest, String> {
        if text.starts_with(HASHED) {
            return self.keyring.digest_of(text).ok_or_else(|| {
                String::from("is a digest under a key that this node does not have")
            });
        }
        Ok(self.keyring.digest(self.open(pointer, text)?.expose()))
    }
}

impl std::fmt::Debug for Opener<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("key", self.key).finish_non_exhaustive()
    }
}

/// The place a secret is sealed for: moved anywhere else, it does not open.
pub(crate) fn place(key_path: &str, pointer: &str) -> String {
    format!("{key_path}#{pointer}")
}

/// Whether a text is what a secret is stored as.
pub(crate) fn is_stored(text: &str) -> bool {
    text.starts_with(SEALED) || text.starts_with(HASHED)
}

/// What may be said of a secret that is not open: a reference names it, anything else does not.
pub(crate) fn name(text: &str) -> Arc<str> {
    Arc::from(if is_reference(text) { text } else { "a sealed value" })
}
