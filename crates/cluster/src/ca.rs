//! The cluster's own authority: a small CA that certifies the keys of nodes.
//!
//! A node's certificate holds its name and nothing else that is checked: an address may change
//! without a new certificate. Every member keeps the authority's key, so that any of them can let
//! a node in and renew its own certificate. This gives a member no power that it lacks otherwise:
//! with the cluster's key alone it could make tokens for as many nodes as it likes.

use std::time::Duration;

use aws_lc_rs::digest;
use model::{NodeName, Secret, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
};

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of this certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(sha256(certificate))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Why a certificate cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// What nodes are called stands in certificates, so it has to be a host name.
    #[error("node name {name:?} is not a host name in lower case")]
    Name { name: String },
    #[error("the {what} cannot be read")]
    Malformed { what: &'static str },
    #[error("the private key is not the one of the certificate")]
    OtherKey,
    /// The request's own signature is wrong, or its key is of no kind that we certify.
    #[error("the certificate request cannot be used")]
    Request(#[source] rcgen::Error),
    #[error("cannot make a {what}")]
    Make {
        what: &'static str,
        #[source]
        cause: rcgen::Error,
    },
}

/// A name that a node may have: a host name in lower case, since certificates compare names
/// without regard to case and we do not.
///
/// # Errors
/// [`CertificateError::Name`].
pub fn node_name(name: &str) -> Result<NodeName, CertificateError> {
    server_name(name).map(|_| NodeName::new(name))
}

/// The same name as TLS compares it.
pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, CertificateError> {
    let wrong = || CertificateError::Name { name: name.to_owned() };
    let is_plain = !name.ends_with('.') && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    match ServerName::try_from(name.to_owned()) {
        Ok(parsed @ ServerName::DnsName(_)) if is_plain => Ok(parsed),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

/// A node's private key. It never leaves the node.
pub struct NodeKey(KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey([secret])")
    }
}

impl NodeKey {
    /// A fresh key on the P-256 curve.
    ///
    /// # Errors
    /// When the library has no random bytes.
    pub fn generate() -> Result<Self, CertificateError> {
        KeyPair::generate().map(Self).map_err(|cause| CertificateError::Make { what: "key", cause })
    }

    /// Reads a key: PKCS #8 in DER.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        key_pair(der).map(Self)
    }

    /// PKCS #8 in DER.
    #[must_use]
    pub fn der(&self) -> Secret<Vec<u8>> {
        Secret::new(self.0.serialize_der())
    }

    /// The key as TLS takes it.
    #[must_use]
    pub fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// A request (PKCS #10 in DER) to certify this key. It names nobody: the authority decides.
    ///
    /// # Errors
    /// When signing fails.
    pub fn request(&self) -> Result<Vec<u8>, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let made = params.serialize_request(&self.0);
        made.map(|request| request.der().to_vec())
            .map_err(|cause| CertificateError::Make { what: "certificate request", cause })
    }

    /// The digest of the public key.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.0.subject_public_key_info())
    }
}

/// A key whose owner has proved that it holds the private part.
#[derive(Debug)]
pub struct KeyRequest(rcgen::PublicKey);

impl KeyRequest {
    /// Reads a request (PKCS #10 in DER) and checks its signature. Whatever else it asks for is
    /// not looked at.
    ///
    /// # Errors
    /// [`CertificateError::Request`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let request = CertificateSigningRequestParams::from_der(
            &CertificateSigningRequestDer::from(der.to_vec()),
        );
        request.map(|request| Self(request.public_key)).map_err(CertificateError::Request)
    }

    /// The digest of the public key: the same for each request that a node makes with its key.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.0.subject_public_key_info())
    }
}

/// The authority: its certificate and the key that signs.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish()
    }
}

