//! Load for the benchmarks: how requests are spread over nodes and time.

use super::world::{Arrival, Chance};

/// A load on one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub nodes: usize,
    /// Requests a second, on average, at times that are independent of each other.
    pub rate: u64,
    /// Seconds.
    pub length: u64,
    /// How uneven the nodes are: the n-th gets a share of 1 / n to this power.
    pub skew: f64,
    /// Every so many seconds another node is the hottest; 0: never.
    pub moves: u64,
    /// Each second they come to hold, fall silent, and rush at ten times the rate.
    pub rushes: bool,
}

/// Requests of a load, each on bucket 0.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a load is drawn from distributions"
)]
pub fn arrivals(load: &Load, seed: u64) -> Vec<Arrival> {
    let mut chance = Chance(seed);
    let mut part = || (chance.below(1 << 40) as f64 + 0.5) / (1_u64 << 40) as f64;
    let weights: Vec<f64> = (1..=load.nodes).map(|n| (n as f64).powf(-load.skew)).collect();
    let total: f64 = weights.iter().sum();
    let (mut at, mut arrivals) = (0.0, Vec::new());
    while at < load.length as f64 * 1e6 {
        let pace = match at as u64 / 1_000 % 1_000 {
            _ if !load.rushes => 1.0,
            0..300 => 0.5,
            300..700 => 0.02,
            700..800 => 10.0,
            _ => 0.001,
        };
        at -= part().ln() * 1e6 / (load.rate as f64 * pace);
        let mut left = part() * total;
        let rank = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let turn = (at as u64 / 1_000_000).checked_div(load.moves).unwrap_or(0);
        let node = (rank.unwrap_or(0) + turn as usize * 3) % load.nodes;
        arrivals.push(Arrival { at: at as u64, node, buckets: vec![0] });
    }
    arrivals
}
