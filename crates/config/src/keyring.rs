//! The cluster's keys: what seals secrets at rest and digests API keys.
//!
//! A sealed text is `$sealed://v1/KEY/BYTES`: AES-256-GCM (NIST SP 800-38D) under a key derived
//! from the cluster's, with a fresh random nonce of 96 bits in front of the ciphertext. The place
//! it was sealed for is authenticated, so that it opens nowhere else. A digest is
//! `$hashed://v1/KEY/HEX`: HMAC-SHA-256. `KEY` names the cluster key, so that keys can rotate.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{Entropy, Secret};

/// The length of a cluster key in bytes.
pub const KEY_BYTES: usize = 32;

/// What a sealed text begins with.
pub(crate) const SEALED: &str = "$sealed://";
/// What a digested text begins with.
pub(crate) const HASHED: &str = "$hashed://";

/// The cluster's keys: the one that seals, and older ones that still open.
pub struct Keyring {
    current: Keys,
    older: Vec<Keys>,
}

/// What is derived from one cluster key.
struct Keys {
    /// Says which key it is and nothing about it.
    id: String,
    seal: LessSafeKey,
    digest: hmac::Key,
}

/// Why a sealed text cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("is not a sealed value of this release")]
    Malformed,
    #[error("was sealed with the key `{id}`, which this node does not have")]
    UnknownKey { id: String },
    #[error("was changed, or sealed for another place")]
    Forged,
}

impl Keyring {
    /// A keyring of one key.
    #[must_use]
    pub fn from_bytes(key: &[u8; KEY_BYTES]) -> Self {
        Self { current: Keys::derive(key), older: Vec::new() }
    }

    /// The same keyring, which also opens what an older key sealed.
    #[must_use]
    pub fn and_older(mut self, key: &[u8; KEY_BYTES]) -> Self {
        self.older.push(Keys::derive(key));
        self
    }

    /// A fresh key, and the keyring of it.
    ///
    /// # Errors
    /// When the source of chance cannot be read.
    pub fn generate(entropy: &dyn Entropy) -> std::io::Result<(Self, Secret<[u8; KEY_BYTES]>)> {
        let mut key = [0; KEY_BYTES];
        entropy.fill(&mut key)?;
        Ok((Self::from_bytes(&key), Secret::new(key)))
    }

    /// Seals a text for a place.
    ///
    /// # Errors
    /// When the source of chance cannot be read.
    pub fn seal(&self, entropy: &dyn Entropy, place: &str, text: &str) -> std::io::Result<String> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce)?;
        let mut bytes = text.as_bytes().to_vec();
        self.current
            .seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut bytes,
            )
            .map_err(|_| std::io::Error::other("cannot seal a text of this length"))?;
        let mut whole = nonce.to_vec();
        whole.append(&mut bytes);
        let body = URL_SAFE_NO_PAD.encode(whole);
        Ok(format!("{SEALED}v1/{}/{body}", self.current.id))
    }

    /// The text behind a sealed value of this place.
    ///
    /// # Errors
    /// When it is malformed, of an unknown key, changed, or sealed for another place.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Secret<String>, OpenError> {
        let (id, body) = parts(sealed, SEALED).ok_or(OpenError::Malformed)?;
        let keys = std::iter::once(&self.current)
            .chain(&self.older)
            .find(|keys| keys.id == id)
            .ok_or_else(|| OpenError::UnknownKey { id: id.to_owned() })?;
        let mut bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| OpenError::Malformed)?;
        let (nonce, cipher) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(OpenError::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;
        let plain = keys
            .seal
            .open_in_place(nonce, Aad::from(place), cipher)
            .map_err(|_| OpenError::Forged)?;
        let text = String::from_utf8(plain.to_vec()).map_err(|_| OpenError::Forged)?;
        plain.fill(0);
        Ok(Secret::new(text))
    }

    /// The text that is kept of an API key.
    #[must_use]
    pub fn hash(&self, api_key: &str) -> String {
        format!("{HASHED}v1/{}/{}", self.current.id, hex::encode(self.digest(api_key)))
    }

    /// The digest of an API key.
    pub(crate) fn digest(&self, api_key: &str) -> [u8; 32] {
        block(&hmac::sign(&self.current.digest, api_key.as_bytes()))
    }

    /// The digest in such a text; `None` when it is none, or of a key that digests no longer.
    #[must_use]
    pub(crate) fn digest_of(&self, hashed: &str) -> Option<[u8; 32]> {
        let (id, body) = parts(hashed, HASHED)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(body, &mut digest).ok()?;
        (id == self.current.id).then_some(digest)
    }

    /// The key of the digests of API keys.
    pub(crate) const fn digester(&self) -> &hmac::Key {
        &self.current.digest
    }

    /// Whether this keyring's newest key sealed or digested the text.
    pub(crate) fn is_current(&self, text: &str) -> bool {
        let found = parts(text, SEALED).or_else(|| parts(text, HASHED));
        found.is_some_and(|(id, _)| id == self.current.id)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("current", &self.current.id).finish_non_exhaustive()
    }
}

