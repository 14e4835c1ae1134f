//! The command line.

pub(crate) mod budget;
pub(crate) mod cluster;
pub(crate) mod ledger;
pub(crate) mod policy;
pub(crate) mod suspension;
pub(crate) mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use config::Kind;

use self::budget::Budget;
use self::cluster::Cluster;
use self::ledger::Ledger;
use self::suspension::{Resume, Suspend};
use self::verify::Verify;
use crate::commands::name;
use crate::door::Door;

/// The gate AI agents pass through to drive infrastructure APIs.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway node
    Run(Box<Run>),
    /// Run a node with everything set up: two agents, the article's route, commands to try
    Demo(Demo),
    /// Check a document without a node
    Check(Check),
    /// Make the node's document what a file says, all or nothing
    Apply(Apply),
    /// Show one resource
    Get(Get),
    /// List the resources of a kind
    List(List),
    /// Delete a resource
    Delete(Delete),
    /// Tokens of agents
    Token {
        #[command(subcommand)]
        command: Token,
    },
    /// Agents
    Agent {
        #[command(subcommand)]
        command: Agent,
    },
    /// The kill switch: refuse an agent, a team or everybody at once, on every node
    Suspend {
        #[command(subcommand)]
        command: Suspend,
    },
    /// Let those go on who were suspended
    Resume {
        #[command(subcommand)]
        command: Resume,
    },
    /// What is left of budgets, and adjusting it
    Budget {
        #[command(subcommand)]
        command: Budget,
    },
    /// The money of nodes that share a Redis
    Ledger {
        #[command(subcommand)]
        command: Ledger,
    },
    /// Several nodes with one document
    Cluster {
        #[command(subcommand)]
        command: Cluster,
    },
    /// What the calls of an API are named, and what they do
    Operations {
        #[command(subcommand)]
        command: Operations,
    },
    /// What agents may do: check, explain, test and list policies, without a node
    Policy {
        #[command(subcommand)]
        command: policy::Policy,
    },
    /// Hold what was recorded against what was promised
    Verify {
        #[command(subcommand)]
        command: Verify,
    },
    /// Print the version
    Version {
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

/// What a node is told; each is also a variable.
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    /// A YAML file with the node's settings; the command line wins over it
    #[arg(long, value_name = "FILE", env = "TOLLGATE_SETTINGS")]
    pub(crate) settings: Option<PathBuf>,
    /// Where the node keeps its document, counts and records
    #[arg(long, value_name = "DIR", env = "TOLLGATE_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// The node's name [default: that of the host; of a member, the one it has]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_NODE")]
    pub(crate) node: Option<String>,
    /// Where agents come in, in clear text; `none` for nowhere [default: 0.0.0.0:9080]
    #[arg(long, value_name = "ADDR", env = "TOLLGATE_HTTP")]
    pub(crate) http: Option<Door>,
    /// Where agents come in, over TLS
    #[arg(long, value_name = "ADDR", env = "TOLLGATE_HTTPS")]
    pub(crate) https: Option<SocketAddr>,
    /// Where operators come in [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", env = "TOLLGATE_ADMIN")]
    pub(crate) admin: Option<SocketAddr>,
    /// Where metrics, health and readiness are asked for [default: 127.0.0.1:9091]
    #[arg(long, value_name = "ADDR", env = "TOLLGATE_METRICS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Where a member of a cluster listens for its peers
    /// [default: all addresses, at the port of its own address]
    #[arg(long, value_name = "ADDR", env = "TOLLGATE_CLUSTER")]
    pub(crate) cluster: Option<SocketAddr>,
    /// Where a member's peers reach it, when that has changed since it became one
    #[arg(long, value_name = "HOST:PORT", env = "TOLLGATE_CLUSTER_ADDRESS")]
    pub(crate) cluster_address: Option<String>,
    /// The key of the Admin API; made and shown once when none is given
    #[arg(long, value_name = "KEY", env = "TOLLGATE_ADMIN_KEY", hide_env_values = true)]
    pub(crate) admin_key: Option<String>,
    /// Send what is meant for HOST:PORT to another address
    #[arg(
        long,
        value_name = "HOST:PORT=ADDR:PORT",
        env = "TOLLGATE_RESOLVE",
        value_delimiter = ','
    )]
    pub(crate) resolve: Vec<proxy::Override>,
    /// What calls to a host carry where the upstream names no credential, as
    /// `HOST:PORT=$env://NAME` or `HOST=$secret://file/PATH`
    #[arg(
        long,
        value_name = "HOST=REFERENCE",
        env = "TOLLGATE_CREDENTIAL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) credential: Vec<String>,
    /// Trust the certificates in this PEM file too when speaking to upstreams
    #[arg(long, value_name = "FILE", env = "TOLLGATE_UPSTREAM_CA")]
    pub(crate) upstream_ca: Option<PathBuf>,
    /// Count limits over all nodes in the Redis at this URL, or at that behind `$env://NAME` or
    /// `$secret://file/PATH`
    #[arg(long, value_name = "URL", env = "TOLLGATE_REDIS", hide_env_values = true)]
    pub(crate) redis: Option<String>,
    /// Print one JSON line when ready, and stop when standard input ends
    #[arg(long, hide = true)]
    pub(crate) announce: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// `auto` picks free ports
    #[arg(long, value_enum, default_value_t = Ports::Fixed)]
    pub(crate) ports: Ports,
    /// How many nodes: 1, or a cluster of 3 or 5
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = fleet)]
    pub(crate) nodes: usize,
    /// Count limits over all nodes in the Redis at this URL
    #[arg(long, value_name = "URL", env = "TOLLGATE_REDIS", hide_env_values = true)]
    pub(crate) redis: Option<String>,
    /// Where the demo keeps its data
    #[arg(long, value_name = "DIR", default_value = ".tollgate/demo")]
    pub(crate) data: PathBuf,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ports {
    Fixed,
    Auto,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// Where the Admin API is.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Server {
    /// The node's Admin API
    #[arg(
        long,
        value_name = "URL",
        env = "TOLLGATE_SERVER",
        default_value = "http://127.0.0.1:9180"
    )]
    pub(crate) server: String,
    /// Its key
    #[arg(long, value_name = "KEY", env = "TOLLGATE_ADMIN_KEY", hide_env_values = true)]
    pub(crate) admin_key: Option<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CA")]
    pub(crate) ca: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// A YAML or JSON document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Apply {
    /// A YAML or JSON document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Delete what the document does not name
    #[arg(long)]
    pub(crate) prune: bool,
    /// Judge everything, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse unless the node's document is at this revision
    #[arg(long, value_name = "REVISION")]
    pub(crate) base: Option<u64>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Get {
    /// routes, upstreams, agents, teams, limits, budgets, prices, secrets…
    #[arg(value_parser = name::kind)]
    pub(crate) kind: Kind,
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// routes, upstreams, agents, teams, limits, budgets, prices, secrets…
    #[arg(value_parser = name::kind)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Delete {
    /// routes, upstreams, agents, teams, limits, budgets, prices, secrets…
    #[arg(value_parser = name::kind)]
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// Delete it although something refers to it
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Sign a token with an agent's HS256 secret
    Mint(Mint),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Mint {
    /// The agent's key (the claim `key`); by default its name
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// The agent's secret
    #[arg(
        long,
        env = "TOLLGATE_AGENT_SECRET",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) secret: String,
    /// How long the token is valid, such as 15m, 8h or 30d
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) ttl: std::time::Duration,
    /// The run the token is for
    #[arg(long)]
    pub(crate) run: Option<String>,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Make an agent with a fresh secret, and print the secret and a first token once
    Create(Create),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Create {
    #[arg(value_parser = name::agent)]
    pub(crate) name: String,
    /// The team it belongs to
    #[arg(long)]
    pub(crate) team: Option<String>,
    /// How long the first token is valid
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) ttl: std::time::Duration,
    #[command(flatten)]
    pub(crate) server: Server,
}

fn fleet(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        other => Err(format!("`{other}` is not 1, 3 or 5")),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Operations {
    /// Search names, paths, effects, costs and dangers; each word must be found
    Find(Find),
    /// Say which operation a call is, and why
    Explain(Explain),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Find {
    #[arg(required = true, value_name = "WORD", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) words: Vec<String>,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// GET, POST, PUT, PATCH, DELETE or any other method
    pub(crate) method: String,
    /// A path such as /client/v4/zones, or a whole URL; {NAME} stands for any identifier
    pub(crate) path: String,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Reads `15m`, `8h`, `30d` or seconds.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => return Err(format!("`{other}` is not one of s, m, h, d")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a duration"))?;
    let secs = number.checked_mul(unit).filter(|secs| (1..=3_155_760_000).contains(secs));
    secs.map(std::time::Duration::from_secs).ok_or_else(|| format!("`{text}` is out of range"))
}
