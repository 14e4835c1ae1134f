//! Whom the gate trusts, and who it says it is.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::secure::whole;
use crate::harness::{
    ANY, Certificate, Gate, Origin, Secure, Setup, Wire, at, curl, dial, wait_for,
};

/// An upstream that shows this certificate.
fn upstream(certificate: &Certificate) -> Secure {
    Secure::start(certificate, &["h2", "http/1.1"], |request| async move {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
        whole(host.unwrap_or_default().to_owned())
    })
}

fn document(node: &str) -> Value {
    json!({ "scheme": "https", "nodes": { node: 1 } })
}

/// Asks an upstream that shows a certificate, with what the node is told of it besides, and
/// returns the status and the code of the refusal.
fn check(
    certificate: &Certificate,
    node: impl Fn(u16) -> Value,
    arguments: impl Fn(&Path, u16) -> Vec<String>,
    expected: (u16, &str),
) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (ca, _) = certificate.write(directory.path());
    let secure = upstream(certificate);
    let arguments = arguments(&ca, secure.port());
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let gate = Gate::carrying(&node(secure.port()), &json!({}), &arguments);
    let answer = gate.ask(&[], "/t");
    if expected.0 == 200 {
        assert_eq!((answer.status(), answer.text().as_str()), expected);
        return;
    }
    assert_eq!(answer.refusal(), (expected.0, expected.1.to_owned()));
    assert_eq!(at(&gate.audit.record("/t"), "/refusal"), expected.1);
}

fn by_address(port: u16) -> Value {
    document(&format!("127.0.0.1:{port}"))
}

fn by_name(_: u16) -> Value {
    document("api.example.com:443")
}

fn nothing(_: &Path, _: u16) -> Vec<String> {
    Vec::new()
}

fn with_ca(ca: &Path, _: u16) -> Vec<String> {
    vec!["--upstream-ca".to_owned(), ca.to_str().expect("a path in text").to_owned()]
}

/// The same, where the name leads to the upstream's port.
fn with_ca_and_name(ca: &Path, port: u16) -> Vec<String> {
    let name = format!("api.example.com:443=127.0.0.1:{port}");
    [with_ca(ca, port), vec!["--resolve".to_owned(), name]].concat()
}

const UNTRUSTED: (u16, &str) = (502, "upstream.untrusted");

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    check(&Certificate::of(&["127.0.0.1"]), by_address, nothing, UNTRUSTED);
}

