//! Laws of tokens: every algorithm verifies its own and nothing else, and time is exact.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use proptest::prelude::{any, prop, prop_assert, proptest};
use serde_json::json;

use super::{
    Agent, AgentId, Agents, Algorithm, Arc, Denial, HeaderMap, JwtAuth, JwtCredential, Layer,
    OrganisationId, Proven, Sources, Timestamp, URL_SAFE_NO_PAD, Value, VerifyingKey, hmac,
};

/// A key pair of one algorithm.
struct Signer {
    algorithm: Algorithm,
    verifying: VerifyingKey,
    sign: Sign,
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

fn signer(algorithm: Algorithm) -> Signer {
    match algorithm {
        Algorithm::Hs256 => secret(algorithm, hmac::HMAC_SHA256),
        Algorithm::Hs384 => secret(algorithm, hmac::HMAC_SHA384),
        Algorithm::Hs512 => secret(algorithm, hmac::HMAC_SHA512),
        Algorithm::Rs256 => rsa(algorithm, &signature::RSA_PKCS1_SHA256),
        Algorithm::Rs384 => rsa(algorithm, &signature::RSA_PKCS1_SHA384),
        Algorithm::Rs512 => rsa(algorithm, &signature::RSA_PKCS1_SHA512),
        Algorithm::Ps256 => rsa(algorithm, &signature::RSA_PSS_SHA256),
        Algorithm::Ps384 => rsa(algorithm, &signature::RSA_PSS_SHA384),
        Algorithm::Ps512 => rsa(algorithm, &signature::RSA_PSS_SHA512),
        Algorithm::Es256 => ecdsa(algorithm, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ecdsa(algorithm, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::Es512 => ecdsa(algorithm, &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().unwrap();
            let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            let verifying = VerifyingKey::from_pem(algorithm, &pem(der.as_ref())).unwrap();
            let sign = Box::new(move |message: &[u8]| pair.sign(message).as_ref().to_vec());
            Signer { algorithm, verifying, sign }
        }
    }
}

fn secret(algorithm: Algorithm, kind: hmac::Algorithm) -> Signer {
    let secret = b"a secret of the article's length";
    let key = hmac::Key::new(kind, secret);
    let verifying = VerifyingKey::from_secret(algorithm, secret).unwrap();
    let sign = Box::new(move |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec());
    Signer { algorithm, verifying, sign }
}

fn rsa(algorithm: Algorithm, padding: &'static dyn signature::RsaEncoding) -> Signer {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let verifying = VerifyingKey::from_pem(algorithm, &pem(der.as_ref())).unwrap();
    let sign = Box::new(move |message: &[u8]| {
        let mut signed = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message, &mut signed).unwrap();
        signed
    });
    Signer { algorithm, verifying, sign }
}

fn ecdsa(algorithm: Algorithm, curve: &'static EcdsaSigningAlgorithm) -> Signer {
    let pair = EcdsaKeyPair::generate(curve).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let verifying = VerifyingKey::from_pem(algorithm, &pem(der.as_ref())).unwrap();
    let sign = Box::new(move |message: &[u8]| {
        pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    });
    Signer { algorithm, verifying, sign }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn token(signer: &Signer, alg: &str, claims: &Value) -> String {
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
    let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signed = (signer.sign)(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
}

fn agents(signer: &Signer) -> Agents {
    let agent = Arc::new(Agent {
        id: AgentId::new("alice"),
        team: None,
        organisation: OrganisationId::new("default"),
        plugins: Layer::default(),
        custom_id: None,
    });
    let credential = Arc::new(JwtCredential {
        agent,
        credential: None,
        key: signer.verifying.clone(),
        grace: 0,
    });
    Agents {
        by_jwt_key: [(Arc::from("alice-key"), credential)].into_iter().collect(),
        ..Agents::default()
    }
}

fn rule() -> JwtAuth {
    JwtAuth {
        sources: sources(),
        key_claim: Arc::from("key"),
        require_exp: false,
        require_nbf: false,
        realm: Arc::from("jwt"),
        anonymous: None,
    }
}

fn sources() -> Sources {
    let header = header::AUTHORIZATION;
    Sources { header, query: Arc::from("jwt"), cookie: Some(Arc::from("jwt")), hide: false }
}

const NOW: u64 = 1_800_000_000;

/// Verifies a token with these claims at [`NOW`].
fn check(claims: &Value, rule: &JwtAuth, expected: Result<&str, Denial>) {
    let signer = signer(Algorithm::Hs256);
    let token = token(&signer, "HS256", claims);
    let proven = agents(&signer).verify_token(&token, rule, Timestamp::from_secs(NOW));
    assert_eq!(agent_of(&proven), expected, "{claims}");
}

fn agent_of(proven: &Result<Proven, Denial>) -> Result<&str, Denial> {
    proven.as_ref().map(|proven| proven.agent.id.as_str()).map_err(|denial| *denial)
}

#[test]
fn every_algorithm_verifies_its_own_signature() {
    for algorithm in Algorithm::ALL {
        let signer = signer(algorithm);
        let token = token(&signer, algorithm.as_str(), &json!({"key": "alice-key"}));
        let proven = agents(&signer).verify_token(&token, &rule(), Timestamp::from_secs(NOW));
        assert_eq!(agent_of(&proven), Ok("alice"), "{}", signer.algorithm.as_str());
    }
}

#[test]
fn no_algorithm_verifies_under_another_name() {
    let signer = signer(Algorithm::Hs256);
    for name in ["none", "None", "HS384", "RS256", "hs256", ""] {
        let token = token(&signer, name, &json!({"key": "alice-key"}));
        let proven = agents(&signer).verify_token(&token, &rule(), Timestamp::from_secs(NOW));
        assert_eq!(agent_of(&proven), Err(Denial::WrongAlgorithm), "{name}");
    }
}

/// The key confusion of old libraries: a public key used as an HMAC secret.
#[test]
fn a_public_key_is_no_secret() {
    let real = signer(Algorithm::Rs256);
    let forged =
        token(&secret(Algorithm::Hs256, hmac::HMAC_SHA256), "HS256", &json!({"key": "alice-key"}));
    let proven = agents(&real).verify_token(&forged, &rule(), Timestamp::from_secs(NOW));
    assert_eq!(agent_of(&proven), Err(Denial::WrongAlgorithm));
}

#[test]
fn a_changed_claim_breaks_the_signature() {
    let signer = signer(Algorithm::Es256);
    let honest = token(&signer, "ES256", &json!({"key": "alice-key", "n": 1}));
    let (_, signature) = honest.rsplit_once('.').unwrap();
    let other = token(&signer, "ES256", &json!({"key": "alice-key", "n": 2}));
    let (message, _) = other.rsplit_once('.').unwrap();
    let forged = format!("{message}.{signature}");
    let proven = agents(&signer).verify_token(&forged, &rule(), Timestamp::from_secs(NOW));
    assert_eq!(agent_of(&proven), Err(Denial::BadSignature));
}

#[test]
fn a_token_ends_at_its_exp_and_begins_at_its_nbf() {
    check(&json!({"key": "alice-key", "exp": NOW + 1}), &rule(), Ok("alice"));
    check(&json!({"key": "alice-key", "exp": NOW}), &rule(), Err(Denial::Expired));
    check(&json!({"key": "alice-key", "nbf": NOW}), &rule(), Ok("alice"));
    check(&json!({"key": "alice-key", "nbf": NOW + 1}), &rule(), Err(Denial::NotYetValid));
    check(&json!({"key": "alice-key", "exp": 1_800_000_000.5}), &rule(), Ok("alice"));
}

#[test]
fn a_claim_that_must_be_there_is_missed() {
    let rule = JwtAuth { require_exp: true, require_nbf: true, ..rule() };
    check(&json!({"key": "alice-key", "nbf": NOW}), &rule, Err(Denial::BadClaim("exp")));
    check(&json!({"key": "alice-key", "exp": NOW + 9}), &rule, Err(Denial::BadClaim("nbf")));
    check(&json!({"key": "alice-key", "exp": "soon"}), &rule, Err(Denial::BadClaim("exp")));
}

#[test]
fn a_token_without_or_with_an_unknown_key_proves_nothing() {
    check(&json!({"sub": "alice"}), &rule(), Err(Denial::NoKeyClaim));
    check(&json!({"key": 7}), &rule(), Err(Denial::NoKeyClaim));
    check(&json!({"key": "bob-key"}), &rule(), Err(Denial::UnknownKey));
}

#[test]
fn a_key_of_another_curve_or_family_is_refused_when_it_is_written() {
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = pem(der.as_ref());
    for algorithm in
        [Algorithm::Es384, Algorithm::Es512, Algorithm::Rs256, Algorithm::EdDsa, Algorithm::Hs256]
    {
        assert!(VerifyingKey::from_pem(algorithm, &pem).is_err(), "{}", algorithm.as_str());
    }
    assert!(VerifyingKey::from_pem(Algorithm::Rs256, "not a key").is_err());
}

#[test]
fn a_credential_is_found_in_header_query_and_cookie_in_this_order() {
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, "jwt=c".parse().unwrap());
    assert_eq!(sources().find(&headers, None).as_deref(), Some("c"));
    assert_eq!(sources().find(&headers, Some("jwt=q")).as_deref(), Some("q"));
    for value in ["Bearer h", "bearer h", "BEARER  h", "h"] {
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        assert_eq!(sources().find(&headers, Some("jwt=q")).as_deref(), Some("h"));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_verifier_panic_or_prove_an_agent(text in ".{0,200}") {
        let agents = agents(&signer(Algorithm::Hs256));
        prop_assert!(agents.verify_token(&text, &rule(), Timestamp::from_secs(NOW)).is_err());
    }

    #[test]
    fn no_claims_make_the_verifier_panic(parts in prop::collection::vec(any::<Vec<u8>>(), 3)) {
        let token = parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect::<Vec<_>>().join(".");
        let agents = agents(&signer(Algorithm::Hs256));
        prop_assert!(agents.verify_token(&token, &rule(), Timestamp::from_secs(NOW)).is_err());
    }
}
