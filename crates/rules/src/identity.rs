//! Agents and how they prove who they are.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use model::{AgentId, CredentialId, OrganisationId, RunId, TeamId, Timestamp};
use serde_json::{Map, Value};

use crate::field::{arguments, cookies};
use crate::plugin::{JwtAuth, Layer, Sources};
use crate::shards::Shards;

pub use key::{Algorithm, KeyFault, VerifyingKey};

mod key;

/// A compiled agent.
#[derive(Debug)]
pub struct Agent {
    pub id: AgentId,
    pub team: Option<TeamId>,
    pub organisation: OrganisationId,
    /// The agent's own plugins over its team's.
    pub plugins: Layer,
    /// `labels.custom_id`, for upstreams of our own.
    pub custom_id: Option<Arc<str>>,
}

/// A key that signs an agent's tokens.
#[derive(Debug)]
pub struct JwtCredential {
    pub agent: Arc<Agent>,
    pub credential: Option<CredentialId>,
    /// Verifies one algorithm only; a token's own `alg` chooses nothing.
    pub key: VerifyingKey,
    /// Seconds by which `exp` and `nbf` are forgiven.
    pub grace: u64,
}

/// An API key of an agent.
#[derive(Clone, Debug)]
pub struct KeyCredential {
    pub agent: Arc<Agent>,
    pub credential: Option<CredentialId>,
}

/// A keyed digest of an API key (HMAC-SHA-256 under the cluster's key): all that is stored of it.
pub type KeyDigest = [u8; 32];

/// Every agent, by what proves it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    /// Changes whenever anything does that an identity is made of: an agent, a team, a credential,
    /// a secret or where secrets are looked for. What was proven under another version must be
    /// proven again.
    pub version: u64,
    pub by_id: Shards<AgentId, Arc<Agent>>,
    /// By the token's key claim.
    pub by_jwt_key: Shards<Arc<str>, Arc<JwtCredential>>,
    pub by_api_key: Shards<KeyDigest, KeyCredential>,
    /// The key of [`KeyDigest`]; `None` while there is no API key to look for.
    pub digester: Option<hmac::Key>,
}

/// What a verified credential proves, and how long.
#[derive(Clone, Debug)]
pub struct Proven {
    pub agent: Arc<Agent>,
    pub credential: Option<CredentialId>,
    /// The token's `run` claim.
    pub run: Option<RunId>,
    /// Nothing proved it: requests without a credential act as this agent here.
    pub is_anonymous: bool,
    /// The first moment at which the proof holds no longer; the end of time without an `exp`.
    pub until: Timestamp,
}

/// Why a credential proves nothing. For records only: the client gets one answer for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("the request carries no credential")]
    Missing,
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("the token is not a signed JWT")]
    Malformed,
    #[error("the token names no key")]
    NoKeyClaim,
    #[error("the token names a key that no agent has")]
    UnknownKey,
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    #[error("the token's signature does not fit its key")]
    BadSignature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token lacks the claim `{0}`, or it is no number")]
    BadClaim(&'static str),
    #[error("no agent has this API key")]
    UnknownApiKey,
}

impl Agents {
    /// Verifies a JWT (RFC 7519, JWS compact serialisation) against the key it names.
    ///
    /// An unknown key and a wrong algorithm cost a verification too, so that the time of the
    /// answer does not tell which agents exist.
    ///
    /// # Errors
    /// Why the token proves nothing.
    pub fn verify_token(
        &self,
        token: &str,
        rule: &JwtAuth,
        now: Timestamp,
    ) -> Result<Proven, Denial> {
        let parts = Parts::split(token)?;
        let named = parts.claims.get(&*rule.key_claim).and_then(Value::as_str);
        let credential = named.and_then(|name| self.by_jwt_key.get(name));
        let Some(credential) = credential else {
            self.spend_a_verification(&parts);
            return Err(if named.is_some() { Denial::UnknownKey } else { Denial::NoKeyClaim });
        };
        if parts.algorithm.as_deref() != Some(credential.key.algorithm().as_str()) {
            self.spend_a_verification(&parts);
            return Err(Denial::WrongAlgorithm);
        }
        if !credential.key.verify(parts.message, parts.signature) {
            return Err(Denial::BadSignature);
        }
        let until = lifetime(&parts.claims, rule, credential.grace, now)?;
        Ok(Proven {
            is_anonymous: false,
            agent: Arc::clone(&credential.agent),
            credential: credential.credential.clone(),
            run: parts.claims.get("run").and_then(Value::as_str).and_then(run_id),
            until,
        })
    }

