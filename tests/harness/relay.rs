//! The network between the nodes of a fleet: each node's cluster listener stands behind a relay,
//! which knows who calls, so that the way from any node to any other can be cut by itself.
//!
//! Peers see one address a node and speak TLS, so a relay finds its caller in the kernel's tables:
//! the owner of the connection's other end (`/proc/net/tcp`, `/proc/PID/fd`). What is cut is held
//! back as TCP holds back what it cannot deliver: nothing arrives, no end of a connection either,
//! until the way is whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::listener;

/// Which node is which process, and which ways are cut.
#[derive(Default)]
pub(crate) struct Mesh {
    roads: Mutex<Roads>,
    changed: Condvar,
}

#[derive(Default)]
struct Roads {
    /// Processes by the names of their nodes.
    pids: BTreeMap<String, u32>,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(String, String)>,
    /// How long each piece takes, from whom to whom.
    delays: BTreeMap<(String, String), Duration>,
    is_over: bool,
}

impl Mesh {
    /// This process is this node now.
    pub(crate) fn introduce(&self, name: &str, pid: u32) {
        self.roads().pids.insert(name.to_owned(), pid);
    }

    /// Nothing that one sends arrives at the other any more.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.roads().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// Everything that one sends takes so long to the other.
    pub(crate) fn delay(&self, from: &str, to: &str, time: Duration) {
        self.roads().delays.insert((from.to_owned(), to.to_owned()), time);
    }

    /// Everybody reaches everybody again, at once. What was held back arrives.
    pub(crate) fn heal(&self) {
        let mut roads = self.roads();
        roads.cut.clear();
        roads.delays.clear();
        self.changed.notify_all();
    }

    /// Nothing is relayed any more.
    pub(crate) fn end(&self) {
        self.roads().is_over = true;
        self.changed.notify_all();
    }

    /// Waits until the way is open, and as long as it takes; `false` when all is over.
    fn pass(&self, way: &(String, String)) -> bool {
        let mut roads = self.roads();
        while roads.cut.contains(way) && !roads.is_over {
            roads = self.changed.wait(roads).unwrap_or_else(PoisonError::into_inner);
        }
        let (is_over, delay) = (roads.is_over, roads.delays.get(way).copied());
        drop(roads);
        if let Some(delay) = delay {
            std::thread::park_timeout(delay);
        }
        !is_over
    }

    /// The node whose process holds this end of a connection; `None` for anybody else's.
    fn owner(&self, caller: SocketAddr, called: SocketAddr) -> Option<String> {
        let inode = inode(caller, called)?;
        let pids = self.roads().pids.clone();
        let link = format!("socket:[{inode}]");
        let holds = |pid: u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            files.flatten().any(|file| {
                std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str())
            })
        };
        pids.into_iter().find(|(_, pid)| holds(*pid)).map(|(name, _)| name)
    }

    fn roads(&self) -> MutexGuard<'_, Roads> {
        self.roads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket whose own end is `caller`, connected to `called`, as `/proc/net/tcp` numbers it.
fn inode(caller: SocketAddr, called: SocketAddr) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (own, other) = (shown(caller)?, shown(called)?);
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some(&own) && words.next() == Some(&other);
        let inode = if is_it { words.nth(6) } else { None };
        inode?.parse().ok()
    })
}

/// An address as `/proc/net/tcp` shows it: the bytes of the address as the machine keeps them.
fn shown(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

/// What stands in front of one node's cluster listener, at the address that others know.
pub(crate) struct Relay {
    address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    mesh: Arc<Mesh>,
    /// Whose listener it is.
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the listener is; `None` until the node has said it.
    target: Option<SocketAddr>,
    /// Both ends of each connection. At most [`CONNECTIONS_MAX`]; a further one is closed at once.
    open: BTreeMap<u64, [TcpStream; 2]>,
    next: u64,
    is_over: bool,
}

impl Relay {
    pub(crate) fn start(mesh: &Arc<Mesh>, name: &str) -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let (mesh, name) = (Arc::clone(mesh), name.to_owned());
        let desk = Arc::new(Desk { mesh, name, state: Mutex::default() });
        let taking = Arc::clone(&desk);
        std::thread::spawn(move || taking.take(&listener));
        Self { address, desk }
    }

    /// `host:port` at which the others call.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where the node listens from now on.
    pub(crate) fn aim(&self, target: &str) {
        self.desk.state().target = Some(target.parse().expect("an address"));
    }

    /// Breaks every connection off.
    pub(crate) fn break_off(&self) {
        for ends in self.desk.state().open.values() {
            close(ends);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.desk.state().is_over = true;
        self.break_off();
        // Wakes the listener's thread, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let state = self.state();
            if state.is_over {
                return;
            }
            if state.open.len() < CONNECTIONS_MAX {
                let desk = Arc::clone(&self);
                std::thread::spawn(move || desk.relay(&stream));
            }
        }
    }

    /// One connection, from its first byte to its end.
    fn relay(&self, caller: &TcpStream) -> Option<()> {
        let (peer, own) = (caller.peer_addr().ok()?, caller.local_addr().ok()?);
        // Whoever is no node, such as one that is about to join, is never cut off.
        let from = self.mesh.owner(peer, own).unwrap_or_default();
        let (there, back) = ((from.clone(), self.name.clone()), (self.name.clone(), from));
        let target = self.mesh.pass(&there).then(|| self.state().target).flatten();
        let called = target.and_then(|target| TcpStream::connect(target).ok());
        let Some(called) = called else {
            self.mesh.pass(&back);
            return None;
        };
        for end in [caller, &called] {
            end.set_nodelay(true).ok()?;
        }
        let ends = [caller.try_clone().ok()?, called.try_clone().ok()?];
        let nth = {
            let mut state = self.state();
            state.next += 1;
            let nth = state.next;
            state.open.insert(nth, ends);
            nth
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pump(&self.mesh, &there, (caller, &called)));
            pump(&self.mesh, &back, (&called, caller));
        });
        self.state().open.remove(&nth);
        Some(())
    }
}

/// Passes on what comes, until the end, which is passed on as well.
fn pump(mesh: &Mesh, way: &(String, String), (mut from, mut to): (&TcpStream, &TcpStream)) {
    let mut piece = [0; 16 << 10];
    loop {
        let read = from.read(&mut piece).unwrap_or(0);
        let bytes = piece.get(..read).unwrap_or_default();
        let passed = mesh.pass(way) && to.write_all(bytes).is_ok();
        if bytes.is_empty() || !passed {
            break;
        }
    }
    let _closed = to.shutdown(Shutdown::Write);
    let _closed = from.shutdown(Shutdown::Read);
}

fn close(ends: &[TcpStream; 2]) {
    for end in ends {
        let _closed = end.shutdown(Shutdown::Both);
    }
}

/// Connections of one node's peers at a time.
const CONNECTIONS_MAX: usize = 256;
