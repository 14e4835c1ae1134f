//! Who may call: keys and tokens that prove an agent, and one answer to all that do not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use model::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Gate, Message, Origin, Wire, curl, get, tollgate, wait_for};

const SECRET: &str = "a-secret-of-alice-0123456789abcdef";
const API_KEY: &str = "an-api-key-of-bob-0123456789";

/// A gate with one route for tokens, one for keys, and three agents.
struct Bench {
    gate: Gate,
    origin: Origin,
    /// Dave's; his tokens are signed with RS256.
    rsa: rcgen::KeyPair,
}

impl Bench {
    fn start() -> Self {
        let (gate, origin) = (Gate::start(), Origin::start());
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
        let upstream = origin.upstream();
        for (name, plugins) in [
            ("jwt", json!({ "jwt-auth": {} })),
            ("key", json!({ "key-auth": {} })),
            ("own", json!({ "key-auth": { "header": "x-agent-key", "query": "agent_key" } })),
        ] {
            let uri = format!("/{name}/*");
            let route = json!({ "uri": uri, "upstream": upstream, "plugins": plugins });
            gate.put(&format!("routes/{name}"), &route);
        }
        for (name, plugins) in [
            ("alice", json!({ "jwt-auth": { "key": "alice", "secret": SECRET } })),
            ("bob", json!({ "key-auth": { "key": API_KEY } })),
            (
                "dave",
                json!({ "jwt-auth": {
                "key": "dave", "algorithm": "RS256", "public_key": rsa.public_key_pem(),
            } }),
            ),
        ] {
            let agent = json!({ "username": name, "plugins": plugins });
            gate.put(&format!("consumers/{name}"), &agent);
        }
        Self { gate, origin, rsa }
    }

    fn call(&self, path: &str, fields: &[&str]) -> Message {
        get(&self.gate.http, path, fields)
    }

    fn with_token(&self, token: &str) -> Message {
        self.call("/jwt/x", &[&format!("authorization: Bearer {token}")])
    }

    /// Who the record says made a call.
    fn agent_of(&self, answer: &Message) -> Value {
        let id = answer.field("x-tollgate-request-id").expect("an id");
        let record: Value =
            serde_json::from_str(&self.gate.audit.line(id)).expect("a record is JSON");
        record.get("agent").cloned().unwrap_or_default()
    }
}

fn now() -> u64 {
    SystemClock::start().now().as_secs()
}

/// A token signed with a secret.
fn signed(algorithm: Algorithm, claims: &Value, secret: &[u8]) -> String {
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("a token")
}

fn mint(arguments: &[&str]) -> String {
    let minted = tollgate()
        .args(["token", "mint", "--key", "alice"])
        .args(arguments)
        .env("TOLLGATE_AGENT_SECRET", SECRET)
        .output()
        .expect("it runs");
    assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
    String::from_utf8(minted.stdout).expect("text").trim_end().to_owned()
}

#[test]
fn a_minted_token_proves_its_agent_from_each_place_and_does_not_travel_on() {
    let bench = Bench::start();
    let token = mint(&["--ttl", "15m", "--run", "night-7"]);
    let call = |path: &str, field: &str| {
        let answer = bench.call(path, &[field]);
        assert_eq!(answer.status(), 200, "{path} {field}");
        assert_eq!(bench.agent_of(&answer), "alice");
        let (arrivals, broken) = bench.origin.take();
        assert_eq!((arrivals.len(), broken.len()), (1, 0));
        let all = arrivals[0].to_string();
        assert!(!all.contains("eyJ") && !all.contains(&token), "{all}");
        arrivals[0].clone()
    };
    assert!(
        call("/jwt/x", &format!("authorization: Bearer {token}")).field("authorization").is_none()
    );
    assert!(
        call("/jwt/x", &format!("AUTHORIZATION: bEaReR  {token}")).field("authorization").is_none()
    );
    let by_cookie = call("/jwt/x", &format!("cookie: a=b; jwt={token}; c=d"));
    assert_eq!(by_cookie.field("cookie"), Some("a=b; c=d"));
    assert_eq!(call(&format!("/jwt/x?a=%2F&jwt={token}&b"), "x-a: b").target(), "/jwt/x?a=%2F&b");
    assert_eq!(call(&format!("/jwt/x?jwt={token}"), "x-a: b").target(), "/jwt/x");
    let dave = EncodingKey::from_rsa_pem(bench.rsa.serialize_pem().as_bytes()).unwrap();
    let claims = json!({ "key": "dave", "exp": now() + 60 });
    let token = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &dave).unwrap();
    assert_eq!(bench.agent_of(&bench.with_token(&token)), "dave");
}

