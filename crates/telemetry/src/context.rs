//! W3C Trace Context: who called, which trace this belongs to, and whether it is recorded.
//!
//! <https://www.w3.org/TR/trace-context/>. Pure, and free of allocation but for joining a
//! `tracestate` of several fields.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries a [`TraceContext`].
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header that carries what vendors add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// The id of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// A place in a trace: what a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub sampled: bool,
}

impl TraceId {
    /// From random bits; zero, which the format forbids, becomes one.
    #[must_use]
    pub const fn from_random(bits: u128) -> Self {
        Self(if bits == 0 { 1 } else { bits })
    }

    /// The bits.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The 63 bits that samplers of OpenTelemetry judge by, so that all agree on a trace.
    const fn sampling_bits(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        let [.., a, b, c, d, e, f, g, h] = bytes;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1
    }
}

impl SpanId {
    /// From random bits; zero, which the format forbids, becomes one.
    #[must_use]
    pub const fn from_random(bits: u64) -> Self {
        Self(if bits == 0 { 1 } else { bits })
    }

    /// The bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for SpanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::fmt::Debug for SpanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl TraceContext {
    /// Reads the `traceparent` of a request; `None` when it has none, several, or a wrong one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let only = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(only.as_bytes())
    }

    /// Reads the value of a `traceparent`. Of a version above 00 the part that version 00 knows
    /// is read (W3C Trace Context §4.3).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, tail) = text.split_at_checked(TRACEPARENT_LEN)?;
        let version = hex(head.get(0..2)?)?;
        let tail_fits = match version {
            0 => tail.is_empty(),
            0xff => false,
            _ => matches!(tail, [] | [b'-', ..]),
        };
        let dashes = [2, 35, 52].iter().all(|&at| head.get(at) == Some(&b'-'));
        if !tail_fits || !dashes {
            return None;
        }
        let trace_id = hex(head.get(3..35)?)?;
        let span_id = u64::try_from(hex(head.get(36..52)?)?).ok()?;
        let flags = hex(head.get(53..55)?)?;
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            sampled: flags & SAMPLED != 0,
        })
    }

    /// The same trace, from a span of our own: what an upstream is told.
    #[must_use]
    pub const fn child(self, span_id: SpanId, sampled: bool) -> Self {
        Self { trace_id: self.trace_id, span_id, sampled }
    }

    /// The value of a `traceparent`, version 00. Flags we do not know are not passed on.
    #[must_use]
    pub fn traceparent(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.0.to_be_bytes());
        write_hex(&mut text[36..52], &self.span_id.0.to_be_bytes());
        write_hex(&mut text[53..55], &[u8::from(self.sampled)]);
        HeaderValue::from_bytes(&text).expect("hex digits and dashes are a header value")
    }
}

/// The `tracestate` to pass on beside a valid `traceparent`: its fields joined. `None` when there
/// is none, when it breaks the grammar, or when it is longer than a node passes on.
#[must_use]
pub fn tracestate(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE).iter();
    let first = values.next()?;
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return is_tracestate(first.as_bytes()).then(|| first.clone());
    }
    let mut joined = first.as_bytes().to_vec();
    for value in rest {
        if joined.len() + value.len() >= TRACESTATE_LEN_MAX {
            return None;
        }
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    if is_tracestate(&joined) { HeaderValue::from_bytes(&joined).ok() } else { None }
}

/// Decides at a request's head whether it is recorded. Copy it to where requests begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    root: Root,
    parent_based: bool,
}

/// How a request without a deciding parent is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Always,
    Never,
    /// Recorded when the trace id's sampling bits are below this.
    Below(u64),
}

impl Sampler {
    /// Samples nothing by itself: traces are off. A caller's decision is kept, so that a gate
    /// without a collector does not end the traces that pass through it.
    pub const OFF: Self = Self { root: Root::Never, parent_based: true };

    /// Reads `OTEL_TRACES_SAMPLER` and its argument; `None` when the name is not known.
    ///
    /// # Errors
    /// When the sampler is a ratio and the argument is not a number from 0 to 1.
    pub(crate) fn named(name: &str, argument: Option<&str>) -> Option<Result<Self, String>> {
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let root = match root {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => match ratio(argument.unwrap_or("1")) {
                Ok(bound) => Root::Below(bound),
                Err(problem) => return Some(Err(problem)),
            },
            _ => return None,
        };
        Some(Ok(Self { root, parent_based }))
    }

