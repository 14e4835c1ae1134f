//! A member's place in its cluster, as its data directory keeps it: made once, by founding a
//! cluster or by joining one, while the node does not run.
//!
//! ```text
//! DIR/cluster/        the node's keys and certificates (see `tls/papers.rs`)
//!   place.json        its name and its address; for one that joined, the cluster and its number
//! ```
//!
//! `place.json` is written last: without it the directory is no member's, and the same deed may
//! be done again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{NodeName, Timestamp};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::ca::{Authority, CertificateError, Fingerprint, NodeKey, node_name};
use crate::directory::{Directory, write_whole};
use crate::grpc::{Application, JoinError, join};
use crate::record::{self, Unreadable};
use crate::tls::{NodeTls, Papers, PapersError, Passport, TlsError, names};
use crate::token::JoinToken;
use crate::{ClusterId, Error, Joined, Peer};

/// A data directory that is a member's.
#[derive(Clone, Debug)]
pub struct Home {
    pub name: NodeName,
    /// `host:port` at which its peers reach it.
    pub address: String,
    /// What the cluster gave it; `None` for a founder.
    pub joined: Option<Joined>,
    pub papers: Papers,
}

/// Who a node is to be.
#[derive(Clone, Debug)]
pub struct Sign {
    pub name: NodeName,
    /// `host:port` of its cluster listener, as others reach it.
    pub address: String,
    /// The certificate that operators have made for it; otherwise the cluster makes one.
    pub brought: Option<Passport>,
}

/// Why a directory did not become a member's, or cannot be used as one. Nothing was reset.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("{} is already that of the member {name}", dir.display())]
    Already { dir: PathBuf, name: NodeName },
    #[error("{} holds a document of its own; a node joins with a new data directory", dir.display())]
    HasDocument { dir: PathBuf },
    #[error("{} holds another cluster key than this cluster's", dir.display())]
    OtherKey { dir: PathBuf },
    #[error("`{address}` is not HOST:PORT")]
    Address { address: String },
    #[error("the node cannot be called so")]
    Name(#[source] CertificateError),
    #[error("the certificate is of another authority than the cluster's")]
    OtherAuthority,
    #[error("the certificate is not of a node called {name}")]
    OtherName { name: NodeName },
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} cannot be read: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("cannot make the cluster's certificates")]
    Certificate(#[source] CertificateError),
    #[error("the certificate cannot be used")]
    Tls(#[source] TlsError),
    #[error(transparent)]
    Papers(#[from] PapersError),
    #[error(transparent)]
    Data(#[from] Error),
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// `place.json`.
#[derive(Serialize, Deserialize)]
struct Place {
    name: String,
    address: String,
    joined: Option<PlaceJoined>,
}

#[derive(Serialize, Deserialize)]
struct PlaceJoined {
    /// 32 hexadecimal digits.
    cluster: String,
    node: u64,
}

impl Home {
    /// The place that a directory keeps; `None` when it is no member's.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, HomeError> {
        let path = place(dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(HomeError::Io { verb: "read", path, cause }),
        };
        let unreadable = |why: String| HomeError::Unreadable { path: path.clone(), why };
        let read = record::unpack::<Place>(&bytes);
        let Place { name, address, joined } =
            read.map_err(|cause: Unreadable| unreadable(cause.to_string()))?;
        let joined = joined.map(PlaceJoined::joined).transpose();
        let joined = joined.map_err(|why| unreadable(why.to_owned()))?;
        let name = node_name(&name).map_err(HomeError::Name)?;
        let papers = Papers::open(&dir.join(PAPERS))?;
        Ok(Some(Self { name, address, joined, papers }))
    }

    /// Makes the directory that of the first node of a cluster; the document in it stays.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn found(dir: &Path, sign: &Sign, now: Timestamp) -> Result<Self, HomeError> {
        let directory = Self::take(dir, sign)?;
        let papers = Papers::open(&dir.join(PAPERS))?;
        if let Some(brought) = &sign.brought {
            papers.bring(brought)?;
        } else {
            let authority = Authority::make(now).map_err(HomeError::Certificate)?;
            let passport = Passport::certified(&authority, &papers.node_key()?, &sign.name, now);
            papers.keep_authority(&authority.key())?;
            papers.keep(&passport.map_err(HomeError::Certificate)?)?;
        }
        let home = Self::of(sign, None, papers);
        home.write(dir)?;
        drop(directory);
        Ok(home)
    }

    /// Spends a token at a member, and makes the directory that of the node that joined. What was
    /// interrupted is done by the same token again.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub async fn join(
        dir: &Path,
        sign: &Sign,
        member: &str,
        token: &JoinToken,
    ) -> Result<(Self, Vec<Peer>), HomeError> {
        let directory = Self::take(dir, sign)?;
        if directory.store().exists() {
            return Err(HomeError::HasDocument { dir: dir.to_path_buf() });
        }
        let papers = Papers::open(&dir.join(PAPERS))?;
        // A join that was interrupted has written the papers before the key.
        let begun = papers.authorities()?.iter().any(|one| is_of(one, token));
        if directory.key().exists() && !begun {
            return Err(HomeError::OtherKey { dir: dir.to_path_buf() });
        }
        let (key, certificates) = match &sign.brought {
            Some(brought) if !brought.authorities.iter().any(|one| is_of(one, token)) => {
                return Err(HomeError::OtherAuthority);
            }
            Some(brought) => (brought_key(brought)?, brought.chain.as_slice()),
            None => (papers.node_key()?, [].as_slice()),
        };
        let (name, address) = (&sign.name, sign.address.as_str());
        let application = Application { token, name, address, key: &key, certificates };
        let grant = join(member, application, JOIN_WAIT).await?;
        if let (Some(authority), None) = (&grant.authority_key, &sign.brought) {
            papers.keep_authority(authority)?;
        }
        match (&sign.brought, &grant.passport) {
            (Some(brought), _) => papers.bring(brought)?,
            (None, Some(passport)) => papers.keep(passport)?,
            (None, None) => {}
        }
        if !directory.take_key(&grant.cluster_key)? {
            return Err(HomeError::OtherKey { dir: dir.to_path_buf() });
        }
        let joined = Joined { cluster: token.terms.cluster, node: grant.id };
        let home = Self::of(sign, Some(joined), papers);
        home.write(dir)?;
        Ok((home, grant.members))
    }

    /// Takes a directory that is no member's yet, and checks who it is to be.
    fn take(dir: &Path, sign: &Sign) -> Result<Directory, HomeError> {
        node_name(sign.name.as_str()).map_err(HomeError::Name)?;
        if !crate::grpc::is_address(&sign.address) {
            return Err(HomeError::Address { address: sign.address.clone() });
        }
        if let Some(brought) = &sign.brought {
            NodeTls::new(brought).map_err(HomeError::Tls)?;
            if !brought.chain.first().is_some_and(|own| names(own, sign.name.as_str())) {
                return Err(HomeError::OtherName { name: sign.name.clone() });
            }
        }
        let directory = Directory::take(dir)?;
        match Self::read(dir)? {
            Some(home) => Err(HomeError::Already { dir: dir.to_path_buf(), name: home.name }),
            None => Ok(directory),
        }
    }

    fn of(sign: &Sign, joined: Option<Joined>, papers: Papers) -> Self {
        Self { name: sign.name.clone(), address: sign.address.clone(), joined, papers }
    }

    /// Keeps another address: the cluster knows the node by it now.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays.
    pub fn moved(&self, dir: &Path, address: &str) -> Result<(), HomeError> {
        Self { address: address.to_owned(), ..self.clone() }.write(dir)
    }

    fn write(&self, dir: &Path) -> Result<(), HomeError> {
        let joined = self
            .joined
            .map(|joined| PlaceJoined { cluster: joined.cluster.to_string(), node: joined.node });
        let written = Place { name: self.name.to_string(), address: self.address.clone(), joined };
        let path = place(dir);
        write_whole(&path, &record::pack(&written)).map_err(|cause| HomeError::Io {
            verb: "write",
            path,
            cause,
        })
    }
}

impl PlaceJoined {
    fn joined(self) -> Result<Joined, &'static str> {
        let mut cluster = [0; 16];
        hex::decode_to_slice(&self.cluster, &mut cluster).map_err(|_| "it names no cluster")?;
        Ok(Joined { cluster: ClusterId(cluster), node: self.node })
    }
}

