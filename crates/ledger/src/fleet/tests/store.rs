//! A Redis of a test's own: a process on a free port, which ends with the test.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use model::{Clock as _, SystemClock};
use redis::FromRedisValue;
use tempfile::TempDir;

pub(crate) struct Store {
    child: Child,
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    arguments: Vec<String>,
}

impl Store {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further options.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        // Between looking for a free port and using it somebody else may take it.
        (0..20).find_map(|_| Self::try_with(&arguments)).expect("a Redis starts")
    }

    /// One whose scripts and keys an operator may turn back (command `DEBUG`).
    pub(crate) fn debuggable() -> Self {
        let arguments = ["--enable-debug-command", "yes"].map(String::from);
        // Redis 6.2 lets everybody debug, and does not know the option.
        Self::try_with(&arguments).unwrap_or_else(Self::start)
    }

    fn try_with(arguments: &[String]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = spawn(directory.path(), port, arguments);
        let mut store = Self { child, port, directory, arguments: arguments.to_vec() };
        store.is_ready().then_some(store)
    }

    /// Whether it answers, and is the process that was started.
    fn is_ready(&mut self) -> bool {
        let pid = self.child.id();
        wait_for("Redis to answer or end", || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let info: String = self.try_ask(&["INFO", "server"])?;
            Some(info.lines().any(|line| line == format!("process_id:{pid}")))
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let mut password =
            self.arguments.iter().skip_while(|word| *word != "--requirepass").skip(1);
        let password = password.next().map_or_else(String::new, |password| format!(":{password}@"));
        let client = redis::Client::open(format!("redis://{password}127.0.0.1:{}", self.port));
        let client = client.unwrap();
        let mut connection = client.get_connection_with_timeout(PATIENCE).ok()?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).ok()
    }

    /// Asks it as an operator would.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|| panic!("{words:?} is answered"))
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
        if name == "STOP" {
            wait_for("the process to stop", || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                stat.contains(") T ").then_some(())
            });
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was, with what it saved.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.directory.path(), self.port, &self.arguments);
        assert!(self.is_ready(), "its port was taken");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The server that is tested: another Redis or a Valkey where `TOLLGATE_TEST_REDIS` names its file.
fn server() -> OsString {
    std::env::var_os("TOLLGATE_TEST_REDIS").unwrap_or_else(|| "redis-server".into())
}

fn spawn(directory: &Path, port: u16, arguments: &[String]) -> Child {
    let log = File::create(directory.join(format!("{port}.log"))).unwrap();
    let mut command = Command::new(server());
    if arguments.iter().any(|argument| argument == "--sentinel") {
        // A Sentinel wants a file that it can write.
        let file: PathBuf = directory.join("sentinel.conf");
        File::create(&file).unwrap();
        command.arg(file);
    }
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(directory);
    if !arguments.iter().any(|argument| argument == "--sentinel") {
        command.args(["--save", "", "--appendonly", "no"]);
    }
    command.args(arguments).stdout(log).spawn().expect("redis-server is installed")
}

/// A Redis Cluster of so many, each with its part of the slots.
pub(crate) fn cluster(count: usize) -> Vec<Store> {
    const SLOTS: usize = 16_384;
    let stores: Vec<Store> =
        (0..count).map(|_| Store::with(&["--cluster-enabled", "yes"])).collect();
    let port = stores[0].port.to_string();
    for (place, store) in stores.iter().enumerate() {
        let slots = place * SLOTS / count..(place + 1) * SLOTS / count;
        // One by one: Redis 6.2 knows no ranges.
        let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
        let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
        store.ask::<String>(&words.collect::<Vec<_>>());
        store.ask::<String>(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    }
    let known = format!("known_nodes:{count}");
    for store in &stores {
        wait_for("the cluster", || {
            let info: String = store.ask(&["CLUSTER", "INFO"]);
            (info.contains("cluster_state:ok") && info.contains(&known)).then_some(())
        });
    }
    stores
}

pub(crate) fn free_port() -> u16 {
    // The cluster bus takes the port 10,000 above.
    (0..100)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
        .find(|port| *port < 55_000)
        .expect("a free port")
}

/// Asks again until there is something.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::start();
    let patience = patience();
    let deadline = clock.uptime().plus(patience);
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(clock.uptime() < deadline, "waited {patience:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Longest wait of a test; nothing that works takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long this test waits.
pub(crate) fn patience() -> Duration {
    if super::mutants::is_trial() { super::mutants::PATIENCE } else { PATIENCE }
}
