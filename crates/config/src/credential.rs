//! Real credentials that a node keeps for hosts, so that a route need not name one.

use std::str::FromStr;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use model::Secret;
use rules::upstream::{Credential, HostCredential as Bound};

use crate::compile::Resolve;
use crate::reference::{Reference, Vaults, Written};

/// The credential of one `host:port`, as a node's settings name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCredential {
    /// Lower case.
    host: Arc<str>,
    port: u16,
    written: Arc<str>,
    reference: Reference,
}

impl FromStr for HostCredential {
    type Err = String;

    /// Reads `HOST[:PORT]=REFERENCE`; the port is 443 unless given. A vault's settings belong to
    /// the document, so only variables and files can be named here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            |why: &str| format!("`{text}` is not HOST[:PORT]=REFERENCE, such as {EXAMPLE}: {why}");
        let Some((place, written)) = text.split_once('=') else {
            // What stands here may be a secret, so it is not repeated.
            return Err(format!("expected HOST[:PORT]=REFERENCE, such as {EXAMPLE}"));
        };
        let Some(reference) = parse(written) else {
            return Err(format!(
                "the credential of `{place}` is not a reference: expected `$env://NAME` or \
                 `$secret://file/PATH`"
            ));
        };
        let authority: http::uri::Authority =
            place.parse().map_err(|_| wrong("it names no host"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = match (authority.port(), authority.as_str().ends_with(']')) {
            (Some(port), _) => port.as_u16(),
            (None, _) if authority.as_str() == authority.host() => HTTPS,
            (None, _) => return Err(wrong("its port is not a number up to 65535")),
        };
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        Ok(Self { host: Arc::from(host), port, written: Arc::from(written), reference })
    }
}

fn parse(written: &str) -> Option<Reference> {
    Written::parse(written).ok()?.join(&Vaults::default()).ok()
}

impl HostCredential {
    /// Where the secret is.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The credential as this node can send it now.
    #[must_use]
    pub fn open(&self, secrets: &Resolve<'_>) -> Bound {
        let ready = secrets(&self.reference)
            .ok()
            .and_then(|secret| field_with(&AUTHORIZATION, BEARER, &secret));
        let reference = Arc::clone(&self.written);
        Bound {
            host: Arc::clone(&self.host),
            port: self.port,
            credential: ready.unwrap_or(Credential::Unresolved { reference }),
        }
    }
}

/// A credential that is sent as one field; `None` when no field can hold it.
pub(crate) fn field_with(
    header: &HeaderName,
    prefix: &str,
    secret: &Secret<String>,
) -> Option<Credential> {
    let whole = Secret::new(format!("{prefix}{}", secret.expose()));
    let mut value = HeaderValue::from_str(whole.expose()).ok()?;
    value.set_sensitive(true);
    Some(Credential::Ready { header: header.clone(), value })
}

/// What stands before a token in `Authorization` (RFC 6750 §2.1).
pub(crate) const BEARER: &str = "Bearer ";

const HTTPS: u16 = 443;
const EXAMPLE: &str = "api.cloudflare.com=$env://CLOUDFLARE_API_TOKEN";

#[cfg(test)]
mod tests {
    use super::HostCredential;

    /// Reads a setting: host and port, or a part of the fault.
    fn check(text: &str, expected: Result<(&str, u16), &str>) {
        match (text.parse::<HostCredential>(), expected) {
            (Ok(read), Ok((host, port))) => {
                assert_eq!((&*read.host, read.port), (host, port), "{text}");
            }
            (Err(fault), Err(part)) => assert!(fault.contains(part), "{text}: {fault}"),
            (read, _) => panic!("{text}: {read:?}"),
        }
    }

    #[test]
    fn a_host_has_the_port_of_https_unless_it_names_one() {
        check("API.Cloudflare.com=$env://TOKEN", Ok(("api.cloudflare.com", 443)));
        check("api.example:8443=$secret://file/run/token", Ok(("api.example", 8443)));
        check("[::1]:8443=$env://TOKEN", Ok(("::1", 8443)));
        check("[::1]=$env://TOKEN", Ok(("::1", 443)));
    }

    #[test]
    fn what_is_no_reference_is_refused_and_not_repeated() {
        check("api.example=planted", Err("`api.example` is not a reference"));
        check("planted", Err("expected HOST[:PORT]=REFERENCE"));
        for text in ["api.example=planted", "planted"] {
            assert!(!text.parse::<HostCredential>().unwrap_err().contains("planted"));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        check("=$env://TOKEN", Err("no host"));
        check("user@host=$env://TOKEN", Err("no host"));
        check("host:99999=$env://TOKEN", Err("port"));
        check("a/b=$env://TOKEN", Err("no host"));
    }
}
