//! What the authority certifies, and what it does not.

use model::{NodeName, Secret, Timestamp};
use x509_parser::extensions::GeneralName;

use super::{Authority, CertificateError, KeyRequest, NODE_LIFE, NodeKey, is_due, node_name};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn authority() -> Authority {
    Authority::make(NOW).expect("an authority")
}

fn request(key: &NodeKey) -> KeyRequest {
    KeyRequest::parse(&key.request().expect("a request")).expect("a good one")
}

/// The DNS names of the certificate that is issued to a node of this name.
fn check(name: &str) -> Result<Vec<String>, CertificateError> {
    let key = NodeKey::generate()?;
    let chain = authority().issue(&request(&key), &NodeName::new(name), NOW)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).expect("a certificate");
    assert!(!parsed.is_ca());
    let names = parsed.subject_alternative_name().expect("one").expect("one");
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => panic!("{other}"),
    };
    Ok(names.value.general_names.iter().map(name).collect())
}

#[test]
fn a_certificate_holds_the_nodes_name_and_no_other() {
    for name in ["b", "node-1.eu.example.com", "a_b"] {
        assert_eq!(check(name).expect("a certificate"), [name]);
    }
}

#[test]
fn a_name_that_tls_would_not_compare_exactly_is_refused() {
    for name in ["", "Node", "a b", "*.example.com", "10.0.0.1", "::1", "a.", "a/b"] {
        assert!(matches!(check(name), Err(CertificateError::Name { .. })), "{name}");
        assert!(node_name(name).is_err(), "{name}");
    }
}

#[test]
fn an_authority_is_the_same_after_it_was_stored() {
    let made = authority();
    let key = made.key();
    let loaded = Authority::load(made.certificate().clone(), &key).expect("the same");
    assert_eq!(loaded.fingerprint(), made.fingerprint());
    let node = NodeKey::generate().expect("a key");
    let chain = loaded.issue(&request(&node), &NodeName::new("b"), NOW).expect("a certificate");
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).expect("a certificate");
    let (_, root) = x509_parser::parse_x509_certificate(&chain[1]).expect("a certificate");
    assert_eq!(leaf.issuer(), root.subject());
    assert_eq!(leaf.verify_signature(Some(root.public_key())), Ok(()));
}

#[test]
fn a_key_of_another_authority_is_told() {
    let loaded = Authority::load(authority().certificate().clone(), &authority().key());
    assert!(matches!(loaded, Err(CertificateError::OtherKey)));
    let loaded = Authority::load(authority().certificate().clone(), &Secret::new(vec![1, 2]));
    assert!(matches!(loaded, Err(CertificateError::Malformed { .. })));
}

#[test]
fn a_request_that_did_not_sign_itself_is_refused() {
    let mut der = NodeKey::generate().and_then(|key| key.request()).expect("a request");
    *der.last_mut().expect("a byte") ^= 1;
    assert!(matches!(KeyRequest::parse(&der), Err(CertificateError::Request(_))));
    assert!(KeyRequest::parse(b"no request").is_err());
}

#[test]
fn a_key_is_the_same_in_each_of_its_requests() {
    let key = NodeKey::generate().expect("a key");
    let stored = NodeKey::from_der(key.der().expose()).expect("the same");
    assert_eq!(request(&key).digest(), request(&stored).digest());
    assert_eq!(request(&key).digest(), key.digest());
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
    let key = NodeKey::generate().expect("a key");
    let chain = authority().issue(&request(&key), &NodeName::new("b"), NOW).expect("one");
    let due = |at| is_due(&chain[0], NOW.plus(at)).expect("a certificate");
    assert!(!due(NODE_LIFE * 65 / 100));
    assert!(due(NODE_LIFE * 67 / 100));
    assert!(due(NODE_LIFE * 2));
    let again = authority().issue(&request(&key), &NodeName::new("b"), NOW.plus(NODE_LIFE));
    assert_ne!(again.expect("one")[0], chain[0]);
}
