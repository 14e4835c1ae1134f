//! Members of a request's query and cookies: the one place that reads them and takes them out.
//!
//! They are read as nginx reads them, byte by byte: nothing is decoded, `+` is a plus and `%41`
//! is three characters, in names as in values. An argument may stand without `=`, and is empty
//! then. A cookie may not (RFC 6265 §4.2.1): a bare word is a value without a name, which can be
//! nobody's credential. White space around a cookie's name and value is not part of them.

use http::{HeaderMap, HeaderValue, header};

/// The values of the arguments of this name, in the order sent.
pub fn arguments<'a>(query: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    query.split('&').map(argument).filter_map(move |(key, value)| (key == name).then_some(value))
}

/// The values of the cookies of this name, in the order sent; those that are not UTF-8 are left
/// out. HTTP/2 sends cookies in several fields (RFC 9113 §8.2.3).
pub fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs
        .filter_map(cookie)
        .filter(move |(key, _)| *key == name.as_bytes())
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

/// The query without the arguments of this name; `None` when it holds none. The rest keeps its
/// bytes.
#[must_use]
pub fn without_argument(query: &str, name: &str) -> Option<String> {
    let is_other = |pair: &&str| argument(pair).0 != name;
    if query.split('&').all(|pair| is_other(&pair)) {
        return None;
    }
    Some(query.split('&').filter(is_other).collect::<Vec<_>>().join("&"))
}

/// Takes every cookie of this name out of the `Cookie` fields. A field that holds none keeps its
/// bytes, and one that held nothing else goes.
pub fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_named = |pair: &[u8]| cookie(pair).is_some_and(|(key, _)| key == name.as_bytes());
    let holds = |field: &HeaderValue| field.as_bytes().split(|byte| *byte == b';').any(is_named);
    let fields: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    if !fields.iter().any(holds) {
        return;
    }
    headers.remove(header::COOKIE);
    for field in fields {
        if !holds(&field) {
            headers.append(header::COOKIE, field);
            continue;
        }
        let pairs = field.as_bytes().split(|byte| *byte == b';');
        let kept: Vec<&[u8]> = pairs.filter(|pair| !is_named(pair)).collect();
        let kept = kept.join(&b';');
        // Whole pairs of a value make a value.
        if let Ok(value) = HeaderValue::from_bytes(kept.trim_ascii())
            && !value.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}

/// The query with the values of these arguments replaced by `[secret]`; `None` when it has none.
#[must_use]
pub fn masked_arguments(query: &str, is_secret: &dyn Fn(&str) -> bool) -> Option<String> {
    let holds_secret = |pair: &str| pair.contains('=') && is_secret(argument(pair).0);
    if !query.split('&').any(holds_secret) {
        return None;
    }
    let masked = query.split('&').map(|pair| {
        if holds_secret(pair) {
            return format!("{}=[secret]", argument(pair).0);
        }
        pair.to_owned()
    });
    Some(masked.collect::<Vec<_>>().join("&"))
}

/// Every argument as it stands: name and value.
pub fn each_argument(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(argument)
}

