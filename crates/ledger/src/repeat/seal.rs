//! Answers are stored sealed with a key that the request itself makes.
//!
//! So any node that is brought the request again can open its answer, and the store alone cannot.
//! Who reads the store and guesses a request without a key byte by byte can open its answer too.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use super::Name;

/// Seals an answer (AES-256-GCM under a random nonce, bound to its place). `None` where there is
/// no chance to be had.
pub(super) fn seal(name: &Name, mut answer: Vec<u8>) -> Option<Vec<u8>> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, &name.seal).ok()?;
    let nonce = key.seal_in_place_append_tag(Aad::from(name.id), &mut answer).ok()?;
    Some([nonce.as_ref().as_slice(), &answer].concat())
}

/// Opens it again; `None` where it was sealed for another request, or is damaged.
pub(super) fn open(name: &Name, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, &name.seal).ok()?;
    let mut rest = rest.to_vec();
    let length = key.open_in_place(nonce, Aad::from(name.id), &mut rest).ok()?.len();
    rest.truncate(length);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::{Name, open, seal};

    #[test]
    fn an_answer_opens_for_its_request_alone() {
        let name = Name { id: [1; 32], fingerprint: [2; 32], seal: [3; 32] };
        let sealed = seal(&name, b"secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(open(&name, &sealed).unwrap(), b"secret");
        for other in [Name { seal: [4; 32], ..name.clone() }, Name { id: [4; 32], ..name }] {
            assert_eq!(open(&other, &sealed), None);
        }
    }
}
