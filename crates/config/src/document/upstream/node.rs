//! The nodes of an upstream: a map of addresses to weights, or a list.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use http::HeaderValue;
use rules::upstream::{Node, UpstreamScheme};
use serde_json::Value;

use crate::reader::{Reader, any, integer, list, port, text};

/// Reads nodes, the best priority first; those of weight zero are left out.
///
/// One that stands twice is a fault, however it is spelt: two weights for one node are one too
/// many.
pub(super) fn read<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    scheme: UpstreamScheme,
) -> Option<Vec<Node>> {
    let mut seen = BTreeSet::new();
    let mut once = |reader: &mut Reader<'v>, node: Node| {
        if !seen.insert(Arc::clone(&node.authority)) {
            reader.fault(format!("names the node {} a second time", node.authority));
        }
        node
    };
    let mut nodes: Vec<Node> = match value {
        Value::Object(map) => {
            if map.len() > NODES_MAX {
                reader.fault(format!("expected at most {NODES_MAX} nodes, got {}", map.len()));
                return None;
            }
            let read = |(address, weight): (&'v String, &'v Value)| {
                reader.at(address, |reader| {
                    let weight = integer(0, WEIGHT_MAX)(reader, weight)?;
                    let address = Address::parse(address).map_err(|why| reader.fault(why)).ok()?;
                    Some(once(reader, address.node(scheme, weight, 0)))
                })
            };
            map.iter().filter_map(read).collect()
        }
        Value::Array(_) => {
            let listed = |reader: &mut Reader<'v>, value| Some(listed(reader, value, scheme));
            let nodes = list(0, NODES_MAX, listed)(reader, value)?.into_iter().enumerate();
            let read = |(index, node): (usize, Option<Node>)| {
                node.map(|node| reader.element(index, |reader| once(reader, node)))
            };
            nodes.filter_map(read).collect()
        }
        other => {
            reader.expected("an object or an array", other);
            return None;
        }
    };
    nodes.retain(|node| node.weight > 0);
    nodes.sort_by_key(|node| std::cmp::Reverse(node.priority));
    Some(nodes)
}

/// Reads a node of a list.
fn listed<'v>(reader: &mut Reader<'v>, value: &'v Value, scheme: UpstreamScheme) -> Option<Node> {
    let mut object = reader.object(value)?;
    let host = object.required("host", |reader, value| {
        let written = text(1, HOST_CHARS_MAX)(reader, value)?;
        Address::host(written).map_err(|why| reader.fault(why)).ok()
    });
    let port = object.optional("port", port);
    let weight = object.required("weight", integer(0, WEIGHT_MAX));
    let priority = object.optional("priority", integer(i64::from(i32::MIN), i64::from(i32::MAX)));
    // Stored and given back, without effect.
    object.optional("metadata", any);
    object.finish();
    Some(Address { port, ..host? }.node(scheme, weight?, priority.unwrap_or_default()))
}

/// A host and perhaps a port.
struct Address {
    /// Lower case; an IPv6 address without brackets.
    host: String,
    is_v6: bool,
    port: Option<u16>,
}

impl Address {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix('[') {
            let (_, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
            let host = text.strip_suffix(after).unwrap_or(text);
            return match after.strip_prefix(':') {
                Some(digits) => Ok(Self { port: Some(number(digits)?), ..Self::host(host)? }),
                None if after.is_empty() => Self::host(host),
                None => Err(String::from("expected `:` and a port behind the bracket")),
            };
        }
        match text.rsplit_once(':') {
            Some((host, digits)) if !host.contains(':') => {
                Ok(Self { port: Some(number(digits)?), ..Self::host(host)? })
            }
            _ => Self::host(text),
        }
    }

    /// Reads a host without a port.
    fn host(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let host = bare.unwrap_or(text);
        if let Ok(address) = host.parse::<Ipv6Addr>() {
            return Ok(Self { host: address.to_string(), is_v6: true, port: None });
        }
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = !host.is_empty()
            && host.len() <= HOST_CHARS_MAX
            && host.bytes().all(letter)
            && !host.starts_with(['.', '-'])
            && !host.contains("..");
        let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if bare.is_some() || !is_name || (numeric && host.parse::<IpAddr>().is_err()) {
            return Err(String::from("is neither a host name nor an IP address"));
        }
        Ok(Self { host: host.to_ascii_lowercase(), is_v6: false, port: None })
    }

    fn node(self, scheme: UpstreamScheme, weight: u32, priority: i32) -> Node {
        let Self { host, is_v6, port } = self;
        let shown = if is_v6 { format!("[{host}]") } else { host.clone() };
        let own = scheme.default_port();
        let port = port.unwrap_or(own);
        let authority = format!("{shown}:{port}");
        let header = if port == own { &shown } else { &authority };
        let host_header = HeaderValue::from_str(header).expect("a host is visible ASCII");
        let (host, authority) = (Arc::from(host), Arc::from(authority));
        Node { host, port, authority, host_header, weight, priority }
    }
}

fn number(digits: &str) -> Result<u16, String> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| plain && *port > 0);
    port.ok_or_else(|| String::from("has no port from 1 to 65535 behind the `:`"))
}

/// Nodes of one upstream.
const NODES_MAX: usize = 1_024;
/// Small enough that the weights of all nodes together fit 32 bits.
const WEIGHT_MAX: i64 = 1_000_000;
/// Of a host name (RFC 1035 §2.3.4).
const HOST_CHARS_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use rules::upstream::UpstreamScheme;

    use super::Address;

    fn check(written: &str, expected: Option<(&str, &str)>) {
        let node = Address::parse(written).ok().map(|a| a.node(UpstreamScheme::Https, 1, 0));
        let found = node.as_ref().map(|n| (&*n.authority, n.host_header.to_str().unwrap()));
        assert_eq!(found, expected, "{written}");
    }

    #[test]
    fn an_address_has_a_host_and_the_scheme_s_port_where_it_names_none() {
        check("API.Cloudflare.com:443", Some(("api.cloudflare.com:443", "api.cloudflare.com")));
        check("a_b", Some(("a_b:443", "a_b")));
        check("127.0.0.1:80", Some(("127.0.0.1:80", "127.0.0.1:80")));
        check("[::1]:8443", Some(("[::1]:8443", "[::1]:8443")));
        check("::1", Some(("[::1]:443", "[::1]")));
        check("[2001:DB8::1]", Some(("[2001:db8::1]:443", "[2001:db8::1]")));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a b",
            "a/b",
            "[::1",
            "[::1]80",
            "[a]:1",
            "999.1.1.1",
            "a..b",
            "-a",
            "user@a",
            "é",
        ] {
            check(text, None);
        }
    }
}
