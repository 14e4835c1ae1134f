//! Reading JSON whose objects name each member once.
//!
//! Of two members of one name, parsers keep the first, the last or both (RFC 8259 §4): a document
//! that holds such a pair says one thing to its author and another to the gate.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::fault::Fault;
use crate::pointer;

/// Reads a whole text. Members keep their order.
///
/// # Errors
/// Where the text stops making sense, and why; the path is that of a member that stands twice,
/// and empty for all else. Quotes nothing of the text but the names in that path.
pub fn read(bytes: &[u8]) -> Result<Value, Fault> {
    let mut path = String::new();
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let read = Builder { twice: &mut path }.deserialize(&mut from);
    let whole = read.and_then(|value| from.end().map(|()| value));
    whole.map_err(|cause| Fault::new(path, cause.to_string()))
}

/// Builds a value. The parser bounds its depth.
struct Builder<'p> {
    /// The pointer to the member that stands twice, made from its end to its beginning while the
    /// error travels up; empty while there is none.
    twice: &'p mut String,
}

impl Builder<'_> {
    /// Builds what is below this value.
    const fn below(&mut self) -> Builder<'_> {
        Builder { twice: &mut *self.twice }
    }

    /// Completes the pointer by the step that leads to it.
    fn came_by(&mut self, step: &str) {
        if !self.twice.is_empty() {
            self.twice.insert_str(0, &pointer::join("", step));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Builder<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number without end"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            match from.next_element_seed(self.below()) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return Ok(Value::Array(items)),
                Err(cause) => {
                    self.came_by(&items.len().to_string());
                    return Err(cause);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut from: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if members.contains_key(&name) {
                *self.twice = pointer::join("", &name);
                return Err(A::Error::custom("this member stands here twice"));
            }
            match from.next_value_seed(self.below()) {
                Ok(value) => drop(members.insert(name, value)),
                Err(cause) => {
                    self.came_by(&name);
                    return Err(cause);
                }
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::read;

    /// Reads a text as `serde_json` does, or refuses it with a path.
    #[track_caller]
    fn check(text: &str, refused_at: Option<&str>) {
        match (read(text.as_bytes()), refused_at) {
            (Ok(read), None) => {
                let expected: Value = serde_json::from_str(text).unwrap();
                assert_eq!(read.to_string(), expected.to_string());
            }
            (Err(fault), Some(path)) => assert_eq!(fault.path, path, "{text}: {fault}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_with_its_path() {
        check(r#"{"a":1,"a":1}"#, Some("/a"));
        check(r#"{"a":null,"b":1,"\u0061":2}"#, Some("/a"));
        check(r#"{"":1,"":2}"#, Some("/"));
        check(r#"{"a":[0,{"b/c":{},"~":1,"b/c":{}}]}"#, Some("/a/1/b~1c"));
        check(r#"[[{"":{"":1,"":1}}]]"#, Some("/0/0//"));
    }

    #[test]
    fn a_name_may_stand_once_in_every_object() {
        check(r#"{"a":{"a":[{"a":1},{"a":2}]},"A":1}"#, None);
    }

    #[test]
    fn every_value_is_read_as_it_stands() {
        let numbers = "[0,-0,-1,1.5,1e3,18446744073709551615,-9223372036854775808,1e-400]";
        for text in [numbers, r#"{"z":null,"a":[true,false],"m":"é\n\ud83d\ude00"}"#, " 1 ", "{}"]
        {
            check(text, None);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_as_a_whole() {
        for text in ["", "{", "1 2", r#"{"a":1}}"#, r#"{"a":[1,]}"#, "1e999", "{1:2}", "NaN"] {
            check(text, Some(""));
        }
        check(&"[".repeat(100_000), Some(""));
        check(&(r#"{"a":"#.repeat(100_000) + "1"), Some(""));
    }
}
