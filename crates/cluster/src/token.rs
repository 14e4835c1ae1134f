//! Join tokens: what lets a node without a certificate become a member, once and soon.
//!
//! A token names the cluster, the authority to expect and the moment it ends, and proves itself by
//! an HMAC-SHA-256 under a key derived from the cluster's own. So each member can judge it alone,
//! and only the ids of spent tokens are replicated, until they expire. Its text is
//!
//! ```text
//! tgj1_ base64url(cluster 16 | authority 32 | id 16 | expires 8 | node's name | proof 32 | sum 4)
//! ```
//!
//! where `sum` is the beginning of the SHA-256 of what stands before it, so that a text that was
//! cut or mistyped is told from one that was made up.

use std::io;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{Entropy, NodeName, Secret, Timestamp};
use subtle::ConstantTimeEq as _;

use crate::ClusterId;
use crate::ca::{Fingerprint, node_name};

/// A token's public name: random, spent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; ID_BYTES]);

impl TokenId {
    /// Reads what [`TokenId`] displays; `None` when it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }
}

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a token says. It proves it by [`JoinToken`]'s secret part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub cluster: ClusterId,
    /// The authority whose certificate the new node has to meet.
    pub authority: Fingerprint,
    /// The only node that may use it; anybody when `None`. A token that takes over a member's name
    /// has to name it.
    pub node: Option<NodeName>,
    /// In whole seconds; from then on the token is worth nothing.
    pub expires: Timestamp,
}

/// A join token as the operator carries it from a member to a new node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    pub terms: Terms,
    proof: Secret<[u8; PROOF_BYTES]>,
}

/// Why a token does not open this door now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the join token is not whole, or is none of this release")]
    Malformed,
    #[error("the join token is of cluster {found}, this is {own}")]
    OtherCluster { found: ClusterId, own: ClusterId },
    #[error("the join token expects another authority than this cluster's")]
    OtherAuthority,
    #[error("the join token was not made by this cluster")]
    Forged,
    #[error("the join token has expired")]
    Expired,
    #[error("the join token is for node {named}, not for {asked}")]
    OtherNode { named: NodeName, asked: NodeName },
}

/// Makes and judges the tokens of one cluster.
pub struct Mint {
    cluster: ClusterId,
    authority: Fingerprint,
    key: hmac::Key,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Mint {
    /// The mint of the cluster with this key and this authority.
    #[must_use]
    pub fn new(cluster: ClusterId, authority: Fingerprint, cluster_key: &Secret<[u8; 32]>) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, cluster_key.expose());
        let derived = hmac::sign(&root, PURPOSE);
        let key = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Self { cluster, authority, key }
    }

    /// A fresh token, for one node or for anybody.
    ///
    /// The lifetime is cut to [`LIFETIME_MAX`]: ids of spent tokens are kept until they expire.
    ///
    /// # Errors
    /// When the source of chance cannot be read.
    pub fn issue(
        &self,
        node: Option<NodeName>,
        lifetime: Duration,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> io::Result<JoinToken> {
        let mut id = [0; ID_BYTES];
        entropy.fill(&mut id)?;
        let expires = Timestamp::from_secs(now.plus(lifetime.min(LIFETIME_MAX)).as_secs());
        let id = TokenId(id);
        let terms = Terms { cluster: self.cluster, authority: self.authority, node, expires };
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(hmac::sign(&self.key, &stated(id, &terms)).as_ref());
        Ok(JoinToken { id, terms, proof: Secret::new(proof) })
    }

    /// Whether the token is good for this node now. That it was not spent is not known here.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn check(
        &self,
        token: &JoinToken,
        node: &NodeName,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        let terms = &token.terms;
        if terms.cluster != self.cluster {
            return Err(TokenError::OtherCluster { found: terms.cluster, own: self.cluster });
        }
        if terms.authority != self.authority {
            return Err(TokenError::OtherAuthority);
        }
        hmac::verify(&self.key, &stated(token.id, terms), token.proof.expose())
            .map_err(|_| TokenError::Forged)?;
        if now >= terms.expires || terms.expires.since(now) > LIFETIME_MAX {
            return Err(TokenError::Expired);
        }
        match &terms.node {
            Some(named) if named != node => {
                Err(TokenError::OtherNode { named: named.clone(), asked: node.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl JoinToken {
    /// The text that operators copy. Whoever has it can join until it is spent.
    #[must_use]
    pub fn encode(&self) -> Secret<String> {
        let mut bytes = stated(self.id, &self.terms);
        bytes.extend_from_slice(self.proof.expose());
        bytes.extend_from_slice(&sum(&bytes));
        let bytes = Secret::new(bytes);
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.expose())))
    }

    /// Reads a text; whether it is genuine only a [`Mint`] can tell.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] when it is not whole.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Self::read(text).ok_or(TokenError::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix(PREFIX)?;
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = Secret::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (body, check) = bytes.expose().split_last_chunk::<SUM_BYTES>()?;
        if !bool::from(sum(body).ct_eq(check)) {
            return None;
        }
        let (stated, proof) = body.split_last_chunk::<PROOF_BYTES>()?;
        let (cluster, rest) = stated.split_first_chunk::<16>()?;
        let (authority, rest) = rest.split_first_chunk::<32>()?;
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (expires, name) = rest.split_first_chunk::<8>()?;
        let node = match std::str::from_utf8(name).ok()? {
            "" => None,
            name => Some(node_name(name).ok()?),
        };
        let expires = Timestamp::from_secs(u64::from_be_bytes(*expires));
        let (cluster, authority) = (ClusterId(*cluster), Fingerprint(*authority));
        Some(Self {
            id: TokenId(*id),
            terms: Terms { cluster, authority, node, expires },
            proof: Secret::new(*proof),
        })
    }
}

/// The bytes that a token's proof covers; each part but the last has a fixed length.
fn stated(id: TokenId, terms: &Terms) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(STATED_BYTES);
    bytes.extend_from_slice(&terms.cluster.0);
    bytes.extend_from_slice(&terms.authority.0);
    bytes.extend_from_slice(&id.0);
    bytes.extend_from_slice(&terms.expires.as_secs().to_be_bytes());
    bytes.extend_from_slice(terms.node.as_ref().map_or("", NodeName::as_str).as_bytes());
    bytes
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut sum = [0; SUM_BYTES];
    sum.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    sum
}

/// The longest life of a token, and so the longest that a spent one's id is kept.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Tells the form of the text, and lets scanners of secrets find it.
const PREFIX: &str = "tgj1_";

/// What the mint's key is derived for.
const PURPOSE: &[u8] = b"tollgate join token v1";

const ID_BYTES: usize = 16;
const PROOF_BYTES: usize = 32;
const SUM_BYTES: usize = 4;
/// Without a name.
const STATED_BYTES: usize = 16 + 32 + ID_BYTES + 8;

/// Room for the longest name (253 bytes) in base64; a longer text is malformed.
const TEXT_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests;
