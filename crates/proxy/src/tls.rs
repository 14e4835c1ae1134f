//! TLS on both sides: the gate's certificate, which may change, and trust in upstreams.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// The certificates an upstream's must lead to.
pub type Roots = Arc<RootCertStore>;

/// The gate's own certificate. Replacing it touches no open connection.
#[derive(Debug)]
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// A certificate chain with its key, for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When the key does not fit the certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self { config: ArcSwap::from_pointee(server(chain, key)?) })
    }

    /// Uses another certificate for the connections to come.
    ///
    /// # Errors
    /// When the key does not fit the certificate; the old one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        self.config.store(Arc::new(server(chain, key)?));
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A core's client configurations, each with its own cache of sessions.
#[derive(Debug)]
pub(crate) struct ClientTls {
    verified: Arc<ClientConfig>,
    verified_h2: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
    unverified_h2: Arc<ClientConfig>,
}

impl ClientTls {
    pub(crate) fn new(roots: &Roots) -> Self {
        let verified =
            ClientConfig::builder().with_root_certificates(Arc::clone(roots)).with_no_client_auth();
        let mut unverified = verified.clone();
        unverified
            .dangerous()
            .set_certificate_verifier(Arc::new(Anyone(Arc::clone(verified.crypto_provider()))));
        Self {
            verified_h2: speaking(verified.clone(), &[b"h2"]),
            verified: speaking(verified, &[b"h2", b"http/1.1"]),
            unverified_h2: speaking(unverified.clone(), &[b"h2"]),
            unverified: speaking(unverified, &[b"h2", b"http/1.1"]),
        }
    }

    pub(crate) fn config(&self, verify: bool, only_h2: bool) -> Arc<ClientConfig> {
        Arc::clone(match (verify, only_h2) {
            (true, false) => &self.verified,
            (true, true) => &self.verified_h2,
            (false, false) => &self.unverified,
            (false, true) => &self.unverified_h2,
        })
    }
}

fn speaking(mut config: ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Accepts any certificate: for upstreams whose document says `tls.verify: false`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