#[test]
fn an_api_key_proves_its_agent_from_each_place_and_does_not_travel_on() {
    let bench = Bench::start();
    for (path, field, arrives_as) in [
        ("/key/x".to_owned(), format!("apikey: {API_KEY}"), "/key/x"),
        (format!("/key/x?apikey={API_KEY}&a=b"), "x-a: b".to_owned(), "/key/x?a=b"),
        ("/own/x".to_owned(), format!("X-Agent-Key: {API_KEY}"), "/own/x"),
        (format!("/own/x?agent_key={API_KEY}"), "x-a: b".to_owned(), "/own/x"),
    ] {
        let answer = bench.call(&path, &[&field]);
        assert_eq!(answer.status(), 200, "{path} {field}");
        assert_eq!(bench.agent_of(&answer), "bob");
        let (arrivals, _) = bench.origin.take();
        assert_eq!(arrivals[0].target(), arrives_as);
        assert!(!arrivals[0].to_string().contains(API_KEY), "{}", arrivals[0]);
    }
    for (path, field) in [
        ("/own/x", format!("apikey: {API_KEY}")),
        ("/key/x", format!("apikey: {API_KEY}x")),
        ("/key/x", format!("apikey: {}", API_KEY.to_uppercase())),
        ("/key/x", "apikey:".to_owned()),
        ("/key/x", format!("authorization: Bearer {API_KEY}")),
    ] {
        assert_eq!(bench.call(path, &[&field]).status(), 401, "{path} {field}");
    }
    assert!(bench.origin.arrivals().is_empty());
}

#[test]
fn all_failed_identities_get_one_answer() {
    let bench = Bench::start();
    let now = now();
    let public = bench.rsa.public_key_pem();
    let der = rcgen::PublicKeyData::der_bytes(&bench.rsa).to_vec();
    let claims = |key: &str| json!({ "key": key, "exp": now + 600 });
    let none = |alg: &str, signature: &str| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({ "alg": alg, "typ": "JWT" }));
        format!("{head}.{}.{signature}", part(claims("alice")))
    };
    let hs = |key: &str, secret: &[u8]| signed(Algorithm::HS256, &claims(key), secret);
    let good = hs("alice", SECRET.as_bytes());
    assert_eq!(bench.with_token(&good).status(), 200);
    let flipped =
        format!("{}{}", &good[..good.len() - 2], if good.ends_with("AA") { "BB" } else { "AA" });
    let late = json!({ "key": "alice", "exp": now - 1 });
    let early = json!({ "key": "alice", "exp": now + 900, "nbf": now + 600 });
    let tokens = [
        ("expired", signed(Algorithm::HS256, &late, SECRET.as_bytes())),
        ("not valid yet", signed(Algorithm::HS256, &early, SECRET.as_bytes())),
        ("another secret", hs("alice", b"another-secret-0123456789abcdef000")),
        ("an agent nobody knows", hs("mallory", SECRET.as_bytes())),
        ("no key at all", signed(Algorithm::HS256, &json!({ "exp": now + 9 }), SECRET.as_bytes())),
        ("another algorithm", signed(Algorithm::HS512, &claims("alice"), SECRET.as_bytes())),
        ("no algorithm", none("none", "")),
        ("no algorithm, signed", none("None", "AAAA")),
        ("a changed signature", flipped),
        ("the public key as a secret", hs("dave", public.as_bytes())),
        ("its bytes as a secret", hs("dave", &der)),
        ("no token", "x".to_owned()),
        ("nothing", String::new()),
        ("too long a token", "a".repeat(20_000)),
    ];
    let mut seen: Vec<(&str, String)> =
        tokens.iter().map(|(name, token)| (*name, without_ids(&bench.with_token(token)))).collect();
    seen.push(("no credential", without_ids(&bench.call("/jwt/x", &[]))));
    let (_, first) = seen[0].clone();
    assert!(first.contains("401") && first.contains("identity.refused"), "{first}");
    for (name, answer) in seen {
        assert_eq!(answer, first, "{name}");
    }
    let (arrivals, _) = bench.origin.take();
    assert_eq!(arrivals.len(), 1, "only the good one arrives");
}

