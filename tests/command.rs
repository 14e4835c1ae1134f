//! The command line: what people and programs get from each command, and what they are told when
//! it cannot be done.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::command::said::Said;
use crate::harness::{
    ADMIN_KEY, ANY, Certificate, Gate, Origin, Setup, announced, curl, get, root, signal, text_at,
    tollgate, wait_for,
};

mod operation;
mod policy;
pub(crate) mod said;

/// A command without a node.
fn run(arguments: &[&str]) -> Said {
    Said::by(tollgate().args(arguments))
}

/// A node to ask, whose directory is a place for documents too.
struct Bench {
    gate: Gate,
}

impl Bench {
    fn start() -> Self {
        Self { gate: Gate::start() }
    }

    /// A command that asks this node.
    fn run(&self, arguments: &[&str]) -> Said {
        self.run_as(ADMIN_KEY, arguments)
    }

    fn run_as(&self, key: &str, arguments: &[&str]) -> Said {
        let server = format!("http://{}", self.gate.admin);
        let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", key)];
        Said::by(tollgate().args(arguments).envs(variables))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.gate.data.join(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// The first block of a language in the README.
fn readme(language: &str) -> String {
    let text = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("a block");
    rest.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_readmes_document_is_taken_as_printed() {
    let bench = Bench::start();
    let file = bench.file("document.yaml", &readme("yaml"));
    let file = path(&file);
    assert_eq!(run(&["check", "-f", file]).well(), "4 resources, no fault\n");
    let dry = bench.run(&["apply", "-f", file, "--dry-run"]).well();
    assert!(dry.contains("created    /apisix/routes/cloudflare"), "{dry}");
    assert_eq!(bench.run(&["list", "routes", "--output", "json"]).json()["total"], 0);
    let done = bench.run(&["apply", "-f", file]).well();
    for line in [
        "created    /apisix/upstreams/cloudflare",
        "created    /apisix/routes/cloudflare",
        "created    /apisix/limits/per-agent",
        "created    /apisix/budgets/trial",
        "now at revision 1",
    ] {
        assert!(done.contains(line), "no {line} in {done}");
    }
    let again = bench.run(&["apply", "-f", file]).well();
    assert_eq!(again, "now at revision 1\n");
}

#[test]
fn an_agent_that_is_made_can_call_at_once_and_mint_further_tokens() {
    let (bench, origin) = (Bench::start(), Origin::start());
    let upstream = origin.upstream();
    let plugins = json!({ "jwt-auth": {} });
    bench.gate.put("routes/all", &json!({ "uri": "/*", "upstream": upstream, "plugins": plugins }));
    let call = |token: &str| {
        get(&bench.gate.http, "/", &[&format!("authorization: Bearer {token}")]).status()
    };
    let text = bench.run(&["agent", "create", "alice"]).well();
    let word = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    };
    assert_eq!([word("agent "), word("key ")], ["alice", "alice"]);
    assert_eq!(call(&word("token ")), 200);
    // The line it ends with, given to a shell as it stands.
    let line = text.lines().last().expect("a line").trim().to_owned();
    let program = path(Path::new(tollgate().get_program())).to_owned();
    let line = line.replace(" tollgate ", &format!(" {program} "));
    let minted = Said::by(Command::new("sh").args(["-c", &line])).well();
    assert_eq!(call(minted.trim()), 200);
    let made = bench.run(&["agent", "create", "bob", "--ttl", "1h", "--output", "json"]).json();
    assert_eq!(call(made["token"].as_str().unwrap()), 200);
    let secret = made["secret"].as_str().unwrap();
    let minted = run(&["token", "mint", "--key", "bob", "--secret", secret, "--ttl", "90"]).well();
    assert_eq!(call(minted.trim()), 200);
    bench.run(&["agent", "create", "bob"]).failed(1, &["the agent bob exists already"]);
    assert_eq!(call(minted.trim()), 200, "what was refused changed nothing");
    bench.run(&["agent", "create", "carol", "--team", "none"]).failed(1, &["group_id", "none"]);
}

#[test]
fn resources_are_shown_listed_and_deleted() {
    let bench = Bench::start();
    let file = bench.file("document.yaml", &readme("yaml"));
    bench.run(&["apply", "-f", path(&file)]).well();
    let shown: Value = serde_json::from_str(&bench.run(&["get", "routes", "cloudflare"]).well())
        .expect("people get JSON too");
    assert_eq!(shown["upstream_id"], "cloudflare");
    let shown = bench.run(&["get", "routes", "cloudflare", "--output", "json"]).json();
    assert_eq!(shown["value"]["upstream_id"], "cloudflare");
    let listed = bench.run(&["list", "limits"]).well();
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].contains("KEY") && lines[1].contains("/apisix/limits/per-agent"), "{listed}");
    for kind in ["routes", "upstreams", "agents", "teams", "limits", "secrets"] {
        assert!(bench.run(&["list", kind, "--output", "json"]).json()["list"].is_array(), "{kind}");
    }
    bench.run(&["delete", "upstreams", "cloudflare"]).failed(1, &["400", "cloudflare"]);
    assert_eq!(bench.run(&["delete", "limits", "per-agent"]).well(), "deleted limits/per-agent\n");
    let deleted = bench.run(&["delete", "upstreams", "cloudflare", "--force", "--output", "json"]);
    assert_eq!(deleted.json()["key"], "/apisix/upstreams/cloudflare");
    bench.run(&["get", "limits", "per-agent"]).failed(1, &["there is no limit `per-agent`"]);
    bench.run(&["get", "agents", "nobody"]).failed(1, &["there is no agent `nobody`"]);
    bench.run(&["delete", "routes", "none"]).failed(1, &["there is no route `none`"]);
}

#[test]
fn apply_is_all_or_nothing_and_says_what_changes() {
    let bench = Bench::start();
    let apply = |text: &str, further: &[&str]| {
        let file = bench.file("document.yaml", text);
        bench.run(&[&["apply", "-f", path(&file)], further].concat())
    };
    let one = "upstreams:\n  a: { nodes: { 'a.example:80': 1 } }\n";
    let two = "upstreams:\n  b: { nodes: { 'b.example:80': 1 } }\n";
    let done = apply(one, &["--output", "json"]).json();
    assert_eq!([&done["revision"], &done["counts"]["created"]], [&json!(1), &json!(1)]);
    let both = apply(two, &["--output", "json"]).json();
    assert_eq!([&both["revision"], &both["counts"]["deleted"]], [&json!(2), &json!(0)]);
    let pruned = apply(two, &["--prune", "--output", "json"]).json();
    assert_eq!([&pruned["revision"], &pruned["counts"]["deleted"]], [&json!(3), &json!(1)]);
    apply(one, &["--base", "1"]).failed(1, &["409"]);
    assert!(apply(one, &["--base", "3"]).well().ends_with("now at revision 4\n"));
    // One fault is enough, wherever it stands.
    let torn = format!("{one}routes:\n  r: {{ uri: /r, upstream_id: nowhere }}\n");
    apply(&torn.replace("a.example", "c.example"), &[])
        .failed(1, &["400", "upstream_id", "nowhere"]);
    let kept = bench.run(&["get", "upstreams", "a"]).well();
    assert!(kept.contains("a.example"), "{kept}");
    assert_eq!(bench.run(&["list", "routes", "--output", "json"]).json()["total"], 0);
}

#[test]
fn faults_of_a_document_name_the_file_the_line_and_the_path() {
    let bench = Bench::start();
    let text = "routes:\n  one:\n    uri: no-slash\n    plugins:\n      limit-req: { rate: 0, burst: 1, key: remote_addr }\n      no-such-plugin: {}\nupstreams:\n  two: { nodes: {}, color: red }\n";
    let yaml = bench.file("faulty.yaml", text);
    let json = serde_json::from_str::<Value>(r#"{"limits":{"x":{"per":"planet","rate":"fast"}}}"#);
    let json = bench.file("faulty.json", &serde_json::to_string_pretty(&json.unwrap()).unwrap());
    let file = path(&yaml);
    let places = [
        format!("{file}:3:"),
        format!("{file}:5:"),
        format!("{file}:6:"),
        format!("{file}:8:"),
        "/apisix/routes/one/uri ".to_owned(),
        "/apisix/routes/one/plugins/limit-req/rate ".to_owned(),
        "/apisix/routes/one/plugins/no-such-plugin ".to_owned(),
        "/apisix/upstreams/two/color ".to_owned(),
    ];
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    run(&["check", "-f", file]).failed(1, &places);
    bench.run(&["apply", "-f", file]).failed(1, &places);
    let said = run(&["check", "-f", file, "--output", "json"]);
    let found: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((said.code, found["faults"].as_array().map(Vec::len)), (1, Some(4)), "{found}");
    assert_eq!(found["faults"][0]["line"], 3);
    let file = path(&json);
    let places = [format!("{file}:4:"), format!("{file}:5:"), "/apisix/limits/x/per ".to_owned()];
    run(&["check", "-f", file]).failed(1, &places.each_ref().map(String::as_str));
    let torn = bench.file("torn.yaml", "routes:\n  one: { uri: [\n");
    let torn = path(&torn);
    run(&["check", "-f", torn]).failed(1, &[&format!("{torn}:")]);
    let absent = path(&bench.gate.data.join("absent.yaml")).to_owned();
    run(&["check", "-f", &absent]).failed(1, &[&absent]);
    bench.run(&["apply", "-f", &absent]).failed(1, &[&absent]);
}

#[test]
fn what_cannot_be_understood_ends_with_64() {
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["run", "--no-such-flag"],
        &["run", "--http", "nowhere"],
        &["run", "--resolve", "nonsense"],
        &["run", "--settings", "/no/such/file"],
        &["list"],
        &["list", "nonsense"],
        &["get", "agents", ""],
        &["get", "agents", "a/b"],
        &["get", "routes", ".."],
        &["delete", "routes", "a?force=true"],
        &["get", "secrets", "vault"],
        &["get", "credentials", "alice"],
        &["agent", "create", "bad name"],
        &["agent", "create", "a/b"],
        &["token", "mint", "--key", "a", "--secret", ""],
        &["list", "routes", "--output", "xml"],
        &["apply"],
        &["apply", "-f", "x", "--base", "one"],
        &["token", "mint", "--key", "a", "--secret", "b", "--ttl", "soon"],
        &["token", "mint", "--key", "a", "--secret", "b", "--ttl", "0s"],
        &["completions", "cmd"],
    ] {
        let said = run(arguments);
        assert!(
            said.code == 64 && said.out.is_empty() && !said.err.is_empty(),
            "{arguments:?}: {said:?}"
        );
    }
    run(&["list", "nonsense"]).failed(64, &["nonsense", "routes", "upstreams", "agents"]);
    let nobody = ["list", "routes", "--server", "http://127.0.0.1:9"];
    run(&nobody).failed(1, &["127.0.0.1:9"]);
    run(&["list", "routes", "--server", "no url"]).failed(1, &["no url"]);
}

#[test]
fn what_needs_no_node_works_alone() {
    assert_eq!(run(&["version"]).well(), format!("tollgate {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&["--version"]).well(), run(&["version"]).well());
    assert_eq!(run(&["version", "--output", "json"]).json()["version"], env!("CARGO_PKG_VERSION"));
    let mint = ["token", "mint", "--key", "a", "--secret", "a-secret", "--output", "json"];
    let token = run(&mint).json()["token"].as_str().map(|token| token.split('.').count());
    assert_eq!(token, Some(3));
    for arguments in [&["--help"][..], &["help"], &["run", "--help"], &["token", "mint", "--help"]]
    {
        assert!(run(arguments).well().contains("Usage: tollgate"), "{arguments:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).well();
        assert!(script.contains("tollgate") && script.contains("apply"), "{shell}");
        // Where the shell is here, it reads the script.
        if let Ok(mut child) =
            Command::new(shell).arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
        {
            let mut stdin = child.stdin.take().expect("standard input");
            std::io::Write::write_all(&mut stdin, script.as_bytes()).expect("it reads");
            drop(stdin);
            let read = child.wait_with_output().expect("it ends");
            assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}

#[test]
fn a_viewer_may_read_and_not_write() {
    let viewer = "a-viewers-key-0123456789abcdef";
    let keys = json!({ "admin_keys": [{ "name": "looker", "role": "viewer", "key": viewer }] });
    let bench = Bench { gate: Gate::with(&Setup { settings: Some(&keys), ..Setup::default() }) };
    bench.gate.put("upstreams/u", &json!({ "nodes": { "a.example:80": 1 } }));
    assert!(bench.run_as(viewer, &["list", "upstreams"]).well().contains("/apisix/upstreams/u"));
    // 401 and not 403, as in APISIX (reference: its Admin API).
    bench.run_as(viewer, &["delete", "upstreams", "u"]).failed(1, &["401"]);
    let file = bench.file("document.yaml", "upstreams: {}\n");
    for further in [&[][..], &["--dry-run"]] {
        let apply = [&["apply", "-f", path(&file)], further].concat();
        bench.run_as(viewer, &apply).failed(1, &["401"]);
    }
    bench.run_as("nobodys-key-0123456789abcdef", &["list", "upstreams"]).failed(1, &["401"]);
    assert!(bench.run(&["list", "upstreams"]).well().contains("/apisix/upstreams/u"));
}

#[test]
fn the_admin_api_speaks_tls_where_a_certificate_is_set() {
    let data = tempfile::tempdir().unwrap();
    let (cert, key) = Certificate::of(&["localhost"]).write(data.path());
    let settings = json!({ "admin_tls": { "cert": cert, "key": key } });
    let gate = Gate::with(&Setup { settings: Some(&settings), ..Setup::default() });
    let (_, port) = gate.admin.rsplit_once(':').unwrap();
    let url = format!("https://localhost:{port}");
    let list = |server: &str, trusted: bool| {
        let mut command = tollgate();
        command.args(["list", "routes", "--output", "json", "--server", server]);
        command.env("TOLLGATE_ADMIN_KEY", ADMIN_KEY);
        if trusted {
            command.env("SSL_CERT_FILE", &cert);
        }
        Said::by(&mut command)
    };
    assert_eq!(list(&url, true).json()["total"], 0);
    list(&url, false).failed(1, &["certificate"]);
    let told = ["list", "routes", "--server", &url, "--admin-key", ADMIN_KEY, "--ca", path(&cert)];
    run(&told).well();
    list(&format!("http://{}", gate.admin), true).failed(1, &[&gate.admin]);
    let header = format!("X-API-KEY: {ADMIN_KEY}");
    let routes = format!("{url}/apisix/admin/routes");
    assert_eq!(curl(&["--cacert", path(&cert), "-H", &header, &routes]).status(), 200);
}

/// Starts a node without an admin key, and returns what it logged until it is up, and its door.
fn without_a_key(data: &Path) -> (String, String) {
    let log = data.join("start.log");
    let mut child = tollgate()
        .args(["run", "--announce", "--http", ANY, "--admin", ANY, "--metrics", ANY, "--data"])
        .arg(data)
        .env_remove("TOLLGATE_ADMIN_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("it starts");
    let admin = text_at(&announced(&mut child), "/admin");
    let said = wait_for("the log", || {
        let text = std::fs::read_to_string(&log).expect("the log");
        text.contains("the node is up").then_some(text)
    });
    let key = said.split("shown only now: ").nth(1).and_then(|rest| rest.lines().next());
    let key = key.unwrap_or_default().to_owned();
    let kept = std::fs::read_to_string(data.join("admin.key")).expect("its digest");
    assert!(key.is_empty() || !kept.contains(&key), "the key is kept as a digest only");
    let asked = |key: &str| {
        let header = format!("X-API-KEY: {key}");
        curl(&["-H", &header, &format!("http://{admin}/apisix/admin/routes")]).status()
    };
    let status = if key.is_empty() { asked("wrong-key-0123456789") } else { asked(&key) };
    assert_eq!(status, if key.is_empty() { 401 } else { 200 });
    // The end of its standard input ends it.
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
    (said, key)
}

#[test]
fn an_admin_key_is_made_and_shown_once() {
    let data = tempfile::tempdir().unwrap();
    let (_, key) = without_a_key(data.path());
    assert!(key.len() >= 32, "{key}");
    let (said, none) = without_a_key(data.path());
    assert!(none.is_empty() && !said.contains(&key), "{said}");
}

#[test]
fn what_the_demo_prints_can_be_pasted() {
    let data = tempfile::tempdir().unwrap();
    let mut child = tollgate()
        .args(["demo", "--ports", "auto", "--data"])
        .arg(data.path())
        .env_remove("CLOUDFLARE_API_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let said: Vec<String> = lines.take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let commands = said.iter().skip_while(|line| !line.starts_with("export TOKEN="));
    let script: String = commands.map(|line| format!("{line}\n")).collect();
    assert!(!said.concat().contains('\x1b'), "{said:?}");
    let pasted = Said::by(Command::new("bash").args(["-e", "-c", &script]));
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
    assert_eq!(pasted.code, 0, "{pasted:?}");
    // A call goes through, a limit bites, and the records and the numbers tell of both.
    for wanted in [
        "HTTP/1.1 200",
        "\"status\":\"active\"",
        " 429\n",
        " 200\n",
        "\"agent\":\"alice\"",
        "/apisix/routes/cloudflare-ai-agent",
        "tollgate_requests",
    ] {
        assert!(pasted.out.contains(wanted), "no {wanted} in {}", pasted.out);
    }
}
