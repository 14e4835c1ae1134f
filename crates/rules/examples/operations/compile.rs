//! From the sources to the table: what is said twice must agree, what is said of nothing is a
//! fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::tree::{Call, Tree, blank};

/// The texts of the sources; each has a head line and tab-separated columns.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// method, path, operation, scope, deprecated, deprecated_until, …
    pub(crate) operations: String,
    /// method, path, operation, tag, …
    pub(crate) overlay: String,
    /// methods, path, seen_in, note
    pub(crate) extra_paths: String,
    /// method, path, operation, tags: our names of the extra paths
    pub(crate) names: String,
    /// path without names, shape, why
    pub(crate) shapes: String,
    /// method, path, operation, field: what answers hold of secrets
    pub(crate) secret_fields: String,
    /// method, path, field, why: those of them that are none, or that an agent needs
    pub(crate) open_fields: String,
}

impl Sources {
    /// Reads the files of a directory.
    pub(crate) fn read(directory: &Path) -> std::io::Result<Self> {
        let read = |name: &str| std::fs::read_to_string(directory.join(name));
        Ok(Self {
            operations: read("operations.tsv")?,
            overlay: read("overlay.tsv")?,
            extra_paths: read("extra-paths.tsv")?,
            names: read("names.tsv")?,
            shapes: read("shapes.tsv")?,
            secret_fields: read("secret-fields.tsv")?,
            open_fields: read("open-fields.tsv")?,
        })
    }
}

/// A method and a path with its parameters' names blanked.
type Shape = (String, String);

/// Makes the table.
///
/// # Errors
/// When the sources contradict each other; the text says where.
pub(crate) fn compile(sources: &Sources) -> Result<String, String> {
    let mut calls = named(&sources.operations)?;
    add_extra(&mut calls, sources)?;
    tag(&mut calls, &sources.overlay)?;
    hide(&mut calls, sources)?;
    let mut tree = Tree::default();
    for ((method, _), call) in calls {
        tree.add(method, call)?;
    }
    for row in rows(&sources.shapes, 3)? {
        let (path, shape) = (column(&row, 0), column(&row, 1));
        tree.shape(path, shape).ok_or_else(|| format!("shapes: no parameter at {path}"))?;
    }
    let mut table = String::from("operations 1\nbase /client/v4\n");
    tree.write(&mut table);
    Ok(table)
}

/// The rows of the SDK. A call with several names has the first; the others are its aliases, and
/// it is deprecated when it is under each of them.
fn named(text: &str) -> Result<BTreeMap<Shape, Call>, String> {
    let mut calls: BTreeMap<Shape, Call> = BTreeMap::new();
    for row in rows(text, 9)? {
        let path = column(&row, 1).replace("{path_", "{");
        let deprecated = match (column(&row, 4), column(&row, 5)) {
            ("no", _) => None,
            (_, "-") => Some(String::new()),
            (_, until) => Some(date(until)?),
        };
        let key = (column(&row, 0).to_owned(), blank(&path));
        let name = column(&row, 2).to_owned();
        let Some(known) = calls.get_mut(&key) else {
            let mut call = Call::new(path, name, column(&row, 0));
            (call.scope, call.deprecated) = (letter_of_scope(column(&row, 3))?, deprecated);
            calls.insert(key, call);
            continue;
        };
        if known.path != path {
            return Err(format!("operations: {} and {path} are one path", known.path));
        }
        known.aliases.push(name);
        if deprecated.is_none() {
            known.deprecated = None;
        }
    }
    Ok(calls)
}

