//! A node and a fleet say the same of the same history.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::{Asked, Claim, Ending, Flight, Repeats, ask, in_memory, letter};
use crate::fleet::tests::mutants::histories;
use crate::fleet::tests::{is_up, node, store::Store};

/// Steps: what is done, and with which flight.
type History = Vec<(u8, usize)>;

/// Plays a history and answers what was told, a letter each.
async fn play(repeats: &Repeats, case: u64, by_key: bool, history: &History) -> String {
    let (mut flights, mut told): (Vec<Option<Box<Flight>>>, _) = (Vec::new(), String::new());
    for (verb, which) in history {
        let asked = match verb {
            _ if by_key => Asked::ByKey,
            0 => Asked::First,
            _ => Asked::Again,
        };
        if *verb < 4 {
            // The fourth is another request, which shares the key.
            let body = if *verb == 3 { "other" } else { "same" };
            let mut one = ask(body, asked);
            // Each case has keys of its own.
            one.name.id[..8].copy_from_slice(&case.to_le_bytes());
            let claim = repeats.claim(&one).await.unwrap();
            told.push(letter(&claim));
            if let Claim::Go(flight) = claim {
                flights.push(Some(flight));
            }
            continue;
        }
        let Some(place) = flights.get_mut(*which) else { continue };
        let Some(mut flight) = place.take() else { continue };
        match verb {
            4 | 5 => {
                told.push(if flight.depart().await.is_ok() { '+' } else { '-' });
                *place = Some(flight);
            }
            6 => flight.land(Ending::Void).await,
            7 => flight.land(Ending::Answered(200, Some(b"answer".to_vec()))).await,
            8 => flight.land(Ending::Answered(500, None)).await,
            _ => flight.land(Ending::Unknown).await,
        }
    }
    // A dropped flight tells a node at once, and a fleet when its lease runs out.
    told
}

#[test]
pub(super) fn redis_says_what_a_node_says() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (own, shared) = runtime.block_on(async {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        (in_memory(), in_memory().shared(fleet))
    });
    let cases = AtomicU64::new(0);
    let steps = prop::collection::vec((0_u8..10, 0_usize..5), 1..40);
    proptest!(histories(300), |(history in steps, by_key in any::<bool>())| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        let told = runtime.block_on(play(&own, case, by_key, &history));
        let also = runtime.block_on(play(&shared, case, by_key, &history));
        prop_assert_eq!(told, also);
    });
}

/// Two first tries that come to nothing leave no two places: of what comes again one goes.
#[test]
pub(super) fn what_came_to_nothing_leaves_no_places() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        let history = vec![(0, 0), (0, 0), (6, 0), (6, 1), (1, 0), (1, 0)];
        assert_eq!(play(&in_memory(), 0, false, &history).await, "GGGW");
        assert_eq!(play(&in_memory().shared(fleet), 0, false, &history).await, "GGGW");
    });
}

#[test]
pub(super) fn what_redis_forgot_is_not_taken_for_new_by_a_further_try() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        let repeats = in_memory().shared(fleet.clone());
        let (first, again) = (ask("a", Asked::First), ask("a", Asked::Again));
        let flight = super::departed(&repeats, &first).await;
        flight.land(Ending::Answered(200, None)).await;
        assert_eq!(super::told(&repeats, &again).await, 'S');
        store.ask::<()>(&["FLUSHALL"]);
        // The first to notice is refused; then the node finds a store that has forgotten.
        let told = async {
            loop {
                if let Ok(claim) = repeats.claim(&again).await {
                    return letter(&claim);
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let told = tokio::time::timeout(std::time::Duration::from_secs(60), told).await;
        assert_eq!(told.unwrap(), 'U');
        // A new request is none of its business.
        assert_eq!(super::told(&repeats, &ask("b", Asked::First)).await, 'G');
    });
}

/// Lets a node go silent before and after its flight departed; what others are told then, twice.
#[test]
pub(super) fn a_node_that_goes_silent_leaves_its_place_or_an_outcome_nobody_knows() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut fleet = node(&store.url());
        is_up(&fleet).await;
        fleet.lease = std::time::Duration::from_millis(1);
        let repeats = in_memory().shared(fleet);
        let silence = || tokio::time::sleep(std::time::Duration::from_millis(5));
        let (left, stayed) = (ask("left", Asked::First), ask("stayed", Asked::First));
        let mut flights = Vec::new();
        for one in [&left, &stayed] {
            let Claim::Go(flight) = repeats.claim(one).await.unwrap() else { panic!("it goes") };
            flights.push(flight);
        }
        silence().await;
        assert!(flights[1].depart().await.is_err(), "others may have gone in its place");
        // It departs in time, and then nothing is heard of it.
        let mut flight = super::go(&repeats, &left).await;
        while flight.depart().await.is_err() {
            flight = super::go(&repeats, &left).await;
        }
        silence().await;
        let again = ask("left", Asked::Again);
        for _ in 0..2 {
            assert_eq!(super::told(&repeats, &again).await, 'U');
        }
        assert_eq!(super::told(&repeats, &ask("stayed", Asked::Again)).await, 'G');
        // Its answer comes late.
        flight.land(Ending::Answered(200, None)).await;
        assert_eq!(super::told(&repeats, &again).await, 'S');
    });
}
