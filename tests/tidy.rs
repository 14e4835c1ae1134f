//! The rules of the house.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::root;

/// The floor of each crate; a crate depends only on lower floors.
const FLOORS: [(&str, u8); 11] = [
    ("model", 0),
    ("wire", 0),
    ("telemetry", 0),
    ("rules", 1),
    ("config", 2),
    ("ledger", 2),
    ("audit", 2),
    ("cluster", 3),
    ("proxy", 3),
    ("admin", 4),
    ("cloudflare-sim", 0),
];

/// Lines of a file before its tests.
const LINES_MAX: usize = 400;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    found
}

/// Reads every source and says where the rule is broken.
fn check(rule: &str, breaks: impl Fn(&Path, &str) -> bool) {
    let broken: Vec<_> = all_sources()
        .into_iter()
        .filter(|path| breaks(path, &std::fs::read_to_string(path).expect("a source")))
        .collect();
    assert!(broken.is_empty(), "{rule}: {broken:#?}");
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.components().any(|part| part.as_os_str() == "tests") || name == "tests.rs"
}

#[test]
fn a_crate_depends_only_on_lower_floors() {
    let floors: BTreeMap<_, _> = FLOORS.into_iter().collect();
    for entry in std::fs::read_dir(root().join("crates")).expect("the crates") {
        let folder = entry.expect("an entry").path();
        let Ok(manifest) = std::fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        let floor = floors.get(name).unwrap_or_else(|| panic!("{name} has no floor"));
        let (_, rest) = manifest.split_once("[dependencies]").unwrap_or(("", ""));
        let dependencies = rest.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines() {
            let Some((needed, _)) = line.split_once(['.', ' ', '=']) else { continue };
            if let Some(other) = floors.get(needed) {
                assert!(other < floor, "{name} (floor {floor}) depends on {needed} ({other})");
            }
        }
    }
}

#[test]
fn each_file_says_first_what_it_is() {
    check("each file opens with a `//!` line", |_, text| !text.starts_with("//! "));
}

#[test]
fn files_stay_short() {
    check("a file has at most 400 lines before its tests", |path, text| {
        let body = text.split("#[cfg(test)]").next().unwrap_or_default();
        !is_test(path) && body.lines().count() > LINES_MAX
    });
}

#[test]
fn modules_are_named_after_their_room() {
    check("no `mod.rs`", |path, _| path.ends_with("mod.rs"));
}

#[test]
fn tests_wait_for_conditions() {
    let words = [concat!("sle", "ep("), concat!("#[ig", "nore")];
    check("no sleeping and no skipped tests", |path, text| {
        path.starts_with(root().join("tests")) && words.iter().any(|word| text.contains(word))
    });
}

#[test]
fn every_refusal_code_stands_in_the_operators_table() {
    let table = std::fs::read_to_string(root().join("docs/refusals.md")).expect("the table");
    for code in model::Code::ALL {
        let status = proxy::status_of(*code).as_u16();
        let row = format!("| `{code}` | {status} |");
        assert!(table.contains(&row), "docs/refusals.md lacks a row that begins with {row}");
    }
}
