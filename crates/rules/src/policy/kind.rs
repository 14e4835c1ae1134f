//! The types of what policies read of a request, found out from how they use it.
//!
//! A catalogue has no bodies, and Cedar wants to know the type of everything that is read. So the
//! type of a member is what a policy does with it: what is compared with a number is a number.

use std::collections::BTreeMap;

use cedar_policy::RestrictedExpression;
use model::{Amount, Unit};
use serde_json::{Value, json};

/// What a value is, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Only whether it is there is asked for.
    #[default]
    Presence,
    Bool,
    Long,
    Text,
    Decimal,
    Ip,
    Datetime,
    Duration,
    /// An entity; no body holds one.
    Entity,
    Set(Box<Self>),
    Record(Members),
}

/// The members of a record that are read. All of them may be absent.
pub type Members = BTreeMap<String, Kind>;

impl Kind {
    /// What is both.
    ///
    /// # Errors
    /// Both, when nothing is.
    pub(crate) fn merge(self, other: Self) -> Result<Self, Box<(Self, Self)>> {
        match (self, other) {
            (Self::Presence, known) | (known, Self::Presence) => Ok(known),
            (Self::Set(one), Self::Set(other)) => Ok(Self::Set(Box::new(one.merge(*other)?))),
            (Self::Record(mut one), Self::Record(other)) => {
                for (name, kind) in other {
                    let known = one.remove(&name).unwrap_or_default();
                    one.insert(name, known.merge(kind)?);
                }
                Ok(Self::Record(one))
            }
            (one, other) if one == other => Ok(one),
            (one, other) => Err(Box::new((one, other))),
        }
    }

    /// Why no value of a body can be of this kind.
    pub(crate) fn is_no_body(&self) -> Option<&'static str> {
        match self {
            Self::Presence
            | Self::Bool
            | Self::Long
            | Self::Text
            | Self::Decimal
            | Self::Ip
            | Self::Datetime => None,
            Self::Duration => Some("a duration, which no body holds"),
            Self::Entity => Some("an entity, which no body holds"),
            Self::Set(of) => match **of {
                Self::Set(_) | Self::Record(_) => {
                    Some("a set of sets or of records, which cannot be judged")
                }
                _ => of.is_no_body(),
            },
            Self::Record(members) => members.values().find_map(Self::is_no_body),
        }
    }

    /// The type in a schema in JSON.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Presence | Self::Bool => json!({ "type": "Boolean" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Text | Self::Entity => json!({ "type": "String" }),
            Self::Decimal => extension("decimal"),
            Self::Ip => extension("ipaddr"),
            Self::Datetime => extension("datetime"),
            Self::Duration => extension("duration"),
            Self::Set(of) => {
                // A set of which nothing is known holds texts.
                let of = if **of == Self::Presence { &Self::Text } else { &**of };
                json!({ "type": "Set", "element": of.schema() })
            }
            Self::Record(members) => record(members),
        }
    }

    /// A value from a text.
    pub(crate) fn of_text(&self, text: &str) -> Option<RestrictedExpression> {
        match self {
            Self::Presence => Some(RestrictedExpression::new_bool(true)),
            Self::Text => Some(RestrictedExpression::new_string(text.to_owned())),
            Self::Decimal => decimal(text).map(RestrictedExpression::new_decimal),
            // An address that cannot be read would fail in the middle of a decision.
            Self::Ip => {
                let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
                let address: std::net::IpAddr = address.parse().ok()?;
                let widest = if address.is_ipv4() { 32 } else { 128 };
                let is_sound = bits.parse::<u8>().is_ok_and(|bits| bits <= widest);
                is_sound.then(|| RestrictedExpression::new_ip(text))
            }
            Self::Datetime => {
                let time: jiff::Timestamp = text.parse().ok()?;
                Some(datetime(time.as_millisecond()))
            }
            Self::Bool
            | Self::Long
            | Self::Duration
            | Self::Entity
            | Self::Set(_)
            | Self::Record(_) => None,
        }
    }
}

