//! Laws of repeats: who goes, who waits, who is answered, and that effects are never doubled.

use proptest::prelude::*;

use super::{Asked, Kept, Landing, Slot, Verdict};

const ONE: [u8; 32] = [1; 32];
const LEASE: u64 = 10;
const WHOLE: Kept = Kept { status: 200, whole: true };

/// Plays a story on one slot, a word each: `k`, `f`, `a` ask (by key, first, again), `o` asks for
/// another request by the key; `dN` departs flight N, `vN` `wN` `uN` `gN` land it (void, whole
/// answer, unknown, grounded), `tN` lets time pass. Flights count from 0. What is told, a letter each: Go, Wait,
/// Answered, Unknown, Other; `!` for a flight that may not depart.
#[track_caller]
fn check(story: &str, expected: &str) {
    let (mut slot, mut now, mut flights, mut told) = (Slot::new(ONE), 0, 0, String::new());
    for word in story.split_whitespace() {
        let (verb, rest) = word.split_at(1);
        let number = rest.parse::<u64>().unwrap_or_default();
        let until = now + LEASE;
        match verb {
            "d" if !slot.depart(number, (now, until)) => told.push('!'),
            "d" => {}
            "v" => slot.land(number, Landing::Void, now),
            "g" => slot.land(number, Landing::Grounded, now),
            "w" => slot.land(number, Landing::Answered(WHOLE), now),
            "u" => slot.land(number, Landing::Unknown, now),
            "t" => now += number,
            _ => {
                let (asked, print) = match verb {
                    "k" => (Asked::ByKey, ONE),
                    "f" => (Asked::First, ONE),
                    "a" => (Asked::Again, ONE),
                    _ => (Asked::ByKey, [2; 32]),
                };
                told.push(match slot.ask((asked, &print), flights, (now, until)) {
                    Verdict::Go => {
                        flights += 1;
                        'G'
                    }
                    Verdict::Wait => 'W',
                    Verdict::Answered(_) => 'A',
                    Verdict::Unknown => 'U',
                    Verdict::Other => 'O',
                    Verdict::Full => 'F',
                });
            }
        }
    }
    assert_eq!(told, expected, "{story}");
}

#[test]
fn of_requests_with_one_key_one_goes_and_the_others_get_its_answer() {
    check("k k k d0 k w0 k k", "GWWWAA");
}

#[test]
fn another_request_under_the_key_is_no_repeat() {
    check("k o d0 o w0 o k", "GOOOA");
}

#[test]
fn a_key_whose_request_had_no_effect_is_free_again() {
    check("k v0 k k", "GGW");
    check("k d0 v0 o", "GG");
}

#[test]
fn a_try_of_unknown_outcome_is_never_followed_by_another() {
    check("k d0 u0 k a k", "GUUU");
}

#[test]
fn a_try_that_was_not_let_go_says_nothing_of_one_that_left() {
    check("k t9999999 k d1 u1 g0 k", "GGU");
    check("k g0 k", "GG");
}

#[test]
fn a_first_try_goes_beside_its_likes_and_a_further_one_takes_the_place_of_one() {
    check("f f d0 d1 a w0 a w1 a f", "GGWWAG");
    // The second had no effect, so one further try may go, and one only.
    check("f f d0 d1 v1 a a", "GGGW");
    check("f f d0 d1 v0 a a w1 w2 a", "GGGWA");
    // With nothing left to tell of, none of them is told of.
    check("f d0 v0 f d1 a w1 a", "GGWA");
}

#[test]
fn a_further_try_that_nobody_knows_of_goes() {
    check("a a d0 w0 a", "GWA");
}

#[test]
fn a_node_that_dies_before_it_sends_leaves_its_place_to_others() {
    check("k t9 k t1 k d0 d1", "GWG!");
}

#[test]
fn a_node_that_dies_after_it_sent_leaves_an_outcome_nobody_knows() {
    check("k d0 t9 k t1 k", "GWU");
    // It was only cut off, and its answer comes late.
    check("k d0 t10 k w0 k", "GUA");
}

#[test]
fn what_had_departed_is_of_unknown_outcome_after_a_restart() {
    let mut slot = Slot::new(ONE);
    assert_eq!(slot.ask((Asked::ByKey, &ONE), 1, (0, u64::MAX)), Verdict::Go);
    assert_eq!(slot.parts().1, (0, 0));
    assert!(slot.depart(1, (0, u64::MAX)));
    let (print, counts, answer) = slot.parts();
    let mut slot = Slot::restored(print, counts, answer);
    assert_eq!(slot.ask((Asked::ByKey, &ONE), 2, (0, u64::MAX)), Verdict::Unknown);
}

proptest! {
    /// Whatever happens to tries, there are at most as many effects as first tries.
    #[test]
    fn effects_never_outnumber_first_tries(
        steps in prop::collection::vec((0_u8..7, 0_usize..6, 0_u64..12), 1..80),
        by_key in any::<bool>(),
    ) {
        let (mut slot, mut now) = (Slot::new(ONE), 0);
        // Each flight: whether it departed, and whether it landed.
        let mut flights: Vec<(bool, bool)> = Vec::new();
        let (mut firsts, mut without_effect) = (0_usize, 0_usize);
        for (verb, which, pause) in steps {
            let until = now + LEASE;
            match verb {
                0..=2 => {
                    let asked = match (by_key, verb) {
                        (true, _) => Asked::ByKey,
                        (false, 0) => Asked::First,
                        (false, _) => Asked::Again,
                    };
                    let id = flights.len() as u64;
                    if slot.ask((asked, &ONE), id, (now, until)) == Verdict::Go {
                        // The one that nobody knew of is a first one too.
                        firsts += usize::from(asked == Asked::First || flights.is_empty());
                        flights.push((false, false));
                    }
                }
                3 => now += pause,
                _ => {
                    let Some(flight) = flights.get_mut(which) else { continue };
                    if verb == 4 && !flight.1 && !flight.0 {
                        flight.0 = slot.depart(which as u64, (now, until));
                    } else if verb > 4 && !flight.1 && flight.0 {
                        let void = verb == 5;
                        let landing =
                            if void { Landing::Void } else { Landing::Answered(WHOLE) };
                        slot.land(which as u64, landing, now);
                        (flight.1, without_effect) = (true, without_effect + usize::from(void));
                    }
                }
            }
            let departed = flights.iter().filter(|flight| flight.0).count();
            prop_assert!(departed - without_effect <= firsts);
        }
    }
}
