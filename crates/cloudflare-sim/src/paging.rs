//! Lists in pages: by number and by cursor.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::call::Call;
use crate::envelope::{Answer, Refusal, Reply};

/// Items on a page when the caller does not say, and at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize {
    pub(crate) usual: usize,
    pub(crate) max: usize,
}

/// `page` and `per_page` of `items`, with totals in `result_info`.
pub(crate) fn by_page<T>(
    call: &Call<'_>,
    items: &[T],
    size: PageSize,
    show: impl Fn(&T) -> Value,
) -> Reply {
    let (shown, info) = page(call, items, size);
    Ok(Answer::listed(shown.iter().map(show).collect::<Vec<_>>(), info))
}

/// The page of `items` that the call asks for, and its `result_info`.
pub(crate) fn page<'a, T>(call: &Call<'_>, items: &'a [T], size: PageSize) -> (&'a [T], Value) {
    let per_page = call.query.number("per_page").unwrap_or(size.usual).clamp(1, size.max);
    let page = call.query.number("page").unwrap_or(1).max(1);
    let shown = items.chunks(per_page).nth(page - 1).unwrap_or_default();
    let info = json!({
        "page": page,
        "per_page": per_page,
        "count": shown.len(),
        "total_count": items.len(),
        "total_pages": items.len().div_ceil(per_page),
    });
    (shown, info)
}

/// One slice of a list and where the next begins.
pub(crate) struct Slice<'a, T> {
    pub(crate) items: &'a [T],
    pub(crate) per_page: usize,
    /// Empty at the end of the list.
    pub(crate) cursor: String,
}

/// The slice that `cursor` and `size_name` (`per_page` or `limit`) ask for.
pub(crate) fn by_cursor<'a, T>(
    call: &Call<'_>,
    items: &'a [T],
    size_name: &str,
    size: PageSize,
) -> Result<Slice<'a, T>, Refusal> {
    let per_page = call.query.number(size_name).unwrap_or(size.usual).clamp(1, size.max);
    let start = match call.query.text("cursor").filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => opened(cursor).ok_or_else(|| Refusal::bad(10_028, "invalid cursor"))?,
        None => 0,
    };
    let rest = items.get(start..).unwrap_or_default();
    let end = per_page.min(rest.len());
    let cursor = if end < rest.len() { sealed(start + end) } else { String::new() };
    Ok(Slice { items: rest.get(..end).unwrap_or_default(), per_page, cursor })
}

fn sealed(start: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("from:{start}"))
}

fn opened(cursor: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("from:")?.parse().ok()
}