#[test]
fn a_certificate_that_the_operator_vouches_for_is_accepted() {
    let certificate = Certificate::of(&["127.0.0.1"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (ca, _) = certificate.write(directory.path());
    let secure = upstream(&certificate);
    let gate = Gate::carrying(
        &by_address(secure.port()),
        &json!({}),
        &["--upstream-ca", ca.to_str().expect("a path in text")],
    );
    assert_eq!(gate.ask(&[], "/t").status(), 200);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    check(&Certificate::of(&["localhost"]), by_address, with_ca, UNTRUSTED);
    check(&Certificate::of(&["www.example.com"]), by_name, with_ca_and_name, UNTRUSTED);
    // An address leads to the name, but the name is what counts.
    check(&Certificate::of(&["127.0.0.1"]), by_name, with_ca_and_name, UNTRUSTED);
}

#[test]
fn a_certificate_is_judged_by_the_name_of_the_node_wherever_it_leads() {
    let accepted = (200, "api.example.com");
    check(&Certificate::of(&["api.example.com"]), by_name, with_ca_and_name, accepted);
    check(&Certificate::of(&["*.example.com"]), by_name, with_ca_and_name, accepted);
}

#[test]
fn a_certificate_is_judged_by_the_host_that_is_asked_for() {
    let rewritten = |port| {
        let mut document = by_address(port);
        document["pass_host"] = json!("rewrite");
        document["upstream_host"] = json!("api.example.com");
        document
    };
    check(&Certificate::of(&["api.example.com"]), rewritten, with_ca, (200, "api.example.com"));
    check(&Certificate::of(&["127.0.0.1"]), rewritten, with_ca, UNTRUSTED);
}

#[test]
fn a_certificate_whose_time_is_over_is_refused() {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate").pem();
    let certificate = Certificate { cert, key: key.serialize_pem() };
    check(&certificate, by_address, with_ca, UNTRUSTED);
}

#[test]
fn an_upstream_that_is_not_verified_may_show_any_certificate() {
    let unverified = |port| {
        let mut document = by_address(port);
        document["tls"] = json!({ "verify": false });
        document
    };
    let certificate = Certificate::of(&["other.example.com"]);
    let secure = upstream(&certificate);
    let gate = Gate::before(&unverified(secure.port()));
    assert_eq!(gate.ask(&[], "/t").status(), 200);
}

/// Nothing may be sent in clear text because TLS did not work.
#[test]
fn an_upstream_that_speaks_no_tls_is_unreachable_and_gets_no_request() {
    let origin = Origin::serving(|mut visit| {
        visit.wire.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        visit.wire.wait_for_end();
    });
    let gate = Gate::before(&document(&origin.node()));
    let answer = gate.ask(&["-d", "secret"], "/t");
    assert_eq!(answer.refusal(), (502, "upstream.unreachable".to_owned()));
}

#[test]
fn a_name_that_does_not_exist_is_unreachable() {
    // RFC 6761 §6.4: every resolver knows that `invalid` has no names, without asking.
    let gate = Gate::before(&json!({ "nodes": { "nowhere.invalid:80": 1 } }));
    let answer = gate.ask(&[], "/t");
    assert_eq!(answer.refusal(), (502, "upstream.unreachable".to_owned()));
    let record = gate.audit.record("/t");
    let detail = record["detail"].as_str().expect("a reason");
    assert!(detail.contains("nowhere.invalid"), "{detail}");
}

#[test]
fn a_name_may_lead_to_another_address_and_port() {
    let origin = Origin::answering(|request| {
        let host = request.field("host").expect("a host");
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{host}", host.len())
    });
    let leads = format!("api.example.com:80={}", origin.node());
    let gate = Gate::carrying(
        &json!({ "nodes": { "API.example.com:80": 1 } }),
        &json!({}),
        &["--resolve", &leads],
    );
    assert_eq!(gate.ask(&[], "/t").text(), "api.example.com");
    assert_eq!(gate.audit.record("/t")["upstream"]["address"], origin.node());
}

/// A gate that agents reach over TLS with a certificate from files.
struct Listener {
    gate: Gate,
    /// Where its certificate is.
    data: TempDir,
    _origin: Origin,
}

impl Listener {
    fn start(first: &Certificate) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (cert, key) = first.write(data.path());
        let settings = json!({ "tls": { "cert": cert, "key": key } });
        let arguments = &["--https", ANY];
        let setup = Setup { settings: Some(&settings), arguments, ..Setup::default() };
        let gate = Gate::with(&setup);
        let origin = Origin::answering(|request| {
            let target = request.target();
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len())
        });
        gate.carry(&origin.upstream(), &json!({}));
        Self { gate, data, _origin: origin }
    }

    fn address(&self) -> &str {
        self.gate.https.as_deref().expect("it listens for TLS")
    }

    /// Has the node read its files again. That it did shows in the record, which it opens anew
    /// before it reads the certificate.
    fn reload(&self) {
        let record = &self.gate.audit.file;
        let aside = record.with_extension("old");
        wait_for("a record", || {
            drop(self.gate.ask(&[], "/before"));
            record.exists().then_some(())
        });
        std::fs::rename(record, &aside).expect("the record is put aside");
        self.gate.reload();
        wait_for("a new record", || {
            drop(self.gate.ask(&[], "/after"));
            record.exists().then_some(())
        });
    }

    /// A new connection and the certificate that it is shown.
    fn connect(&self, trusted: &[&Certificate]) -> (Secured, CertificateDer<'static>) {
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            roots.add(certificate.der()).expect("a root");
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = dial(self.address());
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).expect("TLS");
        }
        let shown = tls.peer_certificates().and_then(<[_]>::first).expect("a certificate");
        let shown = shown.clone().into_owned();
        (Wire::over(StreamOwned::new(tls, stream)), shown)
    }
}

type Secured = Wire<StreamOwned<ClientConnection, TcpStream>>;

/// A request over a connection that stays open.
fn ask(wire: &mut Secured, path: &str) {
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    assert_eq!(wire.answer("GET").expect("an answer").text(), path);
}

