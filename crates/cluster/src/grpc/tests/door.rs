//! New nodes at the door of a member.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, NodeName, Secret, SystemClock, SystemEntropy, Timestamp};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use wire::cluster::door_client::DoorClient;
use wire::cluster::peer_client::PeerClient;
use wire::cluster::{Greeting, JoinRequest};

use super::super::connect::{Tasks, Way, connect, origin};
use super::super::{Admission, Admitted, Application, Certifier, Door, JoinError, Newcomer, join};
use super::bench::{Bench, CLUSTER, Node, SOON, caller, local, ping};
use crate::ca::{Authority, Fingerprint, NodeKey};
use crate::tls::{NodeTls, Passport, pinned};
use crate::token::{JoinToken, Mint, TokenId};
use crate::{BoxFuture, ClusterId, Peer, Refused};

const MINUTES: Duration = Duration::from_secs(600);

/// Keeps in memory what the members would agree on.
#[derive(Default)]
struct Book {
    spent: Mutex<HashMap<TokenId, [u8; 32]>>,
    seen: Mutex<Vec<Newcomer>>,
}

impl Admission for Book {
    fn admit<'a>(&'a self, newcomer: Newcomer) -> BoxFuture<'a, Result<Admitted, Refused>> {
        Box::pin(async move {
            self.seen.lock().push(newcomer.clone());
            let Newcomer { token, name, address, key, .. } = newcomer;
            if *self.spent.lock().entry(token).or_insert(key) != key {
                return Err(Refused { why: "the join token was used already".to_owned() });
            }
            let member = Peer { id: 2, name: name.to_string(), address };
            Ok(Admitted { id: 2, members: vec![member] })
        })
    }
}

/// A member with a door, and what its operator holds.
struct Member {
    bench: Bench,
    node: Node,
    book: Arc<Book>,
    mint: Mint,
}

async fn member() -> Member {
    member_with(|authority| {
        let loaded = Authority::load(authority.certificate().clone(), &authority.key());
        Certifier::Own(Box::new(loaded.expect("the same")))
    })
    .await
}

async fn member_with(certifies: impl Fn(&Authority) -> Certifier) -> Member {
    let mut bench = Bench::new();
    let mint =
        |bench: &Bench| Mint::new(CLUSTER, bench.authority.fingerprint(), &Secret::new([5; 32]));
    let (book, clock) = (Arc::<Book>::default(), Arc::new(SystemClock::start()));
    let door = Door {
        mint: mint(&bench),
        certifier: certifies(&bench.authority),
        cluster_key: Secret::new([5; 32]),
        admission: Arc::<Book>::clone(&book),
        clock,
    };
    let node = bench.node_at("a", 1, "127.0.0.1:0", Some(Arc::new(door))).await;
    let mint = mint(&bench);
    Member { bench, node, book, mint }
}

impl Member {
    fn token(&self, node: Option<&str>) -> JoinToken {
        self.token_at(node, SystemClock::start().now())
    }

    fn token_at(&self, node: Option<&str>, now: Timestamp) -> JoinToken {
        self.mint.issue(node.map(NodeName::new), MINUTES, now, &SystemEntropy).expect("a token")
    }

    async fn apply(
        &self,
        token: &JoinToken,
        name: &str,
        key: &NodeKey,
    ) -> Result<super::super::Grant, JoinError> {
        let (name, address) = (NodeName::new(name), "10.0.0.2:9480");
        let application = Application { token, name: &name, address, key, certificates: &[] };
        join(&self.node.peer.address, application, SOON).await
    }

    /// The door says no with these words, in both places, and no token is spent.
    async fn check(&self, token: &JoinToken, name: &str, words: &str) {
        let key = NodeKey::generate().expect("a key");
        let refused = self.apply(token, name, &key).await.expect_err("a refusal");
        assert!(matches!(&refused, JoinError::Refused { .. }), "{refused:?}");
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(*self.book.seen.lock(), []);
        self.bench.log.says(&["node not let in", words, "client=127.0.0.1"]).await;
    }
}

