//! Where the store is: one server, the nodes of a cluster, or what Sentinels know.

use model::Secret;

/// A store, as its URL names it. Printing it shows no password.
///
/// * `redis://[user:password@]host[:port][,host…][/database]`: a server, or nodes of a Redis
///   Cluster. The first that has the organisation's slot as a master is used.
/// * `redis+sentinel://[user:password@]host[:port][,host…]/service[/database]`: the master that
///   these Sentinels name. The password is the server's; Sentinels are asked without one.
///
/// `rediss` and `rediss+sentinel` are the same over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(crate) hosts: Vec<Host>,
    /// The master's name at the Sentinels, if the hosts are Sentinels.
    pub(crate) service: Option<String>,
    pub(crate) is_tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret<String>>,
    pub(crate) database: i64,
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Why a text is no store's URL. Says nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "begins with none of `redis://`, `rediss://`, `redis+sentinel://`, `rediss+sentinel://`"
    )]
    Scheme,
    #[error("has a user or a password that is not percent-encoded UTF-8")]
    Credentials,
    #[error("names no host, or one that is not `host`, `host:port` or `[address]:port`")]
    Host,
    #[error("names no master: expected `/service` behind the Sentinels")]
    Service,
    #[error("has a path that is not the number of a database")]
    Database,
    #[error("has a query or a fragment, which mean nothing here")]
    Rest,
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (is_tls, is_sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(AddressError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(AddressError::Rest);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = credentials.map_or(Ok((None, None)), read_credentials)?;
        let default = if is_sentinel { SENTINEL_PORT } else { PORT };
        let hosts: Option<Vec<Host>> =
            hosts.split(',').map(|host| Host::read(host, default)).collect();
        let (service, database) = match (is_sentinel, path.split_once('/')) {
            (false, _) => (None, path),
            (true, Some((service, database))) => (Some(service), database),
            (true, None) => (Some(path), ""),
        };
        if service.is_some_and(str::is_empty) {
            return Err(AddressError::Service);
        }
        let database = if database.is_empty() { "0" } else { database };
        let database = database.parse::<u16>().map_err(|_| AddressError::Database)?;
        Ok(Self {
            hosts: hosts.ok_or(AddressError::Host)?,
            service: service.map(str::to_owned),
            is_tls,
            user,
            password,
            database: database.into(),
        })
    }
}

type Credentials = (Option<String>, Option<Secret<String>>);

fn read_credentials(text: &str) -> Result<Credentials, AddressError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let [user, password] = [user, password].map(|part| {
        let decoded = decoded(part).ok_or(AddressError::Credentials)?;
        Ok(Some(decoded).filter(|part| !part.is_empty()))
    });
    Ok((user?, password?.map(Secret::new)))
}

/// A text without its percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        bytes.extend(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

impl Host {
    /// Reads `host`, `host:port` or `[address]:port`.
    pub(crate) fn read(text: &str, default: u16) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, Some(port.strip_prefix(':')?)),
            None => match text.rsplit_once(':') {
                // More than one colon is an address of IPv6 and no port.
                Some((name, port)) if !name.contains(':') => (name, Some(port)),
                _ => (text, None),
            },
        };
        let port = port.map_or(Some(default), |port| port.parse().ok())?;
        let sound = !name.is_empty() && !name.contains(char::is_whitespace) && port > 0;
        sound.then(|| Self { name: name.to_owned(), port })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::{Address, AddressError};

    /// Hosts, user, password, service and database of a URL.
    fn check(text: &str, expected: (&str, &str, &str, &str, i64)) {
        let read: Address = text.parse().unwrap();
        let hosts: Vec<String> = read.hosts.iter().map(ToString::to_string).collect();
        let password = read.password.as_ref().map_or("", |secret| secret.expose());
        let found = (
            &*hosts.join(" "),
            read.user.as_deref().unwrap_or_default(),
            password,
            read.service.as_deref().unwrap_or_default(),
            read.database,
        );
        assert_eq!(found, expected, "{text}");
        assert_eq!(read.is_tls, text.starts_with("rediss"), "{text}");
    }

    #[test]
    fn a_server_a_cluster_and_sentinels_have_a_url() {
        check("redis://localhost", ("localhost:6379", "", "", "", 0));
        check("rediss://u:p%40%3a@a:1/3", ("a:1", "u", "p@:", "", 3));
        check("redis://:only@[::1]:7/", ("[::1]:7", "", "only", "", 0));
        check("redis://a,b:2,[::1]", ("a:6379 b:2 [::1]:6379", "", "", "", 0));
        check("redis+sentinel://s1,s2:5/main", ("s1:26379 s2:5", "", "", "main", 0));
        check("rediss+sentinel://:p@s/main/2", ("s:26379", "", "p", "main", 2));
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for (text, expected) in [
            ("localhost:6379", AddressError::Scheme),
            ("http://planted", AddressError::Scheme),
            ("redis://", AddressError::Host),
            ("redis://a:x", AddressError::Host),
            ("redis://a,,b", AddressError::Host),
            ("redis://u:%zz@a", AddressError::Credentials),
            ("redis://a/x", AddressError::Database),
            ("redis+sentinel://a", AddressError::Service),
            ("redis://u:planted@a?x=1", AddressError::Rest),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert_eq!(refused, expected, "{text}");
            assert!(!refused.to_string().contains("planted"));
        }
    }

    #[test]
    fn an_address_prints_no_password() {
        let read: Address = "redis://u:planted@a".parse().unwrap();
        assert!(!format!("{read:?}").contains("planted"));
    }
}
