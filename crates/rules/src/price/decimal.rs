//! Exact decimals: what JSON numbers and prices say, never a float.

use model::Amount;

/// An exact decimal number of up to 30 digits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decimal {
    digits: i128,
    /// Digits behind the point; at most [`PLACES_MAX`].
    places: u32,
}

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self { digits: 0, places: 0 };

    /// One.
    pub const ONE: Self = Self { digits: 1, places: 0 };

    /// A whole number.
    #[must_use]
    pub fn whole(number: u32) -> Self {
        Self { digits: i128::from(number), places: 0 }
    }

    /// Reads a number as JSON writes it (RFC 8259 §6); leading zeros pass. `None` for all else, and
    /// for what has too many digits to be kept exactly.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, exponent) = match text.find(['e', 'E']) {
            Some(at) => (text.get(..at)?, exponent(text.get(at + 1..)?)?),
            None => (text, 0),
        };
        let (sign, number) = number.strip_prefix('-').map_or((1, number), |rest| (-1, rest));
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (number, ""),
        };
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let shown = format!("{whole}{fraction}");
        let kept = shown.trim_start_matches('0');
        if kept.len() > DIGITS_MAX {
            return None;
        }
        let digits: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
        Self::scaled(sign * digits, i64::try_from(fraction.len()).ok()? - exponent)
    }

    /// `digits · 10^-places`, with places within bounds.
    fn scaled(mut digits: i128, mut places: i64) -> Option<Self> {
        if digits == 0 {
            return Some(Self::ZERO);
        }
        while places > 0 && digits % 10 == 0 {
            (digits, places) = (digits / 10, places - 1);
        }
        while places < 0 {
            (digits, places) = (digits.checked_mul(10)?, places + 1);
        }
        let places = u32::try_from(places).ok().filter(|places| *places <= PLACES_MAX)?;
        Some(Self { digits, places })
    }

    /// The product; `None` when it cannot be kept exactly.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        let digits = self.digits.checked_mul(other.digits)?;
        Self::scaled(digits, i64::from(self.places) + i64::from(other.places))
    }

    /// The sum; `None` when it cannot be kept exactly.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let widen =
            |number: Self| 10_i128.checked_pow(places - number.places)?.checked_mul(number.digits);
        Self::scaled(widen(self)?.checked_add(widen(other)?)?, i64::from(places))
    }

    /// A millionth of it; `None` when it cannot be kept exactly.
    #[must_use]
    pub fn millionth(self) -> Option<Self> {
        Self::scaled(self.digits, i64::from(self.places) + 6)
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.digits < 0
    }

    /// The amount of a unit with so many places, rounded up; `None` below zero and beyond the
    /// largest amount.
    #[must_use]
    pub fn amount(self, places: u32) -> Option<Amount> {
        if self.is_negative() {
            return None;
        }
        let parts = if self.places <= places {
            self.digits.checked_mul(10_i128.checked_pow(places - self.places)?)?
        } else {
            let divisor = 10_i128.checked_pow(self.places - places)?;
            self.digits / divisor + i128::from(self.digits % divisor != 0)
        };
        Amount::from_parts(i64::try_from(parts).ok()?)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        // Both are in lowest terms: neither ends with a zero behind its point.
        self.digits == other.digits && self.places == other.places
    }
}

impl Eq for Decimal {}

/// The exponent of a number; one of many digits is none that anybody means.
fn exponent(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let read: i64 = digits.get(..digits.len().min(3))?.parse().ok().filter(|_| is_number)?;
    (digits.len() <= 2).then_some(sign * read)
}

/// Digits of a number that is read.
const DIGITS_MAX: usize = 30;

/// Digits behind the point. Those of a product of three add up.
const PLACES_MAX: u32 = 36;

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::Decimal;

    /// What a text comes to in millionths.
    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        let parts = Decimal::parse(text).and_then(|read| read.amount(6)).map(|found| found.parts());
        assert_eq!(parts, expected, "{text}");
    }

    #[test]
    fn a_number_is_read_as_it_stands() {
        check("8.57", Some(8_570_000));
        check("0.10", Some(100_000));
        check("12", Some(12_000_000));
        check("1.5e2", Some(150_000_000));
        check("25E-1", Some(2_500_000));
        check("0e99", Some(0));
        check("007.5", Some(7_500_000));
    }

    #[test]
    fn what_is_finer_than_the_unit_is_rounded_up() {
        check("0.0000001", Some(1));
        check("0.0000010", Some(1));
        check("1.0000009999", Some(1_000_001));
    }

    #[test]
    fn what_is_no_number_or_below_zero_or_too_large_is_nothing() {
        for text in ["", "-", ".5", "1.", "+1", "1e", "1e+", "1e1.5", "NaN", "1_0", " 1", "0x1"] {
            check(text, None);
        }
        check("-0.01", None);
        check("9007199254.740992", None);
        check("1e99", None);
        check("1e-99", None);
        check("1e999999999999999999999", None);
        check(&"9".repeat(31), None);
    }

    proptest! {
        #[test]
        fn sums_and_products_are_those_of_whole_numbers(a in any::<i32>(), b in any::<i32>()) {
            let read = |number: i32| Decimal::parse(&format!("{number}e-3")).unwrap();
            let whole = |number: i128, places: u32| {
                Decimal::parse(&format!("{number}e-{places}")).unwrap()
            };
            let (wide, other) = (i128::from(a), i128::from(b));
            prop_assert_eq!(read(a).plus(read(b)), Some(whole(wide + other, 3)));
            prop_assert_eq!(read(a).times(read(b)), Some(whole(wide * other, 6)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+.0-9eE]{0,40}|\\PC{0,8}") {
            let _read = Decimal::parse(&text).map(|read| (read.amount(6), read.times(read), read.plus(read)));
        }
    }
}
