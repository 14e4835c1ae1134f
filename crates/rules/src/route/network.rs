//! Networks of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a lone address.

use std::net::IpAddr;

/// A network of IP addresses (CIDR, RFC 4632 §3.1; RFC 4291 §2.3). A lone address is a network of
/// one. An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The bits of the network's addresses that are alike; the others are zero.
    base: u128,
    /// One for each bit that must be alike.
    mask: u128,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl Network {
    /// Reads an address, or an address and a prefix length behind a slash. Bits behind the prefix
    /// are ignored. `None` when the text is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(prefix_length(length)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { V4_BITS } else { V6_BITS };
        let length = length.unwrap_or(width);
        if length > width {
            return None;
        }
        let (family, bits) = bits(address);
        // The length of a network written as `::ffff:10.0.0.0/104` counts the 96 bits in front.
        let length = match (address, family) {
            (IpAddr::V6(_), Family::V4) => length.checked_sub(V6_BITS - V4_BITS)?,
            (IpAddr::V6(_), Family::V6) | (IpAddr::V4(_), Family::V4 | Family::V6) => length,
        };
        let width = match family {
            Family::V4 => V4_BITS,
            Family::V6 => V6_BITS,
        };
        let all = u128::MAX >> (V6_BITS - width);
        let mask = all & !all.checked_shr(length).unwrap_or(0);
        Some(Self { base: bits & mask, mask, family })
    }

    /// Whether the address lies in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (family, bits) = bits(address);
        family == self.family && bits & self.mask == self.base
    }
}

const V4_BITS: u32 = 32;
const V6_BITS: u32 = 128;

fn bits(address: IpAddr) -> (Family, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (Family::V4, u128::from(address.to_bits())),
        IpAddr::V6(address) => (Family::V6, address.to_bits()),
    }
}

/// One to three digits; `+8` and an empty text are no lengths.
fn prefix_length(text: &str) -> Option<u32> {
    let plain = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::Network;

    fn check(network: &str, address: &str, expected: bool) {
        let parsed = Network::parse(network).unwrap();
        assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{address} in {network}");
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        check("192.0.2.0/24", "192.0.2.0", true);
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "192.0.3.0", false);
        check("192.0.2.0/24", "192.0.1.255", false);
        check("2001:db8::/33", "2001:db8:7fff::1", true);
        check("2001:db8::/33", "2001:db8:8000::1", false);
    }

    #[test]
    fn a_lone_address_is_a_network_of_one() {
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.6", false);
        check("::1", "::1", true);
        check("::1", "::2", false);
    }

    #[test]
    fn an_empty_prefix_takes_its_whole_family() {
        check("0.0.0.0/0", "255.255.255.255", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "ffff::", true);
        check("::/0", "192.0.2.7", false);
    }

    #[test]
    fn bits_behind_the_prefix_are_ignored() {
        check("10.1.2.3/8", "10.200.0.1", true);
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("::ffff:10.0.0.0/104", "10.1.2.3", true);
        check("::ffff:10.0.0.0/104", "11.1.2.3", false);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "host",
            " 10.0.0.1",
            "[::1]",
            "10.0.0.0/-1",
            "::ffff:10.0.0.0/95",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
