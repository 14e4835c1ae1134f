//! TLS between nodes: what a node shows, whom it trusts, and the three ways to begin a connection.
//!
//! TLS 1.3 only, both sides show certificates, and no session is resumed: connections live long,
//! and a certificate that is no longer trusted must not live on in a ticket. The exception is the
//! door for new nodes, which have no certificate yet; a client asks for it by name (ALPN), so that
//! whoever does not is refused by TLS itself when it has no certificate.

use std::sync::Arc;

use arc_swap::ArcSwap;
use model::{NodeName, Timestamp};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::ca::{
    Authority, CertificateError, Fingerprint, KeyRequest, NodeKey, key_digest, server_name,
};

/// What a node shows to its peers, and whom it trusts.
#[derive(Debug)]
pub struct Passport {
    /// The node's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Whose certificates are taken: the cluster's authority, and while that is replaced both.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Clone for Passport {
    fn clone(&self) -> Self {
        let (chain, authorities) = (self.chain.clone(), self.authorities.clone());
        Self { chain, key: self.key.clone_key(), authorities }
    }
}

impl Passport {
    /// A passport that the cluster's own authority gives for this key, now: at the start of a
    /// cluster, and at each renewal.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn certified(
        authority: &Authority,
        key: &NodeKey,
        node: &NodeName,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let chain = authority.issue(&KeyRequest::parse(&key.request()?)?, node, now)?;
        let authorities = vec![authority.certificate().clone()];
        Ok(Self { chain, key: key.private(), authorities })
    }
}

/// Why a passport cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("an authority's certificate cannot be trusted")]
    Authority(#[source] rustls::Error),
    #[error("no authority is given")]
    NoAuthority,
    #[error("the certificate and its key cannot be used")]
    Passport(#[source] rustls::Error),
}

/// A node's passport as TLS uses it. Replacing it touches no open connection.
pub struct NodeTls {
    current: ArcSwap<Configs>,
}

impl std::fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTls").finish_non_exhaustive()
    }
}

struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    door: Arc<ServerConfig>,
}

impl NodeTls {
    /// # Errors
    /// When the key does not fit the certificate, or an authority's certificate is none.
    pub fn new(passport: &Passport) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::from_pointee(Configs::new(passport)?) })
    }

    /// Uses another passport for the connections to come.
    ///
    /// # Errors
    /// As [`NodeTls::new`]; the old one stays.
    pub fn replace(&self, passport: &Passport) -> Result<(), TlsError> {
        self.current.store(Arc::new(Configs::new(passport)?));
        Ok(())
    }

    /// For calls to peers.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().client)
    }

    /// For peers that call.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    /// For new nodes, which have no certificate.
    pub(crate) fn door(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().door)
    }
}

impl Configs {
    fn new(passport: &Passport) -> Result<Self, TlsError> {
        let roots = roots(&passport.authorities)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::new(provider()))
                .build()
                .map_err(|_| TlsError::NoAuthority)?;
        let key = || passport.key.clone_key();
        let mut server = server()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(passport.chain.clone(), key())
            .map_err(TlsError::Passport)?;
        server.alpn_protocols = vec![H2.to_vec()];
        server.send_tls13_tickets = 0;
        // A new node knows the authority by its fingerprint only, so it has to be shown it.
        let mut shown = passport.chain.clone();
        let missing = passport.authorities.iter().filter(|one| !passport.chain.contains(one));
        shown.extend(missing.cloned());
        let mut door = server_without_clients(shown, key())?;
        door.alpn_protocols = vec![DOOR.to_vec()];
        door.send_tls13_tickets = 0;
        let mut client = client()?
            .with_root_certificates(roots)
            .with_client_auth_cert(passport.chain.clone(), key())
            .map_err(TlsError::Passport)?;
        client.alpn_protocols = vec![H2.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { client: Arc::new(client), server: Arc::new(server), door: Arc::new(door) })
    }
}

/// How a new node speaks to the door of a member: only an authority with this fingerprint will do.
///
/// # Errors
/// When the library has no TLS 1.3.
pub(crate) fn pinned(authority: Fingerprint) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = client()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { authority, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![DOOR.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whether a verified certificate is of the node with this name.
pub(crate) fn names(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let parsed = ParsedCertificate::try_from(certificate);
    let (Ok(parsed), Ok(name)) = (parsed, server_name(node)) else { return false };
    rustls::client::verify_server_name(&parsed, &name).is_ok()
}

/// Checks that a chain leads to one of the authorities, and certifies that this key is this
/// node's, told by its name and the digest of the key.
pub(crate) fn certified(
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
    (node, key): (&str, [u8; 32]),
) -> Result<(), String> {
    let Some((own, intermediates)) = chain.split_first() else {
        return Err("there is no certificate".to_owned());
    };
    if !names(own, node) {
        return Err(format!("the certificate is not of a node called {node}"));
    }
    if key_digest(own) != Some(key) {
        return Err("the certificate is of another key".to_owned());
    }
    let roots = roots(authorities).map_err(|cause| cause.to_string())?;
    let parsed = ParsedCertificate::try_from(own).map_err(|cause| cause.to_string())?;
    let algorithms = provider().signature_verification_algorithms.all;
    let now = UnixTime::now();
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)
        .map_err(|cause| format!("the certificate is not of this cluster's authority: {cause}"))
}

/// Takes any certificate of the authority with this fingerprint, whatever name it holds: the new
/// node knows an address and no name.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let mut shown = intermediates.iter();
        let authority = shown.find(|one| Fingerprint::of(one) == self.authority).ok_or(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(TlsError::Authority)?;
    }
    Ok(Arc::new(roots))
}

fn client() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Passport)
}

fn server() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Passport)
}

fn server_without_clients(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    server()?.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Passport)
}

/// Between members: HTTP/2.
const H2: &[u8] = b"h2";

/// What a node without a certificate asks for; HTTP/2 as well, with nothing but the door behind it.
pub(crate) const DOOR: &[u8] = b"tollgate-join/1";

mod papers;

pub use papers::{Papers, PapersError};

#[cfg(test)]
mod tests;
