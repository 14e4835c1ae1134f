//! Numbers at places of a JSON text (RFC 6901), taken from the text itself: a parser of values would
//! round them.

use std::sync::Arc;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::Decimal;

/// A place in a JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Arc<[Arc<str>]>);

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing, or `null`.
    Absent,
    Number(Decimal),
    /// Something else, or a member that stands twice: parsers differ on which of them counts.
    Wrong,
}

/// A JSON text whose syntax is right as far as it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(&'a RawValue);

impl Pointer {
    /// Reads a pointer: empty for the whole text, else steps behind `/`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Arc::from([])));
        }
        let steps = text.strip_prefix('/')?.split('/').map(|step| {
            let is_fine = step.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            is_fine.then(|| Arc::from(step.replace("~1", "/").replace("~0", "~")))
        });
        steps.collect::<Option<Arc<[_]>>>().filter(|steps| steps.len() <= STEPS_MAX).map(Self)
    }
}

impl<'a> Json<'a> {
    /// Takes a whole text; `None` when it is no JSON.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().map(Self)
    }

    /// The number at a place, or the decimal that a text there holds.
    #[must_use]
    pub fn number(self, pointer: &Pointer) -> Reading {
        self.read(pointer, |found| match found.as_bytes().first() {
            Some(b'"') => Decimal::parse(&serde_json::from_str::<String>(found).ok()?),
            _ => Decimal::parse(found),
        })
    }

    /// How many items the list at a place has, or members the object.
    #[must_use]
    pub fn count(self, pointer: &Pointer) -> Reading {
        self.read(pointer, |found| {
            let mut from = serde_json::Deserializer::from_str(found);
            let counted = match found.as_bytes().first() {
                Some(b'[' | b'{') => from.deserialize_any(Count).ok(),
                _ => None,
            };
            counted.and_then(|count| u32::try_from(count).ok()).map(Decimal::whole)
        })
    }

    /// The sum of the numbers that the items of the list at a place have; those without one count
    /// nothing, and a list in which none has one is as good as absent.
    #[must_use]
    pub fn sum(self, pointer: &Pointer, each: &Pointer) -> Reading {
        let found = match self.find(pointer) {
            Ok(Some(found)) => found,
            Ok(None) => return Reading::Absent,
            Err(_) => return Reading::Wrong,
        };
        let items: Vec<&RawValue> = match serde_json::from_str(found.get()) {
            Ok(items) => items,
            Err(_) if found.get() == "null" => return Reading::Absent,
            Err(_) => return Reading::Wrong,
        };
        items.into_iter().fold(Reading::Absent, |sum, item| match (sum, Json(item).number(each)) {
            (sum, Reading::Absent) => sum,
            (Reading::Absent, found) => found,
            (Reading::Number(sum), Reading::Number(found)) => {
                sum.plus(found).map_or(Reading::Wrong, Reading::Number)
            }
            (Reading::Wrong, _) | (_, Reading::Wrong) => Reading::Wrong,
        })
    }

    /// What stands at a place, as it is written.
    #[must_use]
    pub fn text(self, pointer: &Pointer) -> Option<&'a str> {
        self.find(pointer).ok().flatten().map(RawValue::get)
    }

    fn read(self, pointer: &Pointer, of: impl Fn(&str) -> Option<Decimal>) -> Reading {
        match self.find(pointer) {
            Ok(Some(found)) if found.get() == "null" => Reading::Absent,
            Ok(Some(found)) => of(found.get()).map_or(Reading::Wrong, Reading::Number),
            Ok(None) => Reading::Absent,
            Err(_) => Reading::Wrong,
        }
    }

    fn find(self, pointer: &Pointer) -> Result<Option<&'a RawValue>, serde_json::Error> {
        let mut at = self.0;
        for step in &*pointer.0 {
            let mut from = serde_json::Deserializer::from_str(at.get());
            let inner = match at.get().as_bytes().first() {
                Some(b'[' | b'{') => from.deserialize_any(Find(step))?,
                _ => None,
            };
            match inner {
                Some(inner) => at = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }
}