    /// Looks an API key up by its keyed digest; nothing is compared byte by byte.
    ///
    /// # Errors
    /// When no agent has it.
    pub fn verify_key(&self, api_key: &str) -> Result<Proven, Denial> {
        let digester = self.digester.as_ref().ok_or(Denial::UnknownApiKey)?;
        let digest = hmac::sign(digester, api_key.as_bytes());
        let digest = KeyDigest::try_from(digest.as_ref()).map_err(|_| Denial::UnknownApiKey)?;
        let found = self.by_api_key.get(&digest).ok_or(Denial::UnknownApiKey)?;
        Ok(Proven {
            is_anonymous: false,
            agent: Arc::clone(&found.agent),
            credential: found.credential.clone(),
            run: None,
            until: Timestamp::from_micros(u64::MAX),
        })
    }

    fn spend_a_verification(&self, parts: &Parts<'_>) {
        if let Some(decoy) = self.by_jwt_key.values().next() {
            std::hint::black_box(decoy.key.verify(parts.message, parts.signature));
        }
    }
}

/// The text of a run's id, if it may serve as one: 1 to 128 visible ASCII characters.
#[must_use]
pub fn run_id(text: &str) -> Option<RunId> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| RunId::new(text))
}

impl Sources {
    /// The credential the request carries: header, query, cookie, the first that is present.
    /// In the header named `authorization` the scheme `Bearer` is cut off, in any case.
    #[must_use]
    pub fn find<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        if let Some(value) = headers.get(&self.header) {
            return value.to_str().ok().map(|text| Cow::Borrowed(without_scheme(text)));
        }
        let in_query = query.and_then(|query| arguments(query, &self.query).next());
        if let Some(value) = in_query {
            return Some(Cow::Borrowed(value));
        }
        cookies(headers, self.cookie.as_ref()?).next().map(Cow::Borrowed)
    }
}

fn without_scheme(value: &str) -> &str {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        _ => value,
    }
}

/// A token taken apart; nothing in it is trusted yet.
struct Parts<'a> {
    /// What was signed: header and claims with the dot between them.
    message: &'a [u8],
    /// base64url.
    signature: &'a str,
    algorithm: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, Denial> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denial::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Denial::Malformed)?;
        let (head, claims) = message.split_once('.').ok_or(Denial::Malformed)?;
        if claims.contains('.') || signature.is_empty() {
            return Err(Denial::Malformed);
        }
        let head = object(head)?;
        // RFC 7515 §4.1.11: extensions that must be understood are not.
        if head.contains_key("crit") {
            return Err(Denial::Malformed);
        }
        Ok(Self {
            message: message.as_bytes(),
            signature,
            algorithm: head.get("alg").and_then(Value::as_str).map(str::to_owned),
            claims: object(claims)?,
        })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Denial> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Denial::Malformed)
}

/// Checks `exp` and `nbf` (RFC 7519 §4.1.4, §4.1.5) and says until when the token holds.
fn lifetime(
    claims: &Map<String, Value>,
    rule: &JwtAuth,
    grace: u64,
    now: Timestamp,
) -> Result<Timestamp, Denial> {
    let grace = grace.saturating_mul(1_000_000);
    let until = match moment(claims, "exp", rule.require_exp)? {
        Some(exp) => Timestamp::from_micros(exp.as_micros().saturating_add(grace)),
        None => Timestamp::from_micros(u64::MAX),
    };
    if until <= now {
        return Err(Denial::Expired);
    }
    if let Some(nbf) = moment(claims, "nbf", rule.require_nbf)?
        && nbf.as_micros() > now.as_micros().saturating_add(grace)
    {
        return Err(Denial::NotYetValid);
    }
    Ok(until)
}

/// A `NumericDate`, which may have a fraction.
fn moment(
    claims: &Map<String, Value>,
    name: &'static str,
    required: bool,
) -> Result<Option<Timestamp>, Denial> {
    let Some(value) = claims.get(name) else {
        return if required { Err(Denial::BadClaim(name)) } else { Ok(None) };
    };
    if let Some(secs) = value.as_u64() {
        return Ok(Some(Timestamp::from_secs(secs)));
    }
    let secs = value.as_f64().filter(|secs| secs.is_finite()).ok_or(Denial::BadClaim(name))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float's conversion saturates; a time before 1970 counts as 1970"
    )]
    Ok(Some(Timestamp::from_micros((secs * 1e6) as u64)))
}

/// Longer tokens are refused before they are read.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
