//! The ways to a store: TLS, ACL, Sentinel, a cluster.

use super::{
    Address, Arc, Duration, SocketAddr, Store, exhaust, fixed, is_up, node, node_with, plan,
    rustls_client, take,
};
use crate::fleet::link::Dialer;

/// What a dialer says that cannot connect, with all causes.
pub(super) async fn refusal(url: &str) -> String {
    let address: Address = url.parse().unwrap();
    let organisation = super::mutants::organisation();
    let tls = rustls_client(rustls::RootCertStore::empty());
    let tasks = tokio_util::task::TaskTracker::new();
    let mut dialer = Dialer::new(address, tls, organisation, None, &tasks);
    let error = dialer.connect().await.unwrap_err();
    let error: &dyn std::error::Error = &error;
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(|error| format!("{error} {error:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_few_permissions() {
    let store = Store::start();
    let rules = "ACL SETUSER gate on >s3cret%/@ ~{default}:* -@all +evalsha +eval +info +ping \
                 +select +time +get +set +setrange +mget +del +pexpire +zadd +zrem +zcard +zcount \
                 +zrange +hget +hset +hsetnx +hgetall +hmget +hdel +hincrby";
    store.ask::<String>(&rules.split_whitespace().collect::<Vec<_>>());
    store.ask::<String>(&["ACL", "SETUSER", "default", "off"]);
    let url = format!("redis://gate:s3cret%25%2F%40@127.0.0.1:{}", store.port);
    let node = node(&url);
    is_up(&node).await;
    assert_eq!(exhaust(&node, &plan(vec![fixed("l", 3)])).await, 3);
    super::ring::every_command(&node).await;
    // Money too.
    node.begin_money();
    super::money::is_open(&node).await;
    let ten = Arc::new(crate::money::sample::budget("ten", 10));
    super::money::spend(&node, &ten, 1, 1).await.unwrap();
    super::money::is_settled(&node).await;
    // And what operators ask.
    assert_eq!(node.estimate("nobody").await, Some(0));
    let adjusted = node.adjust(&ten, super::money::adjust::by("OPS-1", &ten, 5)).await;
    assert!(adjusted.is_ok_and(|(_, is_new)| is_new));
    assert_eq!(node.page(&ten, 0, 10).await.unwrap().total, 1);
    assert!(node.history(&ten.id).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_not_shown() {
    let store = Store::with(&["--requirepass", "right"]);
    let said = refusal(&format!("redis://default:planted@127.0.0.1:{}", store.port)).await;
    assert!(!said.contains("planted") && said.contains("127.0.0.1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_drawn_on() {
    let master = Store::start();
    let replica = Store::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    assert!(refusal(&replica.url()).await.contains("is a replica"));
    // Behind it the list goes on.
    let node = node(&format!("{},127.0.0.1:{}", replica.url(), master.port));
    is_up(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_whom_the_roots_vouch_for_is_used() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = super::store::free_port();
    let store = Store::with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        cert.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let url = format!("rediss://localhost:{port}");
    let node = node_with(&url, |options| {
        options.tls = rustls_client(roots);
        options.patience = Duration::from_secs(20);
    });
    is_up(&node).await;
    assert_eq!(exhaust(&node, &plan(vec![fixed("l", 3)])).await, 3);
    assert!(refusal(&url).await.contains("cannot connect"));
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_say_who_the_master_is() {
    let master = Store::start();
    let sentinel = Store::with(&["--sentinel"]);
    let port = master.port.to_string();
    sentinel.ask::<String>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "1"]);
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port);
    let node = node(&url);
    is_up(&node).await;
    assert_eq!(exhaust(&node, &plan(vec![fixed("l", 3)])).await, 3);
    let unknown = format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port);
    assert!(refusal(&unknown).await.contains("no Sentinel knows a master `other`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_followed_to_the_organisations_slot() {
    let stores = super::store::cluster(3);
    // Names whose tags lie in different slots, each by the way of each node.
    for name in ["acme", "beta", "gamma", "delta"] {
        let burst = plan(vec![fixed("a", 9), fixed("b", 9), fixed("c", 9)]);
        for store in &stores {
            let node = node_with(&store.url(), |options| {
                options.organisation = name.parse().unwrap();
                options.patience = Duration::from_secs(20);
            });
            is_up(&node).await;
            for _ in 0..3 {
                take(&node, &burst).await.unwrap();
            }
        }
    }
    let address: SocketAddr = format!("127.0.0.1:{}", stores[0].port).parse().unwrap();
    let held: u64 = stores[0].ask(&["DBSIZE"]);
    assert!(held < 16, "all keys lie at {address}");
    drop(Arc::new(stores));
}
