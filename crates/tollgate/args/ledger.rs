//! What is asked of the fleet's money.

use clap::{Args as ClapArgs, Subcommand};

use super::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Whether money can be held, and which nodes it waits for
    Status(Status),
    /// Go on without a node that does not come back: what it spent is not known to Redis
    Recover(Gone),
    /// Charge what a node that is gone still holds in Redis
    Reconcile(Gone),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Gone {
    /// The node, as `ledger status` names it
    #[arg(long, value_name = "NODE")]
    pub(crate) without: String,
    #[command(flatten)]
    pub(crate) server: Server,
}
