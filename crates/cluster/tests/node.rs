//! One node over its data directory: what it promises about changes.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::{Error, Handle, Kept, Options, ProposeError, Task};
use config::{Change, Command, EffectKind, Expect, Key, Kind, Rejected, Stamp, State};
use model::{Clock, NodeName, Revision, SystemClock, SystemEntropy, Timestamp, Uptime};
use redb::{Database, ReadableDatabase as _, TableDefinition};
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn open(dir: &Path) -> Result<(Handle, Task), Error> {
    open_at(dir, Arc::new(SystemClock::start())).await
}

async fn open_at(dir: &Path, clock: Arc<dyn Clock>) -> Result<(Handle, Task), Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    cluster::open(Options {
        dir: dir.to_path_buf(),
        node: NodeName::new("one"),
        clock,
        entropy: Arc::new(SystemEntropy),
        environment: Arc::new(|_| None),
        vault_tls: Arc::new(tls),
        credentials: Vec::new(),
    })
    .await
}

fn upstream(number: usize) -> Value {
    json!({"type": "roundrobin", "nodes": {format!("10.0.0.{}:80", number % 250 + 1): 1}})
}

fn key(id: &str) -> Key {
    Key::new(Kind::Upstream, id)
}

fn put(id: &str, value: Value, expect: Expect) -> Command {
    command(vec![Change::Put { key: key(id), value, expect, stamp: Stamp::Now }])
}

fn command(changes: Vec<Change>) -> Command {
    Command { at: SystemClock::start().now(), base: None, force: false, changes }
}

fn delete(id: &str) -> Command {
    command(vec![Change::Delete { key: key(id), expect: Expect::Any }])
}

/// A state as text, so that two of them can be compared.
fn shown(state: &State) -> String {
    let mut text = format!("{}\n", state.revision());
    for (key, stored) in Kind::ALL.iter().flat_map(|kind| state.list(*kind)) {
        text += &format!("{key} {} {} {}\n", stored.created, stored.modified, stored.value);
    }
    text
}

