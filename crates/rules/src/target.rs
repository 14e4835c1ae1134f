//! The request target: read once, matched in its normal form, forwarded as it was sent.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;

/// The path and query of a request (RFC 9112 §3.2.1), in the client's bytes and in normal form.
///
/// The normal form is the path with every percent-escape decoded, except those of `/`, `\` and
/// `%` and those that are not UTF-8, which stay with upper-case digits. Two paths that mean the
/// same have one normal form; a path that two parsers could read differently is not a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    sent: PathAndQuery,
    /// `None` while the path is its own normal form.
    normal: Option<Box<str>>,
    encoded_slash: bool,
}

/// Why a request target is refused. Offsets count bytes of the path as sent, from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    #[error("the request target is not an absolute path")]
    NotAbsolutePath,
    #[error("the path holds a control byte at offset {offset}")]
    Control { offset: usize },
    #[error("the path holds a byte outside visible ASCII at offset {offset}")]
    NotAscii { offset: usize },
    #[error("the path holds a malformed percent-escape at offset {offset}")]
    MalformedEscape { offset: usize },
    #[error("the path holds a backslash at offset {offset}")]
    Backslash { offset: usize },
    #[error("the path holds an empty segment at offset {offset}")]
    EmptySegment { offset: usize },
    #[error("the path holds a dot segment at offset {offset}")]
    DotSegment { offset: usize },
}

impl TargetFault {
    /// Whether two parsers could read the target differently; otherwise it is plainly invalid.
    #[must_use]
    pub const fn is_ambiguous(self) -> bool {
        match self {
            Self::Backslash { .. } | Self::EmptySegment { .. } | Self::DotSegment { .. } => true,
            Self::NotAbsolutePath
            | Self::Control { .. }
            | Self::NotAscii { .. }
            | Self::MalformedEscape { .. } => false,
        }
    }
}

impl Target {
    /// Reads the target of a request in origin form or absolute form.
    ///
    /// # Errors
    /// When it has no path (`*`, authority form), or one that is invalid or ambiguous.
    pub fn parse(uri: &Uri) -> Result<Self, TargetFault> {
        let sent = uri.path_and_query().ok_or(TargetFault::NotAbsolutePath)?;
        if sent.as_str().starts_with('/') {
            return Self::from_path_and_query(sent.clone());
        }
        // `http://host?query`: an empty path is sent on as `/` (RFC 9110 §4.2.3).
        let rooted = format!("/{}", sent.as_str());
        let sent = PathAndQuery::try_from(rooted).map_err(|_| TargetFault::NotAbsolutePath)?;
        if uri.path() == "/" {
            Self::from_path_and_query(sent)
        } else {
            Err(TargetFault::NotAbsolutePath)
        }
    }

    /// Reads a path with its query.
    ///
    /// # Errors
    /// When the path is invalid or ambiguous.
    pub fn from_path_and_query(sent: PathAndQuery) -> Result<Self, TargetFault> {
        let spelling = inspect(sent.path())?;
        let normal =
            spelling.escaped.then(|| normalise(sent.path(), |_| false)).and_then(|normal| {
                match normal {
                    Cow::Owned(normal) => Some(normal.into_boxed_str()),
                    Cow::Borrowed(_) => None,
                }
            });
        Ok(Self { sent, normal, encoded_slash: spelling.encoded_slash })
    }

    /// The same request in the reading in which its encoded slashes are slashes; `None` when it
    /// has none. Only its normal form differs.
    #[must_use]
    pub fn with_slashes_decoded(&self) -> Option<Self> {
        let normal = self.slashes_decoded()?.into_boxed_str();
        Some(Self { sent: self.sent.clone(), normal: Some(normal), encoded_slash: false })
    }

    /// Path and query as the client sent them.
    #[must_use]
    pub fn raw(&self) -> &str {
        self.sent.as_str()
    }

    /// Path and query as the client sent them, to forward.
    #[must_use]
    pub const fn path_and_query(&self) -> &PathAndQuery {
        &self.sent
    }

    /// The path as the client sent it, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.sent.path()
    }

    /// The query as the client sent it, without the `?`; `None` when there is no `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.sent.query()
    }

    /// The path in normal form.
    #[must_use]
    pub fn normal(&self) -> &str {
        self.normal.as_deref().unwrap_or_else(|| self.sent.path())
    }

    /// Whether the path as sent is another text than its normal form.
    #[must_use]
    pub const fn is_respelled(&self) -> bool {
        self.normal.is_some()
    }

    /// The normal form in the reading in which `%2F` and `%5C` are slashes; `None` when the path
    /// holds neither.
    #[must_use]
    pub fn slashes_decoded(&self) -> Option<String> {
        // A `%` of a normal form always opens an escape, so the texts are found only where meant.
        self.encoded_slash.then(|| self.normal().replace("%2F", "/").replace("%5C", "/"))
    }

    /// Whether the path holds an encoded slash or backslash.
    #[must_use]
    pub const fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }

    /// The offset of the first encoded slash or backslash in the normal form.
    #[must_use]
    pub fn encoded_slash_offset(&self) -> Option<usize> {
        if !self.encoded_slash {
            return None;
        }
        let normal = self.normal();
        let (slash, backslash) = (normal.find("%2F"), normal.find("%5C"));
        slash.into_iter().chain(backslash).min()
    }
}

