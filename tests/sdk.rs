//! The official Python SDK through the gate: only base URL and token are changed.

use std::process::Command;

use crate::harness::{Demo, root};

#[test]
fn the_official_python_sdk_works_through_the_gate() {
    let python = root().join(".venv/bin/python");
    assert!(python.exists(), "tests/run makes the virtual environment this test needs");
    let demo = Demo::start();
    let output = Command::new(python)
        .arg(root().join("tests/sdk.py"))
        .env("CLOUDFLARE_BASE_URL", demo.url(""))
        .env("CLOUDFLARE_API_TOKEN", &demo.token)
        .output()
        .expect("python runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.trim_end().ends_with("all done"), "{out}");
}
