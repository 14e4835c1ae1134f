//! How traffic is carried: nothing lost, nothing added, nothing twice, and never without an end.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::harness::{Gate, Origin, PATIENCE};

mod body;
mod connection;
mod deadline;
mod edge;
mod header;
mod http2;
mod retry;
mod stream;

/// A gate before one origin.
fn before(origin: &Origin) -> Gate {
    Gate::before(&origin.upstream())
}

/// An upstream with these nodes. The first is tried first.
fn ranked(nodes: &[String]) -> Value {
    let node = |(index, node): (usize, &String)| {
        let (host, port) = node.rsplit_once(':').expect("host and port");
        let port = port.parse::<u16>().expect("a port");
        json!({ "host": host, "port": port, "weight": 1, "priority": -i64::try_from(index).expect("few") })
    };
    json!({ "nodes": nodes.iter().enumerate().map(node).collect::<Vec<_>>() })
}

/// What one thread hands to another, which [`wait`]s for it.
pub(crate) fn baton() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = channel();
    (sender, Mutex::new(receiver))
}

/// Waits for a [`baton`].
pub(crate) fn wait(receiver: &Mutex<Receiver<()>>) {
    receiver.lock().expect("nobody panicked").recv_timeout(PATIENCE).expect("the baton");
}

/// An answer with a length.
fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
