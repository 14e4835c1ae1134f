//! Who may use the operators' door: keys, roles, and where a key may stand in a request.

use std::io;

use aws_lc_rs::digest;
use http::{HeaderMap, Method, header};
use model::{Entropy, Secret};
use subtle::ConstantTimeEq as _;

use crate::envelope::Failure;
use crate::query::Query;

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// `GET` and `HEAD`.
    Viewer,
}

impl Role {
    /// The name in settings and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }

    const fn allows(self, method: &Method) -> bool {
        match self {
            Self::Admin => true,
            Self::Viewer => matches!(*method, Method::GET | Method::HEAD),
        }
    }
}

/// The keys that open the door; of each only the digest is kept.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: Vec<Holder>,
}

/// Who holds a key.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) role: Role,
    digest: [u8; DIGEST_BYTES],
}

/// Why a key cannot be used. Holds nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("an admin key is shorter than {KEY_CHARS_MIN} characters")]
    Short,
    #[error("an admin key starts with sha256: but is not followed by 64 hexadecimal digits")]
    Digest,
    #[error("there are more than {KEYS_MAX} admin keys")]
    Many,
}

impl KeyRing {
    /// Adds a key, either as it is or as `sha256:` and the hexadecimal SHA-256 of it.
    ///
    /// # Errors
    /// When the key is too short to be a secret, the digest is malformed, or there are too many.
    pub fn add(&mut self, name: &str, role: Role, key: &Secret<String>) -> Result<(), KeyError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyError::Many);
        }
        let digest = match key.expose().strip_prefix(DIGEST_PREFIX) {
            Some(digits) => {
                let mut digest = [0; DIGEST_BYTES];
                hex::decode_to_slice(digits, &mut digest).map_err(|_| KeyError::Digest)?;
                digest
            }
            None if key.expose().chars().count() < KEY_CHARS_MIN => return Err(KeyError::Short),
            None => sha256(key.expose().as_bytes()),
        };
        self.keys.push(Holder { name: name.to_owned(), role, digest });
        Ok(())
    }

    /// Draws a key for a door that has none. The text is shown to its owner once; what may be
    /// kept is the `sha256:…` form of it, which [`KeyRing::add`] takes.
    ///
    /// # Errors
    /// When there is no chance to be had.
    pub fn generate(entropy: &dyn Entropy) -> io::Result<(Secret<String>, String)> {
        let mut drawn = [0_u8; GENERATED_BYTES];
        entropy.fill(&mut drawn)?;
        let key = Secret::new(hex::encode(Secret::new(drawn).expose()));
        let kept = format!("{DIGEST_PREFIX}{}", hex::encode(sha256(key.expose().as_bytes())));
        Ok((key, kept))
    }

    /// Whether nobody has a key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The holder of a key. Looks at every key for the same time, whichever it is.
    fn holder(&self, given: &[u8]) -> Option<&Holder> {
        let digest = sha256(given);
        let mut found = None;
        for holder in &self.keys {
            if bool::from(holder.digest.ct_eq(&digest)) {
                found = Some(holder);
            }
        }
        found
    }
}

/// Who asks, or the answer that sends them away.
pub(crate) fn identify<'k>(
    keys: &'k KeyRing,
    method: &Method,
    headers: &HeaderMap,
    query: &Query,
) -> Result<&'k Holder, Failure> {
    let key = given(headers, query).ok_or(Failure::Unauthorised("missing apikey"))?;
    let holder = keys.holder(key).ok_or(Failure::Unauthorised(WRONG_KEY))?;
    if !holder.role.allows(method) {
        return Err(Failure::Unauthorised("invalid method for role viewer"));
    }
    Ok(holder)
}

/// What a wrong key is told; only these failures are guesses, and count as such.
pub(crate) const WRONG_KEY: &str = "wrong apikey";

/// The key of a request: the first place that holds one counts, in APISIX's order, then ours.
fn given<'r>(headers: &'r HeaderMap, query: &'r Query) -> Option<&'r [u8]> {
    if let Some(key) = query.first("api_key") {
        return Some(key.as_bytes());
    }
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes());
    }
    if let Some(key) = cookie(headers) {
        return Some(key.as_bytes());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then_some(key.trim_ascii())
}

/// The key in the cookie `x_api_key`, unless another site may have caused the request.
///
/// A browser adds cookies by itself, also to requests that a foreign page makes, and our answers
/// carry `Access-Control-Allow-Origin: *` as APISIX's do. The other places need a page that knows
/// the key, which is also why a rebound host name gains nothing: no browser sends our cookie to it.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    if !is_own_page(headers) {
        return None;
    }
    let cookies = headers.get_all(header::COOKIE).into_iter();
    cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == "x_api_key").then_some(value))
}