/// A record whose members may all be absent, in a schema.
pub(crate) fn record(members: &Members) -> Value {
    let attributes = members.iter().map(|(name, kind)| {
        let mut schema = kind.schema();
        if let Some(object) = schema.as_object_mut() {
            object.insert("required".to_owned(), Value::Bool(false));
        }
        (name.clone(), schema)
    });
    json!({ "type": "Record", "attributes": attributes.collect::<serde_json::Map<_, _>>() })
}

pub(crate) fn extension(name: &str) -> Value {
    json!({ "type": "Extension", "name": name })
}

/// A point in time, in milliseconds since 1970.
pub(crate) fn datetime(millis: i64) -> RestrictedExpression {
    let seconds = millis.div_euclid(1_000);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let text = format!("{}.{:03}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), millis.rem_euclid(1_000));
    RestrictedExpression::new_datetime(text)
}

/// A number as Cedar writes decimals: one to four digits behind the point. `None` for what has
/// more, or an exponent.
pub(crate) fn decimal(text: &str) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(part) {
        return None;
    }
    let part = part.trim_end_matches('0');
    let part = if part.is_empty() { "0" } else { part };
    let made = format!("{whole}.{part}");
    // Cedar keeps 64 bits of ten-thousandths.
    let padded = format!("{whole}{part:0<4}");
    (part.len() <= 4 && padded.parse::<i64>().is_ok()).then_some(made)
}

/// An amount as prices are compared: rounded up to four digits behind the point.
#[must_use]
pub fn price_text(amount: Amount, unit: &Unit) -> String {
    let parts = i128::from(amount.parts());
    let places = unit.places();
    let fine = if places > 4 {
        let step = 10_i128.pow(places - 4);
        parts.div_euclid(step) + i128::from(parts.rem_euclid(step) > 0)
    } else {
        parts * 10_i128.pow(4 - places)
    };
    let sign = if fine < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}", fine.abs() / 10_000, fine.abs() % 10_000)
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Presence => f.write_str("anything"),
            Self::Bool => f.write_str("bool"),
            Self::Long => f.write_str("number"),
            Self::Text => f.write_str("text"),
            Self::Decimal => f.write_str("decimal"),
            Self::Ip => f.write_str("address"),
            Self::Datetime => f.write_str("datetime"),
            Self::Duration => f.write_str("duration"),
            Self::Entity => f.write_str("entity"),
            Self::Set(of) => write!(f, "set of {of}"),
            Self::Record(members) => {
                f.write_str("{")?;
                for (place, (name, kind)) in members.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{name:?}: {kind}")?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Amount, Unit};

    use super::{Kind, decimal, price_text};

    #[test]
    fn a_price_is_rounded_up() {
        let usd = Unit::parse("USD").unwrap();
        for (parts, expected) in
            [(15_000_000, "15.0000"), (15_000_001, "15.0001"), (99, "0.0001"), (0, "0.0000")]
        {
            assert_eq!(price_text(Amount::from_parts(parts).unwrap(), &usd), expected);
        }
        let three = Amount::from_parts(3).unwrap();
        assert_eq!(price_text(three, &Unit::requests()), "3.0000");
    }

    #[test]
    fn a_decimal_is_exact_or_none() {
        for (text, expected) in [
            ("15", Some("15.0")),
            ("15.00", Some("15.0")),
            ("-0.12345000", None),
            ("0.1234000", Some("0.1234")),
            ("1e2", None),
            ("922337203685477.5807", Some("922337203685477.5807")),
            ("922337203685477.5808", None),
            (".5", None),
            ("5.", None),
            ("", None),
        ] {
            assert_eq!(decimal(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_used_in_two_ways_has_no_kind() {
        let set = |of| Kind::Set(Box::new(of));
        assert_eq!(Kind::Presence.merge(Kind::Long).unwrap(), Kind::Long);
        assert_eq!(set(Kind::Presence).merge(set(Kind::Text)).unwrap(), set(Kind::Text));
        assert!(set(Kind::Long).merge(set(Kind::Text)).is_err());
        assert!(Kind::Long.merge(Kind::Decimal).is_err());
    }
}
