//! Decimal numbers, compared exactly.

use std::cmp::Ordering;

/// A decimal number: `coefficient × 10^-scale`, without trailing zeros, so that equal numbers are
/// equal values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    coefficient: i128,
    /// Digits behind the point.
    scale: u32,
}

impl Number {
    /// Reads `-12.5` or `1e3`: digits, at most one point, an exponent of ten. Blanks, signs of
    /// plus, hexadecimal digits, infinities and numbers of more than 18 digits before or behind
    /// the point are none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() || mantissa.len() > 2 * DIGITS_MAX + 1 {
            return None;
        }
        let mut coefficient: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            let digit = char::from(digit).to_digit(10)?;
            coefficient = coefficient.checked_mul(10)?.checked_add(i128::from(digit))?;
        }
        let mut scale = i64::try_from(fraction.len()).ok()? - i64::from(exponent);
        while coefficient != 0 && coefficient % 10 == 0 && scale > 0 {
            coefficient /= 10;
            scale -= 1;
        }
        if coefficient == 0 {
            return Some(Self { coefficient, scale: 0 });
        }
        if scale < 0 {
            let power = u32::try_from(-scale).ok()?;
            coefficient = coefficient.checked_mul(10_i128.checked_pow(power)?)?;
            scale = 0;
        }
        let scale = u32::try_from(scale).ok()?;
        let bound = POWER_MAX.checked_mul(10_i128.checked_pow(scale)?)?;
        if scale as usize > DIGITS_MAX || coefficient >= bound {
            return None;
        }
        Some(Self { coefficient: if negative { -coefficient } else { coefficient }, scale })
    }

    /// The order of the amounts.
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        // At most 36 digits each, which an i128 holds.
        let aligned = |number: &Self, scale: u32| {
            number.coefficient * 10_i128.pow(scale.saturating_sub(number.scale))
        };
        aligned(self, other.scale).cmp(&aligned(other, self.scale))
    }
}

/// Digits before the point, and behind it.
const DIGITS_MAX: usize = 18;

/// `10^DIGITS_MAX`.
const POWER_MAX: i128 = 1_000_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::Number;

    fn check(one: &str, other: &str, expected: Option<Ordering>) {
        let order =
            Number::parse(one).zip(Number::parse(other)).map(|(one, other)| one.cmp(&other));
        assert_eq!(order, expected, "{one} against {other}");
    }

    #[test]
    fn numbers_compare_by_amount() {
        check("9", "10", Some(Ordering::Less));
        check("10.0", "1e1", Some(Ordering::Equal));
        check("-1", "-0.5", Some(Ordering::Less));
        check("0.1", "0.01", Some(Ordering::Greater));
        check("-0", "0.00", Some(Ordering::Equal));
    }

    #[test]
    fn neighbours_that_floats_merge_stay_apart() {
        check("9007199254740993", "9007199254740992", Some(Ordering::Greater));
        check(
            "999999999999999999",
            "-999999999999999999.999999999999999999",
            Some(Ordering::Greater),
        );
    }

    #[test]
    fn what_is_no_plain_decimal_is_no_number() {
        for text in ["", "-", ".", "x", "+1", " 1", "1 ", "0x10", "inf", "NaN", "1e", "1_0", "١"] {
            check(text, "0", None);
        }
    }

    #[test]
    fn more_than_eighteen_digits_are_no_number() {
        check("999999999999999999", "0", Some(Ordering::Greater));
        check("1000000000000000000", "0", None);
        check("0.000000000000000001", "0", Some(Ordering::Greater));
        check("0.0000000000000000001", "0", None);
        check("1e400", "0", None);
        check("1e-400", "0", None);
        check("0e2147483647", "0", Some(Ordering::Equal));
    }
}
