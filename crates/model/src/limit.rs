//! Amounts of a rate limit: tokens, rates, buckets. Integers and exact rationals only.

use std::time::Duration;

use crate::text_id;

text_id!(
    /// The id of a limit as its users know it.
    LimitId
);

text_id!(
    /// The id of an upstream's quota.
    QuotaId
);

/// A number of tokens: what one request costs, or what a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(pub u64);

/// An exact rate: `num` tokens every `den` microseconds, in lowest terms.
///
/// A rate of zero is legal and means "never again".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    num: u64,
    den: u64,
}

/// Why a rate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The text is not a plain decimal number.
    #[error("is not a decimal number of tokens")]
    NotDecimal,
    /// The exact fraction leaves 62 bits.
    #[error("is too large or has too many digits")]
    TooFine,
    /// The interval is empty.
    #[error("has an interval of zero")]
    NoInterval,
}

impl Rate {
    /// `tokens` (a decimal such as `10`, `0.5` or `1e3`) every `interval`.
    ///
    /// # Errors
    /// When the text is no decimal, the interval is empty, or the exact fraction needs more than
    /// 62 bits.
    pub fn parse(tokens: &str, interval: Duration) -> Result<Self, RateError> {
        let (digits, scale) = decimal(tokens)?;
        let micros = u64::try_from(interval.as_micros()).map_err(|_| RateError::TooFine)?;
        if micros == 0 {
            return Err(RateError::NoInterval);
        }
        let den = micros.checked_mul(scale).ok_or(RateError::TooFine)?;
        let divisor = gcd(digits, den);
        let rate = Self { num: digits / divisor, den: den / divisor };
        if rate.num > LARGEST || rate.den > LARGEST { Err(RateError::TooFine) } else { Ok(rate) }
    }

    /// Units of credit that one microsecond refills.
    #[must_use]
    pub const fn num(self) -> u64 {
        self.num
    }

    /// Units of credit that one token costs.
    #[must_use]
    pub const fn den(self) -> u64 {
        self.den
    }
}

/// The shape of a token bucket: how fast it refills and how much it holds.
///
/// Credit is counted in units of `1 / den` token, so that a microsecond refills exactly `num`
/// units and nothing is ever rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    rate: Rate,
    capacity: u64,
}

/// Why a bucket cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The capacity times the rate's denominator leaves 62 bits, or has too many digits.
    #[error("is too large for so slow or so fine a rate")]
    TooLarge,
    /// The text is not a plain decimal number.
    #[error("is not a decimal number of tokens")]
    NotDecimal,
}

impl Bucket {
    /// A bucket that holds `burst` tokens (a decimal) and `extra` more.
    ///
    /// # Errors
    /// When the burst is no decimal or the exact capacity needs more than 62 bits.
    pub fn new(rate: Rate, burst: &str, extra: Tokens) -> Result<Self, BucketError> {
        let (digits, scale) = decimal(burst).map_err(|cause| match cause {
            RateError::NotDecimal => BucketError::NotDecimal,
            RateError::TooFine | RateError::NoInterval => BucketError::TooLarge,
        })?;
        // A fraction of a token in the capacity needs units as fine as the fraction.
        let fine = scale / gcd(rate.den, scale);
        let num = rate.num.checked_mul(fine).ok_or(BucketError::TooLarge)?;
        let den = rate.den.checked_mul(fine).ok_or(BucketError::TooLarge)?;
        let whole = u128::from(digits) * u128::from(den) / u128::from(scale);
        let extra = u128::from(extra.0) * u128::from(den);
        let capacity = u64::try_from(whole + extra).map_err(|_| BucketError::TooLarge)?;
        if capacity > LARGEST || den > LARGEST || num > LARGEST {
            return Err(BucketError::TooLarge);
        }
        Ok(Self { rate: Rate { num, den }, capacity })
    }

    /// A bucket from its own numbers, as storage kept them: units refilled a microsecond, units
    /// of a token, units of capacity. `None` when no bucket has them.
    #[must_use]
    pub fn from_parts(refill: u64, unit: u64, capacity: u64) -> Option<Self> {
        let sound = unit > 0 && refill <= LARGEST && unit <= LARGEST && capacity <= LARGEST;
        sound.then_some(Self { rate: Rate { num: refill, den: unit }, capacity })
    }

