//! Paths and queries as they came: split on what is a slash on the wire, decoded only when asked.

/// The pieces between the slashes of a raw path. A trailing slash is an empty last piece.
pub(crate) fn segments(raw: &str) -> Vec<&str> {
    raw.strip_prefix('/').unwrap_or(raw).split('/').collect()
}

/// Percent-decoding (RFC 3986 §2.1). What is no escape stays, what is no UTF-8 becomes U+FFFD.
pub(crate) fn decode(raw: &str) -> String {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = (first == b'%').then(|| escaped(tail)).flatten();
        match escape {
            Some((byte, tail)) => {
                decoded.push(byte);
                rest = tail;
            }
            None => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The parameters of a query, decoded, in order. `+` is a space, as forms write it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new(raw: Option<&str>) -> Self {
        let pairs = raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(pairs.take(PARAMETERS_MAX).map(pair).collect())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a name, also under its bracketed spelling (`extensions[]=com`).
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .map(|(_, value)| value.as_str())
    }

    /// A whole number. The SDKs may write `1.0`.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        let text = self.text(name)?;
        text.strip_suffix(".0").unwrap_or(text).parse().ok()
    }
}

fn pair(raw: &str) -> (String, String) {
    let (key, value) = raw.split_once('=').unwrap_or((raw, ""));
    (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
}

fn escaped(tail: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, tail) = tail.split_at_checked(2)?;
    let [high, low] = digits else { return None };
    let byte = nibble(*high)? << 4 | nibble(*low)?;
    Some((byte, tail))
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Parameters read from one query; the rest is not looked at.
const PARAMETERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::{decode, segments};

    #[test]
    fn an_escaped_slash_does_not_split() {
        assert_eq!(segments("/a/b%2Fc//d/"), ["a", "b%2Fc", "", "d", ""]);
    }

    #[test]
    fn decoding_leaves_what_is_no_escape() {
        for (raw, decoded) in
            [("a%20b", "a b"), ("%2f%2F", "//"), ("100%", "100%"), ("%zz%4", "%zz%4")]
        {
            assert_eq!(decode(raw), decoded);
        }
    }
}
