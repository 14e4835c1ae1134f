//! The cluster's document: agreed, durable, compiled and published. For now by one node.
//!
//! Floor 3. [`open`] gives a [`Handle`] (propose a change, read the state, watch snapshots) and a
//! [`Task`] that owns what runs behind it. What is absent: traffic, HTTP serving, and any
//! knowledge of what a document means; that is `config`'s.
//!
//! ```text
//!     propose ──queue──▶ writer's thread: judge → compile → write → publish ──watch──▶ gate
//!                                            ▲ values
//!     files, vaults, environment ──▶ secrets ┘
//! ```

mod board;
mod directory;
mod error;
mod handle;
mod judge;
mod publisher;
mod secret;
mod status;
mod store;
mod task;
mod vault;
mod writer;

pub use error::{Error, Kept, ProposeError};
pub use handle::Handle;
pub use secret::Environment;
pub use status::{ClusterId, Role, Status};
pub use task::{Options, Task, open};
