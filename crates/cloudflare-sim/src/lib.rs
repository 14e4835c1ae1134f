//! A stand-in for Cloudflare's API, for the demo and the tests: faithful enough that the official
//! SDKs and `wrangler deploy` run against it, with injected faults and a log of what it was asked.
//!
//! It listens on loopback only. Everything lives in memory, under bounds, and is the same again
//! from the same seed.
mod account;
mod ai;
mod api;
mod asset;
mod call;
mod clock;
mod control;
mod d1;
mod desk;
mod dns;
mod dns_draft;
mod dns_file;
mod envelope;
mod fault;
mod graphql;
mod id;
mod ip;
mod kv;
mod kv_bulk;
mod log;
mod multipart;
mod options;
mod paging;
mod path;
mod price;
mod probe;
mod quota;
mod r2;
mod registrar;
mod route;
mod server;
mod tap;
mod token;
mod torn;
mod user;
mod wire;
mod worker;
mod worker_part;
mod worker_version;
mod world;
mod zone;
mod zone_plan;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::desk::Desk;
use crate::server::Server;

pub use crate::clock::{Clock, ManualClock, SystemClock};
pub use crate::fault::{Effect, FAULTS_MAX, Fault, Faults, Point, TooMany, When};
pub use crate::log::{Arrival, BODY_KEPT_MAX, BodySeen, Log};
pub use crate::options::{DEFAULT_TOKEN, GlobalKey, Options, Permission, Tls, Token, TokenStatus};
pub use crate::price::{Cents, Charge};
pub use crate::quota::Quota;
pub use crate::server::Error;

/// A running stand-in. Dropping it ends its connections at once; [`Sim::stop`] ends them in order.
#[derive(Debug)]
pub struct Sim {
    server: Server,
    desk: Arc<Desk>,
}

impl Sim {
    /// Starts a stand-in on the caller's runtime; it listens when this returns.
    ///
    /// # Errors
    /// The address is not loopback or cannot be used, or the certificate cannot.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let desk = Arc::new(Desk::new(&options));
        let server = Server::start(&options, Arc::clone(&desk)).await?;
        Ok(Self { server, desk })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What arrived.
    pub fn log(&self) -> Log {
        self.desk.log.clone()
    }

    /// What goes wrong.
    pub fn faults(&self) -> Faults {
        self.desk.faults.clone()
    }

    /// What the fake card was charged, oldest first.
    pub fn charges(&self) -> Vec<Charge> {
        self.desk.api.charges()
    }

    /// The account it started with.
    pub fn account_id(&self) -> String {
        self.desk.api.account_id()
    }

    /// The zone of this name, if there is one.
    pub fn zone_id(&self, name: &str) -> Option<String> {
        self.desk.api.zone_id(name)
    }

    /// Back to the start: content, counts, faults and log.
    pub fn reset(&self) {
        self.desk.reset();
    }

    /// Takes no more connections, lets requests under way end for a short while, then ends the
    /// rest. No task is left when this returns.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}