/// What one walk over a path learns about its spelling.
#[derive(Clone, Copy, Default)]
struct Spelling {
    escaped: bool,
    encoded_slash: bool,
}

/// What the bytes of a segment amount to so far. Parameters (`;…`) do not count, since some
/// servers drop them before they resolve dots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    /// One dot or two, and then parameters.
    Dots,
    Name,
}

impl Segment {
    const fn then(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Empty, b'.') => Self::Dot,
            (Self::Dot, b'.') => Self::DotDot,
            (Self::Dot | Self::DotDot, b';') | (Self::Dots, _) => Self::Dots,
            (Self::Empty | Self::Dot | Self::DotDot | Self::Name, _) => Self::Name,
        }
    }

    const fn is_dots(self) -> bool {
        match self {
            Self::Dot | Self::DotDot | Self::Dots => true,
            Self::Empty | Self::Name => false,
        }
    }
}

/// Walks over a path once and refuses what is invalid or ambiguous. A dot segment is one between
/// separators of any spelling: what hides behind `%2F` or `%5C` counts.
fn inspect(path: &str) -> Result<Spelling, TargetFault> {
    let mut bytes = path.bytes().enumerate();
    if bytes.next().is_none_or(|(_, byte)| byte != b'/') {
        return Err(TargetFault::NotAbsolutePath);
    }
    let mut spelling = Spelling::default();
    let mut segment = Segment::Empty;
    let (mut start, mut behind_slash) = (1, true);
    while let Some((offset, sent)) = bytes.next() {
        let byte = match sent {
            b'%' => {
                let high = bytes.next().and_then(|(_, digit)| nibble(digit));
                let low = bytes.next().and_then(|(_, digit)| nibble(digit));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(TargetFault::MalformedEscape { offset });
                };
                spelling.escaped = true;
                high << 4 | low
            }
            b'\\' => return Err(TargetFault::Backslash { offset }),
            b'/' if behind_slash => return Err(TargetFault::EmptySegment { offset }),
            0x80.. | b' ' => return Err(TargetFault::NotAscii { offset }),
            plain => plain,
        };
        if byte < b' ' || byte == 0x7f {
            return Err(TargetFault::Control { offset });
        }
        behind_slash = sent == b'/';
        if byte != b'/' && byte != b'\\' {
            segment = segment.then(byte);
            continue;
        }
        if segment.is_dots() {
            return Err(TargetFault::DotSegment { offset: start });
        }
        spelling.encoded_slash |= sent == b'%';
        segment = Segment::Empty;
        start = offset + if sent == b'%' { ESCAPE_BYTES } else { 1 };
    }
    if segment.is_dots() { Err(TargetFault::DotSegment { offset: start }) } else { Ok(spelling) }
}

/// Decodes the percent-escapes of `text` but those of `/`, `\`, `%`, of bytes that are not UTF-8
/// and of the bytes `keep` names; these get upper-case digits. What is no escape stays.
pub(crate) fn normalise(text: &str, keep: fn(u8) -> bool) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut normal = String::with_capacity(text.len());
    // Decoded bytes from 0x80 wait here until it is known which of them are UTF-8.
    let mut high = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        if !before.is_empty() {
            flush(&mut high, &mut normal);
            normal.push_str(before);
        }
        let Some((byte, tail)) = escape(after) else {
            flush(&mut high, &mut normal);
            normal.push('%');
            rest = after;
            continue;
        };
        rest = tail;
        if !byte.is_ascii() {
            high.push(byte);
            continue;
        }
        flush(&mut high, &mut normal);
        if matches!(byte, b'/' | b'\\' | b'%') || keep(byte) {
            push_escaped(&mut normal, byte);
        } else {
            normal.push(char::from(byte));
        }
    }
    flush(&mut high, &mut normal);
    normal.push_str(rest);
    if normal == text { Cow::Borrowed(text) } else { Cow::Owned(normal) }
}

