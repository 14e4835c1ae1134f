//! Big bodies: whole, in memory that does not grow, and no faster than the slower end.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use super::{baton, before, ok, wait};
use crate::harness::{Gate, Origin, PATIENCE, Wire, is_late};

/// Bytes of a big body: far more than all buffers on the way hold.
const BIG: usize = 256 << 20;

/// Memory that one big body may take, in bytes. Buffers of the gate are 64 to 256 KiB a
/// connection; the rest is what an allocator keeps.
const MEMORY: u64 = 32 << 20;

/// What the sockets on the way and the gate may hold of a body that nobody reads, in bytes: the
/// system lets its buffers grow to some megabytes on each of the four.
const ON_THE_WAY: usize = 64 << 20;

/// Bytes that show where they belong: a part that is missing, doubled or moved is found.
pub(super) struct Flow {
    twice: Vec<u8>,
    pub(super) at: usize,
}

impl Flow {
    /// A prime, so that no buffer's size divides it.
    const PERIOD: usize = 65_521;
    pub(super) const PIECE: usize = 32_768;

    pub(super) fn new() -> Self {
        let byte = |index: usize| u8::try_from(index % Self::PERIOD % 251).expect("below 251");
        Self { twice: (0..2 * Self::PERIOD).map(byte).collect(), at: 0 }
    }

    /// The next bytes, at most a piece.
    pub(super) fn next(&mut self, left: usize) -> &[u8] {
        let (start, length) = (self.at % Self::PERIOD, left.min(Self::PIECE));
        self.at += length;
        self.twice.get(start..start + length).expect("a piece is shorter than a period")
    }

    /// Whether these are the next bytes.
    pub(super) fn check(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(Self::PIECE) {
            let at = self.at;
            assert!(self.next(piece.len()) == piece, "other bytes than were sent, after {at}");
        }
    }
}

/// Sends a big body.
fn send(wire: &mut Wire) {
    let mut flow = Flow::new();
    while flow.at < BIG {
        let left = BIG - flow.at;
        wire.send(flow.next(left));
    }
}

/// Sends a big body, and tells once after how many bytes the other end took none for a second.
fn send_and_tell(wire: &Wire, stuck: &mpsc::Sender<usize>) {
    let mut socket = wire.socket();
    socket.set_write_timeout(Some(Duration::from_secs(1))).expect("an option");
    let (mut flow, mut is_told) = (Flow::new(), false);
    while flow.at < BIG {
        let at = flow.at;
        match socket.write(flow.next(BIG - at)) {
            Ok(length) => flow.at = at + length,
            Err(error) => {
                assert!(is_late(&error), "{error}");
                flow.at = at;
                if !std::mem::replace(&mut is_told, true) {
                    stuck.send(at).expect("the test waits");
                }
            }
        }
    }
}

/// Takes a big body and judges each byte.
fn take(wire: &mut Wire) {
    let (mut flow, mut buffer) = (Flow::new(), vec![0; Flow::PIECE]);
    while flow.at < BIG {
        let room = buffer.len().min(BIG - flow.at);
        let into = buffer.get_mut(..room).expect("room");
        let length = wire.read(into).expect("bytes");
        assert!(length > 0, "the body ends after {} bytes", flow.at);
        flow.check(buffer.get(..length).expect("what was read"));
    }
}

/// What the gate's peak grew by while something was done. It is warm before.
fn memory_of(gate: &Gate, deed: impl FnOnce()) -> u64 {
    assert_eq!(gate.ask(&[], "/warm").status(), 200);
    let before = gate.memory_peak();
    deed();
    gate.memory_peak() - before
}

/// An upstream that takes big bodies under `/up` and sends them under `/down`.
fn big() -> Origin {
    Origin::serving(|mut visit| {
        while let Some(head) = visit.wire.head() {
            match head.target() {
                "/up" => {
                    take(&mut visit.wire);
                    visit.wire.send(ok("taken"));
                }
                "/down" => {
                    visit.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n"));
                    send(&mut visit.wire);
                }
                _ => visit.wire.send(ok("")),
            }
        }
    })
}

#[test]
fn a_big_body_goes_up_whole_in_flat_memory() {
    let origin = big();
    let gate = before(&origin);
    let grown = memory_of(&gate, || {
        let mut client = Wire::connect(&gate.http);
        client.send(format!("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: {BIG}\r\n\r\n"));
        send(&mut client);
        assert_eq!(client.answer("POST").expect("an answer").text(), "taken");
    });
    assert_eq!(gate.audit.record("/up")["received"], BIG);
    assert!(grown < MEMORY, "the gate's memory grew by {grown} bytes");
}

#[test]
fn a_big_body_comes_down_whole_in_flat_memory() {
    let origin = big();
    let gate = before(&origin);
    let grown = memory_of(&gate, || {
        let mut client = Wire::connect(&gate.http);
        client.send("GET /down HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.head().expect("a head").status(), 200);
        take(&mut client);
    });
    assert_eq!(gate.audit.record("/down")["sent"], BIG);
    assert!(grown < MEMORY, "the gate's memory grew by {grown} bytes");
}

/// The client stops after the head: the upstream must soon have to stop too. Then both go on.
#[test]
fn a_client_that_does_not_read_stops_the_upstream_and_not_the_memory() {
    let (stuck, is_stuck) = mpsc::channel();
    let origin = Origin::serving(move |mut visit| {
        while let Some(request) = visit.request() {
            if request.target() == "/warm" {
                visit.wire.send(ok(""));
                continue;
            }
            visit.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n"));
            send_and_tell(&visit.wire, &stuck);
        }
    });
    let gate = before(&origin);
    let grown = memory_of(&gate, || {
        let mut client = Wire::connect(&gate.http);
        client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.head().expect("a head").status(), 200);
        let taken = is_stuck.recv_timeout(PATIENCE).expect("the upstream is stopped");
        assert!(taken < ON_THE_WAY, "{taken} bytes were taken for a client that reads none");
        take(&mut client);
    });
    assert!(grown < MEMORY, "the gate's memory grew by {grown} bytes");
    assert_eq!(gate.audit.record("/slow")["sent"], BIG);
}

/// The same the other way round.
#[test]
fn an_upstream_that_does_not_read_stops_the_client_and_not_the_memory() {
    let (go, may_go) = baton();
    let origin = Origin::serving(move |mut visit| {
        while let Some(head) = visit.wire.head() {
            if head.target() != "/warm" {
                wait(&may_go);
                take(&mut visit.wire);
            }
            visit.wire.send(ok(""));
        }
    });
    let gate = before(&origin);
    let grown = memory_of(&gate, || {
        let mut client = Wire::connect(&gate.http);
        client.send(format!("POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: {BIG}\r\n\r\n"));
        let (stuck, is_stuck) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| send_and_tell(&client, &stuck));
            let taken = is_stuck.recv_timeout(PATIENCE).expect("the client is stopped");
            assert!(taken < ON_THE_WAY, "{taken} bytes were taken for an upstream that reads none");
            go.send(()).expect("the upstream waits");
        });
        assert_eq!(client.answer("POST").expect("an answer").status(), 200);
    });
    assert!(grown < MEMORY, "the gate's memory grew by {grown} bytes");
    assert_eq!(gate.audit.record("/slow")["received"], BIG);
}
