//! The whole product from outside: real processes, real sockets, real clients.

mod article;
mod durability;
mod harness;
mod sdk;
mod tidy;