/// Whether the browser says that the page that asks is our own, or there is no browser.
pub(crate) fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &http::HeaderValue| value.to_str().ok());
    let own_site = match text(header::HeaderName::from_static("sec-fetch-site")) {
        None => true,
        Some(site) => matches!(site, Some("same-origin" | "none")),
    };
    let own_origin = match text(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let authority = origin.and_then(|origin| origin.split_once("://")).map(|(_, it)| it);
            authority.is_some() && authority == host
        }
    };
    own_site && own_origin
}

fn sha256(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut digest = [0; DIGEST_BYTES];
    let computed = digest::digest(&digest::SHA256, bytes);
    digest.iter_mut().zip(computed.as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

const BEARER: &[u8] = b"bearer ";
const DIGEST_PREFIX: &str = "sha256:";
const DIGEST_BYTES: usize = 32;

/// 192 bits: nobody guesses it, online or from its digest.
const GENERATED_BYTES: usize = 24;

/// A shorter key could be guessed, online or from its digest.
const KEY_CHARS_MIN: usize = 8;

/// Every key is compared at each request.
const KEYS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
    use model::{Secret, SystemEntropy};

    use super::{KeyError, KeyRing, Role, identify};
    use crate::query::Query;

    const ADMIN: &str = "planted-admin-key-1";
    const VIEWER: &str = "planted-viewer-key-1";

    fn ring() -> KeyRing {
        let mut ring = KeyRing::default();
        ring.add("ops", Role::Admin, &Secret::new(ADMIN.to_owned())).unwrap();
        ring.add("eyes", Role::Viewer, &Secret::new(VIEWER.to_owned())).unwrap();
        ring
    }

    fn check(method: &Method, uri: &str, headers: &[(&str, &str)], expected: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let query = Query::parse(&uri.parse::<Uri>().unwrap()).unwrap();
        let ring = ring();
        let found = match identify(&ring, method, &map, &query) {
            Ok(holder) => holder.name.clone(),
            Err(failure) => failure.message().to_owned(),
        };
        assert_eq!(found, expected, "{method} {uri} {headers:?}");
    }

    #[test]
    fn a_key_may_stand_in_four_places() {
        check(&Method::GET, &format!("/?api_key={ADMIN}"), &[], "ops");
        check(&Method::GET, "/", &[("x-api-key", ADMIN)], "ops");
        check(&Method::GET, "/", &[("cookie", &format!("a=b; x_api_key={ADMIN}"))], "ops");
        check(&Method::GET, "/", &[("authorization", &format!("Bearer {ADMIN}"))], "ops");
    }

    #[test]
    fn the_first_place_counts() {
        check(&Method::GET, "/?api_key=x", &[("x-api-key", ADMIN)], "wrong apikey");
    }

    #[test]
    fn no_key_and_a_wrong_key_are_told_apart() {
        check(&Method::GET, "/", &[], "missing apikey");
        check(&Method::GET, "/", &[("x-api-key", "planted-admin-key-2")], "wrong apikey");
        check(&Method::GET, "/", &[("x-api-key", "")], "wrong apikey");
    }

    #[test]
    fn a_viewer_only_reads() {
        check(&Method::GET, "/", &[("x-api-key", VIEWER)], "eyes");
        check(&Method::HEAD, "/", &[("x-api-key", VIEWER)], "eyes");
        for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            let refused = "invalid method for role viewer";
            check(&method, "/?dry_run=true", &[("x-api-key", VIEWER)], refused);
        }
    }

    #[test]
    fn a_cookie_that_another_site_may_have_sent_is_no_key() {
        let cookie = ("cookie", &*format!("x_api_key={ADMIN}"));
        let refused = "missing apikey";
        check(&Method::PUT, "/", &[cookie, ("origin", "https://evil.example")], refused);
        check(&Method::PUT, "/", &[cookie, ("origin", "null")], refused);
        check(&Method::GET, "/", &[cookie, ("sec-fetch-site", "cross-site")], refused);
        check(&Method::GET, "/", &[cookie, ("sec-fetch-site", "same-site")], refused);
        let own = [cookie, ("origin", "http://gate:9180"), ("host", "gate:9180")];
        check(&Method::PUT, "/", &own, "ops");
    }

    #[test]
    fn a_key_may_be_given_as_its_digest() {
        let (key, kept) = KeyRing::generate(&SystemEntropy).unwrap();
        let mut ring = KeyRing::default();
        ring.add("made", Role::Admin, &Secret::new(kept.clone())).unwrap();
        assert_eq!(ring.holder(key.expose().as_bytes()).unwrap().name, "made");
        assert!(ring.holder(kept.as_bytes()).is_none());
        assert!(!format!("{ring:?} {kept}").contains(key.expose()));
    }

    #[test]
    fn what_is_no_secret_is_no_key() {
        let mut ring = KeyRing::default();
        let mut add = |key: &str| ring.add("x", Role::Admin, &Secret::new(key.to_owned()));
        assert_eq!(add("short"), Err(KeyError::Short));
        assert_eq!(add(""), Err(KeyError::Short));
        assert_eq!(add("sha256:abcd"), Err(KeyError::Digest));
        assert_eq!(add("exactly-16-chars"), Ok(()));
    }
}