    /// The same decision for spans that the SDK makes.
    pub(crate) fn for_sdk(self) -> opentelemetry_sdk::trace::Sampler {
        use opentelemetry_sdk::trace::Sampler as Sdk;
        let root = match self.root {
            Root::Always => Sdk::AlwaysOn,
            Root::Never => Sdk::AlwaysOff,
            #[expect(clippy::cast_precision_loss, reason = "a share of spans needs no more digits")]
            Root::Below(bound) => Sdk::TraceIdRatioBased(bound as f64 / SAMPLING_RANGE),
        };
        if self.parent_based { Sdk::ParentBased(Box::new(root)) } else { root }
    }

    /// Whether a request is recorded.
    #[must_use]
    pub const fn decide(self, parent: Option<&TraceContext>, trace_id: TraceId) -> bool {
        if let (true, Some(parent)) = (self.parent_based, parent) {
            return parent.sampled;
        }
        match self.root {
            Root::Always => true,
            Root::Never => false,
            Root::Below(bound) => trace_id.sampling_bits() < bound,
        }
    }
}

impl Default for Sampler {
    /// `parentbased_always_on`, as the specification has it.
    fn default() -> Self {
        Self { root: Root::Always, parent_based: true }
    }
}

/// The share of 2^63 trace ids that a ratio records.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ratio from 0 to 1 times 2^63 fits, and a float is what the specification gives"
)]
fn ratio(text: &str) -> Result<u64, String> {
    match text.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok((ratio * SAMPLING_RANGE) as u64),
        Ok(_) | Err(_) => Err(format!("must be a number from 0 to 1, not {text:?}")),
    }
}

/// Reads lower-case hex digits; nothing else counts.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Writes each byte as two digits.
fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
    }
}

