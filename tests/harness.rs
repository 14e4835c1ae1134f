//! What the tests do everything with. A test puts a [`Gate`] (or the whole [`Demo`]) in front of an
//! [`Origin`] (over TLS: [`Secure`]), asks it with [`curl`] or byte by byte over a [`Wire`], and
//! reads what was answered and what arrived as a [`Message`], what was recorded in its [`Audit`]
//! file or at a [`SyslogServer`]. A [`Fleet`] is several nodes of one cluster.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::Value;

mod audit;
pub(crate) mod call;
mod curl;
mod demo;
pub(crate) mod fleet;
mod gate;
#[path = "../crates/cluster/src/sim/history.rs"]
mod history;
pub(crate) mod journal;
mod message;
pub(crate) mod node;
mod origin;
pub(crate) mod redis;
mod relay;
pub(crate) mod secure;
pub(crate) mod syslog;
mod traffic;
mod wire;

pub(crate) use audit::Audit;
pub(crate) use curl::curl;
pub(crate) use demo::Demo;
pub(crate) use fleet::Fleet;
pub(crate) use gate::{ADMIN_KEY, Gate, Setup};
pub(crate) use message::Message;
pub(crate) use origin::{Deaf, Origin, Refusing};
pub(crate) use secure::{Certificate, Secure};
pub(crate) use syslog::SyslogServer;
pub(crate) use traffic::Way;
pub(crate) use wire::{Wire, dial, get, is_late};

/// The program under test.
pub(crate) fn tollgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a program says of itself in its first line, which is JSON.
pub(crate) fn announced(child: &mut Child) -> Value {
    let stdout = child.stdout.take().expect("standard output");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
}

/// A listener on a free port of loopback.
pub(crate) fn listener() -> TcpListener {
    TcpListener::bind(ANY).expect("a free port")
}

/// Sends a signal to a process: `TERM`, `HUP`.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "no process {pid}");
}

/// Asks again until there is something, for [`PATIENCE`] at most.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::start();
    let deadline = clock.uptime().plus(PATIENCE);
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(clock.uptime() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What stands in a JSON value at a pointer (RFC 6901); `null` where nothing does.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The text that stands there.
pub(crate) fn text_at(value: &Value, pointer: &str) -> String {
    let text = at(value, pointer).as_str().map(str::to_owned);
    text.unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// A free port on loopback.
pub(crate) const ANY: &str = "127.0.0.1:0";

/// Longest wait of a test; nothing that works takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
