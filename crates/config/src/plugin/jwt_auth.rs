//! `jwt-auth`: tokens that prove an agent.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::Secret;
use rules::identity::{Algorithm, VerifyingKey};
use rules::plugin::{JwtAuth, Sources};
use serde_json::Value;

use super::JwtProof;
use super::key_auth::{anonymous, header, name};
use crate::custody::{Custody, Opened};
use crate::reader::{Object, Reader, boolean, choices, integer, text, unique, unknown};

/// Reads what a route asks of tokens.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<JwtAuth> {
    let sources = Sources {
        header: header(object, "authorization"),
        query: name(object, "query", "jwt"),
        cookie: Some(name(object, "cookie", "jwt")),
        hide: object.optional("hide_credentials", boolean).unwrap_or_default(),
    };
    let key_claim = name(object, "key_claim_name", "key");
    let realm = name(object, "realm", "jwt");
    let anonymous = anonymous(object);
    object.optional("store_in_ctx", |reader, value| {
        if boolean(reader, value)? {
            reader.fault("is not served yet");
        }
        Some(())
    });
    let claims = object.optional("claims_to_verify", unique(0, 2, claim)).unwrap_or_default();
    for name in ["key", "secret", "public_key", "algorithm", "base64_secret"] {
        object.refused(name, "belongs in the plugin of a consumer or a credential");
    }
    Some(JwtAuth {
        sources,
        key_claim,
        require_exp: claims.contains(&"exp"),
        require_nbf: claims.contains(&"nbf"),
        realm,
        anonymous,
    })
}

fn claim<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<&'v str> {
    let known = ["exp", "nbf"];
    let claim = value.as_str().filter(|claim| known.contains(claim));
    if claim.is_none() {
        reader.fault(format!("expected {}", choices(known.into_iter())));
    }
    claim
}

/// Reads the key that signs an agent's tokens.
pub(super) fn read_proof<'v>(object: &mut Object<'_, 'v>) -> Option<JwtProof> {
    let name = object.required("key", text(1, 256));
    let algorithm = object.optional("algorithm", algorithm);
    let algorithm = if object.has("algorithm") { algorithm } else { Some(Algorithm::Hs256) };
    let in_base64 = object.optional("base64_secret", boolean).unwrap_or_default();
    let grace = object.optional("lifetime_grace_period", integer(0, i64::from(u32::MAX)));
    // Left over in APISIX from an endpoint that signed tokens.
    object.optional("exp", integer::<i64>(1, i64::MAX));
    object.refused("private_key", "is not needed: tollgate verifies tokens and signs none");
    let secret = object.optional("secret", |reader, value| secret(reader, value, in_base64));
    let public_key = object.optional("public_key", |reader, value| {
        public_key(reader, value, algorithm.filter(|algorithm| !algorithm.is_symmetric()))
    });
    let key = if algorithm?.is_symmetric() {
        needs(object, "secret", "property \"secret\" is required when using HS based algorithms");
        secret
            .flatten()
            .and_then(|secret| VerifyingKey::from_secret(algorithm?, secret.expose()).ok())
    } else {
        needs(object, "public_key", "missing valid public key");
        public_key.flatten()
    };
    Some(JwtProof { name: Arc::from(name?), key, grace: grace.unwrap_or_default() })
}

fn needs(object: &mut Object<'_, '_>, name: &'static str, message: &str) {
    if !object.has(name) {
        object.fault(name, message);
    }
}

fn algorithm<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Algorithm> {
    let Some(name) = value.as_str() else {
        reader.expected("a string", value);
        return None;
    };
    let algorithm = Algorithm::from_name(name);
    if algorithm.is_none() {
        let names = || Algorithm::ALL.into_iter().map(Algorithm::as_str);
        reader.fault(format!(
            "{}: expected {}",
            unknown("algorithm", name, names()),
            choices(names())
        ));
    }
    algorithm
}

/// The secret's bytes; inside, `None` while it is not open here.
fn secret<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    in_base64: bool,
) -> Option<Option<Secret<Vec<u8>>>> {
    let written = text(1, 16_384)(reader, value)?;
    let Opened::Text(opened) = reader.secret(written, Custody::Seal) else { return Some(None) };
    if !in_base64 {
        return Some(Some(Secret::new(opened.expose().as_bytes().to_vec())));
    }
    match BASE64.decode(opened.expose()) {
        Ok(bytes) if !bytes.is_empty() => Some(Some(Secret::new(bytes))),
        _ => {
            let why = "base64_secret required but the secret is not in base64 format";
            reader.unusable(written, why.to_owned());
            Some(None)
        }
    }
}

/// The public key; inside, `None` while it is not open here.
fn public_key<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    algorithm: Option<Algorithm>,
) -> Option<Option<VerifyingKey>> {
    let written = text(1, 16_384)(reader, value)?;
    let opened = reader.secret(written, Custody::Plain);
    let (Opened::Text(pem), Some(algorithm)) = (opened, algorithm) else { return Some(None) };
    match VerifyingKey::from_pem(algorithm, pem.expose()) {
        Ok(key) => Some(Some(key)),
        Err(error) => {
            reader.unusable(written, error.to_string());
            Some(None)
        }
    }
}

/// With padding or without, as nginx decodes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