/// An answer without what differs from request to request.
fn without_ids(answer: &Message) -> String {
    let mut body: Value = answer.json();
    assert!(body.as_object_mut().expect("an object").remove("request_id").is_some());
    let fields: Vec<_> = answer
        .fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-tollgate-request-id" | "date"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    format!("{} {fields:?} {body}", answer.status())
}

#[test]
fn what_an_agent_holds_ends_with_it_at_once() {
    let bench = Bench::start();
    let token = mint(&[]);
    let by_key = || bench.call("/key/x", &[&format!("apikey: {API_KEY}")]).status();
    assert_eq!([bench.with_token(&token).status(), by_key()], [200, 200]);
    for name in ["alice", "bob"] {
        let path = format!("/apisix/admin/consumers/{name}");
        assert_eq!(bench.gate.administer(&["-X", "DELETE"], &path).status(), 200);
    }
    assert_eq!([bench.with_token(&token).status(), by_key()], [401, 401]);
    // Whoever gets the name next is somebody else, unless the secret is the same.
    let agent = |secret: &str| {
        let plugins = json!({ "jwt-auth": { "key": "alice", "secret": secret } });
        bench.gate.put("consumers/alice", &json!({ "username": "alice", "plugins": plugins }));
        bench.with_token(&token).status()
    };
    assert_eq!(agent("another-secret-0123456789abcdef000"), 401);
    assert_eq!(agent(SECRET), 200);
}

#[test]
fn an_address_that_fails_too_often_must_wait_and_others_need_not() {
    let bench = Bench::start();
    let head = format!("GET /jwt/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}", mint(&[]));
    let mut proven = Wire::connect(&bench.gate.http);
    assert_eq!(proven.ask(&head).status(), 200);
    // Twenty at once and then one a second; a slow machine fails more often before it is told.
    let refused = wait_for("a 429", || {
        let answer = bench.call("/key/x", &["apikey: wrong"]);
        assert!(matches!(answer.status(), 401 | 429), "{answer:?}");
        (answer.status() == 429).then_some(answer)
    });
    let body: Value = refused.json();
    assert_eq!(body["code"], "identity.throttled");
    assert_eq!(refused.field("retry-after"), Some("1"));
    // A token that was proven before need not be proven again, where it was.
    assert_eq!(proven.ask(&head).status(), 200);
    let url = bench.gate.url("/key/x");
    let elsewhere = |key: &str| curl(&["--interface", "127.0.0.2", "-H", key, &url]).status();
    assert_eq!(elsewhere("apikey: wrong"), 401);
    assert_eq!(elsewhere(&format!("apikey: {API_KEY}")), 200);
    wait_for("the end of the wait", || {
        (bench.call("/key/x", &[&format!("apikey: {API_KEY}")]).status() == 200).then_some(())
    });
}
