//! What each command does.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use serde_json::json;

use crate::args::verify::Verify;
use crate::args::{Agent, Args, Command, Operations, Output, Token};
use crate::serve;
use crate::settings::{Settings, Unusable};

mod agent;
mod budget;
mod client;
mod cluster;
mod demo;
mod document;
mod ledger;
pub(crate) mod name;
mod operations;
mod policy;
mod suspension;
mod token;
mod verify;

/// Runs a command and says on standard error what went wrong.
pub(crate) fn run(args: Args) -> ExitCode {
    // It fails only if a provider is installed already, and then there is one.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            // Nowhere is left to say that standard error is gone.
            let _gone = writeln!(std::io::stderr(), "tollgate: {error:#}");
            if error.is::<Unusable>() || error.is::<name::Misused>() {
                return ExitCode::from(crate::BAD_USAGE);
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Run(run) => {
            let settings = Settings::read(*run).context(Unusable)?;
            block_on(serve::run(settings))?;
        }
        Command::Demo(demo) => block_on(demo::run(demo))?,
        Command::Check(check) => return document::check(&check),
        Command::Apply(apply) => return block_on(document::apply(apply)),
        Command::Get(get) => block_on(document::get(get))?,
        Command::List(list) => block_on(document::list(list))?,
        Command::Delete(delete) => block_on(document::delete(delete))?,
        Command::Token { command: Token::Mint(mint) } => token::mint(&mint)?,
        Command::Agent { command: Agent::Create(create) } => block_on(agent::create(create))?,
        Command::Suspend { command } => block_on(suspension::suspend(command))?,
        Command::Resume { command } => block_on(suspension::resume(command))?,
        Command::Ledger { command } => block_on(ledger::run(command))?,
        Command::Budget { command } => block_on(budget::run(command))?,
        Command::Cluster { command } => block_on(cluster::run(command))?,
        Command::Operations { command: Operations::Find(find) } => return operations::find(&find),
        Command::Operations { command: Operations::Explain(explain) } => {
            operations::explain(&explain)?;
        }
        Command::Policy { command } => return policy::run(&command),
        Command::Verify { command: Verify::Limits(limits) } => return verify::limits(&limits),
        Command::Verify { command: Verify::Spend(spend) } => {
            return block_on(verify::spend::run(spend));
        }
        Command::Version { output: Output::Text } => {
            writeln!(std::io::stdout(), "tollgate {}", env!("CARGO_PKG_VERSION"))?;
        }
        Command::Version { output: Output::Json } => {
            let version = json!({ "name": "tollgate", "version": env!("CARGO_PKG_VERSION") });
            writeln!(std::io::stdout(), "{version}")?;
        }
        Command::Completions { shell } => {
            let mut command = Args::command();
            clap_complete::generate(shell, &mut command, "tollgate", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let done = runtime.block_on(future);
    // A read of standard input that nobody answers must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    done
}
