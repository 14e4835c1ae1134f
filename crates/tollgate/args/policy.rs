//! What is asked of policies.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::Output;
use crate::commands::name;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Every fault of a document, and agents that may do nothing
    Check(Check),
    /// What the policies say to one call, and which of them
    Explain(Explain),
    /// Hold the policies to a file of calls and what is to become of them
    Test(Test),
    /// Which agents may call an operation
    Who(Who),
    /// Which operations an agent may call
    What(What),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// The document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// GET, POST, PUT, PATCH, DELETE or any other method
    pub(crate) method: String,
    /// A path such as /client/v4/zones, or a whole URL; {NAME} stands for any identifier
    pub(crate) path: String,
    /// Who asks; nobody who is known where it is left out
    #[arg(long, value_parser = name::agent)]
    pub(crate) agent: Option<String>,
    /// A file with the body
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// What it costs, as UNIT=AMOUNT
    #[arg(long, value_name = "UNIT=AMOUNT")]
    pub(crate) price: Vec<String>,
    /// The document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Test {
    /// The file of cases
    pub(crate) cases: PathBuf,
    /// The document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Who {
    /// An operation, such as dns.records.delete
    pub(crate) operation: String,
    /// The document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct What {
    #[arg(value_parser = name::agent)]
    pub(crate) agent: String,
    /// The document
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}
