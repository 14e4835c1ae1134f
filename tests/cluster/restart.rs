//! One node after the other is started again, or anew with another release, and nobody notices.

use super::figure;
use crate::harness::{Fleet, Origin, Way, at, tollgate, wait_for};

#[test]
fn a_rolling_restart_and_a_rolling_upgrade_fail_no_request() {
    let (fleet, origin) = (Fleet::of(3), Origin::start());
    fleet.carry_to(&origin);
    let settings = fleet.place().join("settings.yaml");
    // More than a balancer's interval, on a busy machine too.
    std::fs::write(&settings, "notice_seconds: 1\n").expect("the settings are written");
    let settings = ["--settings", settings.to_str().expect("a path in text")];
    let next = fleet.copy_of_the_program();
    let (before, after) = (tollgate().get_program().to_owned(), next.into_os_string());
    // The first round is the restart that takes the settings up.
    for program in [&before, &after] {
        let carried = fleet.under_traffic(&[Way::Balanced, Way::Balanced], |traffic| {
            let journal = fleet.under_writes(2, &["a", "b", "c"], |_| {
                for node in in_order(&fleet) {
                    assert!(fleet.node(&node).stop().success(), "{node}");
                    fleet.node(&node).start_as(std::process::Command::new(program), &settings);
                    fleet.node(&node).is_ready_in_time();
                    has_no_lag(&fleet, &node);
                    traffic.flows();
                }
            });
            figure("the longest time without a change", journal.longest_gap());
            fleet.agree();
            journal.judge(&fleet);
        });
        figure("requests over a rolling restart", carried);
    }
}

/// The leader last.
fn in_order(fleet: &Fleet) -> Vec<String> {
    let followers = fleet.followers();
    let mut names: Vec<String> = followers.iter().map(|node| node.name.clone()).collect();
    names.extend(["a", "b", "c"].map(str::to_owned).into_iter().find(|it| !names.contains(it)));
    names
}

/// What an operator waits for before the next node.
fn has_no_lag(fleet: &Fleet, name: &str) {
    wait_for("no lag", || {
        let members = fleet.node(name).members()?;
        let own = members.into_iter().find(|one| at(one, "/name") == name)?;
        (at(&own, "/lag").as_u64()? < 16 && at(&own, "/ready") == true).then_some(())
    });
}
