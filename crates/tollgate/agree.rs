//! How a node comes to its document: alone, or among others.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cluster::grpc::{Station, open_member};
use cluster::{Handle, Task};
use model::{Clock, Entropy, NodeName};
use rustls::RootCertStore;
use tokio::net::TcpListener;

use crate::serve::variable;
use crate::settings::Settings;

/// What runs behind the document.
#[derive(Debug)]
pub(crate) enum Agreement {
    Alone(Task),
    Among(Station),
}

/// The listener for peers, where there are any.
pub(crate) type Peers = Option<(TcpListener, SocketAddr)>;

/// Opens the document, and with it the way to the peers.
pub(crate) async fn open(
    settings: &Settings,
    peers: Peers,
    roots: &Arc<RootCertStore>,
    (clock, entropy): (&Arc<dyn Clock>, &Arc<dyn Entropy>),
) -> Result<(Handle, Agreement)> {
    let data = &settings.data;
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let client = rustls::ClientConfig::builder().with_root_certificates(Arc::clone(roots));
    let options = cluster::Options {
        dir: data.clone(),
        node: NodeName::new(&settings.node),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        environment: Arc::new(variable),
        vault_tls: Arc::new(client.with_no_client_auth()),
        credentials: settings.credentials.clone(),
    };
    if let (Some(member), Some((socket, _))) = (&settings.member, peers) {
        let opened = open_member(options, &member.home, &member.address, socket).await?;
        return Ok((opened.0, Agreement::Among(opened.1)));
    }
    let (handle, task) = cluster::open(options).await?;
    Ok((handle, Agreement::Alone(task)))
}

impl Agreement {
    /// Uses the certificates that lie in the data directory now; says whether there are any.
    pub(crate) fn reload(&self) -> Option<Result<()>> {
        match self {
            Self::Alone(_) => None,
            Self::Among(station) => Some(station.reload().map_err(anyhow::Error::new)),
        }
    }

    /// Finishes what waits, and gives the data directory back.
    pub(crate) async fn stop(self) {
        match self {
            Self::Alone(task) => task.stop().await,
            Self::Among(station) => station.stop().await,
        }
    }
}
