//! A secret that was planted must not be found: in no answer, and in no line of the log.

use std::io;
use std::sync::{Arc, Mutex};

use crate::bench::{ADMIN, bench};

const SECRET: &str = "planted-0123456789-0123456789-0123456789";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let lines = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || lines.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

#[tokio::test]
async fn a_planted_secret_is_found_nowhere() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let bench = bench().await;
    let agent = format!(
        r#"{{"username":"alice","plugins":{{"jwt-auth":{{"key":"alice","secret":"{SECRET}"}}}}}}"#
    );
    let credential = format!(r#"{{"plugins":{{"key-auth":{{"key":"{SECRET}"}}}}}}"#);
    let broken = format!(r#"{{"username":"alice","secret":"{SECRET}",,"#);
    let faulty = agent.replace("\"key\":\"alice\"", "\"key\":\"alice\",\"nonsense\":1");
    let whole =
        format!(r#"{{"consumers":{{"bob":{{"plugins":{{"key-auth":{{"key":"{SECRET}"}}}}}}}}}}"#);
    let table = [
        ("PUT", "/admin/consumers/alice", agent.as_str()),
        ("PUT", "/admin/consumers/alice?dry_run=true", &agent),
        ("PUT", "/admin/consumers/alice/credentials/one", &credential),
        ("PUT", "/admin/consumers/bob/credentials/one", &credential),
        ("PUT", "/admin/consumers/alice/credentials/one", &broken),
        ("PUT", "/admin/consumers/alice", &broken),
        ("PUT", "/admin/consumers/alice", &faulty),
        ("PUT", "/admin/consumers/bob", &agent),
        ("POST", "/admin/diff", &whole),
        ("POST", "/admin/apply", &whole),
        ("POST", "/admin/apply", &broken),
        ("POST", "/admin/schema/validate/consumers", &faulty),
        ("POST", "/admin/configs/validate", &broken),
        ("GET", "/admin/consumers", ""),
        ("GET", "/admin/consumers/alice", ""),
        ("GET", "/admin/consumers/alice/credentials", ""),
        ("GET", "/admin/consumers/bob", ""),
        ("GET", "/admin/export", ""),
        ("GET", "/admin/export?format=yaml", ""),
        ("GET", "/admin/status", ""),
    ];
    for (method, uri, body) in table {
        let answer = bench.ask(method, uri, body).await;
        let all = format!("{answer:?}");
        assert!(!all.contains("planted"), "{method} {uri}: {all}");
        assert!(!all.contains("$sealed") && !all.contains("$hashed"), "{method} {uri}: {all}");
    }
    let wrong = [("x-api-key", SECRET)];
    let answer = bench.ask_with("GET", &format!("/admin/{SECRET}"), &wrong, "").await;
    assert_eq!(answer.status, 401);
    let log = lines.text();
    assert!(!log.contains(SECRET) && !log.contains(ADMIN), "{log}");
}

#[tokio::test]
async fn each_write_leaves_one_line() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let bench = bench().await;
    let upstream = r#"{"type":"roundrobin","nodes":{"10.0.0.1:80":1}}"#;
    bench.given("/admin/upstreams/1", upstream).await;
    bench.ask("PUT", "/admin/upstreams/1", "{\"nonsense\":1}").await;
    bench.ask("GET", "/admin/upstreams/1", "").await;
    let log = lines.text();
    assert_eq!(log.matches("a write was made").count(), 1, "{log}");
    assert_eq!(log.matches("a write was refused").count(), 1, "{log}");
    assert!(log.contains("ops") && log.contains("/apisix/upstreams/1"), "{log}");
}
