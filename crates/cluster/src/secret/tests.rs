//! What a node knows of secrets, and when it learns it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::{Keyring, Reference};
use model::{Clock, Timestamp, Uptime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{FILE_BYTES_MAX, Secrets};

/// A clock that moves when it is told to.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct Bench {
    secrets: Arc<Secrets>,
    clock: Arc<Hand>,
    moved: Arc<Notify>,
    _tasks: JoinSet<()>,
}

fn bench() -> Bench {
    let clock = Arc::new(Hand::default());
    let environment = |name: &str| match name {
        "PLAIN" => Some("planted".to_owned()),
        "OBJECT" => Some(r#"{"token": "inner", "number": 1}"#.to_owned()),
        _ => None,
    };
    let secrets = Arc::new(Secrets::new(
        Arc::new(environment),
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::new(Keyring::from_bytes(&[7; 32])),
        crate::vault::tests::client(&[]),
    ));
    let moved = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let told = Arc::clone(&moved);
    let keep = Arc::clone(&secrets).keep(CancellationToken::new(), move || told.notify_one());
    tasks.spawn(keep);
    Bench { secrets, clock, moved, _tasks: tasks }
}

impl Bench {
    async fn want(&self, reference: &Reference, patience: Duration) {
        let secrets = Arc::clone(&self.secrets);
        let wanted = BTreeSet::from([reference.clone()]);
        tokio::task::spawn_blocking(move || secrets.want(&wanted, patience)).await.unwrap();
    }

    fn shown(&self, reference: &Reference) -> String {
        match self.secrets.value(reference) {
            Ok(value) => value.expose().clone(),
            Err(why) => format!("no: {why}"),
        }
    }

    fn advance(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

fn variable(name: &str, json_key: Option<&str>) -> Reference {
    Reference::Env { name: name.to_owned(), json_key: json_key.map(str::to_owned) }
}

fn file(path: &Path) -> Reference {
    Reference::File { path: path.to_str().unwrap().to_owned() }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_variable_is_read_at_once() {
    let bench = bench();
    assert_eq!(bench.shown(&variable("PLAIN", None)), "planted");
    assert_eq!(bench.shown(&variable("OBJECT", Some("token"))), "inner");
    assert!(bench.shown(&variable("ABSENT", None)).starts_with("no: "));
}

#[tokio::test]
async fn a_variable_that_is_not_what_was_asked_for_is_not_quoted() {
    let bench = bench();
    for (name, key) in [("PLAIN", "token"), ("OBJECT", "number"), ("OBJECT", "absent")] {
        let shown = bench.shown(&variable(name, Some(key)));
        assert!(shown.starts_with("no: ") && !shown.contains("planted"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_loses_its_last_line_end_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for (content, value) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
        let path = dir.path().join("secret");
        std::fs::write(&path, content).unwrap();
        let bench = bench();
        bench.want(&file(&path), LONG).await;
        assert_eq!(bench.shown(&file(&path)), value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_so_long_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let most = usize::try_from(FILE_BYTES_MAX).unwrap();
    for (length, fits) in [(most, true), (most + 1, false)] {
        let path = dir.path().join(length.to_string());
        std::fs::write(&path, "x".repeat(length)).unwrap();
        let bench = bench();
        bench.want(&file(&path), LONG).await;
        assert_eq!(bench.secrets.value(&file(&path)).is_ok(), fits);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_read_again_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "one").unwrap();
    let bench = bench();
    bench.want(&file(&path), LONG).await;
    bench.moved.notified().await;
    let before = bench.secrets.generation();
    std::fs::write(&path, "two").unwrap();
    bench.advance(10);
    bench.want(&file(&path), Duration::ZERO).await;
    bench.moved.notified().await;
    assert_eq!(bench.shown(&file(&path)), "two");
    assert!(bench.secrets.generation() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_no_secret_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "one").unwrap();
    let bench = bench();
    bench.want(&file(&path), LONG).await;
    bench.moved.notified().await;
    std::fs::remove_file(&path).unwrap();
    bench.advance(10);
    bench.want(&file(&path), Duration::ZERO).await;
    bench.moved.notified().await;
    assert!(bench.shown(&file(&path)).starts_with("no: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_refers_to_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "one").unwrap();
    let bench = bench();
    bench.want(&file(&path), LONG).await;
    bench.secrets.keep_only(&BTreeSet::new());
    assert!(bench.shown(&file(&path)).starts_with("no: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_does_not_wait_for_a_vault_beyond_its_patience() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = bench();
    let vault = crate::vault::tests::reference(silent.local_addr().unwrap());
    bench.want(&vault, Duration::from_millis(1)).await;
    assert_eq!(bench.shown(&vault), "no: it has not been read yet");
}
