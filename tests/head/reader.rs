//! A strict reader of requests (RFC 9112), against which the gate is held. It takes what the RFC
//! lets a server take: a bare LF as the end of a line in a head (§2.2), a length that is repeated
//! alike, a length beside a coding, which is then without meaning (§6.3), and blanks behind the
//! size of a chunk (§7.1.1).

/// A request as its sender meant it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// In origin form; `None` where there is none, or not one host.
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// What comes after the last whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing, or what the last request forbids to read.
    Nothing,
    /// The beginning of another.
    Unfinished,
    /// What is no request, or not one only.
    Malformed,
}

/// The whole requests that stand one after the other in `bytes`.
pub(crate) fn requests(bytes: &[u8]) -> (Vec<Request>, End) {
    let mut reader = Reader(bytes);
    let mut found = Vec::new();
    loop {
        match reader.request() {
            Ok((request, Next::May)) => found.push(request),
            Ok((request, Next::MustNot)) => {
                found.push(request);
                return (found, End::Nothing);
            }
            Err(end) => return (found, end),
        }
    }
}

/// Whether another request comes behind this one.
enum Next {
    May,
    MustNot,
}

struct Reader<'a>(&'a [u8]);

struct Head<'a> {
    target: &'a [u8],
    is_new: bool,
    fields: Vec<(String, &'a [u8])>,
}

impl Head<'_> {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter().filter(|(other, _)| other == name);
        fields.map(|(_, value)| *value).collect()
    }

    /// Path and query, if head and target name one host.
    fn target(&self) -> Option<Vec<u8>> {
        let hosts = self.all("host");
        let host = match *hosts.as_slice() {
            [host] => Some(host),
            [] if !self.is_new => None,
            _ => return None,
        };
        if self.target.starts_with(b"/") {
            return Some(self.target.to_vec());
        }
        let lower = self.target.to_ascii_lowercase();
        let scheme = ["http://", "https://"].iter().find(|name| lower.starts_with(name.as_bytes()));
        let rest = self.target.get(scheme?.len()..)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
            return None;
        }
        Some(if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() })
    }
}

impl<'a> Reader<'a> {
    fn request(&mut self) -> Result<(Request, Next), End> {
        while let [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] = self.0 {
            self.0 = rest;
        }
        if self.0.is_empty() {
            return Err(End::Nothing);
        }
        let head = self.head()?;
        let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
        let body = match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Vec::new(),
            (lengths, []) => self.sized(lengths)?,
            (_, [coding]) if head.is_new && coding.eq_ignore_ascii_case(b"chunked") => {
                self.chunks()?
            }
            _ => return Err(End::Malformed),
        };
        let is_closing = |value: &&[u8]| {
            value
                .split(|byte| *byte == b',')
                .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
        };
        let is_last = !head.is_new
            || head.all("connection").iter().any(is_closing)
            || (!lengths.is_empty() && !codings.is_empty());
        let next = if is_last { Next::MustNot } else { Next::May };
        Ok((Request { target: head.target(), body }, next))
    }

    fn head(&mut self) -> Result<Head<'a>, End> {
        let first = self.line()?;
        let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
        let [method, target, version] = *words.as_slice() else { return Err(End::Malformed) };
        let is_new = version == b"HTTP/1.1";
        if !(is_new || version == b"HTTP/1.0")
            || !is_name(method)
            || target.is_empty()
            || target.iter().any(u8::is_ascii_control)
        {
            return Err(End::Malformed);
        }
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { target, is_new, fields });
            }
            fields.push(field(line)?);
        }
    }

    /// The next line of a head, without its end.
    fn line(&mut self) -> Result<&'a [u8], End> {
        let end = self.0.iter().position(|byte| *byte == b'\n').ok_or(End::Unfinished)?;
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next line of a body, which ends by the letter.
    fn body_line(&mut self) -> Result<&'a [u8], End> {
        let before = self.0;
        let line = self.line()?;
        let is_whole = before.get(line.len()..).is_some_and(|end| end.starts_with(b"\r\n"));
        if is_whole && !line.contains(&b'\r') { Ok(line) } else { Err(End::Malformed) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], End> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(End::Unfinished)?;
        self.0 = rest;
        Ok(taken)
    }

    fn sized(&mut self, lengths: &[&[u8]]) -> Result<Vec<u8>, End> {
        let number = |text: &&[u8]| {
            let text = std::str::from_utf8(text).ok()?;
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?
        };
        let numbers: Option<Vec<u64>> = lengths.iter().map(number).collect();
        let numbers = numbers.ok_or(End::Malformed)?;
        let [length, others @ ..] = numbers.as_slice() else { return Err(End::Malformed) };
        if others.iter().any(|other| other != length) {
            return Err(End::Malformed);
        }
        self.take(usize::try_from(*length).map_err(|_| End::Unfinished)?).map(<[u8]>::to_vec)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        loop {
            let line = self.body_line()?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
            let digits = std::str::from_utf8(size).ok();
            let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let size = digits.and_then(|text| usize::from_str_radix(text, 16).ok());
            let size = size.ok_or(End::Malformed)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(self.take(size)?);
            if !self.body_line()?.is_empty() {
                return Err(End::Malformed);
            }
        }
        loop {
            let line = self.body_line()?;
            if line.is_empty() {
                return Ok(body);
            }
            field(line)?;
        }
    }
}

fn field(line: &[u8]) -> Result<(String, &[u8]), End> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(End::Malformed)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    let is_value = !value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
    if !is_name(name) || !is_value {
        return Err(End::Malformed);
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii()))
}

/// A token (RFC 9110 §5.6.2).
fn is_name(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(fits)
}
