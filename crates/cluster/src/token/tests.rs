//! Tokens that open, and those that must not.

use std::time::Duration;

use model::{NodeName, Secret, SystemEntropy, Timestamp};

use super::{JoinToken, LIFETIME_MAX, Mint, TokenError};
use crate::ClusterId;
use crate::ca::Fingerprint;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn mint(key: u8) -> Mint {
    Mint::new(ClusterId([1; 16]), Fingerprint([2; 32]), &Secret::new([key; 32]))
}

fn token(node: Option<&str>) -> JoinToken {
    let node = node.map(NodeName::new);
    mint(3).issue(node, 10 * MINUTE, NOW, &SystemEntropy).expect("a token")
}

/// Judges a token that was carried as text.
fn check(mint: &Mint, token: &JoinToken, at: Duration, node: &str) -> Result<(), TokenError> {
    let read = JoinToken::parse(token.encode().expose())?;
    assert_eq!(&read, token);
    mint.check(&read, &NodeName::new(node), NOW.plus(at))
}

#[test]
fn a_token_opens_until_it_expires_and_not_a_second_longer() {
    let token = token(None);
    assert_eq!(check(&mint(3), &token, Duration::ZERO, "b"), Ok(()));
    assert_eq!(check(&mint(3), &token, 10 * MINUTE - Duration::from_secs(1), "b"), Ok(()));
    assert_eq!(check(&mint(3), &token, 10 * MINUTE, "b"), Err(TokenError::Expired));
}

#[test]
fn a_token_that_names_a_node_opens_for_it_alone() {
    let token = token(Some("b"));
    assert_eq!(check(&mint(3), &token, MINUTE, "b"), Ok(()));
    let (named, asked) = (NodeName::new("b"), NodeName::new("c"));
    assert_eq!(check(&mint(3), &token, MINUTE, "c"), Err(TokenError::OtherNode { named, asked }));
}

#[test]
fn a_token_of_another_key_cluster_or_authority_is_told_apart() {
    let token = token(None);
    assert_eq!(check(&mint(4), &token, MINUTE, "b"), Err(TokenError::Forged));
    let key = Secret::new([3; 32]);
    let cluster = Mint::new(ClusterId([9; 16]), Fingerprint([2; 32]), &key);
    let (found, own) = (ClusterId([1; 16]), ClusterId([9; 16]));
    assert_eq!(check(&cluster, &token, MINUTE, "b"), Err(TokenError::OtherCluster { found, own }));
    let authority = Mint::new(ClusterId([1; 16]), Fingerprint([9; 32]), &key);
    assert_eq!(check(&authority, &token, MINUTE, "b"), Err(TokenError::OtherAuthority));
}

#[test]
fn no_statement_of_a_token_can_be_changed() {
    let token = token(Some("b"));
    let name = NodeName::new("c");
    let mut later = token.clone();
    later.terms.expires = later.terms.expires.plus(MINUTE);
    assert_eq!(check(&mint(3), &later, MINUTE, "b"), Err(TokenError::Forged));
    let mut other = token.clone();
    other.terms.node = Some(name.clone());
    assert_eq!(mint(3).check(&other, &name, NOW), Err(TokenError::Forged));
    let mut fresh = token;
    fresh.id.0[0] ^= 1;
    assert_eq!(check(&mint(3), &fresh, MINUTE, "b"), Err(TokenError::Forged));
}

#[test]
fn a_text_that_is_not_whole_is_malformed() {
    let text = token(Some("b")).encode();
    let text = text.expose();
    for cut in 0..text.len() {
        assert_eq!(JoinToken::parse(&text[..cut]), Err(TokenError::Malformed), "cut at {cut}");
    }
    for place in 5..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert_eq!(JoinToken::parse(&changed), Err(TokenError::Malformed), "changed at {place}");
    }
    assert_eq!(JoinToken::parse(&"A".repeat(1 << 20)), Err(TokenError::Malformed));
    assert!(JoinToken::parse(&format!(" {text}\n")).is_ok());
}

#[test]
fn a_token_lives_no_longer_than_the_ids_of_spent_ones_are_kept() {
    let long = mint(3).issue(None, 100 * LIFETIME_MAX, NOW, &SystemEntropy).expect("a token");
    assert_eq!(long.terms.expires, NOW.plus(LIFETIME_MAX));
}

#[test]
fn a_token_prints_nothing_that_opens() {
    let token = token(None);
    assert!(format!("{token:?}").contains("[secret]"));
}