/// Name and value of an argument.
fn argument(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// Name and value of a cookie; `None` for a bare word.
fn cookie(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = pair.split_at_checked(equals)?;
    Some((name.trim_ascii(), value.strip_prefix(b"=")?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::{
        HeaderMap, HeaderValue, arguments, cookies, header, masked_arguments, remove_cookie,
        without_argument,
    };

    /// The values of the arguments `jwt`, and the query without them.
    fn check_query(query: &str, values: &[&str], without: Option<&str>) {
        assert_eq!(arguments(query, "jwt").collect::<Vec<_>>(), values, "{query}");
        assert_eq!(without_argument(query, "jwt").as_deref(), without, "{query}");
    }

    /// The values of the cookies `jwt`, and the fields without them.
    fn check_cookies(fields: &[&[u8]], values: &[&str], without: &[&[u8]]) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        assert_eq!(cookies(&headers, "jwt").collect::<Vec<_>>(), values, "{fields:?}");
        remove_cookie(&mut headers, "jwt");
        let left: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(left, without, "{fields:?}");
    }

    #[test]
    fn an_argument_is_found_by_its_whole_name() {
        check_query("ajwt=1&jwt=2&jwts=3", &["2"], Some("ajwt=1&jwts=3"));
        check_query("ajwt&jwts", &[], None);
        check_query("JWT=1", &[], None);
        check_query("", &[], None);
        check_query("a=jwt&=jwt", &[], None);
    }

    #[test]
    fn arguments_of_one_name_come_in_the_order_sent_and_go_together() {
        check_query("jwt=1&a=2&jwt=3", &["1", "3"], Some("a=2"));
        check_query("jwt=1&jwt=1", &["1", "1"], Some(""));
    }

    #[test]
    fn an_argument_without_a_value_is_empty() {
        check_query("jwt", &[""], Some(""));
        check_query("jwt=", &[""], Some(""));
        check_query("a&jwt&b=", &[""], Some("a&b="));
    }

    #[test]
    fn nothing_of_an_argument_is_decoded() {
        check_query("jwt=a+b%20c%2B", &["a+b%20c%2B"], Some(""));
        check_query("j%77t=1&jwt+=2&+jwt=3", &[], None);
        check_query("jwt=a=b==", &["a=b=="], Some(""));
        check_query("jwt=a;b", &["a;b"], Some(""));
    }

    #[test]
    fn taking_an_argument_out_leaves_the_other_bytes_alone() {
        check_query("a=%2F&jwt=x&&b=+", &["x"], Some("a=%2F&&b=+"));
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        check_cookies(&[b"a=1; jwt=t; b=2"], &["t"], &[b"a=1; b=2"]);
        check_cookies(&[b"ajwt=1; jwts=2; JWT=3"], &[], &[b"ajwt=1; jwts=2; JWT=3"]);
        check_cookies(&[], &[], &[]);
    }

    #[test]
    fn cookies_of_one_name_come_in_the_order_sent_and_go_together() {
        check_cookies(&[b"jwt=1; jwt=2;a=3", b"jwt=4", b"b"], &["1", "2", "4"], &[b"a=3", b"b"]);
    }

    #[test]
    fn a_bare_word_is_no_cookie_and_an_empty_value_is_one() {
        check_cookies(&[b"a=1; jwt; b=2"], &[], &[b"a=1; jwt; b=2"]);
        check_cookies(&[b"jwt"], &[], &[b"jwt"]);
        check_cookies(&[b"jwt=; a"], &[""], &[b"a"]);
    }

    #[test]
    fn nothing_of_a_cookie_is_decoded() {
        check_cookies(&[b"jwt=a+b%20c"], &["a+b%20c"], &[]);
        check_cookies(&[b"jwt=\"a b\""], &["\"a b\""], &[]);
        check_cookies(&[b"j%77t=1"], &[], &[b"j%77t=1"]);
        check_cookies(&[b"jwt=a=b=="], &["a=b=="], &[]);
    }

    #[test]
    fn white_space_around_a_cookie_s_parts_belongs_to_neither() {
        check_cookies(&[b"a=1;jwt = t ;\tb=2"], &["t"], &[b"a=1;\tb=2"]);
    }

    #[test]
    fn a_cookie_is_found_and_taken_out_beside_bytes_that_are_no_text() {
        check_cookies(&[b"a=\xff; jwt=t"], &["t"], &[b"a=\xff"]);
        check_cookies(&[b"jwt=\xff; jwt=t; a=1"], &["t"], &[b"a=1"]);
    }

    #[test]
    fn a_secret_argument_is_masked_and_the_rest_kept() {
        let masked = |query: &str| masked_arguments(query, &|name| name == "jwt");
        assert_eq!(masked("a=1&jwt=x=y&b&jwt").as_deref(), Some("a=1&jwt=[secret]&b&jwt"));
        assert_eq!(masked("a=1&jwt"), None);
    }
}