/// Finds the member or the item of this name.
struct Find<'n>(&'n str);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = from.next_key_seed(Is(self.0))? {
            if !is_it {
                from.next_value::<IgnoredAny>()?;
            } else if found.replace(from.next_value()?).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        // An index has no leading zero (RFC 6901 §4).
        let index: Option<u32> = self.0.parse().ok();
        let index = index.filter(|index| index.to_string() == self.0);
        let (mut found, mut at) = (None, 0);
        loop {
            if Some(at) == index {
                found = from.next_element()?;
            } else if from.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            if Some(at) == index && found.is_none() {
                return Ok(None);
            }
            at = at.saturating_add(1);
        }
    }
}

/// Whether a member has this name.
struct Is<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Counts items or members.
struct Count;

impl<'de> Visitor<'de> for Count {
    type Value = usize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while from.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while from.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Steps of a pointer.
const STEPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::{Decimal, Json, Pointer, Reading};

    const TEXT: &str = r#"{"a":{"b/c":[10,"20.50",{"d":1e-1}]},"~":3,"n":null,"t":true,
        "twice":1,"twice":2,"big":12345678901234567890.123456789,"":9}"#;

    #[track_caller]
    fn check(pointer: &str, expected: &str) {
        let found = Json::parse(TEXT.as_bytes()).unwrap().number(&Pointer::parse(pointer).unwrap());
        let expected = match expected {
            "absent" => Reading::Absent,
            "wrong" => Reading::Wrong,
            number => Reading::Number(Decimal::parse(number).unwrap()),
        };
        assert_eq!(found, expected, "{pointer}");
    }

    #[test]
    fn a_number_is_taken_from_the_text_exactly() {
        check("/a/b~1c/0", "10");
        check("/a/b~1c/1", "20.5");
        check("/a/b~1c/2/d", "0.1");
        check("/~0", "3");
        check("/", "9");
        check("/big", "12345678901234567890.123456789");
    }

    #[test]
    fn what_is_not_there_is_absent_and_what_is_no_number_is_wrong() {
        for pointer in ["/x", "/n", "/a/b~1c/3", "/a/b~1c/00", "/a/b~1c/-", "/~0/x", "/t/x"] {
            check(pointer, "absent");
        }
        for pointer in ["/t", "/a", "", "/a/b~1c"] {
            check(pointer, "wrong");
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_no_number() {
        check("/twice", "wrong");
    }

    #[test]
    fn items_and_members_are_counted() {
        let count = |pointer| {
            Json::parse(TEXT.as_bytes()).unwrap().count(&Pointer::parse(pointer).unwrap())
        };
        assert_eq!(count("/a/b~1c"), Reading::Number(Decimal::whole(3)));
        assert_eq!(count("/a"), Reading::Number(Decimal::whole(1)));
        assert_eq!(count("/big"), Reading::Wrong);
        assert_eq!(count("/x"), Reading::Absent);
    }

    #[test]
    fn the_numbers_of_items_are_added_up() {
        let sum = |text: &str| {
            let json = Json::parse(text.as_bytes()).unwrap();
            json.sum(&Pointer::parse("/r").unwrap(), &Pointer::parse("/n").unwrap())
        };
        let number = |text| Reading::Number(Decimal::parse(text).unwrap());
        assert_eq!(sum(r#"{"r":[{"n":1},{},{"n":"2.5"},7]}"#), number("3.5"));
        for absent in [r#"{"r":[]}"#, r#"{"r":[{}]}"#, "{}", r#"{"r":null}"#] {
            assert_eq!(sum(absent), Reading::Absent, "{absent}");
        }
        for wrong in [r#"{"r":[{"n":1},{"n":true}]}"#, r#"{"r":1}"#, r#"{"r":{}}"#] {
            assert_eq!(sum(wrong), Reading::Wrong, "{wrong}");
        }
    }

    #[test]
    fn a_pointer_is_empty_or_begins_with_a_slash() {
        for text in ["a", "a/b", "/~", "/~2", "/a~"] {
            assert!(Pointer::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_none_however_deep() {
        for text in ["", "{", "1 2", "{\"a\":}", "\u{feff}{}"] {
            assert!(Json::parse(text.as_bytes()).is_none(), "{text}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let json = Json::parse(deep.as_bytes()).unwrap();
        assert_eq!(json.number(&Pointer::parse("/0/0").unwrap()), Reading::Wrong);
    }
}
