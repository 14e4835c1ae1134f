//! What people write: documents read and checked, kept as a state, sealed, and compiled into the
//! snapshot that the gate reads.
//!
//! Floor 2. Everything here is a function of its arguments: what is absent is I/O, live state,
//! clocks and counters. Chance arrives as [`model::Entropy`], time inside a [`Command`], and the
//! values of secrets through the function given to [`compile`].

pub mod bundle;
mod command;
mod compile;
mod credential;
mod custody;
mod diff;
mod document;
mod fault;
pub mod json;
mod key;
mod keyring;
mod parallel;
mod plugin;
mod pointer;
mod reader;
mod reference;
mod rows;
mod seal;
mod state;

pub use command::{Applied, Change, Command, Effect, EffectKind, Expect, Rejected, Stamp};
pub use compile::{Compiler, Resolve, compile};
pub use credential::HostCredential;
pub use diff::{Difference, diff};
pub use document::{check, limit};
pub use fault::Fault;
pub use key::{Key, Kind, is_name, is_segment};
pub use keyring::{KEY_BYTES, Keyring, OpenError};
pub use parallel::in_parallel;
pub use plugin::names as plugin_names;
pub use reference::{Reference, VaultToken, references};
pub use seal::{MASK, mask, seal};
pub use state::{State, Stored};
