//! The planted-secret scan: secrets of every kind are given to a node that works, refuses and
//! fails, and then looked for in everything that can be read of it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{
    ADMIN_KEY, Gate, Origin, Setup, SyslogServer, Wire, curl, listener, tollgate, wait_for,
};
use crate::secret::found::Found;

mod found;

/// The secrets of the test. No other text holds any of them.
struct Planted {
    variable: &'static str,
    file: &'static str,
    sealed: &'static str,
    hmac: &'static str,
    api_key: &'static str,
    own_api_key: &'static str,
    viewer_key: &'static str,
    vault_token: &'static str,
    collector_key: &'static str,
    password: &'static str,
    /// Never taken by the node, for it is in what it refuses.
    refused: &'static str,
}

const PLANTED: Planted = Planted {
    variable: "pV1-variable-3hGk27sLqPz0",
    file: "pF2-file-credential-8xYw45Rt",
    sealed: "pS3-sealed-credential-Jm61cD",
    hmac: "pH4-hmac-secret-of-an-agent-0987654321",
    api_key: "pK5-api-key-of-an-agent-Qq93",
    own_api_key: "pO6-credential-of-an-agent-Zz7",
    viewer_key: "pR7-viewer-key-of-the-admin-api",
    vault_token: "pT8-token-of-a-vault-5sXcVb",
    collector_key: "pC9-key-of-a-collector-1qaz",
    password: "pW0-password-of-basic-auth-2wsx",
    refused: "pX1-refused-with-its-body-9okm",
};

impl Planted {
    fn all(&self) -> [(&'static str, &'static str); 11] {
        [
            ("the credential from a variable", self.variable),
            ("the credential from a file", self.file),
            ("the sealed credential", self.sealed),
            ("an agent's HMAC secret", self.hmac),
            ("an agent's API key", self.api_key),
            ("an API key of a credential", self.own_api_key),
            ("a viewer's key", self.viewer_key),
            ("a vault's token", self.vault_token),
            ("a collector's key", self.collector_key),
            ("a password", self.password),
            ("what was refused", self.refused),
        ]
    }
}

/// Where calls end.
struct Upstreams {
    well: Origin,
    failing: Origin,
    nonsense: Origin,
    untrusted: SyslogServer,
}

impl Upstreams {
    fn start() -> Self {
        let failing = "HTTP/1.1 503 Down\r\ncontent-length: 4\r\n\r\nfail";
        Self {
            well: Origin::start(),
            failing: Origin::answering(|_| failing.to_owned()),
            nonsense: Origin::answering(|_| "no HTTP at all\r\n\r\n".to_owned()),
            untrusted: SyslogServer::tls().0,
        }
    }
}