#[tokio::test]
async fn a_token_turns_a_stranger_into_a_peer() {
    let member = member().await;
    let key = NodeKey::generate().expect("a key");
    let grant = member.apply(&member.token(None), "b", &key).await.expect("a grant");
    assert_eq!(grant.id, 2);
    assert_eq!(grant.members[0].address, "10.0.0.2:9480");
    assert_eq!(grant.cluster_key.expose(), &[5; 32]);
    let passport = grant.passport.expect("a passport");
    let authority =
        Authority::load(passport.authorities[0].clone(), &grant.authority_key.expect("a key"));
    assert_eq!(authority.expect("it").fingerprint(), member.bench.authority.fingerprint());
    let tls = Arc::new(NodeTls::new(&passport).expect("a good passport"));
    let b = caller(local("b", 2), tls);
    assert_eq!(ping(&b, &member.node.peer).await.as_deref(), Ok("pong to b"));
    member.bench.log.says(&["node let in", "node=\"b\""]).await;
    let log = member.bench.log.lines().join("\n");
    assert!(!log.contains("tgj1_"), "{log}");
}

#[tokio::test]
async fn a_token_is_good_once_and_for_the_same_key_again() {
    let member = member().await;
    let (token, key) = (member.token(None), NodeKey::generate().expect("a key"));
    member.apply(&token, "b", &key).await.expect("a grant");
    member.apply(&token, "b", &key).await.expect("the same, after a lost answer");
    let other = NodeKey::generate().expect("a key");
    let refused = member.apply(&token, "c", &other).await.expect_err("a refusal");
    assert!(refused.to_string().contains("used already"), "{refused}");
    member.bench.log.says(&["node not let in", "used already"]).await;
}

#[tokio::test]
async fn a_bad_token_is_refused_before_it_is_spent() {
    let member = member().await;
    let hour_ago = Timestamp::from_secs(SystemClock::start().now().as_secs() - 3_600);
    member.check(&member.token_at(None, hour_ago), "b", "has expired").await;
    member.check(&member.token(Some("c")), "b", "for node c, not for b").await;
    member.check(&member.token(None), "B", "not a host name in lower case").await;
    let authority = member.bench.authority.fingerprint();
    let now = SystemClock::start().now();
    let made = |cluster, key| {
        let mint = Mint::new(cluster, authority, &Secret::new(key));
        mint.issue(None, MINUTES, now, &SystemEntropy).expect("a token")
    };
    member.check(&made(CLUSTER, [6; 32]), "b", "was not made by this cluster").await;
    member.check(&made(ClusterId([8; 16]), [5; 32]), "b", "is of cluster 0808").await;
}

#[tokio::test]
async fn a_stranger_does_not_show_its_token_to_another_authority() {
    let member = member().await;
    let elsewhere = Mint::new(CLUSTER, Fingerprint([1; 32]), &Secret::new([5; 32]));
    let now = SystemClock::start().now();
    let token = elsewhere.issue(None, MINUTES, now, &SystemEntropy).expect("a token");
    let key = NodeKey::generate().expect("a key");
    let refused = member.apply(&token, "b", &key).await.expect_err("a failure");
    assert!(matches!(refused, JoinError::Unreachable { .. }), "{refused:?}");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    assert_eq!(*member.book.seen.lock(), []);
    member.bench.log.says(&["connection of a peer refused", "TLS"]).await;
}

/// A connection through the door, for whatever one likes to say.
async fn visit(member: &Member) -> super::super::connect::Sender {
    let tls = pinned(member.bench.authority.fingerprint()).expect("TLS");
    let name = ServerName::try_from("member.tollgate").expect("a name");
    let way = Way { address: &member.node.peer.address, name, tls };
    connect(way, &Tasks::default()).await.expect("a connection")
}

