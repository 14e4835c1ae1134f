//! What was read of the node, and the search for secrets in it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::harness::{ADMIN_KEY, Gate, Wire, get};

/// Everything that was read of the node, by where it came from.
#[derive(Default)]
pub(super) struct Found(Vec<(String, Vec<u8>)>);

impl Found {
    /// Keeps what was read in a place.
    pub(super) fn add(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), bytes.into()));
    }

    /// Asks the Admin API, and keeps what it says.
    pub(super) fn admin(&mut self, gate: &Gate, method: &str, path: &str, body: &str) -> u16 {
        let mut client = Wire::connect(&gate.admin);
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {ADMIN_KEY}\r\n");
        client.offer(format!("{head}content-length: {length}\r\n\r\n{body}"));
        let answer = client.final_answer().expect("an answer");
        self.add(&format!("the answer to {method} {path} {body}"), answer.to_string());
        answer.status()
    }

    /// Calls the gateway, and keeps what it says.
    pub(super) fn call(&mut self, gate: &Gate, path: &str, field: &str) -> u16 {
        let answer = get(&gate.http, path, &[field]);
        self.add(&format!("the answer to {path} with {field}"), answer.to_string());
        answer.status()
    }

    /// Every file below a directory, byte by byte.
    pub(super) fn files(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.files(&path);
            } else {
                self.add(&path.display().to_string(), std::fs::read(&path).expect("a file"));
            }
        }
    }

    /// Something of this kind was read, and it holds this text: the search does not miss.
    pub(super) fn check_finds(&self, place: &str, text: &str) {
        let mut all = self.0.iter().filter(|(other, _)| other.contains(place));
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(all.any(|(_, bytes)| holds(bytes)), "no {text} in {place}");
    }

    /// None of it holds the secret, in any of the spellings that tools use.
    pub(super) fn check(&self, name: &str, secret: &str) {
        for spelling in spellings(secret) {
            let holds = |bytes: &[u8]| {
                bytes.windows(spelling.len()).any(|window| window == spelling.as_bytes())
            };
            for (place, bytes) in &self.0 {
                let text = String::from_utf8_lossy(bytes);
                assert!(!holds(bytes), "{name} stands as {spelling} in {place}: {text}");
            }
        }
    }
}

/// The secret, in hexadecimal, and the part of its base64 that does not hang on where it stands.
fn spellings(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![secret.to_owned(), hex.to_uppercase(), hex];
    for before in 0..3 {
        let text = format!("{}{secret}", "x".repeat(before));
        for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            let sure = encoded.get(4..encoded.len() - 4).expect("a long secret");
            all.push(sure.to_owned());
        }
    }
    all
}
