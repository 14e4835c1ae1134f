//! Slows down whoever guesses keys.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use model::Uptime;
use parking_lot::Mutex;

/// Counts wrong keys by address, a minute at a time.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    guesses: Mutex<HashMap<IpAddr, Guesses>>,
}

#[derive(Clone, Copy, Debug)]
struct Guesses {
    since: Uptime,
    count: u32,
}

impl Throttle {
    /// How long an address must wait before its next key is looked at; `None` when it need not.
    ///
    /// Right keys wait too: otherwise the wait would tell a guesser nothing but cost.
    pub(crate) fn wait(&self, address: IpAddr, now: Uptime) -> Option<Duration> {
        let guesses = *self.guesses.lock().get(&network(address))?;
        let left = WINDOW.checked_sub(now.since(guesses.since)).filter(|left| !left.is_zero())?;
        (guesses.count >= GUESSES_MAX).then_some(left)
    }

    /// Counts a wrong key.
    pub(crate) fn count(&self, address: IpAddr, now: Uptime) {
        let mut all = self.guesses.lock();
        let network = network(address);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&network) {
            all.retain(|_, guesses| now.since(guesses.since) < WINDOW);
        }
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&network) {
            // Who guesses from so many addresses is not stopped by counting addresses.
            let oldest = all.iter().min_by_key(|(_, guesses)| guesses.since);
            let oldest = oldest.map(|(address, _)| *address);
            oldest.map(|oldest| all.remove(&oldest));
        }
        let guesses = all.entry(network).or_insert(Guesses { since: now, count: 0 });
        if now.since(guesses.since) >= WINDOW {
            *guesses = Guesses { since: now, count: 0 };
        }
        guesses.count = guesses.count.saturating_add(1);
    }
}

/// What one guesser holds: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

/// Wrong keys an address may try in a [`WINDOW`].
const GUESSES_MAX: u32 = 20;

const WINDOW: Duration = Duration::from_secs(60);

/// Addresses counted at once. When full, those whose minute is over are forgotten, then the one
/// that began first.
const ADDRESSES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use model::Uptime;

    use super::{ADDRESSES_MAX, GUESSES_MAX, Throttle};

    fn second(second: u64) -> Uptime {
        Uptime::from_micros(second * 1_000_000)
    }

    fn check(guesses: u32, from: &str, asked: &str, at: u64, waits: Option<u64>) {
        let throttle = Throttle::default();
        for _ in 0..guesses {
            throttle.count(from.parse().unwrap(), second(1));
        }
        let wait = throttle.wait(asked.parse().unwrap(), second(at));
        assert_eq!(wait, waits.map(Duration::from_secs), "{guesses} from {from}, {asked} at {at}");
    }

    #[test]
    fn an_address_may_guess_so_often_and_no_more() {
        check(GUESSES_MAX - 1, "10.0.0.1", "10.0.0.1", 2, None);
        check(GUESSES_MAX, "10.0.0.1", "10.0.0.1", 2, Some(59));
    }

    #[test]
    fn a_minute_later_it_may_again() {
        check(GUESSES_MAX, "10.0.0.1", "10.0.0.1", 60, Some(1));
        check(GUESSES_MAX, "10.0.0.1", "10.0.0.1", 61, None);
    }

    #[test]
    fn another_address_is_not_touched() {
        check(GUESSES_MAX, "10.0.0.1", "10.0.0.2", 2, None);
    }

    #[test]
    fn one_holder_of_a_network_is_one_guesser() {
        check(GUESSES_MAX, "2001:db8::1", "2001:db8::2", 2, Some(59));
        check(GUESSES_MAX, "2001:db8::1", "2001:db8:0:1::1", 2, None);
        check(GUESSES_MAX, "::ffff:10.0.0.1", "10.0.0.1", 2, Some(59));
    }

    #[test]
    fn a_flood_of_addresses_is_held_in_bounds() {
        let throttle = Throttle::default();
        for address in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 100 {
            throttle.count(IpAddr::V4(address.into()), second(1));
        }
        assert_eq!(throttle.guesses.lock().len(), ADDRESSES_MAX);
    }
}