#[test]
fn agents_over_tls_speak_http_2_or_http_1_1_as_they_like() {
    let certificate = Certificate::of(&["localhost"]);
    let listener = Listener::start(&certificate);
    let ca = listener.data.path().join("cert.pem");
    let ca = ca.to_str().expect("a path in text");
    let leads = format!("localhost:443:{}", listener.address());
    let leads = ["--connect-to", &leads, "--cacert", ca, "-w", " %{http_version}"];
    let asked = |protocol| curl(&[&leads[..], &[protocol, "https://localhost/x"]].concat()).text();
    assert_eq!(asked("--http2"), "/x 2");
    assert_eq!(asked("--http1.1"), "/x 1.1");
}

#[test]
fn a_new_certificate_is_shown_after_a_hangup_and_open_connections_live_on() {
    let (old, new) = (Certificate::of(&["localhost"]), Certificate::of(&["localhost"]));
    let listener = Listener::start(&old);
    let (mut open, shown) = listener.connect(&[&old, &new]);
    assert_eq!(shown, old.der());
    ask(&mut open, "/before");
    new.write(listener.data.path());
    listener.reload();
    let (mut later, _) = wait_for("the new certificate", || {
        Some(listener.connect(&[&old, &new])).filter(|(_, shown)| *shown == new.der())
    });
    ask(&mut later, "/later");
    ask(&mut open, "/still");
    ask(&mut open, "/and-again");
}

#[test]
fn a_certificate_that_cannot_be_used_leaves_the_old_one() {
    let (old, new) = (Certificate::of(&["localhost"]), Certificate::of(&["localhost"]));
    let listener = Listener::start(&old);
    let nonsense = |text: &str| Certificate { cert: text.to_owned(), key: new.key.clone() };
    let other_key = Certificate { cert: new.cert.clone(), key: old.key.clone() };
    let no_key = Certificate { cert: new.cert.clone(), key: String::new() };
    let cut: String = new.cert.chars().take(200).collect();
    for broken in [nonsense(""), nonsense("nonsense"), nonsense(&cut), other_key, no_key] {
        broken.write(listener.data.path());
        listener.reload();
        let (mut wire, shown) = listener.connect(&[&old, &new]);
        assert_eq!(shown, old.der(), "{broken:?}");
        ask(&mut wire, "/still");
    }
    // What was refused so often does not keep a good one out.
    new.write(listener.data.path());
    listener.reload();
    wait_for("the new certificate", || {
        Some(listener.connect(&[&old, &new])).filter(|(_, shown)| *shown == new.der())
    });
}

#[test]
fn a_new_certificate_of_the_operators_door_is_shown_after_a_hangup() {
    let (old, new) = (Certificate::of(&["localhost"]), Certificate::of(&["localhost"]));
    let data = tempfile::tempdir().expect("a temporary directory");
    let (cert, key) = old.write(data.path());
    let settings = json!({ "admin_tls": { "cert": cert, "key": key } });
    let gate = Gate::with(&Setup { settings: Some(&settings), ..Setup::default() });
    let leads = format!("localhost:443:{}", gate.admin);
    let trusts = |certificate: &Certificate| {
        let ca = data.path().join("trusted.pem");
        std::fs::write(&ca, &certificate.cert).expect("a file is written");
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "--connect-to", &leads, "https://localhost/", "--cacert"]).arg(ca);
        command.output().expect("curl runs").status.success()
    };
    assert!(trusts(&old) && !trusts(&new));
    let broken = Certificate { cert: String::new(), key: new.key.clone() };
    broken.write(data.path());
    gate.reload();
    wait_for("a word of it", || gate.log().contains("the old certificate stays").then_some(()));
    assert!(trusts(&old));
    new.write(data.path());
    gate.reload();
    wait_for("the new certificate", || trusts(&new).then_some(()));
    assert!(!trusts(&old));
}

#[test]
fn without_a_certificate_of_the_operators_the_node_makes_one_and_keeps_it() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let made = data.path().join("tls/cert.pem");
    let arguments = &["--https", ANY];
    let setup = Setup { data: Some(data.path()), arguments, ..Setup::default() };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let gate = Gate::with(&setup);
        let address = gate.https.as_deref().expect("it listens for TLS");
        let leads = format!("localhost:443:{address}");
        let ca = made.to_str().expect("a path in text");
        let answer = curl(&["--connect-to", &leads, "--cacert", ca, "https://localhost/x"]);
        assert_eq!(answer.status(), 404);
        seen.push(std::fs::read(&made).expect("a certificate"));
        gate.kill();
    }
    assert_eq!(seen.first(), seen.last());
}
