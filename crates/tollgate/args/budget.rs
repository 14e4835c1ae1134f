//! What is asked of budgets.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, Subcommand};

use super::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum Budget {
    /// All budgets, and how many accounts each has
    List(List),
    /// The accounts of one budget: spent, held, left
    Show(Show),
    /// Add to what an account may spend in the current period, or take from it
    Adjust(Adjust),
    /// Who adjusted what and why, thresholds reached, what a crash left to be assumed spent, and
    /// what of that was given back
    History(One),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    pub(crate) id: String,
    /// How many accounts at most, those of the newest period first
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct One {
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Adjust {
    pub(crate) id: String,
    /// Whose account, as `budget show` names it; AGENT/RUN for a run
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) subject: String,
    /// How much, in the budget's unit, such as 25 or -12.50
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    pub(crate) by: String,
    /// For the history
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) why: String,
    /// Repeated with the same id, it counts once
    #[arg(long = "id", value_name = "NAME", id = "name")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}
