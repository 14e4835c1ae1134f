//! Who is to be suspended or resumed.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args as ClapArgs, Subcommand};

use super::{Server, duration};
use crate::commands::name;

#[derive(Debug, Subcommand)]
pub(crate) enum Suspend {
    /// One agent
    Agent {
        #[arg(value_parser = name::agent)]
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// The agents of a team, those too that join it later
    Team {
        #[arg(value_parser = name::agent)]
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Everybody, on every route
    All {
        #[command(flatten)]
        how: How,
    },
    /// Who is suspended, why, and by whom
    List {
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Resume {
    /// One agent
    Agent {
        #[arg(value_parser = name::agent)]
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// The agents of a team that are not suspended by name
    Team {
        #[arg(value_parser = name::agent)]
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Everybody who is not suspended by name or with a team
    All {
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct How {
    /// Told to the suspended, and kept for the list
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// It is over after this time, such as 30m or 12h [default: when somebody resumes]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) lasting: Option<Duration>,
    /// Suspend a name that the document does not have
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}
