//! An organisation of a real size: 12 teams, 300 agents, some 400 policies.

use super::{Ask, Memory, OTHER, ZONE, agent, decide};
use crate::policy::{Policies, PolicyText, Zone};

const TEAMS: [(&str, &str); 12] = [
    ("dns", "dns"),
    ("web", "pages"),
    ("workers", "workers"),
    ("storage", "r2"),
    ("data", "d1"),
    ("edge", "cache"),
    ("security", "firewall"),
    ("trust", "zero_trust"),
    ("media", "stream"),
    ("mail", "email_routing"),
    ("platform", "accounts"),
    ("lab", "ai"),
];

/// What every team has: its product on its zone, reads of all, agents with rules of their own.
fn text(team: &str, product: &str) -> String {
    let mut text = format!(
        r#"
        @id("own") permit (principal in Team::"{team}", action in Action::"{product}", resource);
        @id("reads") permit (principal in Team::"{team}", action in Action::"effect:read", resource)
            unless {{ action in Action::"danger:exfiltration" }};
        @id("keep") @reason("ask platform to delete") forbid (
            principal in Team::"{team}", action in Action::"danger:irreversible", resource)
            unless {{ principal == Agent::"{team}-0" }};
        @id("buy") @ask("finance") permit (
            principal in Team::"{team}", action in Action::"cost:purchase", resource);
        "#
    );
    for number in 0..30 {
        text += &format!(
            r#"@id("zone-{number}") permit (principal == Agent::"{team}-{number}",
                action in Action::"zones.settings", resource in Zone::"{team}-{number}.example");
            "#
        );
    }
    text
}

fn organisation() -> Policies {
    let mut policies = Vec::new();
    for (team, product) in TEAMS {
        let parsed = PolicyText::parse(team, &text(team, product));
        policies.extend(parsed.unwrap_or_else(|flaws| panic!("{flaws:#?}")).policies);
    }
    let zones: Vec<Zone> = (0..25)
        .map(|number| Zone {
            name: format!("dns-{number}.example").into(),
            id: format!("{number:032x}").into(),
            account: None,
        })
        .collect();
    assert!(policies.len() >= 400, "{}", policies.len());
    Policies::new(policies, &zones)
}

#[test]
fn each_of_its_agents_may_do_what_its_table_says() {
    let (policies, mut memory) = (organisation(), Memory::default());
    let records = format!("/zones/{ZONE}/dns_records");
    let record = format!("{records}/{ZONE}");
    let export = format!("{records}/export");
    let settings = |number: u8| format!("/zones/{number:032x}/settings/ssl");
    let buckets = format!("/accounts/{OTHER}/r2/buckets");
    let bucket = format!("{buckets}/b");
    let table: Vec<(&str, &str, &'static str, String, &str)> = vec![
        ("dns-7", "dns", "POST", records.clone(), "permit dns/own"),
        ("dns-7", "dns", "GET", records.clone(), "permit dns/own"),
        ("web-7", "web", "GET", records.clone(), "permit web/reads"),
        ("web-7", "web", "POST", records, "refuse"),
        ("web-7", "web", "GET", export.clone(), "refuse"),
        ("dns-7", "dns", "GET", export, "permit dns/own"),
        ("web-7", "web", "DELETE", record, "refuse"),
        ("dns-3", "dns", "PATCH", settings(3), "permit dns/zone-3"),
        ("dns-3", "dns", "PATCH", settings(4), "refuse"),
        ("web-3", "web", "PATCH", settings(3), "refuse"),
        ("storage-1", "storage", "POST", buckets, "permit storage/own"),
        ("storage-1", "storage", "DELETE", bucket.clone(), "refuse storage/keep"),
        ("storage-0", "storage", "DELETE", bucket, "permit storage/own"),
        ("dns-7", "dns", "DELETE", format!("/zones/{ZONE}"), "refuse dns/keep"),
        ("lab-2", "lab", "DELETE", format!("/zones/{ZONE}"), "refuse lab/keep"),
        ("mail-1", "mail", "GET", "/never/heard".to_owned(), "ask"),
        ("mail-1", "mail", "PUT", "/never/heard".to_owned(), "refuse"),
        ("stranger", "nobody", "GET", "/zones".to_owned(), "refuse"),
    ];
    for (name, team, method, path, expected) in table {
        let ask = Ask { who: Some(agent(name, team)), method, path: &path, ..Ask::default() };
        for _ in 0..2 {
            let found = decide(&policies, &mut memory, &ask);
            assert_eq!(found, expected, "{name} {method} {path}");
        }
    }
}

#[test]
fn every_agent_may_read_what_its_team_may_and_delete_nothing() {
    let (policies, mut memory) = (organisation(), Memory::default());
    let zone = format!("/zones/{ZONE}");
    for (team, _) in TEAMS {
        for number in 1..26 {
            let who = || Some(agent(&format!("{team}-{number}"), team));
            let list = Ask { who: who(), ..Ask::default() };
            let found = decide(&policies, &mut memory, &list);
            assert!(found.starts_with("permit"), "{team}-{number}: {found}");
            let delete = Ask { who: who(), method: "DELETE", path: &zone, ..Ask::default() };
            let found = decide(&policies, &mut memory, &delete);
            assert_eq!(found, format!("refuse {team}/keep"));
        }
    }
}
