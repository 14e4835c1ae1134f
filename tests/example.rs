//! What `deploy/` shows is taken by the program as it is.

use crate::harness::{Gate, Setup, root, tollgate};

#[test]
fn every_example_document_has_no_fault() {
    let folder = root().join("deploy/documents");
    let files: Vec<_> =
        folder.read_dir().expect("a folder").map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let output = tollgate().args(["check", "-f"]).arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}

#[test]
fn a_node_starts_with_the_example_settings() {
    let settings = root().join("deploy/settings.yaml");
    let settings = settings.to_str().expect("a path in text");
    let arguments = ["--settings", settings];
    let gate = Gate::with(&Setup { arguments: &arguments, ..Setup::default() });
    assert_eq!(gate.administer(&[], "/apisix/admin/routes").status(), 200);
}
