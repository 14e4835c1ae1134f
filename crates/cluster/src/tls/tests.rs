//! Passports, good and bad.

use model::{NodeName, Timestamp};

use super::{NodeTls, Passport, TlsError, names};
use crate::ca::{Authority, NodeKey};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn passport(name: &str) -> Passport {
    let authority = Authority::make(NOW).expect("an authority");
    let key = NodeKey::generate().expect("a key");
    Passport::certified(&authority, &key, &NodeName::new(name), NOW).expect("a passport")
}

fn check(passport: &Passport) -> Result<(), TlsError> {
    NodeTls::new(passport).map(drop)
}

#[test]
fn a_passport_needs_its_own_key_and_an_authority() {
    let good = passport("b");
    assert!(check(&good).is_ok());
    let other = Passport { key: passport("b").key, ..good.clone() };
    assert!(matches!(check(&other), Err(TlsError::Passport(_))));
    let alone = Passport { authorities: Vec::new(), ..good };
    assert!(matches!(check(&alone), Err(TlsError::NoAuthority)));
}

#[test]
fn a_bad_passport_does_not_replace_a_good_one() {
    let tls = NodeTls::new(&passport("b")).expect("a good one");
    let before = tls.client();
    let bad = Passport { key: passport("b").key, ..passport("b") };
    assert!(tls.replace(&bad).is_err());
    assert!(std::sync::Arc::ptr_eq(&before, &tls.client()));
}

#[test]
fn a_certificate_proves_exactly_its_own_name() {
    let chain = passport("b.example").chain;
    let proved = ["b.example", "B.example", "b", "example", "c.example", ""]
        .map(|name| names(&chain[0], name));
    assert_eq!(proved, [true, false, false, false, false, false]);
}
