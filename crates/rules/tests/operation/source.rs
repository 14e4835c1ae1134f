//! The sources, read once more and matched in the most obvious way.
#![expect(clippy::indexing_slicing, reason = "a test that meets what is not there fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use super::compile::{Sources, rows};
use super::tree::blank;

/// A row of the sources.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) operation: String,
    pub(super) scope: Option<String>,
    pub(super) is_of_sdk: bool,
    tags: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Source {
    pub(super) rows: Vec<Row>,
    pub(super) sdk_rows: usize,
    pub(super) literals: Vec<String>,
    shapes: BTreeMap<String, String>,
    overlay: BTreeMap<(String, String), Vec<String>>,
    first_names: BTreeMap<(String, String), String>,
}

/// What an identifier is written like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    Hex,
    Uuid,
}

impl Row {
    fn segments(&self) -> Vec<&str> {
        self.path.split('/').skip(1).collect()
    }

    fn key(&self) -> (String, String) {
        (self.method.clone(), blank(&self.path))
    }

    /// Whether a path may fit both: each segment the same, or a parameter in one of them.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        let (one, other) = (self.segments(), other.segments());
        one.len() == other.len()
            && one.iter().zip(&other).all(|(a, b)| a == b || a.contains('{') || b.contains('{'))
            && one.iter().zip(&other).any(|(a, b)| a.contains('{') != b.contains('{'))
    }

    /// Whether it has the literal where the two first differ.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let (one, other) = (self.segments(), other.segments());
        let first = one.iter().zip(&other).find(|(a, b)| a.contains('{') != b.contains('{'));
        first.is_some_and(|(a, _)| !a.contains('{'))
    }
}

impl Source {
    pub(super) fn shared() -> &'static Self {
        static SOURCE: LazyLock<Source> = LazyLock::new(Source::read);
        &SOURCE
    }

    pub(super) fn read() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cloudflare");
        let sources = Sources::read(&data).expect("the sources");
        let mut found = Vec::new();
        let text = |row: &[&str], column: usize| row[column].to_owned();
        for row in rows(&sources.operations, 9).expect("rows") {
            found.push(Row {
                method: text(&row, 0),
                path: text(&row, 1),
                operation: text(&row, 2),
                scope: Some(text(&row, 3)),
                is_of_sdk: true,
                tags: Vec::new(),
            });
        }
        let sdk_rows = found.len();
        for row in rows(&sources.names, 4).expect("rows") {
            let tags = row[3].split(',').filter(|tag| *tag != "-").map(str::to_owned).collect();
            found.push(Row {
                method: text(&row, 0),
                path: text(&row, 1),
                operation: text(&row, 2),
                scope: None,
                is_of_sdk: false,
                tags,
            });
        }
        let mut overlay: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for row in rows(&sources.overlay, 5).expect("rows") {
            overlay.entry((text(&row, 0), blank(row[1]))).or_default().push(text(&row, 3));
        }
        let shapes = rows(&sources.shapes, 3).expect("rows");
        let mut first_names = BTreeMap::new();
        for row in &found {
            first_names.entry(row.key()).or_insert_with(|| row.operation.clone());
        }
        let literals: BTreeSet<String> = found
            .iter()
            .flat_map(|row| row.segments().into_iter().map(str::to_owned).collect::<Vec<_>>())
            .filter(|segment| !segment.contains('{'))
            .collect();
        Self {
            sdk_rows,
            literals: literals.into_iter().collect(),
            shapes: shapes.iter().map(|row| (text(row, 0), text(row, 1))).collect(),
            overlay,
            first_names,
            rows: found,
        }
    }

    pub(super) fn first_name(&self, row: &Row) -> String {
        self.first_names[&row.key()].clone()
    }

    pub(super) fn tags(&self, row: &Row) -> Vec<String> {
        let overlay = self.overlay.get(&row.key()).into_iter().flatten();
        overlay.chain(&row.tags).cloned().collect()
    }

    /// The shape of the parameter that is this segment of a path.
    fn shape(&self, path: &str, place: usize) -> &str {
        let above: Vec<&str> = path.split('/').take(place + 2).collect();
        self.shapes.get(&blank(&above.join("/"))).map_or("name", String::as_str)
    }

    /// A path that fits a row, and its parameters.
    pub(super) fn instance(&self, row: &Row, fill: Fill) -> (String, Vec<(String, String)>) {
        let value = |place: usize, shape: &str| match (shape, fill) {
            ("hex32", _) | ("id", Fill::Hex) => format!("{:032x}", 0xfeed + place),
            ("id", Fill::Uuid) => format!("f174e90a-fafe-4643-bbbc-4a0ed4fc84{place:02}"),
            ("text", Fill::Hex) => format!("a%2Fb{place}"),
            ("tail", Fill::Hex) => format!("dir/@key%2F{place}.txt"),
            ("tail", Fill::Uuid) => format!("key{place}/"),
            _ => format!("some-name@{place}"),
        };
        self.filled(row, &value)
    }

    /// The same with this value for the parameter of one segment.
    pub(super) fn instance_with(
        &self,
        row: &Row,
        at: usize,
        misfit: &str,
    ) -> (String, Vec<(String, String)>) {
        self.filled(row, &|place, shape| match shape {
            _ if place == at => misfit.to_owned(),
            "hex32" | "id" => format!("{:032x}", 0xfeed + place),
            _ => format!("some-name{place}"),
        })
    }

    fn filled(
        &self,
        row: &Row,
        value: &dyn Fn(usize, &str) -> String,
    ) -> (String, Vec<(String, String)>) {
        let mut path = String::new();
        let mut values = Vec::new();
        for (place, segment) in row.segments().into_iter().enumerate() {
            path.push('/');
            let mut rest = segment;
            while let Some((before, after)) = rest.split_once('{') {
                path.push_str(before);
                let (name, beyond) = after.split_once('}').expect("its end");
                let value = value(place, self.shape(&row.path, place));
                path.push_str(&value);
                let name = name.strip_prefix("path_").unwrap_or(name);
                values.push((name.to_owned(), value));
                rest = beyond;
            }
            path.push_str(rest);
        }
        (path, values)
    }

    /// Values that do not fit, each with the segment it stands for.
    pub(super) fn misfits(&self, row: &Row) -> Vec<(usize, &'static str)> {
        let mut found = Vec::new();
        for (place, segment) in row.segments().into_iter().enumerate() {
            if !segment.contains('{') {
                continue;
            }
            let misfits: &[&str] = match self.shape(&row.path, place) {
                "hex32" => &HEX_MISFITS,
                "id" => &ID_MISFITS,
                "name" => &NAME_MISFITS,
                _ => &[],
            };
            found.extend(misfits.iter().map(|misfit| (place, *misfit)));
        }
        found
    }

    /// A path in which the literals of both stand, and whether it fits the winner's shapes.
    pub(super) fn meeting(&self, winner: &Row, loser: &Row) -> (String, bool) {
        let mut path = String::new();
        let mut fits = true;
        for (place, (one, other)) in winner.segments().iter().zip(loser.segments()).enumerate() {
            let shape = self.shape(&winner.path, place);
            let value = match (one.contains('{'), other.contains('{')) {
                (false, _) => (*one).to_owned(),
                (true, false) => {
                    fits &= fits_shape(shape, one, other);
                    other.to_owned()
                }
                (true, true) => format!("{:032x}", 0xfeed + place),
            };
            path.push('/');
            path.push_str(&value);
        }
        (path, fits)
    }

    /// Keeps the rows that fit, segment by segment: where one has the literal, those that have it
    /// too; else those whose parameter takes the segment.
    pub(super) fn slow(&self, method: &str, path: &str) -> Option<String> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let mut left: Vec<&Row> = self.rows.iter().collect();
        let mut end = segments.len();
        for (place, value) in segments.iter().enumerate() {
            left.retain(|row| row.segments().len() > place);
            let has_literal = left.iter().any(|row| row.segments()[place] == *value);
            if has_literal {
                left.retain(|row| row.segments()[place] == *value);
                continue;
            }
            left.retain(|row| row.segments()[place].contains('{'));
            if left.first().is_some_and(|row| self.shape(&row.path, place) == "tail") {
                let is_empty = segments[place..].concat().is_empty();
                end = if is_empty { 0 } else { place + 1 };
                break;
            }
            left.retain(|row| {
                fits_shape(self.shape(&row.path, place), row.segments()[place], value)
            });
        }
        left.retain(|row| row.method == method && row.segments().len() == end);
        left.first().map(|row| self.first_name(row))
    }
}