fn is_of(authority: &CertificateDer<'_>, token: &JoinToken) -> bool {
    Fingerprint::of(authority) == token.terms.authority
}

fn brought_key(brought: &Passport) -> Result<NodeKey, HomeError> {
    NodeKey::from_der(brought.key.secret_der()).map_err(HomeError::Certificate)
}

fn place(dir: &Path) -> PathBuf {
    dir.join(PAPERS).join("place.json")
}

/// In the data directory.
const PAPERS: &str = "cluster";

/// For a member to let a node in; an election may come in between.
const JOIN_WAIT: Duration = Duration::from_secs(40);

#[cfg(test)]
mod tests {
    use model::{Clock as _, NodeName, SystemClock};

    use super::{Home, HomeError, Sign};

    fn sign(name: &str, address: &str) -> Sign {
        let (name, address) = (NodeName::new(name), address.to_owned());
        Sign { name, address, brought: None }
    }

    #[test]
    fn a_place_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock::start().now();
        assert!(Home::read(dir.path()).unwrap().is_none());
        Home::found(dir.path(), &sign("a", "a.example:9480"), now).unwrap();
        let home = Home::read(dir.path()).unwrap().unwrap();
        assert_eq!((home.name.as_str(), &*home.address), ("a", "a.example:9480"));
        assert!(home.papers.passport().unwrap().is_some());
        let again = Home::found(dir.path(), &sign("b", "b.example:9480"), now).unwrap_err();
        assert!(matches!(again, HomeError::Already { .. }), "{again}");
    }

    #[test]
    fn a_node_that_cannot_be_called_is_not_made() {
        let now = SystemClock::start().now();
        for (name, address) in [("a", "a.example"), ("a", ":9480"), ("A", "a:1"), ("a b", "a:1")] {
            let dir = tempfile::tempdir().unwrap();
            Home::found(dir.path(), &sign(name, address), now).unwrap_err();
            assert!(Home::read(dir.path()).unwrap().is_none(), "{name} {address}");
        }
    }

    #[test]
    fn a_place_of_a_newer_release_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cluster")).unwrap();
        let text = r#"{"v":2,"d":{"name":"a"}}"#;
        std::fs::write(dir.path().join("cluster/place.json"), text).unwrap();
        let refused = Home::read(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("version 2") && refused.contains("place.json"), "{refused}");
    }
}
