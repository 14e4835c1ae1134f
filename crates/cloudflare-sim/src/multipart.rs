//! Form bodies in parts (RFC 7578, RFC 2046 §5.1).
use bytes::Bytes;

use crate::envelope::Refusal;

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: Bytes,
}

impl Part {
    /// Whether it is the file of this name. The Python SDK sends every file of a form as `files`
    /// and tells them apart by their file names; wrangler uses the parts' own.
    pub(crate) fn is_file(&self, name: &str) -> bool {
        self.name == name || self.file_name.as_deref() == Some(name)
    }
}

/// Whether a `Content-Type` announces parts.
pub(crate) fn is_multipart(content_type: &str) -> bool {
    content_type.trim_start().to_ascii_lowercase().starts_with("multipart/")
}

/// The parts of `body`, in order.
pub(crate) fn parts(content_type: &str, body: &Bytes) -> Result<Vec<Part>, Refusal> {
    let boundary = parameter(content_type, "boundary").ok_or_else(|| broken("no boundary"))?;
    // A delimiter is one at the start of a line only: a module may hold its text elsewhere.
    let delimiter = format!("\r\n--{boundary}");
    let opening = delimiter.trim_start();
    let mut start = if body.starts_with(opening.as_bytes()) {
        opening.len()
    } else {
        let found = find(body, delimiter.as_bytes(), 0);
        found.ok_or_else(|| broken("the boundary does not appear"))? + delimiter.len()
    };
    let mut parts = Vec::new();
    while let Some(next) = find(body, delimiter.as_bytes(), start) {
        if parts.len() == PARTS_MAX {
            return Err(broken("there are too many parts"));
        }
        let section = body.slice(start..next);
        parts.push(part(&section).ok_or_else(|| broken("a part has no head"))?);
        start = next + delimiter.len();
    }
    if !body.get(start..).unwrap_or_default().starts_with(b"--") {
        return Err(broken("the end is missing"));
    }
    Ok(parts)
}

fn part(section: &Bytes) -> Option<Part> {
    let content = section.strip_prefix(b"\r\n")?;
    let head_end = find(content, b"\r\n\r\n", 0)?;
    let head = std::str::from_utf8(content.get(..head_end)?).ok()?;
    let bytes = content.get(head_end + 4..)?;
    let (mut name, mut file_name, mut content_type) = (None, None, None);
    for line in head.split("\r\n") {
        let (key, value) = line.split_once(':')?;
        match key.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                name = parameter(value, "name");
                file_name = parameter(value, "filename");
            }
            "content-type" => content_type = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    Some(Part { name: name?, file_name, content_type, bytes: section.slice_ref(bytes) })
}

/// A parameter of a header's value, its quotes taken off.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        rest = after.trim_start();
        let Some((key, given)) = rest.split_once('=') else { continue };
        let text = match given.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or(quoted),
            None => given.split(';').next().unwrap_or(given).trim(),
        };
        if key.trim().eq_ignore_ascii_case(wanted) {
            return Some(text.to_owned());
        }
    }
    None
}

/// Where `needle` first appears in `hay`, not before `from`. Only its first byte is looked for
/// everywhere, so that large modules are passed over quickly.
fn find(hay: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let first = needle.first()?;
    let mut at = from;
    loop {
        let rest = hay.get(at..)?;
        at += rest.iter().position(|byte| byte == first)?;
        if hay.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

fn broken(why: &str) -> Refusal {
    Refusal::bad(10_021, format!("The multipart body cannot be read: {why}"))
}

/// Parts of one form; a form with more is refused.
const PARTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::parts;

    /// Reads a form and writes what is in it.
    fn check(content_type: &str, body: &str, expected: &str) {
        let body = Bytes::from(body.replace('\n', "\r\n"));
        let text = match parts(content_type, &body) {
            Ok(parts) => parts
                .iter()
                .map(|part| {
                    let text = String::from_utf8_lossy(&part.bytes);
                    format!("{}/{:?}={text}", part.name, part.file_name.as_deref())
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(_) => "broken".to_owned(),
        };
        assert_eq!(text, expected);
    }

    const TWO: &str = "--x\nContent-Disposition: form-data; name=\"a\"\n\n1\n--x\n\
                       Content-Disposition: form-data; name=\"b\"; filename=\"b;js\"\n\n2\n\n--x--\n";

    #[test]
    fn parts_come_in_order_with_their_names() {
        check("multipart/form-data; boundary=x", TWO, "a/None=1 b/Some(\"b;js\")=2\r\n");
        check("multipart/form-data; boundary=\"x\"", TWO, "a/None=1 b/Some(\"b;js\")=2\r\n");
    }

    #[test]
    fn a_boundary_within_a_line_is_text() {
        let body = "preamble\n--x\nContent-Disposition: form-data; name=\"a\"\n\nlet s = '--x';\n\
                    --x--\n";
        check("multipart/form-data; boundary=x", body, "a/None=let s = '--x';");
    }

    #[test]
    fn an_empty_part_is_a_part() {
        let body = "--x\nContent-Disposition: form-data; name=\"a\"\n\n\n--x--\n";
        check("multipart/form-data; boundary=x", body, "a/None=");
    }

    #[test]
    fn a_form_that_is_cut_short_is_broken() {
        check("multipart/form-data; boundary=x", "--x\nContent-Disposition: form-data", "broken");
        check("multipart/form-data; boundary=y", TWO, "broken");
        check("multipart/form-data", TWO, "broken");
    }
}
