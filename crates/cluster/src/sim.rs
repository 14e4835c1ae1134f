//! The whole cluster in one thread, by a seed: real nodes, and a clock, a chance, a network and
//! disks that are simulated.
//!
//! ```text
//! world    one cluster from its founding to its end     faults   what befalls it
//! node     a whole node: `open_in_cluster`              client   who changes and reads, anywhere
//! disk     what a crash leaves of it                    net      what becomes of messages
//! chance   numbers from the seed                        runtime  where Raft draws them
//! check    what holds after every step                  history  whether answers are linearizable
//! mutant   faults put in on purpose, to be found        trace    what happened, and its digest
//! turn     who goes first of those that wake together
//! ```
//!
//! `cargo test -p cluster sim` runs some seeds; with `TOLLGATE_SIM_SEEDS=5000` (and
//! `--profile e2e`) it runs more of them, and with `TOLLGATE_SIM_SEED=17` that one alone. A seed is
//! the same run each time, bit for bit.

mod chance;
mod check;
mod client;
pub(crate) mod disk;
mod faults;
mod history;
mod mutant;
mod net;
mod node;
pub(crate) mod runtime;
mod trace;
pub(crate) mod turn;
mod world;

pub(crate) use runtime::is_running;

mod tests;
