//! `request-id`: an id of the client's or the gate's making.

use std::sync::Arc;

use http::HeaderName;
use rules::plugin::{RequestIdAlgorithm, RequestIdHeader};
use serde_json::Value;

use crate::document::upstream::field;
use crate::reader::{Object, Reader, boolean, integer, one_of, pattern, text};

/// Reads the rule.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> Option<RequestIdHeader> {
    let header = object.optional("header_name", pattern((1, 256), field));
    let in_response = object.optional("include_in_response", boolean).unwrap_or(true);
    let range = object.optional("range_id", range).unwrap_or_default();
    let algorithm = object.optional("algorithm", one_of(ALGORITHMS, &[]));
    let algorithm = match algorithm.unwrap_or(Algorithm::Uuid) {
        Algorithm::Uuid => RequestIdAlgorithm::Uuid,
        Algorithm::Nanoid => RequestIdAlgorithm::Nanoid,
        Algorithm::Ksuid => RequestIdAlgorithm::Ksuid,
        Algorithm::RangeId => {
            let Range { characters, length } = range;
            RequestIdAlgorithm::RangeId { characters, length }
        }
    };
    let header = header.unwrap_or(HeaderName::from_static("x-request-id"));
    Some(RequestIdHeader { header, in_response, algorithm })
}

#[derive(Clone, Copy)]
enum Algorithm {
    Uuid,
    Nanoid,
    RangeId,
    Ksuid,
}

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("uuid", Algorithm::Uuid),
    ("nanoid", Algorithm::Nanoid),
    ("range_id", Algorithm::RangeId),
    ("ksuid", Algorithm::Ksuid),
];

struct Range {
    characters: Arc<str>,
    length: usize,
}

impl Default for Range {
    fn default() -> Self {
        let characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        Self { characters: Arc::from(characters), length: 16 }
    }
}

fn range<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Range> {
    let default = Range::default();
    let mut object = reader.object(value)?;
    let length = object.optional("length", integer::<u32>(6, 256));
    let characters = object.optional("char_set", |reader, value| {
        let set = text(6, 256)(reader, value)?;
        if !set.chars().all(|letter| letter.is_ascii_graphic()) {
            reader.fault("may hold only visible ASCII");
            return None;
        }
        Some(Arc::from(set))
    });
    object.finish();
    Some(Range {
        characters: characters.unwrap_or(default.characters),
        length: length.and_then(|length| usize::try_from(length).ok()).unwrap_or(default.length),
    })
}
