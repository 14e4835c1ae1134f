//! What lenient servers do to a path before they look at it, one habit each.

/// Escapes decoded; what is none stays.
pub(crate) fn decoded(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.split_at_checked(2).filter(|_| *first == b'%');
        let byte = escape.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            let digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, after) = byte.unwrap_or((*first, tail));
        read.push(byte);
        rest = after;
    }
    read
}

/// Backslashes turned into slashes.
pub(crate) fn turned(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// Without what stands behind a `;` in each segment.
pub(crate) fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let names = segments.map(|segment| segment.split(|byte| *byte == b';').next());
    names.map(Option::unwrap_or_default).collect::<Vec<_>>().join(&b'/')
}

/// Slashes behind slashes dropped.
pub(crate) fn merged(path: &[u8]) -> Vec<u8> {
    let mut read = path.to_vec();
    read.dedup_by(|one, other| *one == b'/' && *other == b'/');
    read
}

/// Dot segments resolved (RFC 3986 §5.2.4).
pub(crate) fn resolved(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => _ = kept.pop(),
            name => kept.push(name),
        }
    }
    [b"/", &*kept.join(&b'/')].concat()
}
