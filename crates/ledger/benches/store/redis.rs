//! A Redis for the run of a bench.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// TLS that trusts nobody: this Redis is spoken to in clear text.
pub(crate) fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions of TLS");
    let roots = rustls::RootCertStore::empty();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A Redis for the run.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
}

impl Redis {
    /// Starts one, and waits until it listens.
    pub(crate) fn start() -> Self {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("an address").port();
        drop(probe);
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let child = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let redis = Self { child, port };
        drop(redis.connection());
        redis
    }

    pub(crate) fn connection(&self) -> redis::Connection {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let client = redis::Client::open(url).expect("a URL");
        loop {
            // It may not listen yet.
            if let Ok(connection) = client.get_connection() {
                return connection;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Prints a line.
pub(crate) fn tell(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("somebody reads");
}
