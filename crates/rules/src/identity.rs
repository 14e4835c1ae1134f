//! Agents and how they prove who they are.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, DecodingKey};
use model::{AgentId, CredentialId, OrganisationId, TeamId, Timestamp};

use crate::plugin::Plugins;

/// A compiled agent.
#[derive(Debug)]
pub struct Agent {
    pub id: AgentId,
    pub team: Option<TeamId>,
    pub organisation: OrganisationId,
    /// The agent's own plugins over its team's.
    pub plugins: Plugins,
    /// `labels.custom_id`, for upstreams of our own.
    pub custom_id: Option<Arc<str>>,
}

/// A key that signs an agent's tokens.
pub struct JwtCredential {
    pub agent: Arc<Agent>,
    pub credential: Option<CredentialId>,
    /// The only algorithm this key verifies; a token's own `alg` chooses nothing.
    pub algorithm: Algorithm,
    pub key: DecodingKey,
    /// Seconds by which `exp` and `nbf` are forgiven.
    pub grace: u64,
}

impl std::fmt::Debug for JwtCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtCredential")
            .field("agent", &self.agent.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// An API key of an agent.
#[derive(Clone, Debug)]
pub struct KeyCredential {
    pub agent: Arc<Agent>,
    pub credential: Option<CredentialId>,
}

/// A keyed digest of an API key (HMAC-SHA-256 under the cluster's key): all that is stored of it.
pub type KeyDigest = [u8; 32];

/// Every agent, by what proves it.
#[derive(Debug, Default)]
pub struct Agents {
    /// Changes whenever an agent, a team or a credential does: what was proven under another
    /// version must be proven again.
    pub version: u64,
    pub by_id: HashMap<AgentId, Arc<Agent>>,
    /// By the token's key claim.
    pub by_jwt_key: HashMap<Arc<str>, Arc<JwtCredential>>,
    pub by_api_key: HashMap<KeyDigest, KeyCredential>,
    /// The key of [`KeyDigest`]; `None` while there is no API key to look for.
    pub digester: Option<hmac::Key>,
}
