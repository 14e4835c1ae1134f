//! A Redis under test: a process on a free port, which ends with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::wait_for;

/// A running Redis without a disk.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    directory: TempDir,
    password: &'static str,
}

impl Redis {
    pub(crate) fn start() -> Self {
        // Between looking for a free port and using it somebody else may take it.
        (0..20).find_map(|_| Self::try_start()).expect("a Redis starts")
    }

    fn try_start() -> Option<Self> {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("an address").port();
        drop(probe);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let child = spawn(&directory, port);
        let mut redis = Self { child, port, directory, password: PASSWORD };
        redis.is_ready().then_some(redis)
    }

    /// Whether it answers, and is the process that was started.
    fn is_ready(&mut self) -> bool {
        let ours = format!("process_id:{}", self.child.id());
        wait_for("Redis to answer or end", || {
            if self.child.try_wait().expect("its status").is_some() {
                return Some(false);
            }
            let info = self.ask(&["INFO", "server"]);
            info.contains("process_id:").then(|| info.lines().any(|line| line.trim() == ours))
        })
    }

    /// Its URL, with the password that it asks for.
    pub(crate) fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, self.port)
    }

    /// Asks it as an operator would; what it says, or what the client says of it.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--no-auth-warning", "-a", self.password]);
        let said = command.args(words).stderr(Stdio::null()).output().expect("redis-cli runs");
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again where it was, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.directory, self.port);
        assert!(self.is_ready(), "its port was taken");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(directory: &TempDir, port: u16) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "no", "--requirepass", PASSWORD, "--dir"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Must stand in no log.
pub(crate) const PASSWORD: &str = "planted-in-redis";
