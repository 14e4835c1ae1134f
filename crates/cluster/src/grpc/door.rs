//! The door for new nodes: a token in, a certificate and the cluster's key out.
//!
//! What can be judged here is judged before the token is spent, so that a request with a fault
//! costs nobody a token. Spending is the [`Admission`]'s: it is agreed among the members, and it
//! is the same join when the same key comes again, since an answer may be lost.

use std::net::SocketAddr;
use std::sync::Arc;

use model::{Clock, NodeName, Secret, Timestamp};
use rustls_pki_types::CertificateDer;
use tonic::{Request, Response, Status, async_trait};
use wire::cluster::door_server;
use wire::cluster::refusal::Reason;
use wire::cluster::{self, JoinAnswer, JoinRequest, Member, Refusal, join_answer};

use super::kind::refusal;
use super::{PROTOCOL, PROTOCOL_MIN};
use crate::ca::{Authority, KeyRequest, node_name};
use crate::tls::certified;
use crate::token::{JoinToken, Mint, Terms, TokenId};
use crate::{BoxFuture, Peer, Refused};

/// A node that has shown a good token. Whether the token was spent is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    pub token: TokenId,
    /// What the token says; when it names the node, the node may take the place of the member
    /// with that name.
    pub terms: Terms,
    pub name: NodeName,
    /// `host:port` of its cluster listener.
    pub address: String,
    /// The digest of its key. The same token with the same key is the same join, repeated.
    pub key: [u8; 32],
}

/// The place a new node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub id: u64,
    /// Everybody, the new node included.
    pub members: Vec<Peer>,
}

/// Spends tokens and gives places, agreed among the members.
pub trait Admission: Send + Sync + 'static {
    /// Spends the token and makes the node a learner.
    fn admit<'a>(&'a self, newcomer: Newcomer) -> BoxFuture<'a, Result<Admitted, Refused>>;
}

/// Who certifies nodes.
#[derive(Debug)]
pub enum Certifier {
    /// The cluster's own authority.
    Own(Box<Authority>),
    /// Operators: a new node brings its certificate, of one of these authorities.
    Operators(Vec<CertificateDer<'static>>),
}

/// What a member needs to let nodes in.
pub struct Door {
    pub mint: Mint,
    pub certifier: Certifier,
    /// What the document's secrets are sealed with.
    pub cluster_key: Secret<[u8; 32]>,
    pub admission: Arc<dyn Admission>,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("mint", &self.mint).finish_non_exhaustive()
    }
}

/// A request that may spend its token. Only [`Door::judge`] makes one.
struct Judged {
    newcomer: Newcomer,
    key: KeyRequest,
}

impl Door {
    fn judge(&self, request: JoinRequest, now: Timestamp) -> Result<Judged, Refusal> {
        if request.protocol > PROTOCOL || request.protocol < PROTOCOL_MIN {
            let why = format!(
                "protocol {} is not spoken here, but {PROTOCOL_MIN} to {PROTOCOL}",
                request.protocol
            );
            return Err(Refusal { reason: Reason::Newer.into(), why, known: PROTOCOL });
        }
        let bad_token = |cause: crate::token::TokenError| refusal(Reason::Token, cause.to_string());
        let bad = |why: String| refusal(Reason::Unspecified, why);
        let token = JoinToken::parse(Secret::new(request.token).expose()).map_err(bad_token)?;
        let name = node_name(&request.name).map_err(|cause| bad(cause.to_string()))?;
        self.mint.check(&token, &name, now).map_err(bad_token)?;
        if !is_address(&request.address) {
            return Err(bad("the address is not host:port".to_owned()));
        }
        if request.certificate_request.is_empty() {
            return Err(bad("a certificate request is needed".to_owned()));
        }
        let key = KeyRequest::parse(&request.certificate_request);
        let key = key.map_err(|cause| bad(cause.to_string()))?;
        if let Certifier::Operators(authorities) = &self.certifier {
            let chain = request.certificates.iter().map(|der| CertificateDer::from(der.to_vec()));
            let chain: Vec<_> = chain.collect();
            if chain.is_empty() {
                return Err(bad(BRING.to_owned()));
            }
            certified(&chain, authorities, (name.as_str(), key.digest())).map_err(bad)?;
        }
        let JoinToken { id, terms, .. } = token;
        let (address, key_digest) = (request.address, key.digest());
        let newcomer = Newcomer { token: id, terms, name, address, key: key_digest };
        Ok(Judged { newcomer, key })
    }

    async fn admit(&self, request: JoinRequest) -> Result<cluster::Grant, Refusal> {
        let now = self.clock.now();
        let Judged { newcomer, key } = self.judge(request, now)?;
        let name = newcomer.name.clone();
        let admitted = self.admission.admit(newcomer).await;
        let Admitted { id, members } =
            admitted.map_err(|refused| refusal(Reason::Token, refused.why))?;
        let certificates = match &self.certifier {
            Certifier::Own(authority) => authority.issue(&key, &name, now),
            Certifier::Operators(_) => Ok(Vec::new()),
        };
        let certificates =
            certificates.map_err(|cause| refusal(Reason::Unspecified, cause.to_string()))?;
        let authority_key = match &self.certifier {
            Certifier::Own(authority) => Some(authority.key()),
            Certifier::Operators(_) => None,
        };
        Ok(cluster::Grant {
            id,
            members: members.into_iter().map(member).collect(),
            certificates: certificates.iter().map(bytes).collect(),
            cluster_key: self.cluster_key.expose().to_vec().into(),
            authority_key: authority_key.map(|key| key.expose().clone().into()).unwrap_or_default(),
        })
    }
}

/// One connection of a new node.
pub(super) struct Visit {
    pub(super) door: Arc<Door>,
    pub(super) client: SocketAddr,
}

#[async_trait]
impl door_server::Door for Visit {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinAnswer>, Status> {
        let request = request.into_inner();
        let name: String = request.name.chars().take(NAME_CHARS_SHOWN).collect();
        let answer = match self.door.admit(request).await {
            Ok(grant) => {
                tracing::info!(node = name, id = grant.id, client = %self.client, "node let in");
                join_answer::Answer::Grant(grant)
            }
            Err(refusal) => {
                let why = &refusal.why;
                tracing::warn!(node = ?name, client = %self.client, %why, "node not let in");
                join_answer::Answer::Refusal(refusal)
            }
        };
        Ok(Response::new(JoinAnswer { answer: Some(answer) }))
    }
}

fn member(peer: Peer) -> Member {
    Member { id: peer.id, name: peer.name, address: peer.address }
}

fn bytes(certificate: &CertificateDer<'static>) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(certificate)
}

/// Whether a text is `host:port`.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = rustls_pki_types::ServerName::try_from(bare).is_ok();
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Said to a node that would be certified here, where operators do that.
const BRING: &str =
    "the nodes of this cluster bring their own certificates: give --authority, --cert and --key";

/// As much of a name that nobody has checked as the log shows.
const NAME_CHARS_SHOWN: usize = 64;
