//! What a stand-in is started with.
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Clock, SystemClock};
use crate::quota::Quota;

/// How a stand-in starts. [`Options::default`] listens on a free loopback port over plain HTTP and
/// knows one token, [`Token::all`] of [`DEFAULT_TOKEN`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen: a loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Speak TLS (ALPN `h2` and `http/1.1`) instead of plain HTTP.
    pub tls: Option<Tls>,
    /// The same seed gives the same identifiers in the same order.
    pub seed: u64,
    /// Bearer tokens the stand-in accepts.
    pub tokens: Vec<Token>,
    /// The legacy global key, accepted when set.
    pub global_key: Option<GlobalKey>,
    /// Calls a token may make, and what happens to one that makes more.
    pub quota: Quota,
    /// How long a slow registration stays under way (see `registrar.rs`).
    pub registration_wait: Duration,
    /// Arrivals remembered. When full, the oldest is forgotten and counted.
    pub log_entries: usize,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            seed: 1,
            tokens: vec![Token::all(DEFAULT_TOKEN)],
            global_key: None,
            quota: Quota::default(),
            registration_wait: Duration::from_secs(10),
            log_entries: 4_096,
            clock: Arc::new(SystemClock),
        }
    }
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The chain, leaf first.
    pub chain_pem: String,
    /// The leaf's private key.
    pub key_pem: String,
}

/// A token the stand-in accepts from the start.
#[derive(Debug, Clone)]
pub struct Token {
    /// The secret, as it stands behind `Bearer `.
    pub secret: String,
    /// What it may do.
    pub permission: Permission,
    /// Whether it is in force.
    pub status: TokenStatus,
    /// When it ends by itself.
    pub expires_on: Option<Timestamp>,
}

impl Token {
    /// An active token that may do everything.
    pub fn all(secret: impl Into<String>) -> Self {
        let status = TokenStatus::Active;
        Self { secret: secret.into(), permission: Permission::All, status, expires_on: None }
    }

    /// An active token that may only read.
    pub fn read_only(secret: impl Into<String>) -> Self {
        Self { permission: Permission::ReadOnly, ..Self::all(secret) }
    }
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Calls that change nothing.
    ReadOnly,
    /// Every call.
    All,
}

/// Whether a token is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStatus {
    /// It is.
    Active,
    /// Somebody switched it off.
    Disabled,
    /// Its time is over.
    Expired,
}

/// The global key of the one user: full power.
#[derive(Debug, Clone)]
pub struct GlobalKey {
    /// `X-Auth-Email`.
    pub email: String,
    /// `X-Auth-Key`.
    pub key: String,
}

/// The token that [`Options::default`] knows.
pub const DEFAULT_TOKEN: &str = "cfut_0123456789abcdefghijABCDEFGHIJ0123456789cafe0001";
