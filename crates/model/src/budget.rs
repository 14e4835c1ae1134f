//! Amounts of a budget: exact decimals of a named unit.

use std::sync::Arc;

use crate::text_id;

text_id!(
    /// The id of a budget as its users know it.
    BudgetId
);
text_id!(
    /// The id of a price as its users know it.
    PriceId
);

/// The id under which a call reserves, settles and voids: whoever repeats it changes nothing more.
/// Each request has one of its own, and its repeats at the upstream share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u128);

impl std::fmt::Display for ReservationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a budget counts: a currency such as `USD`, `requests`, `tokens`, or any other name.
///
/// `requests` and `tokens` come in whole numbers, everything else in millionths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(Arc<str>);

/// An exact amount of a unit, in its smallest parts: millionths, or whole ones of what comes in
/// whole numbers. Never beyond [`Amount::LARGEST`] either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

/// Why a unit or an amount cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The text is not the name of a unit.
    #[error("is not the name of a unit: up to 32 letters, digits, `_` and `-`, a letter first")]
    Unit,
    /// The text is not a plain decimal number.
    #[error("is not a decimal number such as `12.50`")]
    NotDecimal,
    /// The number has more decimal places than the unit.
    #[error("has more decimal places than its unit, which has {0}")]
    TooFine(u32),
    /// The number leaves 53 bits.
    #[error("is too large")]
    TooLarge,
}

impl Unit {
    /// Reads the name of a unit. Case matters.
    ///
    /// # Errors
    /// When the name is empty, longer than 32 bytes, or holds anything but letters, digits, `_`
    /// and `-` behind a first letter.
    pub fn parse(name: &str) -> Result<Self, AmountError> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let begins = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
        if begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_fine) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(AmountError::Unit)
        }
    }

    /// The unit of which every request costs one.
    #[must_use]
    pub fn requests() -> Self {
        Self(Arc::from(REQUESTS))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it counts requests.
    #[must_use]
    pub fn is_requests(&self) -> bool {
        &*self.0 == REQUESTS
    }

    /// Decimal places: an amount's part is `10^-places` of the unit.
    #[must_use]
    pub fn places(&self) -> u32 {
        if matches!(&*self.0, REQUESTS | TOKENS) { 0 } else { 6 }
    }
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// One smallest part: a request, or a millionth.
    pub const ONE: Self = Self(1);

    /// The largest amount: stores that count in doubles keep it exactly.
    pub const LARGEST: Self = Self((1 << 53) - 1);

    /// From a number of the unit's smallest parts; `None` beyond [`Amount::LARGEST`].
    #[must_use]
    pub const fn from_parts(parts: i64) -> Option<Self> {
        if parts.unsigned_abs() <= Self::LARGEST.0.unsigned_abs() {
            Some(Self(parts))
        } else {
            None
        }
    }

    /// The number of the unit's smallest parts.
    #[must_use]
    pub const fn parts(self) -> i64 {
        self.0
    }

    /// Reads a decimal, such as `12.50` or `-3`, exactly.
    ///
    /// # Errors
    /// When it is no decimal, finer than the unit's places, or too large.
    pub fn parse(text: &str, unit: &Unit) -> Result<Self, AmountError> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(AmountError::NotDecimal);
        }
        let (fraction, places) = (fraction.trim_end_matches('0'), unit.places());
        let missing = u32::try_from(fraction.len()).ok().and_then(|len| places.checked_sub(len));
        let missing = missing.ok_or(AmountError::TooFine(places))?;
        let parts: i64 = format!("{whole}{fraction}").parse().map_err(|_| AmountError::TooLarge)?;
        let parts = 10_i64.checked_pow(missing).and_then(|power| parts.checked_mul(power));
        parts.and_then(|parts| Self::from_parts(sign * parts)).ok_or(AmountError::TooLarge)
    }

    /// The sum; `None` beyond [`Amount::LARGEST`].
    #[must_use]
    pub const fn plus(self, other: Self) -> Option<Self> {
        Self::from_parts(self.0 + other.0)
    }

    /// The difference; `None` beyond [`Amount::LARGEST`].
    #[must_use]
    pub const fn minus(self, other: Self) -> Option<Self> {
        Self::from_parts(self.0 - other.0)
    }

    /// The amount as a decimal of its unit, without trailing zeros: `12.5`.
    #[must_use]
    pub fn text(self, unit: &Unit) -> String {
        let scale = 10_u64.pow(unit.places());
        let (parts, sign) = (self.0.unsigned_abs(), if self.0 < 0 { "-" } else { "" });
        let (whole, rest) = (parts / scale, parts % scale);
        if rest == 0 {
            return format!("{sign}{whole}");
        }
        let width = usize::try_from(unit.places()).unwrap_or_default();
        let fraction = format!("{rest:0width$}");
        format!("{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// The name of the unit that counts requests.
const REQUESTS: &str = "requests";

/// The name of the unit that counts tokens of a language model.
const TOKENS: &str = "tokens";

/// Bytes of a unit's name.
const NAME_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::{Amount, AmountError, Unit};

    #[track_caller]
    fn check(unit: &str, text: &str, expected: Result<i64, AmountError>) {
        let amount = Amount::parse(text, &Unit::parse(unit).unwrap());
        assert_eq!(amount.map(Amount::parts), expected, "{text} {unit}");
    }

    #[test]
    fn a_decimal_is_read_exactly() {
        check("USD", "10.44", Ok(10_440_000));
        check("USD", "0.000001", Ok(1));
        check("USD", "-3", Ok(-3_000_000));
        check("tokens", "12.0", Ok(12));
    }

    #[test]
    fn what_is_finer_than_the_unit_is_refused() {
        check("USD", "0.0000001", Err(AmountError::TooFine(6)));
        check("requests", "0.5", Err(AmountError::TooFine(0)));
    }

    #[test]
    fn what_is_no_decimal_or_too_large_is_refused() {
        for text in ["", "-", ".5", "1.", "1e3", "+1", "NaN", "1_000", "--1", "1.-5"] {
            check("USD", text, Err(AmountError::NotDecimal));
        }
        check("USD", "9007199254.740991", Ok(Amount::LARGEST.parts()));
        check("USD", "9007199254.740992", Err(AmountError::TooLarge));
        check("USD", "99999999999999999999", Err(AmountError::TooLarge));
    }

    #[test]
    fn an_amount_is_shown_as_it_is_read() {
        for (unit, text) in [("USD", "10.44"), ("USD", "-0.000001"), ("tokens", "7"), ("EUR", "0")]
        {
            let unit = Unit::parse(unit).unwrap();
            assert_eq!(Amount::parse(text, &unit).unwrap().text(&unit), text);
        }
    }

    #[test]
    fn a_unit_is_a_short_name() {
        for name in ["", "9lives", "a b", "é", &"x".repeat(33)] {
            assert_eq!(Unit::parse(name), Err(AmountError::Unit), "{name}");
        }
    }
}