/// Adds the paths that no SDK has, under our names.
fn add_extra(calls: &mut BTreeMap<Shape, Call>, sources: &Sources) -> Result<(), String> {
    let mut names = BTreeMap::new();
    for row in rows(&sources.names, 4)? {
        names.insert((column(&row, 0).to_owned(), blank(column(&row, 1))), row);
    }
    let taken: BTreeSet<String> = calls.values().map(|call| call.name.clone()).collect();
    for extra in rows(&sources.extra_paths, 4)? {
        // What stands behind the path is not looked at.
        let path = column(&extra, 1).split('?').next().unwrap_or_default();
        let methods = match column(&extra, 0) {
            "*" => "GET,POST,PUT,PATCH,DELETE",
            methods => methods,
        };
        for method in methods.split(',') {
            let key = (method.to_owned(), blank(path));
            if calls.contains_key(&key) {
                continue;
            }
            let row = names.remove(&key).ok_or_else(|| format!("names: none for {key:?}"))?;
            let name = column(&row, 2).to_owned();
            if taken.contains(&name) {
                return Err(format!("names: the SDK has {name}"));
            }
            let mut call = Call::new(column(&row, 1).to_owned(), name, method);
            call.note = column(&extra, 3).to_owned();
            column(&row, 3)
                .split(',')
                .filter(|tag| *tag != "-")
                .try_for_each(|tag| call.tag(tag))?;
            calls.insert(key, call);
        }
    }
    match names.keys().next() {
        Some(key) => Err(format!("names: {key:?} is no extra path")),
        None => Ok(()),
    }
}

fn tag(calls: &mut BTreeMap<Shape, Call>, overlay: &str) -> Result<(), String> {
    for row in rows(overlay, 5)? {
        let key = (column(&row, 0).to_owned(), blank(column(&row, 1)));
        let call = calls.get_mut(&key).ok_or_else(|| format!("overlay: there is no {key:?}"))?;
        let name = column(&row, 2);
        if call.name != name && !call.aliases.iter().any(|alias| alias == name) {
            return Err(format!("overlay: {key:?} is {}, not {name}", call.name));
        }
        call.tag(column(&row, 3))?;
    }
    Ok(())
}

/// Notes the secret fields of answers, but for those that stay open.
fn hide(calls: &mut BTreeMap<Shape, Call>, sources: &Sources) -> Result<(), String> {
    let mut open = BTreeSet::new();
    for row in rows(&sources.open_fields, 4)? {
        open.insert((column(&row, 0), column(&row, 1), column(&row, 2)));
    }
    for row in rows(&sources.secret_fields, 4)? {
        let (method, path, field) = (column(&row, 0), column(&row, 1), column(&row, 3));
        if open.remove(&(method, path, field)) {
            continue;
        }
        let key = (method.to_owned(), blank(path));
        let call = calls.get_mut(&key).ok_or_else(|| format!("secret fields: no {key:?}"))?;
        // The SDK names what lies in `result`; lists, and answers without one, it names from above.
        let field = match field {
            WHOLE => "result".to_owned(),
            field if field.starts_with("result.") || field.starts_with("data.") => field.to_owned(),
            field => format!("result.{field}"),
        };
        call.secrets.insert(field);
    }
    match open.first() {
        Some(row) => Err(format!("open fields: {row:?} is no secret field")),
        None => Ok(()),
    }
}

/// How the sources call an answer that is a secret itself.
const WHOLE: &str = "(the whole result, a string)";

fn letter_of_scope(scope: &str) -> Result<char, String> {
    match scope {
        "account" => Ok('a'),
        "zone" => Ok('z'),
        "user" => Ok('u'),
        "none" => Ok('n'),
        other => Err(format!("operations: no scope {other}")),
    }
}

/// `September 27, 2026` as `2026-09-27`.
fn date(text: &str) -> Result<String, String> {
    let Some((month, rest)) = text.split_once(' ') else { return Ok(text.to_owned()) };
    let known = MONTHS.iter().position(|known| *known == month);
    match (known, rest.split_once(", ")) {
        (Some(month), Some((day, year))) => Ok(format!("{year}-{:02}-{day:0>2}", month + 1)),
        _ => Err(format!("operations: no date {text}")),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The rows behind the head line, each with this many columns.
pub(crate) fn rows(text: &str, columns: usize) -> Result<Vec<Vec<&str>>, String> {
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        if row.len() != columns {
            return Err(format!("{} columns, not {columns}: {line}", row.len()));
        }
        found.push(row);
    }
    Ok(found)
}

fn column<'a>(row: &[&'a str], number: usize) -> &'a str {
    row.get(number).copied().unwrap_or_default()
}
