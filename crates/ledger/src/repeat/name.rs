//! What a request that may be repeated is known by: digests of it, so that nothing of it is kept.

use aws_lc_rs::digest::{Context, SHA256};

/// A request as far as its repeats are alike.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub agent: &'a str,
    /// Its `Idempotency-Key`, if it has one.
    pub key: Option<&'a str>,
    pub method: &'a str,
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub body: &'a [u8],
    /// The boundary of a `multipart` body, which clients choose anew for each try.
    pub boundary: Option<&'a str>,
}

/// The digests of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    /// Where it is remembered: under its agent and key, or under the whole of it.
    pub(crate) id: [u8; 32],
    /// All of it: another under the same key is another request.
    pub(crate) fingerprint: [u8; 32],
    /// What its answer is sealed with. It is stored nowhere: who brings the request can open it.
    pub(crate) seal: [u8; 32],
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Name").field(&hex::encode(self.id)).finish()
    }
}

impl Name {
    /// The name of a request.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let Request { agent, key, method, host, target, body, boundary } = *request;
        let mut whole = Context::new(&SHA256);
        for part in [agent, key.unwrap_or_default(), method, host, target] {
            add(&mut whole, part.as_bytes());
        }
        whole.update(&[u8::from(key.is_some())]);
        add_body(&mut whole, body, boundary.unwrap_or_default().as_bytes());
        let whole: [u8; 32] = finish(whole);
        let labelled = |label: &str, parts: &[&[u8]]| {
            let mut digest = Context::new(&SHA256);
            add(&mut digest, label.as_bytes());
            parts.iter().for_each(|part| add(&mut digest, part));
            finish(digest)
        };
        let id = key.map_or_else(
            || labelled("tollgate repeat whole", &[&whole]),
            |key| labelled("tollgate repeat key", &[agent.as_bytes(), key.as_bytes()]),
        );
        Self {
            id,
            fingerprint: labelled("tollgate repeat fingerprint", &[&whole]),
            seal: labelled("tollgate repeat seal", &[&whole]),
        }
    }
}

/// Adds a part behind its length, so that two lists of parts never read alike.
fn add(digest: &mut Context, part: &[u8]) {
    digest.update(&(part.len() as u64).to_le_bytes());
    digest.update(part);
}

/// Adds a body with a mark for each place where the boundary stands.
fn add_body(digest: &mut Context, body: &[u8], boundary: &[u8]) {
    let mut rest = body;
    while let Some(at) = find(rest, boundary) {
        add(digest, rest.get(..at).unwrap_or_default());
        digest.update(b"boundary");
        rest = rest.get(at + boundary.len()..).unwrap_or_default();
    }
    add(digest, rest);
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn finish(digest: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    // SHA-256 has as many bytes.
    bytes.iter_mut().zip(digest.finish().as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Name, Request};

    const PLAIN: Request<'_> = Request {
        agent: "alice",
        key: None,
        method: "POST",
        host: "api.example",
        target: "/a?b",
        body: b"body",
        boundary: None,
    };

    #[test]
    fn without_a_key_any_difference_makes_another_request() {
        let others = [
            Request { agent: "bob", ..PLAIN },
            Request { method: "PUT", ..PLAIN },
            Request { host: "other.example", ..PLAIN },
            Request { target: "/a?", ..PLAIN },
            Request { body: b"bodies", ..PLAIN },
            Request { key: Some(""), ..PLAIN },
            // The same letters, split otherwise.
            Request { agent: "aliceP", method: "OST", ..PLAIN },
        ];
        for other in others {
            assert_ne!(Name::of(&other).id, Name::of(&PLAIN).id, "{other:?}");
        }
    }

    #[test]
    fn a_key_finds_its_request_and_the_fingerprint_tells_another() {
        let keyed = Request { key: Some("k"), ..PLAIN };
        let other = Request { body: b"other", ..keyed };
        assert_eq!(Name::of(&keyed).id, Name::of(&other).id);
        assert_ne!(Name::of(&keyed).fingerprint, Name::of(&other).fingerprint);
        assert_ne!(Name::of(&keyed).id, Name::of(&Request { agent: "bob", ..keyed }).id);
    }

    #[test]
    fn the_boundary_of_a_body_makes_no_difference() {
        let form = |boundary: &'static str, text: &str| {
            let body = format!("--{boundary}\r\n\r\n{text}\r\n--{boundary}--\r\n");
            Name::of(&Request { body: body.as_bytes(), boundary: Some(boundary), ..PLAIN })
        };
        assert_eq!(form("one", "x"), form("another", "x"));
        assert_ne!(form("one", "x"), form("one", "y"));
    }
}
