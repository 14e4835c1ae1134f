//! A node's keys and certificates on disk.
//!
//! ```text
//! DIR/               0700 when we make it
//!   node.key         0600, the node's own key; made once, before anybody is asked to certify it
//!   node.pem         0600, its certificate and what leads to the authority; replaced at renewal
//!   authority.pem    0600, whose certificates this node takes
//!   authority.key    0600, signs; only where the authority is the cluster's own
//! ```
//!
//! Each file is written whole under another name first, so that a crash leaves the old or the new.
//! All of them are PEM (RFC 7468), keys as PKCS #8.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{NodeName, Secret, Timestamp};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{NodeTls, Passport, TlsError};
use crate::ca::{Authority, CertificateError, NodeKey, is_due};
use crate::directory::{remove_if_there, write_whole};

/// The directory with a node's keys and certificates.
#[derive(Clone, Debug)]
pub struct Papers {
    dir: PathBuf,
}

/// Why a node's keys or certificates cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PapersError {
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("private key {} must be readable by its owner only (mode 0600)", path.display())]
    Exposed { path: PathBuf },
    #[error("{} does not hold {what} in PEM", path.display())]
    Malformed { path: PathBuf, what: &'static str },
    #[error("cannot use {}", path.display())]
    Unfit {
        path: PathBuf,
        #[source]
        cause: CertificateError,
    },
    #[error("cannot use the renewed certificate")]
    Renewed(#[source] TlsError),
}

impl Papers {
    /// The papers in this directory, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, PapersError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(io("make directory", dir))?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// The node's key; made and durable when this returns, so that a join can be repeated with it.
    ///
    /// # Errors
    /// When the file can be read by others, is damaged, or cannot be written.
    pub fn node_key(&self) -> Result<NodeKey, PapersError> {
        let path = self.path(NODE_KEY);
        let unfit = |cause| PapersError::Unfit { path: path.clone(), cause };
        if let Some(der) = self.key(NODE_KEY)? {
            return NodeKey::from_der(der.expose()).map_err(unfit);
        }
        let key = NodeKey::generate().map_err(unfit)?;
        self.write(NODE_KEY, &pem(PRIVATE_KEY, key.der().expose()))?;
        Ok(key)
    }

    /// Keeps what the node shows and whom it trusts. The key is kept already.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, passport: &Passport) -> Result<(), PapersError> {
        self.write(AUTHORITY, &pems(&passport.authorities))?;
        self.write(NODE, &pems(&passport.chain))
    }

    /// Whose certificates the node takes; none while it is no member.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, PapersError> {
        Ok(self.certificates(AUTHORITY)?.unwrap_or_default())
    }

    /// Keeps a passport that operators have made, its key too.
    ///
    /// # Errors
    /// When the key is not in PKCS #8, or a file cannot be written.
    pub fn bring(&self, passport: &Passport) -> Result<(), PapersError> {
        let PrivateKeyDer::Pkcs8(key) = &passport.key else {
            return Err(PapersError::Malformed { path: self.path(NODE_KEY), what: PKCS8 });
        };
        let key = Secret::new(key.secret_pkcs8_der().to_vec());
        // Of an attempt without a certificate; it certifies nothing here.
        let path = self.path(AUTHORITY_KEY);
        remove_if_there(&path).map_err(io("remove", &path))?;
        self.write(NODE_KEY, &pem(PRIVATE_KEY, key.expose()))?;
        self.keep(passport)
    }

    /// Keeps the key of the cluster's own authority.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_authority(&self, key: &Secret<Vec<u8>>) -> Result<(), PapersError> {
        self.write(AUTHORITY_KEY, &pem(PRIVATE_KEY, key.expose()))
    }

    /// What the node shows; `None` while it is no member.
    ///
    /// # Errors
    /// When a file is damaged or can be read by others.
    pub fn passport(&self) -> Result<Option<Passport>, PapersError> {
        let Some(chain) = self.certificates(NODE)? else { return Ok(None) };
        let missing = |name, what| PapersError::Malformed { path: self.path(name), what };
        let authorities = self.certificates(AUTHORITY)?;
        let authorities = authorities.ok_or_else(|| missing(AUTHORITY, CERTIFICATES))?;
        // A certificate without its key is damage: a new key would only hide it.
        let key = self.key(NODE_KEY)?.ok_or_else(|| missing(NODE_KEY, KEY))?;
        let key = PrivatePkcs8KeyDer::from(key.expose().clone()).into();
        Ok(Some(Passport { chain, key, authorities }))
    }

    /// The cluster's own authority; `None` where operators certify nodes themselves.
    ///
    /// # Errors
    /// When a file is damaged or can be read by others, or the key is another's.
    pub fn authority(&self) -> Result<Option<Authority>, PapersError> {
        let Some(key) = self.key(AUTHORITY_KEY)? else { return Ok(None) };
        let path = self.path(AUTHORITY);
        let first = self.certificates(AUTHORITY)?.and_then(|all| all.into_iter().next());
        let malformed = || PapersError::Malformed { path: path.clone(), what: CERTIFICATES };
        let certificate = first.ok_or_else(malformed)?;
        let loaded = Authority::load(certificate, &key);
        loaded.map(Some).map_err(|cause| PapersError::Unfit { path, cause })
    }

    /// Renews the node's certificate when it is due and the authority is at hand; says whether it
    /// did. Connections to come show the new one.
    ///
    /// # Errors
    /// As [`Papers::passport`] and [`Papers::authority`]; the old certificate stays in use.
    pub fn renew(
        &self,
        tls: &NodeTls,
        node: &NodeName,
        now: Timestamp,
    ) -> Result<bool, PapersError> {
        let unfit = |cause| PapersError::Unfit { path: self.path(NODE), cause };
        let Some(old) = self.passport()? else { return Ok(false) };
        let due = old.chain.first().map(|own| is_due(own, now)).transpose().map_err(unfit)?;
        let (Some(true), Some(authority)) = (due, self.authority()?) else { return Ok(false) };
        let key = self.node_key()?;
        let fresh = Passport::certified(&authority, &key, node, now).map_err(unfit)?;
        let fresh = Passport { authorities: old.authorities, ..fresh };
        tls.replace(&fresh).map_err(PapersError::Renewed)?;
        self.keep(&fresh)?;
        Ok(true)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A private key as PKCS #8 in DER; `None` when there is none.
    fn key(&self, name: &str) -> Result<Option<Secret<Vec<u8>>>, PapersError> {
        let path = self.path(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        let mode = std::fs::metadata(&path).map_err(io("read", &path))?.permissions().mode();
        // As for the cluster's key: a group may read, since Kubernetes mounts files so.
        if mode & 0o027 != 0 {
            return Err(PapersError::Exposed { path });
        }
        match PrivatePkcs8KeyDer::from_pem_slice(text.expose()) {
            Ok(key) => Ok(Some(Secret::new(key.secret_pkcs8_der().to_vec()))),
            Err(_) => Err(PapersError::Malformed { path, what: KEY }),
        }
    }

    /// `None` when there is no such file; never an empty list.
    fn certificates(
        &self,
        name: &str,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, PapersError> {
        let path = self.path(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.expose()).collect();
        match all {
            Ok(all) if !all.is_empty() => Ok(Some(all)),
            Ok(_) | Err(_) => Err(PapersError::Malformed { path, what: CERTIFICATES }),
        }
    }

    fn write(&self, name: &str, text: &Secret<String>) -> Result<(), PapersError> {
        let path = self.path(name);
        write_whole(&path, text.expose().as_bytes()).map_err(io("write", &path))
    }
}

fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PapersError {
    let path = path.to_path_buf();
    move |cause| PapersError::Io { verb, path, cause }
}

fn read(path: &Path) -> Result<Option<Secret<Vec<u8>>>, PapersError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(io("read", path)(cause)),
    }
}

/// A block as RFC 7468 writes it: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> Secret<String> {
    let body = Secret::new(STANDARD.encode(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.expose().as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    Secret::new(text)
}

fn pems(certificates: &[CertificateDer<'_>]) -> Secret<String> {
    let all = certificates.iter().map(|der| pem("CERTIFICATE", der).expose().clone());
    Secret::new(all.collect())
}

const NODE_KEY: &str = "node.key";
const NODE: &str = "node.pem";
const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority.key";

const PRIVATE_KEY: &str = "PRIVATE KEY";
const CERTIFICATES: &str = "certificates";
/// `openssl pkcs8 -topk8 -nocrypt` turns other forms into it.
const PKCS8: &str = "a private key in PKCS #8";
const KEY: &str = "a private key";

#[cfg(test)]
mod tests;