/// Whether a text is a `tracestate` (W3C Trace Context §3.3.1).
fn is_tracestate(text: &[u8]) -> bool {
    if text.len() > TRACESTATE_LEN_MAX {
        return false;
    }
    let mut keys: Vec<&[u8]> = Vec::new();
    for member in text.split(|byte| *byte == b',') {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
        let (key, value) = member.split_at(equals);
        if !is_key(key) || !is_value(value.get(1..).unwrap_or_default()) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty() && keys.len() <= MEMBERS_MAX
}

/// `key`, or `tenant@system`.
fn is_key(key: &[u8]) -> bool {
    let rest = |part: &[u8]| {
        part.iter()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    let mut parts = key.split(|byte| *byte == b'@');
    match (parts.next(), parts.next(), parts.next()) {
        (Some([b'a'..=b'z', tail @ ..]), None, None) => tail.len() <= 255 && rest(tail),
        (
            Some([b'a'..=b'z' | b'0'..=b'9', tenant @ ..]),
            Some([b'a'..=b'z', system @ ..]),
            None,
        ) => tenant.len() <= 240 && rest(tenant) && system.len() <= 13 && rest(system),
        _ => false,
    }
}

/// 1 to 256 printable characters without `,` and `=`, the last of which is no blank.
fn is_value(value: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'=');
    value.len() <= 256
        && value.iter().all(printable)
        && value.last().is_some_and(|last| *last != b' ')
}

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_LEN: usize = 55;
/// Bytes of a `tracestate` that are passed on (the specification asks for 512 at least); a longer
/// one is dropped whole, which costs vendors their own data and nobody the trace.
const TRACESTATE_LEN_MAX: usize = 4_096;
/// Members of a `tracestate`, by the specification.
const MEMBERS_MAX: usize = 32;
/// The flag that says the caller recorded its span.
const SAMPLED: u128 = 1;
/// 2^63: the number of values the sampling bits can have.
const SAMPLING_RANGE: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn check(text: &str, expected: Option<bool>) {
        let parsed = TraceContext::parse(text.as_bytes());
        assert_eq!(parsed.map(|context| context.sampled), expected, "{text}");
    }

    fn check_state(fields: &[&str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(TRACESTATE, HeaderValue::from_str(field).unwrap());
        }
        let state = tracestate(&headers);
        assert_eq!(state.as_ref().map(|state| state.to_str().unwrap()), expected, "{fields:?}");
    }

    fn check_sampler(name: &str, argument: Option<&str>, parent: Option<bool>, expected: bool) {
        let sampler = Sampler::named(name, argument).unwrap().unwrap();
        let context = TraceContext::parse(PARENT.as_bytes()).unwrap();
        let parent = parent.map(|sampled| context.child(SpanId(7), sampled));
        let decided = sampler.decide(parent.as_ref(), context.trace_id);
        assert_eq!(decided, expected, "{name} {argument:?} {parent:?}");
    }

    #[test]
    fn while_traces_are_off_a_caller_still_decides() {
        let context = TraceContext::parse(PARENT.as_bytes()).unwrap();
        assert!(!Sampler::OFF.decide(None, context.trace_id));
        for sampled in [false, true] {
            let parent = context.child(SpanId(7), sampled);
            assert_eq!(Sampler::OFF.decide(Some(&parent), context.trace_id), sampled);
        }
    }

    #[test]
    fn a_traceparent_is_read_and_written_alike() {
        let context = TraceContext::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            context.child(SpanId(255), false).traceparent().to_str().unwrap()[36..],
            *"00000000000000ff-00"
        );
    }

    #[test]
    fn the_lowest_flag_is_sampled_and_others_are_ignored() {
        check(PARENT, Some(true));
        check(&PARENT.replace("-01", "-00"), Some(false));
        check(&PARENT.replace("-01", "-03"), Some(true));
        check(&PARENT.replace("-01", "-fe"), Some(false));
    }

    #[test]
    fn ids_of_zero_are_refused() {
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        check(&PARENT.replacen("00", "cc", 1), Some(true));
        check(&format!("{}-what-comes", PARENT.replacen("00", "cc", 1)), Some(true));
        check(&format!("{}.what", PARENT.replacen("00", "cc", 1)), None);
        check(&PARENT.replacen("00", "ff", 1), None);
    }

    #[test]
    fn what_is_not_the_grammar_is_refused() {
        for wrong in ["", "00", &format!("{PARENT}-"), &format!("{PARENT}0"), &PARENT[..54]] {
            check(wrong, None);
        }
        check(&PARENT.to_uppercase(), None);
        check(&PARENT.replace('-', "_"), None);
        check(&PARENT.replace("4bf9", "4bg9"), None);
        check(&PARENT.replace("4bf9", "+bf9"), None);
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert!(TraceContext::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert!(TraceContext::of(&headers).is_none());
    }

    #[test]
    fn a_tracestate_is_joined_and_kept() {
        check_state(&[], None);
        check_state(
            &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"],
            Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        );
        check_state(&["a=1", "b=2"], Some("a=1,b=2"));
        check_state(&["a=1, ,b=2"], Some("a=1, ,b=2"));
        check_state(&["0t@sys=x y"], Some("0t@sys=x y"));
    }

    #[test]
    fn a_tracestate_out_of_the_grammar_is_dropped_whole() {
        for wrong in ["", "a", "A=1", "a=", "a=1,a=2", "a=b=c", "1a=2", "a@b@c=1", "a@1=2", "a=1,b"]
        {
            check_state(&[wrong], None);
        }
        let many = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>();
        check_state(&[&many[..32].join(",")], Some(&many[..32].join(",")));
        check_state(&[&many.join(",")], None);
        check_state(&[&format!("a={}", "x".repeat(257))], None);
        check_state(&[&format!("a={}", "x".repeat(256))], Some(&format!("a={}", "x".repeat(256))));
    }

    #[test]
    fn a_parent_decides_where_the_sampler_says_so() {
        check_sampler("parentbased_always_on", None, Some(false), false);
        check_sampler("parentbased_always_off", None, Some(true), true);
        check_sampler("parentbased_traceidratio", Some("0"), Some(true), true);
        check_sampler("always_on", None, Some(false), true);
        check_sampler("always_off", None, Some(true), false);
    }

    #[test]
    fn a_ratio_records_its_share() {
        let sampler = Sampler::named("traceidratio", Some("0.25")).unwrap().unwrap();
        let ids = (0..10_000_u128).map(|n| TraceId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        let share = ids.filter(|id| sampler.decide(None, *id)).count();
        assert!((2_300..2_700).contains(&share), "{share}");
        check_sampler("traceidratio", Some("1"), None, true);
        check_sampler("traceidratio", Some("0"), None, false);
    }

    #[test]
    fn a_ratio_outside_its_range_is_refused() {
        for wrong in ["-0.1", "1.1", "NaN", "x", ""] {
            assert!(Sampler::named("traceidratio", Some(wrong)).unwrap().is_err(), "{wrong}");
        }
        assert!(Sampler::named("jaeger_remote", None).is_none());
    }
}
