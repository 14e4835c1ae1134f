//! Who goes first of those that one change wakes.
//!
//! tokio's `watch` wakes them in an order of its own chance. In a simulation they go in the order
//! in which they began to wait: whoever wakes first waits until all that woke with it are there,
//! and then each lets the next one go.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

thread_local! {
    static QUEUE: RefCell<Queue> = const { RefCell::new(Queue::new()) };
}

struct Queue {
    /// Tickets that were drawn.
    drawn: u64,
    /// Those that woke and have not gone; empty between two moments.
    awake: BTreeMap<u64, Waker>,
    /// The one that woke first, while it waits for the others.
    gathering: Option<u64>,
}

impl Queue {
    const fn new() -> Self {
        Self { drawn: 0, awake: BTreeMap::new(), gathering: None }
    }

    /// Adds one that woke; answers whether it is the first.
    fn add(&mut self, ticket: u64, context: &Context<'_>) -> bool {
        if self.awake.is_empty() {
            self.gathering = Some(ticket);
        }
        self.awake.insert(ticket, context.waker().clone());
        self.gathering == Some(ticket)
    }

    /// Lets the one go whose turn it is.
    fn go_on(&mut self) {
        self.gathering = None;
        if let Some((_, next)) = self.awake.first_key_value() {
            next.wake_by_ref();
        }
    }

    fn poll_turn(&mut self, ticket: u64, context: &Context<'_>) -> Poll<()> {
        self.awake.insert(ticket, context.waker().clone());
        if self.gathering.is_some() {
            return Poll::Pending;
        }
        let is_next = self.awake.first_key_value().is_some_and(|(next, _)| *next == ticket);
        if is_next {
            self.awake.remove(&ticket);
        }
        self.go_on();
        if is_next { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A place in the queue, drawn before the waiting begins.
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) fn draw() -> Self {
        QUEUE.with_borrow_mut(|queue| {
            queue.drawn += 1;
            Self(queue.drawn)
        })
    }

    /// Returns when those that woke with this one are there too, in the order of the tickets.
    pub(crate) async fn take(self) {
        let add = |context: &mut Context<'_>| {
            Poll::Ready(QUEUE.with_borrow_mut(|queue| queue.add(self.0, context)))
        };
        if poll_fn(add).await {
            // Whoever was woken together is polled before this task has its turn again.
            tokio::task::yield_now().await;
            QUEUE.with_borrow_mut(Queue::go_on);
        }
        poll_fn(|context| QUEUE.with_borrow_mut(|queue| queue.poll_turn(self.0, context))).await;
    }
}

impl Drop for Ticket {
    /// Whoever is dropped in the queue holds nobody up.
    fn drop(&mut self) {
        QUEUE.with_borrow_mut(|queue| {
            let was_there = queue.awake.remove(&self.0).is_some();
            if was_there && queue.gathering.is_none_or(|first| first == self.0) {
                queue.go_on();
            }
        });
    }
}

/// Begins anew.
pub(crate) fn reset() {
    QUEUE.set(Queue::new());
}