impl Authority {
    /// A new cluster's authority, good for [`AUTHORITY_LIFE`].
    ///
    /// # Errors
    /// When the library fails.
    pub fn make(now: Timestamp) -> Result<Self, CertificateError> {
        let make = |cause| CertificateError::Make { what: "certificate of an authority", cause };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = lasting(AUTHORITY_LIFE, now);
        // Authorities have different names, so that one is not taken for another.
        let digest = hex::encode(sha256(&key.subject_public_key_info()));
        let name = format!("tollgate cluster {}", digest.get(..NAME_DIGITS).unwrap_or_default());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(make)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// An authority that was made before: its certificate, and its key as PKCS #8 in DER.
    ///
    /// # Errors
    /// When either cannot be read or they do not belong together.
    pub fn load(
        certificate: CertificateDer<'static>,
        key: &Secret<Vec<u8>>,
    ) -> Result<Self, CertificateError> {
        let key = key_pair(key.expose())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(unreadable)?;
        if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
            return Err(CertificateError::OtherKey);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| CertificateError::Malformed { what: "certificate of the authority" })?;
        Ok(Self { certificate, issuer })
    }

    /// The certificate that nodes trust.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a join token names the authority by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The signing key: PKCS #8 in DER, for the disk of a member.
    #[must_use]
    pub fn key(&self) -> Secret<Vec<u8>> {
        Secret::new(self.issuer.key().serialize_der())
    }

    /// Certifies that a key is this node's, for [`NODE_LIFE`]: the chain, the node's own first.
    /// Renewal is the same call with the same key.
    ///
    /// # Errors
    /// When the node's name cannot stand in a certificate.
    pub fn issue(
        &self,
        request: &KeyRequest,
        node: &NodeName,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let wrong = || CertificateError::Name { name: node.to_string() };
        node_name(node.as_str())?;
        let mut params = lasting(NODE_LIFE, now);
        params.serial_number = Some(serial(request, node, now));
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        let name = node.as_str().try_into().map_err(|_| wrong())?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node is both: it is called, and it calls.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(&request.0, &self.issuer);
        let made =
            made.map_err(|cause| CertificateError::Make { what: "certificate of a node", cause })?;
        Ok(vec![made.der().clone(), self.certificate.clone()])
    }
}

/// Whether less than a third of a certificate's life is left: time to renew it.
///
/// # Errors
/// When the certificate cannot be read.
pub fn is_due(certificate: &CertificateDer<'_>, now: Timestamp) -> Result<bool, CertificateError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(unreadable)?;
    let validity = parsed.validity();
    let from = i128::from(validity.not_before.timestamp());
    let until = i128::from(validity.not_after.timestamp());
    let left = until - i128::from(now.as_secs());
    Ok(left * 3 < until - from)
}

/// The digest of the key that a certificate is of.
pub(crate) fn key_digest(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(sha256(parsed.public_key().raw))
}

fn unreadable<E>(_cause: E) -> CertificateError {
    CertificateError::Malformed { what: "certificate" }
}

fn key_pair(der: &[u8]) -> Result<KeyPair, CertificateError> {
    KeyPair::try_from(der).map_err(|_| CertificateError::Malformed { what: "private key" })
}

/// Parameters without a name, valid from a while ago: clocks of nodes differ.
fn lasting(life: Duration, now: Timestamp) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: u64| epoch + Duration::from_secs(seconds.min(LAST_SECOND));
    let mut params = CertificateParams::default();
    params.not_before = at(now.as_secs().saturating_sub(SKEW.as_secs()));
    params.not_after = at(now.plus(life).as_secs());
    params.distinguished_name = DistinguishedName::new();
    params
}

/// Differs for each key, name and moment, so that a renewed certificate has its own number.
fn serial(request: &KeyRequest, node: &NodeName, now: Timestamp) -> SerialNumber {
    let mut text = request.digest().to_vec();
    text.extend_from_slice(&now.as_micros().to_be_bytes());
    text.extend_from_slice(node.as_str().as_bytes());
    let mut number = sha256(&text);
    // Positive, not zero, and at most 20 bytes (RFC 5280 §4.1.2.2).
    number[0] = number[0] & 0x3f | 0x40;
    SerialNumber::from_slice(number.get(..SERIAL_BYTES).unwrap_or_default())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// How long an authority lasts. Replacing it is an operator's deed.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);

/// How long a node's certificate lasts; a member renews its own after two thirds.
pub const NODE_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// By how much the clocks of two nodes may differ at a join.
const SKEW: Duration = Duration::from_secs(3_600);

/// The last second of the year 9998: a certificate holds years of four digits.
const LAST_SECOND: u64 = 253_370_764_799;

const SERIAL_BYTES: usize = 16;

/// Of the digest of an authority's key, in its name.
const NAME_DIGITS: usize = 16;

#[cfg(test)]
mod tests;
