//! What is stored and sent names its version: `{"v":1,"d":…}`. A reader of another version says so
//! instead of guessing.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of every record that this release writes, and the newest it reads.
pub(crate) const RECORD_VERSION: u32 = 1;

/// Why a record could not be read. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it has version {found}; this release reads up to {RECORD_VERSION}")]
    Newer { found: u32 },
    #[error("it is none of ours")]
    Malformed,
}

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    d: &'a T,
}

#[derive(Deserialize)]
struct Read<'a> {
    v: u32,
    #[serde(borrow)]
    d: &'a RawValue,
}

/// A value as a record.
pub(crate) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(&Written { v: RECORD_VERSION, d: value })
        .expect("our records are JSON values, numbers and texts, which always serialise")
}

/// A record's value.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let read = open(bytes)?;
    serde_json::from_str(read.d.get()).map_err(|_| Unreadable::Malformed)
}

/// Checks a record's version without reading its value.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Unreadable> {
    open(bytes).map(drop)
}

fn open(bytes: &[u8]) -> Result<Read<'_>, Unreadable> {
    let read: Read<'_> = serde_json::from_slice(bytes).map_err(|_| Unreadable::Malformed)?;
    if read.v > RECORD_VERSION {
        return Err(Unreadable::Newer { found: read.v });
    }
    if read.v != RECORD_VERSION {
        return Err(Unreadable::Malformed);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::{Unreadable, pack, unpack};

    fn check(record: &str, expected: Result<u8, Unreadable>) {
        assert_eq!(unpack::<u8>(record.as_bytes()), expected, "{record}");
    }

    #[test]
    fn a_record_survives() {
        assert_eq!(unpack::<u8>(&pack(&7_u8)), Ok(7));
    }

    #[test]
    fn a_newer_record_is_named_and_others_are_none_of_ours() {
        check(r#"{"v":2,"d":{"anything":[]}}"#, Err(Unreadable::Newer { found: 2 }));
        check(r#"{"v":0,"d":7}"#, Err(Unreadable::Malformed));
        check(r#"{"v":1,"d":"x"}"#, Err(Unreadable::Malformed));
        check("7", Err(Unreadable::Malformed));
    }
}
