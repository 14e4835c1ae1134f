//! Papers that survive a restart, and those that are not believed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use model::{NodeName, Timestamp};

use super::{Papers, PapersError};
use crate::ca::{Authority, NODE_LIFE};
use crate::tls::{NodeTls, Passport};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The papers of a cluster's first node.
fn first(dir: &Path) -> (Papers, Passport) {
    let papers = Papers::open(dir).expect("a directory");
    let authority = Authority::make(NOW).expect("an authority");
    let key = papers.node_key().expect("a key");
    let passport = Passport::certified(&authority, &key, &NodeName::new("a"), NOW);
    let passport = passport.expect("a passport");
    papers.keep_authority(&authority.key()).expect("kept");
    papers.keep(&passport).expect("kept");
    (papers, passport)
}

/// Damages one file, and gives what the node then says.
fn check(file: &str, damage: impl Fn(&Path)) -> Option<PapersError> {
    let dir = tempfile::tempdir().expect("a directory");
    let (papers, _) = first(dir.path());
    damage(&dir.path().join(file));
    papers.passport().err().or_else(|| papers.authority().err())
}

#[test]
fn papers_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, made) = first(dir.path());
    let papers = Papers::open(dir.path()).expect("the directory");
    let read = papers.passport().expect("whole").expect("there");
    assert_eq!((&read.chain, &read.authorities), (&made.chain, &made.authorities));
    assert_eq!(read.key.secret_der(), made.key.secret_der());
    let authority = papers.authority().expect("whole").expect("there");
    assert_eq!(authority.certificate(), &made.authorities[0]);
    assert!(NodeTls::new(&read).is_ok());
}

#[test]
fn nobody_else_can_read_papers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (papers, _) = first(dir.path());
    for name in ["node.key", "node.pem", "authority.pem", "authority.key"] {
        let mode = std::fs::metadata(papers.path(name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_directory_without_papers_is_of_no_member() {
    let dir = tempfile::tempdir().expect("a directory");
    let papers = Papers::open(&dir.path().join("tls")).expect("made");
    let key = papers.node_key().expect("made").digest();
    assert_eq!(papers.node_key().expect("the same").digest(), key);
    assert!(papers.passport().expect("nothing").is_none());
    assert!(papers.authority().expect("nothing").is_none());
}

#[test]
fn a_damaged_paper_is_named_and_not_made_anew() {
    for file in ["node.key", "node.pem", "authority.pem", "authority.key"] {
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA", "nothing"] {
            let said = check(file, |path| std::fs::write(path, text).expect("written"));
            let said = said.unwrap_or_else(|| panic!("{file}: {text}")).to_string();
            assert!(said.contains(file), "{said}");
        }
    }
}

#[test]
fn a_member_that_lost_a_paper_does_not_start_anew() {
    for file in ["node.key", "authority.pem"] {
        let said = check(file, |path| std::fs::remove_file(path).expect("removed"));
        assert!(matches!(said, Some(PapersError::Malformed { .. })), "{file}: {said:?}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    for file in ["node.key", "authority.key"] {
        let open = |path: &Path| {
            let mode = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(path, mode).expect("set");
        };
        assert!(matches!(check(file, open), Some(PapersError::Exposed { .. })), "{file}");
    }
}

#[test]
fn a_certificate_that_is_due_is_renewed_with_the_same_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let (papers, made) = first(dir.path());
    let tls = NodeTls::new(&made).expect("a good passport");
    let (before, node) = (tls.server(), NodeName::new("a"));
    assert!(!papers.renew(&tls, &node, NOW.plus(NODE_LIFE / 2)).expect("not due"));
    assert!(std::sync::Arc::ptr_eq(&before, &tls.server()));
    assert!(papers.renew(&tls, &node, NOW.plus(NODE_LIFE * 3 / 4)).expect("renewed"));
    assert!(!std::sync::Arc::ptr_eq(&before, &tls.server()));
    let read = papers.passport().expect("whole").expect("there");
    assert_ne!(read.chain[0], made.chain[0]);
    assert_eq!(read.key.secret_der(), made.key.secret_der());
    assert!(!papers.renew(&tls, &node, NOW.plus(NODE_LIFE)).expect("not due again"));
}

#[test]
fn a_node_without_the_authoritys_key_leaves_renewal_to_its_operators() {
    let dir = tempfile::tempdir().expect("a directory");
    let (papers, made) = first(dir.path());
    std::fs::remove_file(papers.path("authority.key")).expect("removed");
    let tls = NodeTls::new(&made).expect("a good passport");
    let renewed = papers.renew(&tls, &NodeName::new("a"), NOW.plus(NODE_LIFE * 2));
    assert!(!renewed.expect("nothing to renew with"));
}
