//! Leases: tokens that a node takes ahead, so that it decides without a trip to the store.
//!
//! What is promised stands in `docs/limits.md`; why it holds: the store never refills what nodes
//! hold (`bucket.lua`), so that what is held and what is left are one bucket together, whatever is
//! lost, late, doubled or dead. A node stops spending before the store thinks that its lease is
//! over, and what was held then is burnt.

pub(crate) mod book;
pub(crate) mod desk;
pub(crate) mod draw;
pub(crate) mod holding;
pub(crate) mod keeper;
pub(crate) mod purse;
pub(crate) mod table;
pub(crate) mod wire;