/// Appends `byte` as a percent-escape with upper-case digits.
pub(crate) fn push_escaped(text: &mut String, byte: u8) {
    text.push('%');
    for nibble in [byte >> 4, byte & 0xf] {
        text.extend(
            char::from_digit(u32::from(nibble), 16).map(|digit| digit.to_ascii_uppercase()),
        );
    }
}

/// Reads the two digits behind a `%`: the byte, and what follows.
pub(crate) fn escape(after: &str) -> Option<(u8, &str)> {
    let (digits, tail) = after.split_at_checked(ESCAPE_BYTES - 1)?;
    let mut digits = digits.bytes().map(nibble);
    let (high, low) = (digits.next()??, digits.next()??);
    Some((high << 4 | low, tail))
}

fn flush(high: &mut Vec<u8>, normal: &mut String) {
    for chunk in high.utf8_chunks() {
        normal.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|&byte| push_escaped(normal, byte));
    }
    high.clear();
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// `%2F`.
const ESCAPE_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use http::Uri;
    use proptest::prelude::{
        ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest,
    };

    use super::{PathAndQuery, Target, TargetFault, push_escaped};

    /// The path's normal form, or the fault.
    fn check(path: &str, expected: Result<&str, TargetFault>) {
        let target = parse(path);
        assert_eq!(target.as_ref().map(Target::normal).map_err(|fault| *fault), expected, "{path}");
    }

    fn check_slashes(path: &str, expected: Option<&str>) {
        let target = parse(path).unwrap();
        assert_eq!(target.slashes_decoded().as_deref(), expected, "{path}");
        assert_eq!(target.has_encoded_slash(), expected.is_some(), "{path}");
    }

    fn parse(path: &str) -> Result<Target, TargetFault> {
        Target::from_path_and_query(PathAndQuery::try_from(path).unwrap())
    }

    #[test]
    fn a_plain_path_is_its_own_normal_form() {
        for path in [
            "/",
            "/client/v4/zones",
            "/a/",
            "/a.b/..c/d../...",
            "/a;x=1/b",
            "/a*b",
            "/.well-known/x",
        ] {
            check(path, Ok(path));
            assert!(!parse(path).unwrap().is_respelled());
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        check("/%41%7eb%20c%3f", Ok("/A~b c?"));
        check("/%252e%252E/%2525", Ok("/%252e%252E/%2525"));
    }

    #[test]
    fn escapes_of_separators_and_percent_stay_in_upper_case() {
        check("/a%2fb%5cc%25", Ok("/a%2Fb%5Cc%25"));
        assert!(!parse("/a%2Fb").unwrap().is_respelled());
        assert!(parse("/a%2fb").unwrap().is_respelled());
    }

    #[test]
    fn escapes_that_are_utf_8_are_decoded_and_others_stay() {
        check("/caf%c3%a9", Ok("/café"));
        check("/%c3%28%ff%c3%a9%e2%82", Ok("/%C3(%FFé%E2%82"));
        check("/%c0%af%c0%ae", Ok("/%C0%AF%C0%AE"));
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for (path, offset) in [
            ("/.", 1),
            ("/..", 1),
            ("/a/./b", 3),
            ("/a/../b", 3),
            ("/a/%2e/b", 3),
            ("/a/.%2E", 3),
            ("/a/%2e%2e/", 3),
            ("/a/..;x/b", 3),
            ("/a/.;/b", 3),
            ("/a/..%3bx=1", 3),
            ("/a/.;../b", 3),
        ] {
            check(path, Err(TargetFault::DotSegment { offset }));
        }
    }

    #[test]
    fn dot_segments_behind_encoded_slashes_are_refused() {
        check("/a%2F..%2Fb", Err(TargetFault::DotSegment { offset: 5 }));
        check("/a/..%2f", Err(TargetFault::DotSegment { offset: 3 }));
        check("/a%5c..", Err(TargetFault::DotSegment { offset: 5 }));
        check("/a%2f%2e", Err(TargetFault::DotSegment { offset: 5 }));
    }

    #[test]
    fn empty_segments_are_refused() {
        check("//", Err(TargetFault::EmptySegment { offset: 1 }));
        check("//a", Err(TargetFault::EmptySegment { offset: 1 }));
        check("/a//b", Err(TargetFault::EmptySegment { offset: 3 }));
        check("/a//", Err(TargetFault::EmptySegment { offset: 3 }));
    }

    #[test]
    fn control_bytes_are_refused() {
        for path in ["/a%00", "/a%1f", "/a%7F", "/a%0d%0a"] {
            check(path, Err(TargetFault::Control { offset: 2 }));
        }
        check("/a%20", Ok("/a "));
    }

    #[test]
    fn raw_backslashes_and_raw_bytes_outside_ascii_are_refused() {
        check("/a\\b", Err(TargetFault::Backslash { offset: 2 }));
        check("/aé", Err(TargetFault::NotAscii { offset: 2 }));
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for path in ["/a%", "/a%2", "/a%zz", "/a%2g", "/a%%41", "/a%+1"] {
            check(path, Err(TargetFault::MalformedEscape { offset: 2 }));
        }
    }

    #[test]
    fn encoded_slashes_have_a_second_reading() {
        check_slashes("/a%2fb%5Cc", Some("/a/b/c"));
        check_slashes("/a%252Fb", None);
        check_slashes("/a/b?c=%2F", None);
    }

    #[test]
    fn a_target_needs_a_path() {
        let parse = |uri: &str| Target::parse(&uri.parse::<Uri>().unwrap());
        assert_eq!(parse("*"), Err(TargetFault::NotAbsolutePath));
        assert_eq!(parse("example.com:443"), Err(TargetFault::NotAbsolutePath));
        assert_eq!(parse("http://example.com").unwrap().raw(), "/");
        assert_eq!(parse("http://example.com?a").unwrap().raw(), "/?a");
        assert_eq!(parse("http://example.com/a?b").unwrap().raw(), "/a?b");
    }

    #[test]
    fn the_query_is_left_alone() {
        let target = parse("/a%41?b=%41%zz/../?\\").unwrap();
        assert_eq!(target.query(), Some("b=%41%zz/../?\\"));
        assert_eq!((target.path(), target.normal()), ("/a%41", "/aA"));
        assert_eq!(parse("/a").unwrap().query(), None);
        assert_eq!(parse("/a?").unwrap().query(), Some(""));
    }

    #[test]
    fn what_two_parsers_read_differently_is_ambiguous_and_the_rest_invalid() {
        assert!(parse("/a//b").unwrap_err().is_ambiguous());
        assert!(parse("/a/..").unwrap_err().is_ambiguous());
        assert!(parse("/a\\").unwrap_err().is_ambiguous());
        assert!(!parse("/%zz").unwrap_err().is_ambiguous());
        assert!(!parse("/%00").unwrap_err().is_ambiguous());
    }

    /// Paths that are rich in what is dangerous.
    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a", "b", ".", "..", ";", "/", "%2f", "%5C", "%2e", "%41", "%25", "%3b", "%c3", "%a9",
            "%C3%A9", "%3F", "~",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// A normal form as a path again: what may not stand raw in one is escaped.
    fn respell(normal: &str) -> String {
        let mut path = String::new();
        for byte in normal.bytes() {
            if byte.is_ascii_graphic() && !b"?#<>`^\\".contains(&byte) {
                path.push(char::from(byte));
            } else {
                push_escaped(&mut path, byte);
            }
        }
        path
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_normal_form_is_its_own_normal_form(path in paths()) {
            if let Ok(target) = parse(&path) {
                let again = parse(&respell(target.normal())).unwrap();
                prop_assert_eq!(again.normal(), target.normal());
            }
        }

        #[test]
        fn no_reading_of_a_target_holds_a_dot_segment(path in paths()) {
            if let Ok(target) = parse(&path) {
                let reading = target.slashes_decoded().unwrap_or_else(|| target.normal().to_owned());
                for segment in reading.split('/') {
                    let name = segment.split(';').next().unwrap_or_default();
                    prop_assert!(name != "." && name != "..", "{path} reads {reading}");
                }
                prop_assert!(!target.normal().contains("//"));
            }
        }

        #[test]
        fn paths_of_one_normal_form_decode_to_the_same_bytes(one in paths(), other in paths()) {
            if let (Ok(one), Ok(other)) = (parse(&one), parse(&other)) {
                let same = decode(one.path()) == decode(other.path());
                prop_assert!(same || one.normal() != other.normal());
                // Only a separator can be spelled in two ways that are kept apart.
                let separators = one.has_encoded_slash() || other.has_encoded_slash();
                prop_assert!(!same || separators || one.normal() == other.normal());
            }
        }

        #[test]
        fn reading_a_target_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for start in [&b""[..], b"/", b"/a?"] {
                let bytes = [start, &bytes].concat();
                if let Ok(uri) = Uri::try_from(bytes.as_slice())
                    && let Ok(target) = Target::parse(&uri)
                {
                    prop_assert!(target.raw().starts_with('/'));
                }
            }
        }
    }

    fn decode(path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = path.as_bytes();
        while let [first, after @ ..] = rest {
            let digits = (*first == b'%').then(|| std::str::from_utf8(&after[..2]).unwrap());
            bytes.push(digits.map_or(*first, |digits| u8::from_str_radix(digits, 16).unwrap()));
            rest = if digits.is_some() { &after[2..] } else { after };
        }
        bytes
    }
}
