//! The command line of `tollgate cluster`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{Output, Server, duration};

/// Several nodes with one document.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Make a data directory that of the first node of a cluster; the document in it stays
    Init(Init),
    /// Make a data directory that of a new member, by a join token
    Join(Join),
    /// Print a join token: good once, for one new node
    Token(Invite),
    /// Print a join token by which a new disk takes the place of a lost one
    Replace(Replace),
    /// Give members the vote; 1, 3 or 5 must have it afterwards
    Promote(Promote),
    /// Take the vote from members; 1, 3 or 5 must have it afterwards
    Demote(Demote),
    /// Let members go for good
    Leave(Leave),
    /// Show each node: its role, its revision, how far it is behind, why it is not ready
    Status(Status),
}

/// The data directory of a node that does not run, and who the node is to be.
#[derive(Debug, ClapArgs)]
pub(crate) struct Site {
    /// A YAML file with the node's settings; the command line wins over it
    #[arg(long, value_name = "FILE", env = "TOLLGATE_SETTINGS")]
    pub(crate) settings: Option<PathBuf>,
    /// The node's data directory
    #[arg(long, value_name = "DIR", env = "TOLLGATE_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// The node's name: a host name in lower case [default: that of the host]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_NODE")]
    pub(crate) node: Option<String>,
    /// Where the node's peers reach it
    #[arg(long, value_name = "HOST:PORT", env = "TOLLGATE_CLUSTER_ADDRESS")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) papers: Papers,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// The node's certificate, where operators have made it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Papers {
    /// The certificates that nodes trust, of your own authority (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub(crate) authority: Option<PathBuf>,
    /// The node's certificate under it (PEM)
    #[arg(long, value_name = "FILE", requires = "authority")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key (PEM, PKCS #8)
    #[arg(long, value_name = "FILE", requires = "authority")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) site: Site,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) site: Site,
    /// The cluster address of any member that runs
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) member: String,
    /// The join token
    #[arg(long, value_name = "TOKEN", env = "TOLLGATE_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Invite {
    /// Only for a node of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// How long it is good, such as 15m or 8h; at most a day
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) ttl: std::time::Duration,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Replace {
    /// The member whose disk is lost
    pub(crate) name: String,
    /// How long the token is good, such as 15m or 8h; at most a day
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) ttl: std::time::Duration,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Promote {
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Take the vote from this member in the same step
    #[arg(long, value_name = "NAME")]
    pub(crate) demote: Vec<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Demote {
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Leave {
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Leave an even number of voters behind
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) server: Server,
}
