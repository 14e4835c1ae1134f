//! Nodes on loopback: what crosses, and every refusal, seen from both sides.

mod bench;
mod call;
mod door;
mod fault;
mod refuse;
mod whole;