/// What a machine would find that lost its power at this moment.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    for name in ["cluster.key", "document.redb"] {
        std::fs::copy(dir.join(name), copied.path().join(name)).unwrap();
    }
    copied
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_change_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let applied = handle.propose(put("a", upstream(1), Expect::Any)).await.unwrap();
    assert_eq!(applied.revision, Revision::new(1));
    assert_eq!(handle.snapshots().borrow().revision, applied.revision);
    let status = handle.status();
    assert_eq!((status.revision, status.live), (applied.revision, applied.revision));
    assert!(status.ready());
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_change_survives_a_death_right_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    for number in 0..30 {
        let id = format!("u{}", number % 7);
        let change = match number % 5 {
            4 => delete(&id),
            _ => put(&id, upstream(number), Expect::Any),
        };
        // Deletes of what is not there are refused, and leave no trace either.
        handle.propose(change).await.ok();
        let copied = copy(dir.path());
        let (reborn, reborn_task) = open(copied.path()).await.unwrap();
        assert_eq!(shown(&reborn.state()), shown(&handle.state()), "after change {number}");
        assert_eq!(reborn.snapshots().borrow().revision, handle.state().revision());
        reborn_task.stop().await;
    }
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_in_the_middle_of_a_burst_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let handle = handle.clone();
        writers.spawn(async move {
            for number in 0..20 {
                let change = put(&format!("w{writer}-{number}"), upstream(number), Expect::Absent);
                handle.propose(change).await.unwrap();
            }
        });
    }
    let mut seen = handle.snapshots();
    for _ in 0..5 {
        seen.changed().await.unwrap();
        let answered = handle.state();
        let copied = copy(dir.path());
        // A copy is not made in one instant, as a disk is lost in one. One that no death could
        // leave behind is told from a real one by its checksums.
        let Ok((reborn, reborn_task)) = open(copied.path()).await else { continue };
        let reborn_state = reborn.state();
        for (key, stored) in answered.list(Kind::Upstream) {
            assert_eq!(reborn_state.get(key).map(|found| found.modified), Some(stored.modified));
        }
        reborn_task.stop().await;
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(handle.state().count(Kind::Upstream), 320);
    assert_eq!(handle.state().revision(), Revision::new(320));
    task.stop().await;
    let (reborn, reborn_task) = open(dir.path()).await.unwrap();
    assert_eq!(shown(&reborn.state()), shown(&handle.state()));
    reborn_task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_with_the_same_belief_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    for round in 0..20 {
        let base = handle.propose(put("a", upstream(round), Expect::Any)).await.unwrap().revision;
        let mut writers = JoinSet::new();
        for writer in 1..=8 {
            let handle = handle.clone();
            let change = put("a", upstream(round + 20 * writer), Expect::Modified(base));
            writers.spawn(async move { handle.propose(change).await });
        }
        let mut won = 0;
        while let Some(done) = writers.join_next().await {
            match done.unwrap() {
                Ok(_) => won += 1,
                Err(ProposeError::Rejected(Rejected::Stale { .. })) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 1);
    }
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_changes_nothing_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    handle.propose(put("a", upstream(1), Expect::Any)).await.unwrap();
    let before = shown(&handle.state());
    let good =
        Change::Put { key: key("b"), value: upstream(2), expect: Expect::Any, stamp: Stamp::Now };
    let bad = Change::Delete { key: key("absent"), expect: Expect::Any };
    handle.propose(command(vec![good, bad])).await.unwrap_err();
    assert_eq!(shown(&handle.state()), before);
    task.stop().await;
    let (reborn, reborn_task) = open(dir.path()).await.unwrap();
    assert_eq!(shown(&reborn.state()), before);
    reborn_task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_answers_as_the_change_would_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let before = shown(&handle.state());
    let change = put("a", upstream(1), Expect::Absent);
    let dry = handle.dry_run(change.clone()).await.unwrap();
    assert_eq!(shown(&handle.state()), before);
    let made = handle.propose(change.clone()).await.unwrap();
    assert_eq!(dry, made);
    assert_eq!(made.effects.first().map(|effect| effect.kind), Some(EffectKind::Created));
    let dry = handle.dry_run(change).await;
    assert!(matches!(dry, Err(ProposeError::Rejected(Rejected::Stale { .. }))));
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_answers_what_it_took_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let mut writers = JoinSet::new();
    for number in 0..200 {
        let handle = handle.clone();
        let id = format!("u{number}");
        writers.spawn(async move {
            (key(&id), handle.propose(put(&id, upstream(number), Expect::Any)).await)
        });
    }
    task.stop().await;
    let mut made = Vec::new();
    while let Some(done) = writers.join_next().await {
        match done.unwrap() {
            (key, Ok(_)) => made.push(key),
            (_, Err(ProposeError::Unavailable { kept, .. })) => assert_eq!(kept, Kept::No),
            (_, Err(other)) => panic!("{other}"),
        }
    }
    assert!(handle.status().why_not_writable.is_some());
    let (reborn, reborn_task) = open(dir.path()).await.unwrap();
    assert_eq!(reborn.state().count(Kind::Upstream), made.len());
    assert!(made.iter().all(|key| reborn.state().get(key).is_some()));
    reborn_task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_refused_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_handle, task) = open(dir.path()).await.unwrap();
    assert!(matches!(open(dir.path()).await, Err(Error::InUse { .. })));
    task.stop().await;
    let (_handle, task) = open(dir.path()).await.unwrap();
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let id = handle.status().cluster;
    task.stop().await;
    let (handle, task) = open(dir.path()).await.unwrap();
    assert_eq!(handle.status().cluster, id);
    task.stop().await;
}

