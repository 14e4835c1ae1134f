//! The certificate of a door, which may change while the door is open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

/// A door's side of TLS. Replacing it touches no open connection.
#[derive(Debug)]
pub struct DoorTls {
    config: ArcSwap<ServerConfig>,
}

impl DoorTls {
    /// A door that shows this certificate.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self { config: ArcSwap::new(config) }
    }

    /// Shows another one to the connections to come.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.config.store(config);
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}