impl Keys {
    fn derive(key: &[u8; KEY_BYTES]) -> Self {
        let id = expand(key, b"tollgate key id");
        let id = id.iter().take(KEY_ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let seal = UnboundKey::new(&AES_256_GCM, &expand(key, b"tollgate seal"))
            .expect("a key of 32 bytes is one of AES-256");
        let digest = hmac::Key::new(hmac::HMAC_SHA256, &expand(key, b"tollgate api keys"));
        Self { id, seal: LessSafeKey::new(seal), digest }
    }
}

/// One block of HKDF-Expand (RFC 5869 §2.3): the cluster key is uniformly random already.
fn expand(key: &[u8; KEY_BYTES], purpose: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(purpose);
    context.update(&[1]);
    block(&context.sign())
}

/// The 32 bytes of a tag of HMAC-SHA-256.
fn block(tag: &hmac::Tag) -> [u8; 32] {
    tag.as_ref().try_into().expect("a tag of HMAC-SHA-256 has 32 bytes")
}

/// The key's id and the body of a text of version 1.
fn parts<'t>(text: &'t str, scheme: &str) -> Option<(&'t str, &'t str)> {
    text.strip_prefix(scheme)?.strip_prefix("v1/")?.split_once('/')
}

/// Enough to tell a cluster's keys apart.
const KEY_ID_BYTES: usize = 4;

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use model::Entropy;
    use proptest::prelude::*;

    use super::{Keyring, OpenError};

    /// Chance for tests: never the same twice.
    #[derive(Debug, Default)]
    pub(crate) struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
            buffer.fill(self.0.fetch_add(1, Ordering::Relaxed));
            Ok(())
        }
    }

    fn sealed(text: &str) -> String {
        Keyring::from_bytes(&[7; 32]).seal(&Counting::default(), "/here", text).unwrap()
    }

    fn check_refused(keyring: &Keyring, place: &str, sealed: &str, expected: &OpenError) {
        assert_eq!(keyring.open(place, sealed).unwrap_err(), *expected);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same(text in ".*") {
            let keyring = Keyring::from_bytes(&[7; 32]);
            let opened = keyring.open("/here", &sealed(&text)).unwrap();
            prop_assert_eq!(opened.expose(), &text);
        }

        #[test]
        fn a_changed_text_does_not_open(at in 0_usize..60, to in "[A-Za-z0-9]") {
            let whole = sealed("a secret of some length");
            let at = "$sealed://v1/".len() + at;
            let mut changed = whole.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != whole);
            prop_assert!(Keyring::from_bytes(&[7; 32]).open("/here", &changed).is_err());
        }
    }

    #[test]
    fn a_sealed_text_opens_at_its_own_place_only() {
        let keyring = Keyring::from_bytes(&[7; 32]);
        check_refused(&keyring, "/there", &sealed("x"), &OpenError::Forged);
    }

    #[test]
    fn another_cluster_s_key_does_not_open() {
        let keyring = Keyring::from_bytes(&[8; 32]);
        let error = keyring.open("/here", &sealed("x")).unwrap_err();
        assert!(matches!(error, OpenError::UnknownKey { .. }), "{error}");
    }

    #[test]
    fn an_older_key_still_opens() {
        let keyring = Keyring::from_bytes(&[8; 32]).and_older(&[7; 32]);
        assert_eq!(keyring.open("/here", &sealed("x")).unwrap().expose(), "x");
    }

    #[test]
    fn a_digest_is_found_again_and_shows_nothing() {
        let keyring = Keyring::from_bytes(&[7; 32]);
        let hashed = keyring.hash("an api key");
        assert!(keyring.digest_of(&hashed).is_some());
        assert!(!hashed.contains("api key"));
        assert_eq!(Keyring::from_bytes(&[8; 32]).digest_of(&hashed), None);
    }

    #[test]
    fn a_keyring_prints_no_key() {
        let printed = format!("{:?}", Keyring::from_bytes(&[7; 32]));
        assert!(!printed.contains("7, 7"), "{printed}");
    }
}