#[tokio::test]
async fn behind_the_door_there_is_nothing_else() {
    let member = member().await;
    let mut client = PeerClient::with_origin(visit(&member).await, origin());
    let refused = client.hello(Greeting::default()).await.expect_err("no such service");
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

fn request(member: &Member) -> JoinRequest {
    let key = NodeKey::generate().expect("a key");
    JoinRequest {
        protocol: 1,
        token: member.token(None).encode().expose().clone(),
        name: "b".to_owned(),
        address: "10.0.0.2:9480".to_owned(),
        certificate_request: key.request().expect("a request").into(),
        certificates: Vec::new(),
    }
}

#[tokio::test]
async fn a_request_with_a_fault_spends_no_token() {
    let member = member().await;
    let mut client = DoorClient::with_origin(visit(&member).await, origin());
    let good = || request(&member);
    let address = |text: &str| JoinRequest { address: text.to_owned(), ..good() };
    for (request, words) in [
        (JoinRequest { protocol: 2, ..good() }, "protocol 2 is not spoken"),
        (JoinRequest { protocol: 0, ..good() }, "protocol 0 is not spoken"),
        (JoinRequest { token: "tgj1_x".to_owned(), ..good() }, "is not whole"),
        (JoinRequest { name: String::new(), ..good() }, "not a host name"),
        (address("10.0.0.2"), "not host:port"),
        (address("10.0.0.2:0"), "not host:port"),
        (address(":9480"), "not host:port"),
        (JoinRequest { certificate_request: "x".into(), ..good() }, "request cannot be used"),
        (JoinRequest { certificate_request: "".into(), ..good() }, "request is needed"),
    ] {
        client.join(request).await.expect("an answer");
        member.bench.log.says(&["node not let in", words]).await;
    }
    assert_eq!(*member.book.seen.lock(), []);
    client.join(good()).await.expect("an answer");
    assert_eq!(member.book.seen.lock().len(), 1);
}

#[tokio::test]
async fn a_long_request_is_refused_unread() {
    let member = member().await;
    let mut client = DoorClient::with_origin(visit(&member).await, origin());
    let long = JoinRequest { name: "b".repeat(1 << 20), ..request(&member) };
    let refused = client.join(long).await.expect_err("a refusal");
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    member.bench.log.says(&["connection of a peer refused", "decoded message length"]).await;
}

#[tokio::test]
async fn a_member_without_a_door_lets_nobody_in() {
    let mut bench = Bench::new();
    let node = bench.node("a", 1).await;
    let mint = Mint::new(CLUSTER, bench.authority.fingerprint(), &Secret::new([5; 32]));
    let now = SystemClock::start().now();
    let token = mint.issue(None, MINUTES, now, &SystemEntropy).expect("a token");
    let (key, name) = (NodeKey::generate().expect("a key"), NodeName::new("b"));
    let address = "b:9480";
    let application =
        Application { token: &token, name: &name, address, key: &key, certificates: &[] };
    let refused = join(&node.peer.address, application, SOON).await.expect_err("a failure");
    assert!(matches!(refused, JoinError::Unreachable { .. }), "{refused:?}");
    bench.log.says(&["connection of a peer refused", "TLS"]).await;
}

/// A member of a cluster whose operators certify nodes.
async fn operators() -> Member {
    member_with(|authority| Certifier::Operators(vec![authority.certificate().clone()])).await
}

/// What comes of a node that is called so, and brings this passport with this key.
async fn bring(
    member: &Member,
    name: &str,
    chain: &Passport,
    key: &NodeKey,
) -> Result<u64, String> {
    let (token, name) = (member.token(None), NodeName::new(name));
    let (address, certificates) = ("b:9480", chain.chain.as_slice());
    let application = Application { token: &token, name: &name, address, key, certificates };
    let grant = join(&member.node.peer.address, application, SOON).await;
    let grant = grant.map_err(|cause| cause.to_string())?;
    assert!(grant.passport.is_none() && grant.authority_key.is_none());
    assert_eq!(grant.cluster_key.expose(), &[5; 32]);
    Ok(grant.id)
}

#[tokio::test]
async fn a_node_that_brings_its_certificate_gets_the_rest_and_others_get_nothing() {
    let member = operators().await;
    let (key, now) = (NodeKey::generate().expect("a key"), SystemClock::start().now());
    let certified = |authority: &Authority, key: &NodeKey| {
        Passport::certified(authority, key, &NodeName::new("b"), now).expect("a passport")
    };
    let good = certified(&member.bench.authority, &key);
    let foreign = Authority::make(now).expect("made");
    let stolen = NodeKey::generate().expect("a key");
    for (name, passport, key, why) in [
        ("b", &certified(&foreign, &key), &key, "not of this cluster's authority"),
        ("b", &good, &stolen, "of another key"),
        ("c", &good, &key, "not of a node called c"),
    ] {
        let refused = bring(&member, name, passport, key).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(*member.book.seen.lock(), []);
    assert_eq!(bring(&member, "b", &good, &key).await, Ok(2));
}

#[tokio::test]
async fn strangers_at_the_door_do_not_take_the_places_of_peers() {
    let member = member().await;
    let mut visits = Vec::new();
    for _ in 0..20 {
        visits.push(visit(&member).await);
    }
    member.bench.log.says(&["connection of a peer refused", "too many new nodes"]).await;
    let answer = ping(&member.bench.transport("c"), &member.node.peer).await;
    assert_eq!(answer.as_deref(), Ok("pong to c"));
}
