//! TLS on both sides: the gate's certificate, which may change, and trust in upstreams.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::connect::Protocols;

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
    verified: ByProtocols,
    unverified: ByProtocols,
}

/// A configuration for each set of protocols.
#[derive(Debug)]
struct ByProtocols {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl ClientTls {
    pub(crate) fn new(roots: &Roots) -> Self {
        let verified =
            ClientConfig::builder().with_root_certificates(Arc::clone(roots)).with_no_client_auth();
        let mut unverified = verified.clone();
        let anyone = Anyone(Arc::clone(verified.crypto_provider()));
        unverified.dangerous().set_certificate_verifier(Arc::new(anyone));
        // A session that nobody verified must not be resumed by who wants it verified.
        unverified.resumption = Resumption::default();
        Self { verified: ByProtocols::new(&verified), unverified: ByProtocols::new(&unverified) }
    }

    pub(crate) fn config(&self, verify: bool, protocols: Protocols) -> Arc<ClientConfig> {
        let configs = if verify { &self.verified } else { &self.unverified };
        Arc::clone(match protocols {
            Protocols::Any => &configs.any,
            Protocols::Http1 => &configs.http1,
            Protocols::Http2 => &configs.http2,
        })
    }
}

impl ByProtocols {
    fn new(config: &ClientConfig) -> Self {
        Self {
            any: speaking(config.clone(), &[b"h2", b"http/1.1"]),
            http1: speaking(config.clone(), &[b"http/1.1"]),
            http2: speaking(config.clone(), &[b"h2"]),
        }
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
