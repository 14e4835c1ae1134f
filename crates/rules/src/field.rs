//! Members of a request's query and cookies, read and taken out byte by byte.

use http::{HeaderMap, HeaderValue, header};

/// The raw value of the first `name=value` of a query; empty for a bare `name`.
#[must_use]
pub fn argument<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| value_of(pair, name))
}

/// The value of the first cookie of this name in a `Cookie` field (RFC 6265 §4.2.1).
#[must_use]
pub fn cookie<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    field.split(';').find_map(|pair| value_of(pair.trim_start(), name))
}

/// The query without any `name=value`; `None` when it holds none. The rest keeps its bytes.
#[must_use]
pub fn without_argument(query: &str, name: &str) -> Option<String> {
    without(query, "&", |pair| value_of(pair, name).is_some())
}

/// Takes every cookie of this name out of the `Cookie` fields.
pub fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_named = |pair: &str| value_of(pair.trim_start(), name).is_some();
    let fields: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    if !fields.iter().any(|field| field.to_str().is_ok_and(|text| text.split(';').any(is_named))) {
        return;
    }
    headers.remove(header::COOKIE);
    for field in fields {
        let kept = match field.to_str().ok().and_then(|text| without(text, ";", is_named)) {
            Some(kept) => kept.trim_start().to_owned(),
            None => {
                headers.append(header::COOKIE, field);
                continue;
            }
        };
        if let Ok(value) = HeaderValue::try_from(kept)
            && !value.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}

/// The query with the values of these arguments replaced by `[secret]`; `None` when it has none.
#[must_use]
pub fn masked_arguments(query: &str, is_secret: &dyn Fn(&str) -> bool) -> Option<String> {
    let name_of = |pair: &str| pair.split_once('=').is_some_and(|(name, _)| is_secret(name));
    if !query.split('&').any(name_of) {
        return None;
    }
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=[secret]"),
        _ => pair.to_owned(),
    });
    Some(masked.collect::<Vec<_>>().join("&"))
}

fn value_of<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let rest = pair.strip_prefix(name)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('=') }
}

fn without(text: &str, separator: &str, unwanted: impl Fn(&str) -> bool) -> Option<String> {
    if !text.split(separator).any(&unwanted) {
        return None;
    }
    Some(text.split(separator).filter(|pair| !unwanted(pair)).collect::<Vec<_>>().join(separator))
}

#[cfg(test)]
mod tests {
    use super::{
        HeaderMap, argument, cookie, header, masked_arguments, remove_cookie, without_argument,
    };

    fn check_without(query: &str, expected: Option<&str>) {
        assert_eq!(without_argument(query, "jwt").as_deref(), expected, "{query}");
    }

    #[test]
    fn an_argument_is_found_by_its_whole_name() {
        assert_eq!(argument("ajwt=1&jwt=2&jwt=3", "jwt"), Some("2"));
        assert_eq!(argument("jwts=1", "jwt"), None);
        assert_eq!(argument("jwt", "jwt"), Some(""));
    }

    #[test]
    fn taking_an_argument_out_leaves_the_other_bytes_alone() {
        check_without("a=%2F&jwt=x&b=+", Some("a=%2F&b=+"));
        check_without("jwt=x", Some(""));
        check_without("a=1&&b", None);
        check_without("jwt=1&a=2&jwt=3", Some("a=2"));
    }

    #[test]
    fn a_cookie_is_found_and_taken_out() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; jwt=t; b=2".parse().unwrap());
        headers.append(header::COOKIE, "jwt=u".parse().unwrap());
        assert_eq!(cookie("a=1; jwt=t", "jwt"), Some("t"));
        remove_cookie(&mut headers, "jwt");
        let left: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(left, ["a=1; b=2"]);
    }

    #[test]
    fn a_secret_argument_is_masked_and_the_rest_kept() {
        let masked = masked_arguments("a=1&jwt=x&b", &|name| name == "jwt");
        assert_eq!(masked.as_deref(), Some("a=1&jwt=[secret]&b"));
        assert_eq!(masked_arguments("a=1", &|name| name == "jwt"), None);
    }
}