fn fits_shape(shape: &str, segment: &str, value: &str) -> bool {
    let is_name = |text: &str| !text.is_empty() && !text.contains(['%', ';', '?', '#']);
    match (segment.strip_prefix('{').and_then(|rest| rest.split_once('}')), shape) {
        (Some((_, "")), "hex32") => {
            value.len() == 32 && value.chars().all(|c| "0123456789abcdef".contains(c))
        }
        (Some((_, "")), "id") => {
            (16..=64).contains(&value.len())
                && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                && value.chars().any(|c| c.is_ascii_digit())
        }
        (Some((_, "")), "text" | "tail") => !value.is_empty(),
        (Some((_, "")), _) => is_name(value),
        (Some((_, ".png")), _) => value.strip_suffix(".png").is_some_and(is_name),
        (Some((_, _)), _) => {
            let parts: Vec<&str> = value.split('.').collect();
            parts.len() == 2 && parts.into_iter().all(is_name)
        }
        (None, _) => false,
    }
}

const HEX_MISFITS: [&str; 7] = [
    "accounts",
    "0123456789abcdef0123456789abcde",
    "0123456789abcdef0123456789abcdef0",
    "0123456789ABCDEF0123456789abcdef",
    "0123456789abcdef0123456789abcdeg",
    "f174e90a-fafe-4643-bbbc-4a0ed4fc8415",
    "0123456789abcdef0123456789abcde%2F",
];
const ID_MISFITS: [&str; 6] = [
    "export",
    "a-word-of-more-than-sixteen-letters",
    "0123456789abcdef%2Fexport",
    "0123456789abcdef;v=1",
    "0123456789abcdef.json",
    "short1",
];
const NAME_MISFITS: [&str; 4] = ["a%2Fb", "a%5Cb", "a;b", "a%3Fb"];