fn start(data: &Path) -> Gate {
    let settings = data.join("settings.yaml");
    let text = json!({
        "log": { "filter": NOISY },
        "admin_keys": [{ "name": "looker", "role": "viewer", "key": PLANTED.viewer_key }],
    });
    std::fs::write(&settings, text.to_string()).expect("the settings are written");
    let variables = [
        ("TOLLGATE_SETTINGS", settings.to_str().expect("a path")),
        ("PLANTED_CREDENTIAL", PLANTED.variable),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={}", PLANTED.collector_key)),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let gate = Gate::with(&Setup { data: Some(data), variables: &variables, ..Setup::default() });
    // It was read; from here on nobody but the test knows it.
    std::fs::remove_file(settings).expect("the settings are removed");
    gate
}

/// Puts a document that holds every secret.
fn furnish(gate: &Gate, upstreams: &Upstreams, folder: &Path, syslog: u16) {
    let file = folder.join("credential");
    std::fs::write(&file, PLANTED.file).expect("the credential is written");
    let node = |origin: &Origin| json!({ origin.node(): 1 });
    let upstream = |name: &str, nodes: Value, credential: Value| {
        let upstream = json!({ "nodes": nodes, "credential": credential });
        gate.put(&format!("upstreams/{name}"), &upstream);
    };
    let from_file = format!("$secret://file{}", file.display());
    upstream("variable", node(&upstreams.well), json!("$env://PLANTED_CREDENTIAL"));
    upstream("file", node(&upstreams.well), json!({ "header": "x-auth-key", "secret": from_file }));
    upstream("sealed", node(&upstreams.well), json!(PLANTED.sealed));
    upstream("absent", node(&upstreams.well), json!("$env://PLANTED_ABSENT"));
    upstream("failing", node(&upstreams.failing), json!("$env://PLANTED_CREDENTIAL"));
    upstream("nonsense", node(&upstreams.nonsense), json!("$env://PLANTED_CREDENTIAL"));
    upstream("away", json!({ "127.0.0.1:9": 1 }), json!(PLANTED.sealed));
    let untrusted = json!({ format!("127.0.0.1:{}", upstreams.untrusted.port): 1 });
    let untrusted = json!({ "scheme": "https", "nodes": untrusted, "credential": PLANTED.sealed });
    gate.put("upstreams/untrusted", &untrusted);
    let vault =
        json!({ "uri": "http://127.0.0.1:9", "prefix": "kv", "token": PLANTED.vault_token });
    gate.put("secrets/vault/one", &vault);
    let in_vault = "$secret://vault/one/agents/key";
    upstream("vault", node(&upstreams.well), json!(in_vault));

    let jwt = json!({ "key": "alice", "secret": PLANTED.hmac });
    let key = json!({ "key": PLANTED.api_key });
    gate.put("consumers/alice", &json!({ "username": "alice", "plugins": { "jwt-auth": jwt } }));
    gate.put("consumers/bob", &json!({ "username": "bob", "plugins": { "key-auth": key } }));
    let key = json!({ "plugins": { "key-auth": { "key": PLANTED.own_api_key } } });
    gate.put("consumers/bob/credentials/one", &key);

    let everything = json!({
        "line": "$request_method $request_uri $args", "authorization": "$http_authorization",
        "cookies": "$http_cookie", "cookie": "$cookie_jwt", "argument": "$arg_jwt",
        "key": "$http_x_api_key", "api_key": "$http_apikey", "key_argument": "$arg_apikey",
    });
    for (name, _) in ROUTES {
        for auth in ["jwt-auth", "key-auth"] {
            let file = folder.join(format!("{name}-{auth}.log"));
            let syslog = json!({ "host": "127.0.0.1", "port": syslog, "log_format": "json" });
            let route = json!({
                "uri": format!("/{name}/{auth}/*"),
                "upstream_id": name,
                "plugins": {
                    auth: {},
                    "syslog": syslog,
                    "file-logger": { "path": file, "log_format": everything },
                },
            });
            gate.put(&format!("routes/{name}-{auth}"), &route);
        }
    }
}

/// Calls with every credential in every place, to every upstream.
fn call(gate: &Gate, token: &str, found: &mut Found) {
    let (key, own_key) = (PLANTED.api_key, PLANTED.own_api_key);
    let by_token = [
        ("", format!("authorization: Bearer {token}")),
        ("", format!("authorization: {token}")),
        ("", format!("cookie: a=b; jwt={token}")),
        (&*format!("?a=b&jwt={token}"), "x-none: x".to_owned()),
        ("", format!("authorization: Bearer {token}\r\nx-api-key: {ADMIN_KEY}")),
    ]
    .map(|(arguments, field)| (arguments.to_owned(), field));
    let by_key = [
        (String::new(), format!("apikey: {key}")),
        (String::new(), format!("apikey: {own_key}")),
        (format!("?apikey={key}&a=b"), "x-none: x".to_owned()),
    ];
    for (name, status) in ROUTES {
        for (auth, calls) in [("jwt-auth", &by_token[..]), ("key-auth", &by_key)] {
            for (arguments, field) in calls {
                let path = format!("/{name}/{auth}/x{arguments}");
                assert_eq!(found.call(gate, &path, field), status, "{path} {field}");
            }
        }
    }
}

/// Calls that are refused, each with a secret in it.
fn call_in_vain(gate: &Gate, token: &str, found: &mut Found) {
    let basic = STANDARD_NO_PAD.encode(format!("agent:{}", PLANTED.password));
    let refused = PLANTED.refused;
    for path in ["/nowhere", "/variable//jwt-auth", "/variable/%00", "/sealed/jwt-auth/x"] {
        for arguments in [
            format!("?jwt={token}x"),
            format!("?apikey={}", PLANTED.api_key),
            format!("?access_token={token}&api_key={refused}&token={token}"),
        ] {
            let answered = found.call(gate, &format!("{path}{arguments}"), "x-none: x");
            assert!((400..500).contains(&answered), "{path}{arguments}: {answered}");
        }
    }
    for (path, field) in [
        ("/sealed/jwt-auth/x", format!("authorization: Basic {basic}")),
        ("/sealed/jwt-auth/x", format!("authorization: Bearer {token}x")),
        ("/sealed/jwt-auth/x", format!("x-api-key: {ADMIN_KEY}")),
        ("/sealed/key-auth/x", format!("apikey: {refused}")),
        ("/sealed/key-auth/x", format!("authorization: Basic {basic}")),
    ] {
        assert_eq!(found.call(gate, path, &field), 401);
    }
    let field = format!("authorization: Bearer {token}");
    for broken in [
        format!("GET /sealed/jwt-auth/ HTTP/1.1\r\n{field}\r\nbad field\r\n\r\n"),
        format!("GET /sealed/jwt-auth/?jwt={token} HTTP/1.1\r\n\r\n"),
        format!(
            "POST /sealed/jwt-auth/ HTTP/1.1\r\nhost: a\r\n{field}\r\ncontent-length: 9\r\n\r\nx"
        ),
        format!("GET /sealed/jwt-auth/?jwt={token}\\ HTTP/1.1\r\nhost: a b\r\n{field}\r\n\r\n"),
    ] {
        let mut client = Wire::connect(&gate.http);
        client.offer(broken);
        client.finish();
        if let Some(answer) = client.final_answer() {
            found.add("the answer to a broken call", answer.to_string());
        }
    }
}

/// The real credential is at its upstream, and no other secret is.
fn check_arrivals(origin: &Origin, token: &str) {
    let arrivals = origin.arrivals();
    for arrival in &arrivals {
        let target = arrival.target();
        let all = arrival.to_string();
        for secret in [token, PLANTED.api_key, PLANTED.own_api_key, PLANTED.hmac] {
            assert!(!all.contains(secret), "{all}");
        }
        let expected = match target.split('/').nth(1).unwrap_or_default() {
            "variable" => ("authorization", format!("Bearer {}", PLANTED.variable)),
            "file" => ("x-auth-key", PLANTED.file.to_owned()),
            "sealed" => ("authorization", format!("Bearer {}", PLANTED.sealed)),
            other => panic!("{other} has no business here"),
        };
        assert_eq!(arrival.field(expected.0), Some(&*expected.1), "{all}");
        for credential in [PLANTED.variable, PLANTED.file, PLANTED.sealed] {
            assert_eq!(
                all.matches(credential).count(),
                usize::from(expected.1.contains(credential))
            );
        }
    }
    assert_eq!(arrivals.len(), 3 * 8);
}

/// Writes that are refused: `~` stands for a secret, `%` for the API key that another agent has.
const REFUSED: &str = r#"
consumers/x {"username":"x","plugins":{"jwt-auth":{"secret":"~"}}}
consumers/x {"username":"x","plugins":{"jwt-auth":{"key":"x","secret":["~"]}}}
consumers/x {"username":"x","plugins":{"jwt-auth":{"key":"x","secret":"~","base64_secret":true}}}
consumers/x {"username":"x","plugins":{"jwt-auth":{"key":"x","secret":"~","algorithm":"RS256"}}}
consumers/x {"username":"x","plugins":{"jwt-auth":{"key":"x","public_key":"~","algorithm":"RS256"}}}
consumers/x {"username":"x","plugins":{"jwt-auth":{"key":"x","private_key":"~"}}}
consumers/x {"username":"x","plugins":{"key-auth":{"key":["~"]}}}
consumers/x {"username":"x","plugins":{"key-auth":{"key":"%"}}}
consumers/x {"username":"x","plugins":{"basic-auth":{"username":"x","password":"~"}}}
upstreams/x {"nodes":{},"credential":"~\n"}
upstreams/x {"nodes":{"a:1":1},"credential":"~\n"}
upstreams/x {"nodes":{"a:1":1},"credential":{"key":"~"}}
upstreams/x {"nodes":{"a:1":1},"credential":{"secret":"~","header":"no name"}}
upstreams/x {"nodes":{"a:1":1},"credential":["~"]}
upstreams/x {"nodes":{"a:1":"x"},"tls":{"client_key":"~"}}
secrets/vault/x {"uri":"http://u:~@h","prefix":"kv","token":"~"}
secrets/vault/x {"uri":"http://h","prefix":"kv","token":["~"]}
secrets/aws/x {"secret_access_key":"~"}
routes/x {"uri":"/x","plugins":{"jwt-auth":{"secret":"~"}}}
routes/x {"uri":"/x","plugins":{"key-auth":{"key":"~"}}}
routes/x {"uri":"/x","plugins":{"limit-req":{"policy":"redis","redis_password":["~"]}}}
"#;

/// Writes and asks what is refused, with secrets in it.
fn refuse(gate: &Gate, found: &mut Found) {
    let secret = PLANTED.refused;
    let writes = REFUSED.replace('~', secret).replace('%', PLANTED.api_key);
    for (path, body) in writes.lines().filter_map(|line| line.split_once(' ')) {
        let (kind, id) = path.rsplit_once('/').expect("a kind");
        for query in ["", "?dry_run=true"] {
            let status = found.admin(gate, "PUT", &format!("/admin/{path}{query}"), body);
            assert_eq!(status, 400, "{path} {body}");
        }
        found.admin(gate, "POST", &format!("/admin/schema/validate/{kind}"), body);
        let whole = format!(r#"{{"{kind}":{{"{id}":{body}}}}}"#);
        for path in ["apply", "diff", "configs/validate"] {
            found.admin(gate, "POST", &format!("/admin/{path}"), &whole);
        }
        // Torn behind the secret it is no JSON, and no YAML either.
        let (start, _) = body.split_once(secret).unwrap_or((body, ""));
        for end in ["\" : oops", "\"]]}", ""] {
            let torn = format!("{start}{secret}{end}");
            found.admin(gate, "PUT", &format!("/admin/{path}"), &torn);
            found.admin(gate, "POST", "/admin/apply", &torn);
        }
    }
    let yaml = format!("consumers:\n  x:\n    plugins:\n      key-auth: {{ key: [{secret} }}\n");
    found.admin(gate, "POST", "/admin/apply", &yaml);
    let mut ask = |key: &str, arguments: &[&str], path: &str| {
        let key = format!("X-API-KEY: {key}");
        let url = format!("http://{}/admin/{path}", gate.admin);
        let answer = curl(&[&["-H", &key], arguments, &[&url]].concat());
        assert_eq!(answer.status(), 401);
        found.add("the answer to a wrong key", format!("{answer:?}"));
    };
    ask(secret, &[], "routes");
    ask("x", &[], &format!("routes?api_key={secret}"));
    ask(PLANTED.viewer_key, &["-X", "PUT", "-d", "{}"], "routes/x");
}

/// Everything the operators' doors show.
fn read(gate: &Gate, found: &mut Found) {
    let resources = "routes upstreams consumers agents consumer_groups teams limits secrets \
         secrets/vault/one secrets/vault/one/token consumers/alice consumers/bob \
         consumers/bob/credentials consumers/bob/credentials/one upstreams/sealed \
         upstreams/sealed/credential upstreams/file upstreams/untrusted routes/file-jwt-auth \
         export export?format=yaml status plugins/list";
    for path in resources.split_whitespace() {
        found.admin(gate, "GET", &format!("/apisix/admin/{path}"), "");
    }
    for path in ["/metrics", "/ready", "/health"] {
        found.add(path, curl(&[&format!("http://{}{path}", gate.metrics)]).body);
    }
}

#[test]
fn no_secret_can_be_read_back_from_anywhere() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = SyslogServer::tcp(listener());
    let upstreams = Upstreams::start();
    let mut gate = start(data.path());
    furnish(&gate, &upstreams, folder.path(), server.port);
    let minted = tollgate()
        .args(["token", "mint", "--key", "alice"])
        .env("TOLLGATE_AGENT_SECRET", PLANTED.hmac)
        .output()
        .unwrap();
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    let mut found = Found::default();
    call(&gate, &token, &mut found);
    call_in_vain(&gate, &token, &mut found);
    refuse(&gate, &mut found);
    read(&gate, &mut found);
    check_arrivals(&upstreams.well, &token);
    assert!(gate.stop().status.success(), "{}", gate.log());
    wait_for("the syslog server's copy", || (!server.messages().is_empty()).then_some(()));
    for message in server.messages() {
        found.add("syslog", message);
    }
    found.files(data.path());
    std::fs::remove_file(folder.path().join("credential")).unwrap();
    found.files(folder.path());
    for place in ["syslog", "audit.jsonl", "variable-jwt-auth.log"] {
        found.check_finds(place, "/variable/jwt-auth/x");
    }
    for (place, text) in [
        ("stderr.log", "hyper_util::"),
        ("document.redb", "PLANTED_CREDENTIAL"),
        ("export", "alice"),
    ] {
        found.check_finds(place, text);
    }
    for (name, secret) in PLANTED.all() {
        found.check(name, secret);
    }
    let (_, signature) = token.rsplit_once('.').unwrap();
    found.check("an agent's token", signature);
    found.check("the admin key", ADMIN_KEY);
}

/// Everything, and what is quiet unless it is named.
const NOISY: &str = "trace,hyper=trace,hyper_util=trace,h2=trace,rustls=trace,reqwest=trace,\
                     opentelemetry=trace,opentelemetry_sdk=trace,opentelemetry_otlp=trace";

/// Routes by their upstreams, and what a call through them is answered.
const ROUTES: [(&str, u16); 9] = [
    ("variable", 200),
    ("file", 200),
    ("sealed", 200),
    ("absent", 503),
    ("failing", 503),
    ("nonsense", 502),
    ("away", 502),
    ("untrusted", 502),
    ("vault", 503),
];
