//! JSON pointers (RFC 6901): the places inside a resource.

use serde_json::Value;

/// A pointer to a member or an element of what `parent` points to.
pub(crate) fn join(parent: &str, step: &str) -> String {
    let mut pointer = String::with_capacity(parent.len() + 1 + step.len());
    pointer.push_str(parent);
    push(&mut pointer, step);
    pointer
}

/// Appends one step, escaped.
pub(crate) fn push(pointer: &mut String, step: &str) {
    pointer.push('/');
    for letter in step.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// Visits every text in a value, with its pointer.
pub(crate) fn texts<'v>(value: &'v Value, at: &str, visit: &mut dyn FnMut(&str, &'v str)) {
    texts_below(value, &mut at.to_owned(), visit);
}

/// Leaves the pointer as it was.
fn texts_below<'v>(value: &'v Value, at: &mut String, visit: &mut dyn FnMut(&str, &'v str)) {
    let bytes = at.len();
    match value {
        Value::String(text) => visit(at, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                push(at, &index.to_string());
                texts_below(item, at, visit);
                at.truncate(bytes);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                push(at, name);
                texts_below(member, at, visit);
                at.truncate(bytes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{join, texts};

    #[test]
    fn every_text_is_found_again_at_its_pointer() {
        let value = json!({"a/b": ["x", {"~": "y"}], "c": 1});
        let mut found = Vec::new();
        texts(&value, "", &mut |at, text| found.push((at.to_owned(), text.to_owned())));
        assert_eq!(found.len(), 2);
        for (at, text) in found {
            assert_eq!(value.pointer(&at).unwrap(), &json!(text));
        }
        assert_eq!(join("", "a/~b"), "/a~1~0b");
    }
}
