//! Which node of an upstream is next: smooth weighted round robin, a core at a time.

use std::collections::HashMap;

use model::UpstreamId;
use rules::upstream::{Node, Upstream};

/// The turns of one core. Forgotten whole when the rules change, so it holds at most the
/// upstreams of one snapshot.
#[derive(Debug, Default)]
pub(crate) struct Turns(HashMap<UpstreamId, Vec<i64>>);

impl Turns {
    /// The node whose turn it is, by its index.
    ///
    /// Within the highest priority each node is first in proportion to its weight, and never
    /// twice in a row while another is due (nginx's smooth weighted round robin).
    pub(crate) fn first(&mut self, upstream: &Upstream) -> usize {
        if upstream.nodes.len() > 1 { self.turn(upstream) } else { 0 }
    }

    /// The node whose turn it is among those of the highest priority.
    fn turn(&mut self, upstream: &Upstream) -> usize {
        let top = upstream.nodes.first().map(|node| node.priority);
        let credits = self.0.entry(upstream.id.clone()).or_default();
        credits.resize(upstream.nodes.len(), 0);
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        let nodes = upstream.nodes.iter().take_while(|node| Some(node.priority) == top);
        for (index, (node, credit)) in nodes.zip(credits.iter_mut()).enumerate() {
            *credit += i64::from(node.weight);
            total += i64::from(node.weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let first = best.map_or(0, |(index, _)| index);
        if let Some(credit) = credits.get_mut(first) {
            *credit -= total;
        }
        first
    }

    /// Forgets all turns.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The order in which to try the nodes: the one whose turn it is, then the others, which stand by
/// priority.
pub(crate) fn order(upstream: &Upstream, first: usize) -> impl Iterator<Item = &Node> {
    let nodes = upstream.nodes.as_slice();
    let others = nodes.iter().enumerate().filter(move |(index, _)| *index != first);
    nodes.get(first).into_iter().chain(others.map(|(_, node)| node))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rules::upstream::{Credential, KeepAlive, PassHost, Timeouts, UpstreamScheme};

    use super::{Node, Turns, Upstream, UpstreamId, order};

    fn upstream(nodes: &[(&str, u32, i32)]) -> Upstream {
        let node = |&(host, weight, priority): &(&str, u32, i32)| Node {
            host: host.into(),
            port: 80,
            authority: host.into(),
            host_header: HeaderValue::from_str(host).unwrap(),
            weight,
            priority,
        };
        Upstream {
            id: UpstreamId::new("u"),
            scheme: UpstreamScheme::Http,
            nodes: nodes.iter().map(node).collect(),
            pass_host: PassHost::Pass,
            verify: true,
            timeouts: Timeouts::default(),
            retries: 0,
            retry_within: None,
            keepalive: KeepAlive::default(),
            credential: Credential::None,
            api: None,
            trusted: false,
        }
    }

    fn check(nodes: &[(&str, u32, i32)], expected: &str) {
        let (mut turns, upstream) = (Turns::default(), upstream(nodes));
        let first = |_| {
            order(&upstream, turns.first(&upstream))
                .next()
                .map_or_else(String::new, |n| n.host.to_string())
        };
        assert_eq!((0..7).map(first).collect::<String>(), expected);
    }

    #[test]
    fn nodes_take_turns_by_weight_and_smoothly() {
        check(&[("a", 5, 0), ("b", 1, 0), ("c", 1, 0)], "aabacaa");
        check(&[("a", 1, 0), ("b", 1, 0)], "abababa");
        check(&[("a", 1, 0)], "aaaaaaa");
    }

    #[test]
    fn a_lower_priority_is_never_first() {
        check(&[("a", 1, 0), ("b", 9, -1)], "aaaaaaa");
    }

    #[test]
    fn the_others_follow_by_priority() {
        let (mut turns, upstream) =
            (Turns::default(), upstream(&[("b", 1, 0), ("c", 1, 0), ("a", 1, -1)]));
        let order: String =
            order(&upstream, turns.first(&upstream)).map(|node| &*node.host).collect();
        assert_eq!(order, "bca");
    }
}
