//! The command line of `tollgate verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};

use super::{Output, Server};

/// Promises, held against what was recorded.
#[derive(Debug, Subcommand)]
pub(crate) enum Verify {
    /// Whether every window of what passed held at most burst + rate · length
    Limits(Limits),
    /// Whether the ledger of the budgets holds what was recorded, and nothing else
    Spend(Spend),
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).args(["rate", "document"]))]
pub(crate) struct Limits {
    /// Tokens that come back every interval; a decimal
    #[arg(long, value_name = "TOKENS", requires = "burst")]
    pub(crate) rate: Option<String>,
    /// Such as 500ms, 10s, 5m, 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) interval: Duration,
    /// What a full bucket holds
    #[arg(long, value_name = "TOKENS", conflicts_with = "document")]
    pub(crate) burst: Option<String>,
    /// What has a bucket of its own: organisation, team, agent, run, route, address, or another
    /// member of the records such as operation, or /client/ip; without it all have one
    #[arg(long, value_name = "FIELD", conflicts_with = "document")]
    pub(crate) per: Option<String>,
    /// Judge the limits of this document, each by the records that name it
    #[arg(long, value_name = "FILE")]
    pub(crate) document: Option<PathBuf>,
    /// How far the records of one file may stand out of order
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time)]
    pub(crate) slack: Duration,
    /// How far a record's time may be from that of its take: a record says when its request came
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = time)]
    pub(crate) tolerance: Duration,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Records, one JSON object a line; each file is of one node; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("ledger").required(true).multiple(true).args(["data", "node", "accounts", "live"]))]
pub(crate) struct Spend {
    /// The data directory of a node that does not run, for its journals; once for each node
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Vec<PathBuf>,
    /// The Admin API of a node that runs, for its journals; once for each node
    #[arg(long, value_name = "URL")]
    pub(crate) node: Vec<String>,
    /// What `budget show --output json` printed; once for each budget
    #[arg(long, value_name = "FILE")]
    pub(crate) accounts: Vec<PathBuf>,
    /// Ask the node at `--server` for the accounts of all budgets
    #[arg(long)]
    pub(crate) live: bool,
    /// The records are whole only from then on (RFC 3339): what was posted before is not judged
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<jiff::Timestamp>,
    /// How far the clocks of nodes, and their writing, may be from the moment a node is asked
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub(crate) tolerance: Duration,
    #[command(flatten)]
    pub(crate) server: Server,
    /// Records, one JSON object a line, of all nodes; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Reads `100ms`, `10s`, `5m`, `1h` or `0`.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let millis = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => return Err(format!("`{other}` is not one of ms, s, m, h, d")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a time"))?;
    let whole = number.checked_mul(millis).filter(|millis| *millis <= LONGEST_MILLIS);
    whole.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is longer than 366 days"))
}

const LONGEST_MILLIS: u64 = 366 * 86_400_000;
