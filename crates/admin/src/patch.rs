//! PATCH: a deep merge, or one value inside a resource replaced.

use serde_json::{Map, Value};

use crate::envelope::Failure;

/// Merges a patch into a value (RFC 7396): objects merge, `null` deletes, all else replaces.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(&name);
            continue;
        }
        merge(members.entry(name).or_insert(Value::Null), value);
    }
}

/// Replaces the value at a path of names; `null` removes it. Objects on the way are made.
pub(crate) fn replace(target: &mut Value, path: &[String], new: Value) -> Result<(), Failure> {
    let Some((last, way)) = path.split_last() else {
        *target = new;
        return Ok(());
    };
    let wrong = |depth: usize| {
        let shown: String = path.iter().take(depth).flat_map(|name| ["/", name]).collect();
        Failure::bad(format!("invalid sub-path: {shown}"))
    };
    let mut at = target;
    for (depth, name) in way.iter().enumerate() {
        at = match at {
            Value::Object(members) => {
                members.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()))
            }
            Value::Array(items) => item(items, name).ok_or_else(|| wrong(depth + 1))?,
            _ => return Err(wrong(depth)),
        };
    }
    match at {
        Value::Object(members) if new.is_null() => drop(members.shift_remove(last)),
        Value::Object(members) => drop(members.insert(last.clone(), new)),
        Value::Array(items) => *item(items, last).ok_or_else(|| wrong(path.len()))? = new,
        _ => return Err(wrong(path.len())),
    }
    Ok(())
}

/// An element by its number from zero, as in JSON pointers.
fn item<'v>(items: &'v mut [Value], name: &str) -> Option<&'v mut Value> {
    items.get_mut(name.parse::<usize>().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{merge, replace};

    fn check_merge(mut target: Value, patch: Value, expected: &Value) {
        merge(&mut target, patch);
        assert_eq!(&target, expected);
    }

    fn check_replace(path: &str, new: Value, expected: Option<&Value>) {
        let mut target = json!({"a": {"b": 1, "c": [1, 2]}, "d": "text"});
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        let replaced = replace(&mut target, &path, new).ok().map(|()| target);
        assert_eq!(replaced.as_ref(), expected, "{path:?}");
    }

    #[test]
    fn objects_merge_and_all_else_replaces() {
        check_merge(
            json!({"a": {"b": 1}}),
            json!({"a": {"c": 2}}),
            &json!({"a": {"b": 1, "c": 2}}),
        );
        check_merge(json!({"a": [1, 2]}), json!({"a": [3]}), &json!({"a": [3]}));
        check_merge(json!({"a": 1}), json!({"a": {"b": null, "c": 1}}), &json!({"a": {"c": 1}}));
    }

    #[test]
    fn null_deletes() {
        check_merge(
            json!({"a": {"b": 1}, "c": 1}),
            json!({"a": {"b": null}}),
            &json!({"a": {}, "c": 1}),
        );
        check_merge(json!({"a": 1}), json!({"b": null}), &json!({"a": 1}));
    }

    #[test]
    fn a_path_replaces_what_it_points_to() {
        check_replace("d", json!([1]), Some(&json!({"a": {"b": 1, "c": [1, 2]}, "d": [1]})));
        check_replace("a/c/1", json!(9), Some(&json!({"a": {"b": 1, "c": [1, 9]}, "d": "text"})));
        check_replace("a", json!(null), Some(&json!({"d": "text"})));
        check_replace("a/b", json!({}), Some(&json!({"a": {"b": {}, "c": [1, 2]}, "d": "text"})));
    }

    #[test]
    fn a_path_through_a_scalar_leads_nowhere() {
        check_replace("d/x", json!(1), None);
        check_replace("a/b/x/y", json!(1), None);
        check_replace("a/c/2", json!(1), None);
        check_replace("a/c/x", json!(1), None);
    }

    #[test]
    fn objects_on_the_way_are_made() {
        let mut target = json!({});
        let path = ["a".to_owned(), "b".to_owned()];
        replace(&mut target, &path, json!(1)).unwrap();
        assert_eq!(target, json!({"a": {"b": 1}}));
    }
}
