//! A new node at the door of a member.

use std::time::Duration;

use model::{NodeName, Secret};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::time::timeout;
use wire::cluster::door_client::DoorClient;
use wire::cluster::{self, JoinRequest, join_answer};

use super::PROTOCOL;
use super::connect::{Tasks, Way, connect, origin, told};
use crate::Peer;
use crate::ca::{CertificateError, Fingerprint, NodeKey};
use crate::tls::{Passport, names, pinned};
use crate::token::JoinToken;

/// What a new node asks with. To repeat it after a lost answer, keep the key.
#[derive(Debug)]
pub struct Application<'a> {
    pub token: &'a JoinToken,
    pub name: &'a NodeName,
    /// `host:port` of its own cluster listener, as others reach it.
    pub address: &'a str,
    pub key: &'a NodeKey,
    /// What its operators have certified the key by; empty where the cluster does.
    pub certificates: &'a [CertificateDer<'static>],
}

/// All that a node needs to be a member.
#[derive(Debug)]
pub struct Grant {
    pub id: u64,
    /// Everybody, this node included.
    pub members: Vec<Peer>,
    /// What the node shows to its peers; `None` for one that brings its certificate.
    pub passport: Option<Passport>,
    /// What the document's secrets are sealed with.
    pub cluster_key: Secret<[u8; 32]>,
    /// The authority's key: PKCS #8 in DER. `None` where the authority is the operators' own.
    pub authority_key: Option<Secret<Vec<u8>>>,
}

/// Why a node did not get in. All but [`JoinError::Refused`] may be tried again with the same
/// token and the same key.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("cannot speak to the member at {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("the member at {address} did not answer in {} s", after.as_secs())]
    Late { address: String, after: Duration },
    /// The token is worth nothing, or something else has to be changed first.
    #[error("the member at {address} refused: {why}")]
    Refused { address: String, why: String },
    #[error("the member at {address} answered what is not a grant: {what}")]
    Malformed { address: String, what: &'static str },
    #[error("cannot make a certificate request")]
    Request(#[source] CertificateError),
}

/// Spends the token at a member, whose authority has to be the one that the token names.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(
    member: &str,
    application: Application<'_>,
    deadline: Duration,
) -> Result<Grant, JoinError> {
    let address = member.to_owned();
    let answered = timeout(deadline, ask(member, &application)).await;
    let answer =
        answered.map_err(|_| JoinError::Late { address: address.clone(), after: deadline })??;
    match answer {
        Some(join_answer::Answer::Grant(grant)) => {
            read(grant, &application).map_err(|what| JoinError::Malformed { address, what })
        }
        Some(join_answer::Answer::Refusal(refusal)) => {
            Err(JoinError::Refused { address, why: refusal.why })
        }
        None => Err(JoinError::Malformed { address, what: "it is empty" }),
    }
}

async fn ask(
    member: &str,
    application: &Application<'_>,
) -> Result<Option<join_answer::Answer>, JoinError> {
    let unreachable = |why: String| JoinError::Unreachable { address: member.to_owned(), why };
    let request = application.key.request().map_err(JoinError::Request)?;
    let tls = pinned(application.token.terms.authority);
    let tls = tls.map_err(|cause| unreachable(cause.to_string()))?;
    let name = ServerName::try_from(UNNAMED).map_err(|cause| unreachable(cause.to_string()))?;
    let tasks = Tasks::default();
    let way = Way { address: member, name, tls };
    let sender = connect(way, &tasks).await.map_err(unreachable)?;
    let mut client = DoorClient::with_origin(sender, origin());
    let request = JoinRequest {
        protocol: PROTOCOL,
        token: application.token.encode().expose().clone(),
        name: application.name.to_string(),
        address: application.address.to_owned(),
        certificate_request: request.into(),
        certificates: application.certificates.iter().map(|der| der.to_vec().into()).collect(),
    };
    let answer = client.join(request).await;
    answer.map(|answer| answer.into_inner().answer).map_err(|status| unreachable(told(&status)))
}

/// The member has shown that it is of the cluster; its answer is checked all the same, since a
/// node that starts with a wrong one is hard to understand.
fn read(grant: cluster::Grant, application: &Application<'_>) -> Result<Grant, &'static str> {
    let cluster::Grant { id, members, certificates, cluster_key, authority_key } = grant;
    let cluster_key: [u8; 32] =
        cluster_key.as_ref().try_into().map_err(|_| "the cluster's key is not 32 bytes long")?;
    let peer = |member: cluster::Member| {
        let cluster::Member { id, name, address } = member;
        Peer { id, name, address }
    };
    let passport = match application.certificates {
        [] => Some(passport(&certificates, application)?),
        [..] => None,
    };
    Ok(Grant {
        id,
        members: members.into_iter().map(peer).collect(),
        passport,
        cluster_key: Secret::new(cluster_key),
        authority_key: (!authority_key.is_empty()).then(|| Secret::new(authority_key.to_vec())),
    })
}

fn passport(
    certificates: &[bytes::Bytes],
    application: &Application<'_>,
) -> Result<Passport, &'static str> {
    let chain: Vec<_> = certificates.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let authority = application.token.terms.authority;
    let authority = chain.iter().find(|one| Fingerprint::of(one) == authority).cloned();
    let authority = authority.ok_or("it lacks the authority's certificate")?;
    if !chain.first().is_some_and(|own| names(own, application.name.as_str())) {
        return Err("its certificate is of another node");
    }
    Ok(Passport { chain, key: application.key.private(), authorities: vec![authority] })
}

/// Said to the member as its name; it is not looked at, see `tls.rs`.
const UNNAMED: &str = "member.tollgate";
