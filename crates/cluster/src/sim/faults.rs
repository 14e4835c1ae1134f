//! What befalls a simulated cluster.

use super::net::Weather;
use super::node::peer;
use super::world::World;
use crate::Role;

/// One fault, or the end of some.
pub(super) async fn befall(world: &mut World) {
    match world.chance.below(100) {
        0..14 => turn_the_weather(world),
        14..34 => cut(world),
        34..44 => {
            world.net.trace.tell("mend");
            world.net.mend();
        }
        44..54 => crash(world),
        54..62 => doom(world),
        62..80 => revive(world).await,
        80..86 => slow_down(world),
        86..92 => join(world).await,
        _ => change_voters(world),
    }
}

fn turn_the_weather(world: &mut World) {
    let chance = &mut world.chance;
    let weather = Weather {
        lost: chance.one_of([0, 2, 10, 25]),
        doubled: chance.one_of([0, 5, 20]),
        delay: chance.one_of([2, 10, 60, 200]),
    };
    world.net.trace.tell(&format!("{weather:?}"));
    world.net.turn(weather);
}

/// Cuts one node off, or one pair, in one direction or in both.
fn cut(world: &mut World) {
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    let Some(one) = world.chance.pick(&ids) else { return };
    let others: Vec<u64> = ids.into_iter().filter(|id| *id != one).collect();
    let others = if world.chance.percent(60) {
        others
    } else {
        world.chance.pick(&others).into_iter().collect()
    };
    let (to, from) = world.chance.one_of([(true, true), (true, false), (false, true)]);
    world.net.trace.tell(&format!("cut {one}, {others:?}: to {to}, from {from}"));
    for other in others {
        if to {
            world.net.cut(other, one);
        }
        if from {
            world.net.cut(one, other);
        }
    }
}

fn crash(world: &mut World) {
    let living: Vec<u64> = living(world);
    let Some(id) = world.chance.pick(&living) else { return };
    world.net.trace.tell(&format!("crash {id}"));
    if let Some(node) = world.nodes.get_mut(&id) {
        node.crash();
    }
}

/// The node will crash in the middle of a sync.
fn doom(world: &mut World) {
    let living: Vec<u64> = living(world);
    let Some(id) = world.chance.pick(&living) else { return };
    let after = world.chance.below(8);
    world.net.trace.tell(&format!("doom {id} after {after}"));
    if let Some(node) = world.nodes.get_mut(&id) {
        node.platter.lock().doom = Some(after);
    }
}

async fn revive(world: &mut World) {
    let dead: Vec<u64> =
        world.nodes.iter().filter(|(_, node)| !node.lives()).map(|(id, _)| *id).collect();
    let Some(id) = world.chance.pick(&dead) else { return };
    let skew = world.chance.below(3_600_000);
    if let Some(node) = world.nodes.get_mut(&id) {
        node.skew = skew;
    }
    world.start(id).await;
}

fn slow_down(world: &mut World) {
    let ids: Vec<u64> = world.nodes.keys().copied().collect();
    let slow = world.chance.one_of([1, 20, 150]);
    let Some(id) = world.chance.pick(&ids) else { return };
    world.net.trace.tell(&format!("disk {id} takes {slow} ms"));
    if let Some(node) = world.nodes.get_mut(&id) {
        node.platter.lock().slow = slow;
    }
}

/// A fourth node joins as a learner.
async fn join(world: &mut World) {
    let Some(leader) = world.net.stations().into_iter().find(leads) else { return };
    if !world.nodes.contains_key(&LAST) {
        world.start(LAST).await;
    }
    world.net.trace.tell("join");
    world.orders.spawn(async move { drop(leader.handle.admit_peer(peer(LAST)).await) });
}

/// Promotes or demotes.
fn change_voters(world: &mut World) {
    let Some(leader) = world.net.stations().into_iter().find(leads) else { return };
    let mut voters: Vec<u64> = world.nodes.keys().copied().collect();
    if voters.len() > 3 && world.chance.percent(60) {
        let left_out = world.chance.pick(&voters);
        voters.retain(|id| Some(*id) != left_out);
    }
    world.net.trace.tell(&format!("voters {voters:?}"));
    let voters = voters.into_iter().collect();
    world.orders.spawn(async move { drop(leader.handle.set_voters(voters).await) });
}

fn leads(station: &super::net::Station) -> bool {
    station.handle.status().role == Role::Leader
}

fn living(world: &World) -> Vec<u64> {
    world.nodes.iter().filter(|(_, node)| node.lives()).map(|(id, _)| *id).collect()
}

/// The number of the node that joins last.
const LAST: u64 = 4;