    /// Units that one microsecond refills.
    #[must_use]
    pub const fn refill(self) -> u64 {
        self.rate.num
    }

    /// Units that one token costs.
    #[must_use]
    pub const fn unit(self) -> u64 {
        self.rate.den
    }

    /// Units a full bucket holds.
    #[must_use]
    pub const fn capacity(self) -> u64 {
        self.capacity
    }

    /// Whole tokens a full bucket holds.
    #[must_use]
    pub const fn burst(self) -> Tokens {
        Tokens(self.capacity / self.rate.den)
    }

    /// How long the bucket takes to refill this many units, rounded up to a microsecond; `None`
    /// when it never does.
    #[must_use]
    pub const fn refill_time(self, units: u64) -> Option<Duration> {
        match units {
            0 => Some(Duration::ZERO),
            _ if self.rate.num == 0 => None,
            _ => Some(Duration::from_micros(units.div_ceil(self.rate.num))),
        }
    }

    /// How long an empty bucket takes to be full; `None` when it never refills.
    #[must_use]
    pub const fn time_to_full(self) -> Option<Duration> {
        self.refill_time(self.capacity)
    }
}

/// Numbers stay below 2^62, so that a sum of two of them fits 63 bits.
const LARGEST: u64 = 1 << 62;

/// Reads a decimal as `digits / scale`, where `scale` is a power of ten.
fn decimal(text: &str) -> Result<(u64, u64), RateError> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i32>().map_err(|_| RateError::NotDecimal)?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(RateError::NotDecimal);
    }
    let fraction = fraction.trim_end_matches('0');
    let mut digits: u64 = format!("{whole}{fraction}").parse().map_err(|_| RateError::TooFine)?;
    let places = i32::try_from(fraction.len()).map_err(|_| RateError::TooFine)? - exponent;
    let power = 10_u64.checked_pow(places.unsigned_abs()).ok_or(RateError::TooFine)?;
    if places >= 0 {
        return Ok((digits, power));
    }
    digits = digits.checked_mul(power).ok_or(RateError::TooFine)?;
    Ok((digits, 1))
}

/// The greatest common divisor; never zero while one of the two is not.
const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Duration, Rate, RateError, Tokens};

    fn check(tokens: &str, micros: u64, expected: Result<(u64, u64), RateError>) {
        let rate = Rate::parse(tokens, Duration::from_micros(micros));
        assert_eq!(rate.map(|rate| (rate.num(), rate.den())), expected, "{tokens} per {micros} µs");
    }

    #[test]
    fn a_rate_is_kept_in_lowest_terms() {
        check("10", 1_000_000, Ok((1, 100_000)));
    }

    #[test]
    fn a_fraction_of_a_token_is_exact() {
        check("0.1", 1_000_000, Ok((1, 10_000_000)));
        check("2.50", 1_000_000, Ok((1, 400_000)));
    }

    #[test]
    fn an_exponent_is_read() {
        check("1e3", 1_000_000, Ok((1, 1_000)));
        check("5e-1", 1_000_000, Ok((1, 2_000_000)));
    }

    #[test]
    fn zero_is_a_rate() {
        check("0", 1_000_000, Ok((0, 1)));
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in ["", "-1", "+1", "x", "1.x", ".5", "inf", "NaN", "1e", "0x10", "1_000"] {
            check(text, 1_000_000, Err(RateError::NotDecimal));
        }
    }

    #[test]
    fn what_leaves_the_range_is_refused() {
        check("99999999999999999999", 1_000_000, Err(RateError::TooFine));
        check("1e30", 1_000_000, Err(RateError::TooFine));
        check("1", 0, Err(RateError::NoInterval));
    }

    #[test]
    fn a_capacity_counts_whole_and_broken_tokens() {
        let rate = Rate::parse("10", Duration::from_secs(1)).unwrap();
        let bucket = Bucket::new(rate, "5.5", Tokens(1)).unwrap();
        assert_eq!(bucket.burst(), Tokens(6));
        assert_eq!(bucket.capacity() * 2, bucket.unit() * 13);
    }

    #[test]
    fn a_bucket_of_a_rate_of_zero_never_fills() {
        let rate = Rate::parse("0", Duration::from_secs(1)).unwrap();
        assert_eq!(Bucket::new(rate, "5", Tokens(0)).unwrap().time_to_full(), None);
    }
}
