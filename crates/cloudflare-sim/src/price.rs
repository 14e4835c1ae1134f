//! What domains cost, and the ledger of what was charged.
use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::clock::stamp;

/// US cents. Shown as the API writes money: `8.57`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cents(pub u64);

impl Cents {
    pub(crate) fn dollars(dollars: u32) -> Self {
        Self(u64::from(dollars) * 100)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(u64::from(count)))
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Cents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One charge of the fake card. None is ever given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// When.
    #[serde(serialize_with = "stamped")]
    pub at: Timestamp,
    /// The account of the path, or of the zone in it.
    pub account: String,
    /// A domain's name, or a plan and its zone.
    pub what: String,
    /// Years of a registration, months of a plan.
    pub periods: u8,
    /// How much in all, in US dollars.
    pub amount: Cents,
    /// The id of the token that ordered it, or the global key's address.
    pub token: String,
}

fn stamped<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&stamp(*at))
}

/// What is behind a domain's first dot.
#[derive(Debug)]
pub(crate) struct Extension {
    pub(crate) name: &'static str,
    registration: Cents,
    renewal: Cents,
}

impl Extension {
    /// Registration and renewal, each for a year.
    pub(crate) fn prices(&self, tier: Tier) -> (Cents, Cents) {
        match tier {
            Tier::Standard => (self.registration, self.renewal),
            Tier::Premium => (self.registration.times(100), self.renewal.times(10)),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "metadata": { "name": self.name, "tld": self.name },
                "registration_schema": {}, "transfer_schema": {} })
    }
}

/// How a registry prices a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Standard,
    Premium,
}

impl Tier {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Premium => "premium",
        }
    }
}

/// The extension of a domain, if it is sold here.
pub(crate) fn extension(domain: &str) -> Option<&'static Extension> {
    let (_, name) = domain.split_once('.')?;
    EXTENSIONS.iter().find(|extension| extension.name == name)
}

/// Short names are premium.
pub(crate) fn tier(domain: &str) -> Tier {
    let label = domain.split('.').next().unwrap_or_default();
    if label.len() <= 3 { Tier::Premium } else { Tier::Standard }
}

pub(crate) fn is_somebody_elses(domain: &str) -> bool {
    domain.starts_with("taken") || domain.starts_with("example.")
}

/// Prices of a year in cents, those of the documentation's examples where it has some.
pub(crate) static EXTENSIONS: &[Extension] = &[
    Extension { name: "com", registration: Cents(857), renewal: Cents(857) },
    Extension { name: "net", registration: Cents(995), renewal: Cents(1_095) },
    Extension { name: "org", registration: Cents(750), renewal: Cents(1_011) },
    Extension { name: "dev", registration: Cents(1_011), renewal: Cents(1_011) },
    Extension { name: "app", registration: Cents(1_100), renewal: Cents(1_100) },
    Extension { name: "io", registration: Cents(4_500), renewal: Cents(4_800) },
    Extension { name: "ai", registration: Cents(7_000), renewal: Cents(7_000) },
    Extension { name: "co.uk", registration: Cents(495), renewal: Cents(495) },
];

#[cfg(test)]
mod tests {
    use super::Cents;

    #[test]
    fn money_is_written_with_two_decimals() {
        for (cents, text) in [(0, "0.00"), (5, "0.05"), (857, "8.57"), (120_000, "1200.00")] {
            assert_eq!(Cents(cents).to_string(), text);
        }
    }
}
