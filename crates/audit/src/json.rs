//! Writing JSON into a buffer that is reused: no allocation a field, no tree in between.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use model::Timestamp;

/// Writes the members of one object. [`Object::end`] closes it; `?`-free, because memory does not
/// fail.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Closes it.
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    /// Writes a member's name; the value is to follow.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        push_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        push_string(self.name(name), text);
    }

    /// Nothing when there is no value: an absent member and `null` are the same to readers.
    pub(crate) fn maybe_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(crate) fn ip(&mut self, name: &str, ip: IpAddr) {
        let out = self.name(name);
        out.push(b'"');
        push_ip(out, ip);
        out.push(b'"');
    }

    pub(crate) fn address(&mut self, name: &str, address: SocketAddr) {
        let out = self.name(name);
        out.push(b'"');
        match address {
            SocketAddr::V4(v4) => {
                push_ip(out, IpAddr::V4(*v4.ip()));
                out.push(b':');
                push_number(out, u64::from(v4.port()));
            }
            SocketAddr::V6(v6) => write!(out, "{v6}").expect(MEMORY),
        }
        out.push(b'"');
    }

    pub(crate) fn number(&mut self, name: &str, number: u64) {
        push_number(self.name(name), number);
    }

    pub(crate) fn yes(&mut self, name: &str) {
        self.name(name).extend_from_slice(b"true");
    }

    pub(crate) fn hex(&mut self, name: &str, number: u128, digits: usize) {
        let out = self.name(name);
        out.push(b'"');
        push_hex(out, number, digits);
        out.push(b'"');
    }

    pub(crate) fn time(&mut self, name: &str, time: Timestamp) {
        let out = self.name(name);
        out.push(b'"');
        push_time(out, time);
        out.push(b'"');
    }

    pub(crate) fn texts<'t>(&mut self, name: &str, texts: impl Iterator<Item = &'t str>) {
        let out = self.name(name);
        out.push(b'[');
        for (index, text) in texts.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_string(out, text);
        }
        out.push(b']');
    }

    /// Writes an array of objects, each of which `write` closes.
    pub(crate) fn objects<T>(
        &mut self,
        name: &str,
        items: impl Iterator<Item = T>,
        write: impl Fn(Object<'_>, T),
    ) {
        let out = self.name(name);
        out.push(b'[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(Object::begin(out), item);
        }
        out.push(b']');
    }

    pub(crate) fn object(&mut self, name: &str) -> Object<'_> {
        Object::begin(self.name(name))
    }
}

/// Writes a string with its quotes (RFC 8259 §7). Runs without escapes are copied whole.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = find_escape(rest) {
        let (run, tail) = rest.split_at(at);
        out.extend_from_slice(run);
        let Some((byte, tail)) = tail.split_first() else { break };
        rest = tail;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                out.extend_from_slice(b"\\u");
                push_hex(out, u128::from(*other), 4);
            }
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The first byte to be escaped. Eight at a time while there is none among them (S. E. Anderson,
/// "Bit Twiddling Hacks", `hasless` and `haszero`).
fn find_escape(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    let is_below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & TOPS;
    let is_equal = |word: u64, byte: u8| is_below(word ^ (ONES * u64::from(byte)), 1);
    let may_hold_one = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        let found = is_below(word, 0x20)
            | is_equal(word, b'"')
            | is_equal(word, b'\\')
            | is_equal(word, 0x7f);
        found != 0
    };
    let (words, rest) = text.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        // The tricks may name a byte behind a true one, never none when there is one.
        if may_hold_one(bytes)
            && let Some(at) = bytes.iter().position(|byte| must_escape(*byte))
        {
            return Some(8 * index + at);
        }
    }
    let mut last = [b' '; 8];
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    if !may_hold_one(&last) {
        return None;
    }
    let at = rest.iter().position(|byte| must_escape(*byte))?;
    Some(8 * words.len() + at)
}

const fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        let [digit, ..] = (rest % 10).to_le_bytes();
        *place = b'0' + digit;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

fn push_hex(out: &mut Vec<u8>, number: u128, digits: usize) {
    let mut text = [0; 32];
    // The buffer holds every digit of the number, so encoding it does not fail.
    let _fits = hex::encode_to_slice(number.to_be_bytes(), &mut text);
    out.extend_from_slice(text.get(text.len() - digits..).unwrap_or(&text));
}

fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect(MEMORY),
    }
}

/// A moment as RFC 3339 in UTC with microseconds: `2026-01-02T03:04:05.678901Z`.
pub(crate) fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    let (year, month, day) = date(time);
    let second = time.as_secs() % SECONDS_A_DAY;
    push_digits(out, year, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    out.push(b'T');
    push_digits(out, second / 3_600, 2);
    out.push(b':');
    push_digits(out, second / 60 % 60, 2);
    out.push(b':');
    push_digits(out, second % 60, 2);
    out.push(b'.');
    push_digits(out, time.as_micros() % 1_000_000, 6);
    out.push(b'Z');
}

/// Year, month and day in UTC (H. Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`). Years above 9999 stay 9999, which RFC 3339 ends with.
pub(crate) fn date(time: Timestamp) -> (u64, u64, u64) {
    let days = time.as_secs() / SECONDS_A_DAY + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year.min(9_999), month, day)
}

/// Exactly this many digits; higher ones are cut.
fn push_digits(out: &mut Vec<u8>, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        let [digit, ..] = (number / 10_u64.pow(place) % 10).to_le_bytes();
        out.push(b'0' + digit);
    }
}

const SECONDS_A_DAY: u64 = 86_400;
const MEMORY: &str = "writing to memory does not fail";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_time(micros: u64, expected: &str) {
        let mut out = Vec::new();
        push_time(&mut out, Timestamp::from_micros(micros));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        check_time(0, "1970-01-01T00:00:00.000000Z");
        check_time(951_782_399_999_999, "2000-02-28T23:59:59.999999Z");
        check_time(951_868_799_000_000, "2000-02-29T23:59:59.000000Z");
        check_time(951_868_800_000_001, "2000-03-01T00:00:00.000001Z");
        check_time(1_767_322_200_123_456, "2026-01-02T02:50:00.123456Z");
        check_time(4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_alike(text: String) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_number_is_read_back_alike(number: u64) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
