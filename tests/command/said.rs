//! What a command said and how it ended.

use std::process::{Command, Stdio};

use serde_json::Value;

/// What was said on which stream, and the code of its end.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Runs it to its end.
    pub(crate) fn by(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let said = Self {
            code: output.status.code().expect("it ended by itself"),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        // Nobody here is a terminal.
        assert!(!said.out.contains('\x1b') && !said.err.contains('\x1b'), "{said:?}");
        said
    }

    /// It went well, and said nothing beside its output.
    pub(crate) fn well(self) -> String {
        assert_eq!((self.code, &*self.err), (0, ""), "{self:?}");
        self.out
    }

    /// It went well, and its output is one JSON value.
    pub(crate) fn json(self) -> Value {
        let out = self.well();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// It failed with this code, said why, and put nothing out.
    pub(crate) fn failed(self, code: i32, reasons: &[&str]) {
        assert_eq!((self.code, &*self.out), (code, ""), "{self:?}");
        for reason in reasons {
            assert!(self.err.contains(reason), "no {reason:?} in {self:?}");
        }
    }
}
