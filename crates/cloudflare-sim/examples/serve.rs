//! Serves a stand-in until it is told to stop: for the SDKs, wrangler and a look around by hand.
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use cloudflare_sim::{DEFAULT_TOKEN, Options, Quota, Sim, Tls, Token};

/// Serves a stand-in for Cloudflare's API on loopback.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// A token that may do everything; repeat for more.
    #[arg(long = "token", default_value = DEFAULT_TOKEN)]
    tokens: Vec<String>,
    /// A token that may only read; repeat for more.
    #[arg(long = "read-only-token")]
    read_only_tokens: Vec<String>,
    /// Calls a token may make in five minutes.
    #[arg(long, default_value_t = Quota::default().calls)]
    quota: u32,
    /// The same seed gives the same identifiers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A certificate chain in PEM: speak TLS.
    #[arg(long, requires = "tls_key")]
    tls_chain: Option<PathBuf>,
    /// The key of the chain in PEM.
    #[arg(long, requires = "tls_chain")]
    tls_key: Option<PathBuf>,
}

impl Arguments {
    fn options(self) -> std::io::Result<Options> {
        let tls = match (self.tls_chain, self.tls_key) {
            (Some(chain), Some(key)) => Some(Tls {
                chain_pem: std::fs::read_to_string(chain)?,
                key_pem: std::fs::read_to_string(key)?,
            }),
            _ => None,
        };
        let all = self.tokens.into_iter().map(Token::all);
        let read_only = self.read_only_tokens.into_iter().map(Token::read_only);
        Ok(Options {
            listen: self.listen,
            tls,
            seed: self.seed,
            tokens: all.chain(read_only).collect(),
            quota: Quota { calls: self.quota, ..Quota::default() },
            ..Options::default()
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sim = Sim::start(Arguments::parse().options()?).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", sim.address())?;
    writeln!(out, "account {}", sim.account_id())?;
    for name in ["example.com", "example.org"] {
        writeln!(out, "zone {name} {}", sim.zone_id(name).unwrap_or_default())?;
    }
    out.flush()?;
    tokio::signal::ctrl_c().await?;
    sim.stop().await;
    Ok(())
}
