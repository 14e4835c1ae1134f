//! Keys that verify signatures: one key, one algorithm.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Listed, DecodingKey};

/// An algorithm of RFC 7518 §3.1 (and RFC 8037 for `EdDSA`), by its `alg` name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// The `alg` value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of an `alg` value.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// Whether the key is a shared secret.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// The library's name of it; it has none for ES512.
    const fn listed(self) -> Option<Listed> {
        Some(match self {
            Self::Hs256 => Listed::HS256,
            Self::Hs384 => Listed::HS384,
            Self::Hs512 => Listed::HS512,
            Self::Rs256 => Listed::RS256,
            Self::Rs384 => Listed::RS384,
            Self::Rs512 => Listed::RS512,
            Self::Es256 => Listed::ES256,
            Self::Es384 => Listed::ES384,
            Self::Ps256 => Listed::PS256,
            Self::Ps384 => Listed::PS384,
            Self::Ps512 => Listed::PS512,
            Self::EdDsa => Listed::EdDSA,
            Self::Es512 => return None,
        })
    }
}

/// A key with the one algorithm it verifies.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Listed(Listed, DecodingKey),
    P521(Arc<ParsedPublicKey>),
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("{} takes a public key, not a secret", .0.as_str())]
    NotSymmetric(Algorithm),
    #[error("{} takes a secret, not a public key", .0.as_str())]
    Symmetric(Algorithm),
    #[error("is not a PEM public key for {}", .0.as_str())]
    NotPem(Algorithm),
    #[error("has not the curve or the size that {} takes", .0.as_str())]
    WrongSize(Algorithm),
}

impl VerifyingKey {
    /// A shared secret for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// When the algorithm takes a public key.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyFault> {
        match algorithm.listed() {
            Some(listed) if algorithm.is_symmetric() => Ok(Self {
                algorithm,
                material: Material::Listed(listed, DecodingKey::from_secret(secret)),
            }),
            _ => Err(KeyFault::NotSymmetric(algorithm)),
        }
    }

    /// A public key in PEM (`PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`).
    ///
    /// # Errors
    /// When it is not PEM, not of the algorithm's family, or of another curve or size.
    pub fn from_pem(algorithm: Algorithm, pem: &str) -> Result<Self, KeyFault> {
        let bytes = pem.as_bytes();
        let parsed = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                return Err(KeyFault::Symmetric(algorithm));
            }
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                DecodingKey::from_ec_pem(bytes)
            }
            Algorithm::EdDsa => DecodingKey::from_ed_pem(bytes),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => DecodingKey::from_rsa_pem(bytes),
        };
        let key = parsed.map_err(|_| KeyFault::NotPem(algorithm))?;
        let raw = key.try_get_as_bytes().map_err(|_| KeyFault::NotPem(algorithm))?;
        if !fits(algorithm, raw) {
            return Err(KeyFault::WrongSize(algorithm));
        }
        let material = match algorithm.listed() {
            Some(listed) => Material::Listed(listed, key),
            None => Material::P521(Arc::new(
                ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, raw)
                    .map_err(|_| KeyFault::WrongSize(algorithm))?,
            )),
        };
        Ok(Self { algorithm, material })
    }

    /// The one algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` (base64url) is this key's of `message`. Constant-time where the key is
    /// a secret.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &str) -> bool {
        match &self.material {
            Material::Listed(listed, key) => {
                jsonwebtoken::crypto::verify(signature, message, key, *listed).unwrap_or(false)
            }
            Material::P521(key) => match URL_SAFE_NO_PAD.decode(signature) {
                Ok(signature) => key.verify_sig(message, &signature).is_ok(),
                Err(_) => false,
            },
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.algorithm.as_str()).finish()
    }
}

/// Whether the raw key has the curve (by the length of an uncompressed point, SEC 1 §2.3.3) or
/// the size that the algorithm takes: RSA from 2,048 bits.
fn fits(algorithm: Algorithm, raw: &[u8]) -> bool {
    match algorithm {
        Algorithm::Es256 => raw.len() == 65,
        Algorithm::Es384 => raw.len() == 97,
        Algorithm::Es512 => raw.len() == 133,
        Algorithm::EdDsa => raw.len() == 32,
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, raw).is_ok(),
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => true,
    }
}
