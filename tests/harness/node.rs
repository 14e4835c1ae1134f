//! One node of a fleet: its process, which comes and goes, its data, which stays, and its doors.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::call::{Call, get_call};
use super::fleet::{said, with_token};
use super::relay::{Mesh, Relay};
use super::{ADMIN_KEY, ANY, Message, announced, at, signal, text_at, tollgate, wait_for};

/// A node.
pub(crate) struct Node {
    pub(crate) name: String,
    /// Its data directory.
    pub(crate) data: PathBuf,
    log: PathBuf,
    mesh: Arc<Mesh>,
    relay: Mutex<Relay>,
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    doors: Doors,
}

/// Where a node is reached while it runs; each start has other ports.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) http: String,
    pub(crate) admin: String,
    pub(crate) metrics: String,
    pub(crate) pid: u32,
}

impl Node {
    pub(super) fn new(mesh: &Arc<Mesh>, place: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            data: place.join(name),
            log: place.join(format!("{name}.log")),
            mesh: Arc::clone(mesh),
            relay: Mutex::new(Relay::start(mesh, name)),
            process: Mutex::default(),
        }
    }

    /// `host:port` at which its peers call it.
    pub(crate) fn address(&self) -> String {
        lock(&self.relay).address()
    }

    /// Breaks off the connections of its peers.
    pub(crate) fn break_off(&self) {
        lock(&self.relay).break_off();
    }

    /// Its peers call it at another address from now on; the old one is nobody's.
    pub(crate) fn moves(&self) -> String {
        let relay = Relay::start(&self.mesh, &self.name);
        let address = relay.address();
        *lock(&self.relay) = relay;
        address
    }

    /// Founds a cluster.
    pub(crate) fn init(&self) {
        let output = self.try_init(&[]);
        assert!(output.status.success(), "{}", said(&output));
    }

    pub(crate) fn try_init(&self, arguments: &[&str]) -> Output {
        let mut command = self.place_command("init");
        command.args(arguments).output().expect("it runs")
    }

    /// Spends a token at a member's address.
    pub(crate) fn try_join(&self, member: &str, token: &str) -> Output {
        let mut command = with_token(self.place_command("join"), token);
        command.args(["--member", member]).output().expect("it runs")
    }

    fn place_command(&self, deed: &str) -> Command {
        let mut command = tollgate();
        command.args(["cluster", deed, "--node", &self.name, "--address", &self.address()]);
        command.arg("--data").arg(&self.data);
        command
    }

    /// A command that asks this node.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let doors = self.doors().expect("it runs");
        let mut command = tollgate();
        command.args(arguments).args(["--server", &format!("http://{}", doors.admin)]);
        command.env("TOLLGATE_ADMIN_KEY", ADMIN_KEY);
        command
    }

    /// Starts its process.
    pub(crate) fn start(&self) {
        self.start_as(tollgate(), &[]);
    }

    /// The same by another program, or a shell that becomes it, with further arguments.
    pub(crate) fn start_as(&self, program: Command, arguments: &[&str]) {
        let mut child = self.spawn(program, arguments);
        let announced = announced(&mut child);
        self.took_place(child, &announced);
    }

    fn took_place(&self, child: Child, announced: &Value) {
        lock(&self.relay).aim(&text_at(announced, "/cluster"));
        let pid = at(announced, "/pid").as_u64().and_then(|pid| pid.try_into().ok());
        let doors = Doors {
            http: text_at(announced, "/http"),
            admin: text_at(announced, "/admin"),
            metrics: text_at(announced, "/metrics"),
            pid: pid.expect("a pid"),
        };
        self.mesh.introduce(&self.name, doors.pid);
        *lock(&self.process) = Some(Process { child, doors });
    }

    /// Starts what is expected to end by itself, and returns how it ended and what it said.
    pub(crate) fn fails_to_start(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let before = self.log().len();
        let mut child = self.spawn(tollgate(), arguments);
        let status = wait_for("a start to fail", || child.try_wait().expect("its status"));
        (status.code(), self.log().split_off(before))
    }

    fn spawn(&self, mut program: Command, arguments: &[&str]) -> Child {
        let log = File::options().create(true).append(true).open(&self.log);
        program
            .args(["run", "--announce", "--http", ANY, "--admin", ANY, "--metrics", ANY])
            .args(["--cluster", ANY, "--data"])
            .arg(&self.data)
            .args(arguments)
            .env("TOLLGATE_ADMIN_KEY", ADMIN_KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("it starts")
    }

    /// Where it is reached; `None` while it does not run.
    pub(crate) fn doors(&self) -> Option<Doors> {
        lock(&self.process).as_ref().map(|process| process.doors.clone())
    }

    /// Stops it as an operator does, and waits for its end.
    pub(crate) fn stop(&self) -> ExitStatus {
        signal(self.doors().expect("it runs").pid, "TERM");
        self.end()
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&self) {
        signal(self.doors().expect("it runs").pid, "KILL");
        self.end();
    }

    /// Waits for its end. It has no doors from then on.
    pub(crate) fn end(&self) -> ExitStatus {
        wait_for("a node to end", || {
            let mut process = lock(&self.process);
            let child = &mut process.as_mut().expect("it runs").child;
            let status = child.try_wait().expect("its status")?;
            *process = None;
            Some(status)
        })
    }

    /// It does nothing any more, and does not know.
    pub(crate) fn pause(&self) {
        signal(self.doors().expect("it runs").pid, "STOP");
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        signal(self.doors().expect("it runs").pid, "CONT");
    }

    /// Asks its Admin API.
    pub(crate) fn ask(&self, call: Call<'_>) -> io::Result<Message> {
        let doors = self.doors().ok_or(io::ErrorKind::ConnectionRefused)?;
        let key = format!("x-api-key: {ADMIN_KEY}");
        let fields = [&[key.as_str()], call.fields].concat();
        Call { fields: &fields, ..call }.ask(&doors.admin)
    }

    /// Gets a path of its Admin API, which must answer.
    pub(crate) fn get(&self, path: &str) -> Message {
        let answered = self.ask(get_call(path, &[]));
        answered.unwrap_or_else(|error| panic!("GET {path} at {}: {error}", self.name))
    }

    /// Puts a resource; any answer will do.
    pub(crate) fn put(&self, path: &str, body: &Value, fields: &[&str]) -> Message {
        let (body, patience) = (body.to_string(), WRITE_PATIENCE);
        let call = Call { method: "PUT", path, fields, body: &body, patience };
        let answered = self.ask(call);
        answered.unwrap_or_else(|error| panic!("PUT {path} at {}: {error}", self.name))
    }

    /// Asks it as an agent.
    pub(crate) fn carry(&self, path: &str) -> Message {
        let doors = self.doors().expect("it runs");
        let answered = get_call(path, &[]).ask(&doors.http);
        answered.unwrap_or_else(|error| panic!("{path} through {}: {error}", self.name))
    }

    /// What it says of itself, as far as it knows; `None` while it cannot say.
    pub(crate) fn status(&self) -> Option<Value> {
        let patience = Duration::from_secs(5);
        let call = Call { patience, ..get_call("/admin/status?stale=true", &[]) };
        let answer = self.ask(call).ok().filter(|answer| answer.status() == 200)?;
        Some(answer.json())
    }

    /// Everybody, as it has asked them; `None` while it cannot say.
    pub(crate) fn members(&self) -> Option<Vec<Value>> {
        let answer = self.ask(get_call("/admin/status", &[])).ok()?;
        let is_there = answer.status() == 200;
        is_there.then(|| at(&answer.json(), "/members").as_array().cloned()).flatten()
    }

    /// Its part in the agreement.
    pub(crate) fn role(&self) -> Option<String> {
        at(&self.status()?, "/role").as_str().map(str::to_owned)
    }

    /// What a balancer learns of it; `None` while it cannot be asked.
    pub(crate) fn readiness(&self) -> Option<Message> {
        let call = Call { patience: Duration::from_millis(500), ..get_call("/ready", &[]) };
        call.ask(&self.doors()?.metrics).ok()
    }

    /// Waits until a balancer may send it traffic.
    pub(crate) fn is_ready_in_time(&self) {
        let what = format!("{} to be ready", self.name);
        wait_for(&what, || self.readiness().filter(|answer| answer.status() == 200));
    }

    /// A number of its own.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let doors = self.doors()?;
        let text = get_call("/metrics", &[]).ask(&doors.metrics).ok()?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value?.parse().ok()
    }

    /// What it wrote to standard error, at all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds a text, behind the first so many bytes.
    pub(crate) fn says(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(Process { mut child, .. }) = lock(&self.process).take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For a change that has to wait for an election, or is refused for want of one.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(40);