/// A stopped node's directory with 40 resources in it.
async fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    for number in 0..40 {
        handle.propose(put(&format!("u{number}"), upstream(number), Expect::Any)).await.unwrap();
    }
    task.stop().await;
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_key_is_refused() {
    let dir = stopped().await;
    std::fs::write(dir.path().join("cluster.key"), "11".repeat(32)).unwrap();
    assert!(matches!(open(dir.path()).await, Err(Error::KeyWrong { .. })));
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

fn rewrite(dir: &Path, table: TableDefinition<'_, &str, &[u8]>, name: &str, bytes: &[u8]) {
    let database = Database::open(dir.join("document.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(name, bytes).unwrap();
    transaction.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_version_is_refused() {
    let dir = stopped().await;
    rewrite(dir.path(), META, "format", &3_u32.to_le_bytes());
    assert!(matches!(open(dir.path()).await, Err(Error::Newer { found: 3, known: 2, .. })));
}

/// Turns a store into what the release before this one would have left.
fn turn_into_format_1(dir: &Path) {
    let database = Database::open(dir.join("document.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    for table in ["log", "recent"] {
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(table);
        assert!(transaction.delete_table(table).unwrap());
    }
    let facts: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
    assert!(transaction.delete_table(facts).unwrap());
    let mut meta = transaction.open_table(META).unwrap();
    meta.retain(|name, _| ["cluster", "key", "revision"].contains(&name)).unwrap();
    meta.insert("format", &1_u32.to_le_bytes()[..]).unwrap();
    drop(meta);
    transaction.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_release_before_is_taken_over_whole() {
    let dir = stopped().await;
    let (handle, task) = open(dir.path()).await.unwrap();
    let (expected, cluster) = (shown(&handle.state()), handle.status().cluster);
    task.stop().await;
    turn_into_format_1(dir.path());
    for _ in 0..2 {
        let (handle, task) = open(dir.path()).await.unwrap();
        assert_eq!(shown(&handle.state()), expected);
        assert_eq!(handle.status().cluster, cluster);
        task.stop().await;
    }
    let (handle, task) = open(dir.path()).await.unwrap();
    let applied = handle.propose(put("later", upstream(1), Expect::Absent)).await.unwrap();
    assert_eq!(applied.revision, Revision::new(41));
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_record_keeps_the_node_out_and_is_named() {
    let log: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
    let newer = br#"{"v":2,"d":{"planted":true}}"#;
    let in_an_entry = format!(
        r#"{{"v":1,"d":{{"log_id":{{"leader_id":{{"term":1,"node_id":1}},"index":42}},"payload":{{"Normal":{}}}}}}}"#,
        String::from_utf8_lossy(newer)
    );
    for (index, record) in [(7, &newer[..]), (42, in_an_entry.as_bytes())] {
        let dir = stopped().await;
        let database = Database::open(dir.path().join("document.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(log).unwrap().insert(index, record).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let refused = open(dir.path()).await.unwrap_err();
        assert!(matches!(refused, Error::NewerRecord { found: 2, .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("log entry {index}")), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_nobody_of_us_wrote_is_refused() {
    for (name, bytes) in [("upstreams/x", &b"planted"[..]), ("planets/x", b"{}"), ("x", b"{}")] {
        let dir = stopped().await;
        rewrite(dir.path(), ROWS, name, bytes);
        let refused = open(dir.path()).await.unwrap_err();
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
        assert!(!refused.to_string().contains("planted"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_never_mended_by_forgetting() {
    let dir = stopped().await;
    let path = dir.path().join("document.redb");
    let whole = std::fs::read(&path).unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let expected = shown(&handle.state());
    task.stop().await;
    for step in 0..60 {
        let at = whole.len() / 60 * step + step;
        let mut damaged = whole.clone();
        damaged.iter_mut().skip(at).take(64).for_each(|byte| *byte ^= 0x5a);
        check_damaged(&dir, &damaged, &expected, at).await;
    }
    for length in [0, 1, 100, 4_096, whole.len() / 2, whole.len() - 1] {
        check_damaged(&dir, whole.get(..length).unwrap(), &expected, length).await;
    }
}

async fn check_damaged(dir: &tempfile::TempDir, damaged: &[u8], expected: &str, at: usize) {
    std::fs::write(dir.path().join("document.redb"), damaged).unwrap();
    match open(dir.path()).await {
        // Bytes that hold nothing may change without harm.
        Ok((handle, task)) => {
            assert_eq!(shown(&handle.state()), expected, "damaged at {at}");
            task.stop().await;
        }
        Err(Error::Corrupt { .. } | Error::Store { .. }) => {}
        Err(other) => panic!("damaged at {at}: {other}"),
    }
}

/// An upstream as a release with other rules might have stored it.
fn plant_bad_row(dir: &Path) {
    let database = Database::open(dir.join("document.redb")).unwrap();
    let read = database.begin_read().unwrap().open_table(ROWS).unwrap();
    let row = read.get("upstreams/u1").unwrap().unwrap().value().to_vec();
    let mut row: Value = serde_json::from_slice(&row).unwrap();
    *row.get_mut("value").unwrap() =
        json!({"id": "u1", "type": "roundrobin", "nodes": "bad", "bad": true});
    let bytes = serde_json::to_vec(&row).unwrap();
    drop(read);
    drop(database);
    rewrite(dir, ROWS, "upstreams/u1", &bytes);
    rewrite(dir, ROWS, "upstreams/u2", &bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_does_not_compile_can_be_mended_one_change_at_a_time() {
    let dir = stopped().await;
    plant_bad_row(dir.path());
    let (handle, task) = open(dir.path()).await.unwrap();
    let status = handle.status();
    assert!(!status.ready() && status.live == Revision::ZERO, "{status:?}");
    assert!(status.why_not_ready.iter().any(|why| why.contains("upstreams/u1")), "{status:?}");
    handle.propose(delete("u1")).await.unwrap();
    assert!(!handle.status().ready());
    handle.propose(delete("u2")).await.unwrap();
    let status = handle.status();
    assert!(status.ready() && status.live == status.revision, "{status:?}");
    task.stop().await;
}

/// A clock that moves when it is told to.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1)
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_micros(self.0.load(Ordering::SeqCst))
    }
}

fn route(id: &str, credential: &str) -> Command {
    let upstream = json!({"nodes": {"10.0.0.1:80": 1}, "credential": credential});
    let value = json!({"uri": "/*", "upstream": upstream});
    let key = Key::new(Kind::Route, id);
    command(vec![Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_arrives_later_goes_live_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let clock = Arc::new(Hand::default());
    let node_dir = dir.path().join("node");
    let (handle, task) = open_at(&node_dir, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let reference = format!("$secret://file{}", file.display());
    let applied = handle.propose(route("1", &reference)).await.unwrap();
    let status = handle.status();
    assert!(status.ready() && status.live == applied.revision, "{status:?}");
    assert_eq!(status.unresolved.len(), 1, "{status:?}");
    let mut snapshots = handle.snapshots();
    std::fs::write(&file, "cf-token\n").unwrap();
    clock.0.store(10_000_000, Ordering::SeqCst);
    // Any change of the document looks at the files again.
    handle.propose(put("a", upstream(1), Expect::Any)).await.unwrap();
    snapshots.wait_for(|snapshot| snapshot.unresolved.is_empty()).await.unwrap();
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_the_document_is_nowhere_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = open(dir.path()).await.unwrap();
    let applied = handle.propose(route("1", "planted-credential")).await.unwrap();
    let dry = handle.dry_run(route("2", "planted-credential")).await.unwrap();
    let said = format!("{applied:?} {dry:?} {handle:?} {:?} {:?}", handle.status(), handle.state());
    assert!(!said.contains("planted-credential"));
    task.stop().await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(18).any(|window| window == b"planted-credential"));
    }
    // The node itself still has it.
    let (handle, task) = open(dir.path()).await.unwrap();
    assert!(handle.status().ready() && handle.status().unresolved.is_empty());
    task.stop().await;
}
