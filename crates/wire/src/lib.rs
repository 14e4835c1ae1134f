//! The generated messages and services of `proto/`, and nothing else.
//!
//! Floor 0. What is absent: logic, transport, and any meaning of the bodies that are carried.

/// `tollgate.cluster.v1`: what the nodes of a cluster say to each other.
pub mod cluster {
    tonic::include_proto!("tollgate.cluster.v1");
}
