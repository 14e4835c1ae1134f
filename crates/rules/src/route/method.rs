//! Methods of HTTP as a set.

/// A set of methods. The set of all holds methods that have no name here, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Methods(u16);

impl Methods {
    /// Every method there is.
    pub const ALL: Self = Self(u16::MAX);

    /// The methods a route can name, in upper case.
    pub const NAMES: [&'static str; 10] =
        ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"];

    /// The methods of these names; all of them when there are none. `None` when a name is not one
    /// of [`Methods::NAMES`].
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut set = 0;
        for name in names {
            set |= bit(name.as_ref())?;
        }
        Some(if set == 0 { Self::ALL } else { Self(set) })
    }

    /// Whether a request's method is in the set. Methods are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn contains(self, method: &str) -> bool {
        self == Self::ALL || bit(method).is_some_and(|bit| self.0 & bit != 0)
    }
}

impl Default for Methods {
    fn default() -> Self {
        Self::ALL
    }
}

fn bit(name: &str) -> Option<u16> {
    Methods::NAMES.iter().position(|known| *known == name).map(|place| 1 << place)
}

#[cfg(test)]
mod tests {
    use super::Methods;

    fn check(names: &[&str], method: &str, expected: bool) {
        let methods = Methods::from_names(names).unwrap();
        assert_eq!(methods.contains(method), expected, "{method} of {names:?}");
    }

    #[test]
    fn a_set_holds_the_methods_it_names() {
        check(&["GET", "PURGE"], "GET", true);
        check(&["GET", "PURGE"], "PURGE", true);
        check(&["GET", "PURGE"], "POST", false);
        check(&["GET", "PURGE"], "get", false);
        check(&Methods::NAMES, "PROPFIND", false);
    }

    #[test]
    fn an_empty_list_holds_every_method() {
        check(&[], "GET", true);
        check(&[], "PROPFIND", true);
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert_eq!(Methods::from_names(["GET", "get"]), None);
    }
}
