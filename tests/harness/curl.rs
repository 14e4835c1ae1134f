//! The client that people have.

use std::process::{Command, Output};

use super::Message;

/// Runs curl, and returns the final answer as curl printed it.
pub(crate) fn curl(arguments: &[&str]) -> Message {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--path-as-is", "--max-time", "60"]).args(arguments);
    let Output { stdout, stderr, status } = command.output().expect("curl runs");
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "curl {arguments:?}: {status}: {said}");
    let text = String::from_utf8(stdout).expect("text");
    let mut rest = text.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let line = lines.next().expect("a status line").as_bytes().to_vec();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().as_bytes().to_vec())
        };
        let fields = lines.map(field).collect();
        let answer = Message { line, fields, body: body.into(), trailers: Vec::new() };
        if answer.status() >= 200 {
            return answer;
        }
        rest = body;
    }
}
