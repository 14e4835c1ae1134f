//! Secrets in documents: sealed before they are stored, masked before they are shown.

use model::Entropy;
use serde_json::Value;

use crate::custody::{Custody, Seal, is_stored, place};
use crate::document::{examine, seals};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::keyring::{HASHED, Keyring, SEALED};
use crate::reference::is_reference;

/// What stands where a secret is not shown. Put back unchanged, it keeps the secret.
pub const MASK: &str = "********";

/// The document with its secrets sealed or digested for this key; references stay as they are.
///
/// `previous` is the resource as stored: a secret that is the mask, or is the same as before,
/// keeps its stored text.
///
/// # Errors
/// Every fault of the document, which can be judged by its secrets' own text here for the last
/// time; when the mask stands where no secret was, a sealed text is not of this place, or there
/// is no chance to be had.
pub fn seal(
    keyring: &Keyring,
    entropy: &dyn Entropy,
    key: &Key,
    mut value: Value,
    previous: Option<&Value>,
) -> Result<Value, Vec<Fault>> {
    let (mut faults, places) = examine(key.kind, Some(&key.id), &value);
    let sealer = Sealer { keyring, entropy, key, previous };
    for place in places {
        let Some(Value::String(text)) = value.pointer_mut(&place.pointer) else { continue };
        match sealer.kept(&place, text) {
            Ok(kept) => *text = kept,
            Err(message) => faults.push(Fault::new(place.pointer, message)),
        }
    }
    faults.sort();
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

/// What may be shown of a stored document: secrets become the mask, references stay visible.
#[must_use]
pub fn mask(kind: Kind, value: &Value) -> Value {
    let mut shown = value.clone();
    for place in seals(kind, value) {
        if let Some(Value::String(text)) = shown.pointer_mut(&place.pointer)
            && !is_reference(text)
        {
            MASK.clone_into(text);
        }
    }
    mask_texts(&mut shown);
    shown
}

/// Masks what is sealed or digested wherever it stands.
fn mask_texts(value: &mut Value) {
    match value {
        Value::String(text) if is_stored(text) => MASK.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(mask_texts),
        Value::Object(members) => members.values_mut().for_each(mask_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

struct Sealer<'a> {
    keyring: &'a Keyring,
    entropy: &'a dyn Entropy,
    key: &'a Key,
    previous: Option<&'a Value>,
}

impl Sealer<'_> {
    /// The text to store for a secret as it was sent.
    fn kept(&self, seal: &Seal, sent: &str) -> Result<String, String> {
        let Seal { pointer, custody } = seal;
        let before = self.previous.and_then(|value| value.pointer(pointer)?.as_str());
        if is_reference(sent) {
            return Ok(sent.to_owned());
        }
        if sent == MASK {
            return before.map(str::to_owned).ok_or_else(|| {
                String::from("is the mask, and there is no secret here that it could keep")
            });
        }
        match custody {
            Custody::Seal => self.sealed(&place(&self.key.path(), pointer), sent, before),
            Custody::Hash => self.hashed(sent),
            Custody::Plain => Ok(sent.to_owned()),
        }
    }

    fn sealed(&self, place: &str, sent: &str, before: Option<&str>) -> Result<String, String> {
        if sent.starts_with(SEALED) {
            return match self.keyring.open(place, sent) {
                Ok(_) => Ok(sent.to_owned()),
                Err(error) => Err(error.to_string()),
            };
        }
        if let Some(before) = before.filter(|text| self.keyring.is_current(text))
            && self.keyring.open(place, before).is_ok_and(|plain| plain.expose() == sent)
        {
            return Ok(before.to_owned());
        }
        self.keyring
            .seal(self.entropy, place, sent)
            .map_err(|error| format!("cannot be sealed: {error}"))
    }

    fn hashed(&self, sent: &str) -> Result<String, String> {
        if !sent.starts_with(HASHED) {
            return Ok(self.keyring.hash(sent));
        }
        if self.keyring.digest_of(sent).is_none() {
            return Err(String::from("is not a digest of this cluster; give the key itself"));
        }
        Ok(sent.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MASK, mask, seal};
    use crate::key::{Key, Kind};
    use crate::keyring::Keyring;
    use crate::keyring::tests::Counting;

    const SECRET: &str = "s3cr3t-of-alice";

    fn consumer(secret: &str) -> Value {
        json!({"username": "alice", "plugins": {
            "jwt-auth": {"key": "alice", "secret": secret},
            "key-auth": {"key": secret},
            "limit-req": {"rate": 1, "burst": 0, "key": "remote_addr", "redis_password": secret},
        }})
    }

    fn sealed(value: Value, previous: Option<&Value>) -> Value {
        let key = Key::new(Kind::Consumer, "alice");
        seal(&Keyring::from_bytes(&[7; 32]), &Counting::default(), &key, value, previous).unwrap()
    }

    #[test]
    fn nothing_of_a_secret_is_stored_or_shown() {
        let stored = sealed(consumer(SECRET), None);
        assert!(!stored.to_string().contains(SECRET), "{stored}");
        let shown = mask(Kind::Consumer, &stored);
        assert_eq!(shown, consumer(MASK));
        assert_eq!(mask(Kind::Consumer, &consumer(SECRET)), consumer(MASK));
    }

    #[test]
    fn the_mask_put_back_keeps_the_secret() {
        let stored = sealed(consumer(SECRET), None);
        assert_eq!(sealed(mask(Kind::Consumer, &stored), Some(&stored)), stored);
    }

    #[test]
    fn the_same_secret_again_keeps_its_text() {
        let stored = sealed(consumer(SECRET), None);
        assert_eq!(sealed(consumer(SECRET), Some(&stored)), stored);
        assert_ne!(sealed(consumer("another"), Some(&stored)), stored);
    }

    #[test]
    fn a_stored_document_is_sealed_already() {
        let stored = sealed(consumer(SECRET), None);
        assert_eq!(sealed(stored.clone(), None), stored);
    }

    /// A plugin that is off, with a secret in places that are not known for one.
    fn misread(secret: &str) -> Value {
        let off = json!({"disable": true});
        json!({"username": "alice", "plugins": {
            "jwt-auth": {"key": "alice", "private_key": secret, "_meta": off},
            "limit-req": {"rate": {"redis_password": secret}, "key": "uri", "_meta": off},
            "proxy-rewrite": {"headers": {"set": [{"Authorization": secret}]}, "_meta": off},
        }})
    }

    #[test]
    fn what_a_plugin_that_is_off_holds_in_a_wrong_place_is_kept_as_a_secret() {
        for secret in [SECRET, "(", "remote_addr"] {
            let stored = sealed(misread(secret), None);
            assert!(!stored.to_string().contains(&format!("\"{secret}\"")), "{stored}");
            assert_eq!(stored["plugins"]["limit-req"]["key"], "uri");
            let shown = mask(Kind::Consumer, &stored);
            assert_eq!(shown, misread(MASK));
            assert_eq!(sealed(shown, Some(&stored)), stored);
            assert_eq!(sealed(misread(secret), Some(&stored)), stored);
            assert_eq!(sealed(stored.clone(), None), stored);
        }
    }

    #[test]
    fn a_reference_stays_as_it_is_and_stays_visible() {
        let value = consumer("$env://ALICE");
        assert_eq!(sealed(value.clone(), None), value);
        assert_eq!(mask(Kind::Consumer, &value), value);
    }

    #[test]
    fn a_mask_over_nothing_and_a_seal_of_another_place_are_faults() {
        let key = Key::new(Kind::Consumer, "bob");
        let keyring = Keyring::from_bytes(&[7; 32]);
        let moved = sealed(consumer(SECRET), None);
        let mut value = moved;
        value["username"] = json!("bob");
        value["plugins"]["key-auth"]["key"] = json!(MASK);
        let faults = seal(&keyring, &Counting::default(), &key, value, None).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/plugins/jwt-auth/secret",
                "/plugins/key-auth/key",
                "/plugins/limit-req/redis_password"
            ]
        );
    }
}
