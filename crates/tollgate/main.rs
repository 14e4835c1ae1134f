//! The gate AI agents pass through to drive infrastructure APIs.

use std::process::ExitCode;

use clap::Parser as _;

mod agree;
mod args;
mod commands;
mod counts;
mod door;
mod listen;
mod notify;
mod outage;
mod serve;
mod settings;
mod start;
mod unresolved;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nowhere is left to say that the terminal is gone.
            let _gone = error.print();
            return if error.use_stderr() { BAD_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    commands::run(args)
}

/// What is asked for cannot be done as asked: `EX_USAGE` of `sysexits.h`.
const BAD_USAGE: u8 = 64;
