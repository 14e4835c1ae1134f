//! Cutting a record down to what a message may hold, so that it stays JSON and says that it was
//! cut.

use serde_json::{Map, Value};

use crate::json::push_string;

/// A shorter object of at most `max` bytes, with `"shortened":true`. The longest texts lose their
/// ends first; when the object is too long even without them, only what names the request is
/// kept.
pub(crate) fn to_fit(json: &[u8], max: usize) -> Vec<u8> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(json) else {
        return b"{\"shortened\":true}".to_vec();
    };
    object.insert("shortened".to_owned(), Value::Bool(true));
    let mut value = Value::Object(object);
    let mut bound = max / 2;
    while bound >= TEXT_BYTES_MIN {
        cut(&mut value, bound);
        let text = value.to_string();
        if text.len() <= max {
            return text.into_bytes();
        }
        bound /= 2;
    }
    let mut kept = Map::new();
    for name in ["time", "request_id", "node", "agent", "route", "status"] {
        if let Some(member) = value.get(name).filter(|member| !member.is_object()) {
            kept.insert(name.to_owned(), member.clone());
        }
    }
    kept.insert("shortened".to_owned(), Value::Bool(true));
    let text = Value::Object(kept).to_string();
    if text.len() <= max { text.into_bytes() } else { b"{\"shortened\":true}".to_vec() }
}

/// Cuts every text that takes more than `max` bytes in JSON.
fn cut(value: &mut Value, max: usize) {
    match value {
        Value::String(text) => {
            while written_len(text) > max {
                let target = text.len().min(max) * 9 / 10;
                let end = (0..=target).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
                if end == 0 {
                    return;
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut(item, max)),
        Value::Object(members) => members.values_mut().for_each(|member| cut(member, max)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn written_len(text: &str) -> usize {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_string(&mut out, text);
    out.len()
}

/// Texts are not cut below this; an object that is still too long has too many members.
const TEXT_BYTES_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &Value, max: usize) -> Value {
        let short = to_fit(json.to_string().as_bytes(), max);
        assert!(short.len() <= max, "{} > {max}", short.len());
        let read: Value = serde_json::from_slice(&short).unwrap();
        assert_eq!(read["shortened"], true);
        read
    }

    #[test]
    fn the_longest_text_loses_its_end_and_the_rest_stays() {
        let json = serde_json::json!({"request_id": "1", "body": "x".repeat(9_000), "n": 3});
        let read = check(&json, 1_000);
        assert_eq!((&read["request_id"], &read["n"]), (&json["request_id"], &json["n"]));
        assert!(read["body"].as_str().unwrap().starts_with("xxx"));
    }

    #[test]
    fn text_that_grows_when_escaped_fits_too() {
        check(&serde_json::json!({"body": "\u{1}\"é".repeat(9_000)}), 1_000);
    }

    #[test]
    fn an_object_of_too_many_members_keeps_the_name_of_its_request() {
        let mut json = serde_json::json!({"request_id": "1"});
        for n in 0..500 {
            json[format!("k{n}")] = n.into();
        }
        assert_eq!(check(&json, 200), serde_json::json!({"request_id": "1", "shortened": true}));
    }

    #[test]
    fn what_is_no_object_leaves_a_mark() {
        assert_eq!(to_fit(b"[", 100), b"{\"shortened\":true}");
    }
}
