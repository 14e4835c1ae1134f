//! Certificates and roots from files; a certificate of the node's own where there is none.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

use crate::settings::Certificate;

/// A chain with its key.
pub(crate) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads a certificate chain and its key.
pub(crate) fn pair(files: &Certificate) -> Result<Pair> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read a private key from {}", files.key.display()))?;
    Ok((chain, key))
}

/// The node's own certificate, made at the first start: good for trying, not for agents that
/// verify.
pub(crate) fn own_pair(data: &Path) -> Result<Pair> {
    let directory = data.join("tls");
    let files = Certificate { cert: directory.join("cert.pem"), key: directory.join("key.pem") };
    if !files.cert.exists() {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .context("cannot make a certificate")?;
        write_private(&files.key, made.signing_key.serialize_pem().as_bytes())?;
        write_private(&files.cert, made.cert.pem().as_bytes())?;
        tracing::warn!(cert = %files.cert.display(), "no certificate is set: made one of our own");
    }
    pair(&files)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A server configuration for the operators' door.
pub(crate) fn server(files: &Certificate) -> Result<Arc<ServerConfig>> {
    let (chain, key) = pair(files)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.context("the key does not fit the certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The operating system's roots, and those of a file.
pub(crate) fn roots(further: Option<&Path>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a root of the operating system cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = further {
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.with_context(|| format!("{} holds what is no root", path.display()))?;
        }
    }
    Ok(Arc::new(roots))
}

/// Reads certificates; there is one at least.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain =
        read.with_context(|| format!("cannot read certificates from {}", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate", path.display());
    Ok(chain)
}
