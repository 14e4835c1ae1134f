//! The path of one request, whole.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use model::{Code, Refusal};
use rules::response::Review;
use rules::route::Route;
use tokio_util::sync::CancellationToken;

use crate::admit::{Admitted, admit};
use crate::body::{Content, ResponseBody};
use crate::core::Core;
use crate::describe::{Described, describe};
use crate::forward::forward;
use crate::head::{self, Head};
use crate::identify::{Identified, identify};
use crate::park::Underway;
use crate::permit::{Permitted, permit};
use crate::price::{Priced, price};
use crate::quota::{Granted, wait_turn};
use crate::repeat::{self, Claimed, Reply, Whole};
use crate::trip::{Peer, Trip};
use crate::{respond, response, settle};

/// The way of a request, to the head of its answer. Boxed, so that an idle connection does not keep
/// the room of a request; and once, since what is boxed is moved.
pub(crate) type Way = Pin<Box<dyn Future<Output = Served> + Send>>;

/// What hyper is served.
type Served = Result<Response<ResponseBody>, Infallible>;

/// Carries a request from its head to the head of its answer. Never fails: what goes wrong is
/// answered and recorded. The connection is told that the request is under way as long as it is.
pub(crate) fn serve(
    core: &Arc<Core>,
    peer: Peer,
    request: Request<Incoming>,
    underway: Underway,
) -> Way {
    let Some(seat) = core.recorder.seat() else {
        core.shared.metrics.unrecorded.inc();
        return Box::pin(ready(held(respond::without_a_seat(), underway)));
    };
    let trip = Trip::begin(core, peer, seat, &request);
    let may_be_a_repeat = repeat::may_be(&request);
    let (parts, body) = request.into_parts();
    let head = match head::read(parts) {
        Ok(head) => head,
        Err(refusal) => {
            return Box::pin(ready(held(respond::refuse(trip, &refusal), underway)));
        }
    };
    if may_be_a_repeat {
        let served = serve_to_the_end(Arc::clone(core), trip, head, body);
        return Box::pin(async move { held(served.await, underway) });
    }
    Box::pin(carry((trip, underway), head, body))
}

/// Carries a request that is read. What a future is given it keeps room for until its end, so the
/// head is read before it is made.
#[expect(clippy::manual_async_fn, reason = "an async function keeps room for its arguments twice")]
fn carry(
    (mut trip, underway): (Trip, Underway),
    mut head: Head,
    body: Incoming,
) -> impl Future<Output = Served> + Send {
    async move {
        let answered = match judge(&mut trip, &mut head, body).await {
            Ok(Judged::Go(go)) if trip.has_price() => {
                return held(serve_priced(trip, head, go).await, underway);
            }
            Ok(Judged::Go(go)) => go.forward(&mut trip, &mut head).await,
            Ok(Judged::Answered(whole)) => Ok(Reply::Whole(Box::new((*whole, None)))),
            Err(refusal) => Err(refusal),
        };
        held(respond(trip, answered), underway)
    }
}

/// The answer, which keeps its connection from being taken for idle while it lives.
fn held(mut answer: Response<ResponseBody>, underway: Underway) -> Served {
    answer.body_mut().hold(underway);
    Ok(answer)
}

/// Carries a request whose client may hang up and come back for the answer: what is begun is ended.
async fn serve_to_the_end(
    core: Arc<Core>,
    mut trip: Trip,
    mut head: Head,
    body: Incoming,
) -> Response<ResponseBody> {
    let client = CancellationToken::new();
    let _waits = client.clone().drop_guard();
    let carried = core.tasks.spawn(async move {
        let mut answered = travel(&mut trip, &mut head, body).await;
        if let Some(flight) = trip.flight.take() {
            answered = repeat::land(&mut trip, *flight, answered, &client).await;
        }
        respond(trip, answered)
    });
    carried.await.unwrap_or_else(|_| respond::failed())
}

/// Carries a request that has a price: once it has left, its answer is heard.
fn serve_priced(
    mut trip: Trip,
    mut head: Head,
    go: Go,
) -> impl Future<Output = Response<ResponseBody>> {
    let core = Arc::clone(&trip.core);
    let departure = trip.bill.as_ref().map(|bill| bill.departure()).unwrap_or_default();
    let work = async move {
        let answered = go.forward(&mut trip, &mut head).await;
        respond(trip, answered)
    };
    Box::pin(async move { settle::carry(&core, departure, work).await })
}

fn respond(trip: Trip, answered: Result<Reply, Refusal>) -> Response<ResponseBody> {
    match answered {
        Ok(Reply::Passing(answer)) => respond::pass(trip, answer),
        Ok(Reply::Whole(whole)) => respond::whole(trip, *whole),
        Err(refusal) => respond::refuse(trip, &refusal),
    }
}

/// Judges a request that may be repeated, and lets it go.
async fn travel(trip: &mut Trip, head: &mut Head, body: Incoming) -> Result<Reply, Refusal> {
    match judge(trip, head, body).await? {
        Judged::Answered(whole) => Ok(Reply::Whole(Box::new((*whole, None)))),
        Judged::Go(go) => {
            if let Some(flight) = &mut trip.flight {
                Box::pin(repeat::depart(flight)).await?;
            }
            go.forward(trip, head).await
        }
    }
}

/// What a request that was judged comes to.
#[expect(clippy::large_enum_variant, reason = "nearly every request is the large one")]
enum Judged {
    /// It may leave.
    Go(Go),
    /// It was answered before.
    Answered(Box<Whole>),
}

/// A request that may leave: everybody said yes.
struct Go {
    content: Content,
    granted: Granted,
    /// What is to be done to its answer.
    review: Option<Box<Review>>,
}

impl Go {
    async fn forward(self, trip: &mut Trip, head: &mut Head) -> Result<Reply, Refusal> {
        let answer = forward(trip, head, self.content, self.granted).await?;
        let Some(review) = self.review else { return Ok(Reply::Passing(answer)) };
        let (core, berth) = (Arc::clone(&trip.core), trip.berth);
        let mut editing = Box::pin(response::edit(trip, &review, answer));
        poll_fn(|cx| core.riders.poll(berth, editing.as_mut(), cx)).await
    }
}

/// Judges a request, which ends when its agent is suspended, whatever it waits for.
async fn judge(trip: &mut Trip, head: &mut Head, body: Incoming) -> Result<Judged, Refusal> {
    let (core, berth) = (Arc::clone(&trip.core), trip.berth);
    let mut judging = pin!(pass_stages(trip, head, body));
    poll_fn(|cx| core.riders.poll(berth, judging.as_mut(), cx)).await
}

/// The table of contents of a request: each stage takes the proof that the one before made.
async fn pass_stages(trip: &mut Trip, head: &mut Head, body: Incoming) -> Result<Judged, Refusal> {
    let route = choose_route(trip, head)?;
    let identified: Identified = identify(trip, head, route)?;
    let described: Described = describe(trip, head, identified)?;
    let review = response::review(trip, head, &described);
    let (described, content) = match repeat::asking(trip, head, &described)? {
        None => (described, Content::from(body)),
        Some(asking) => {
            // Given away and back, so that the future keeps no room for it.
            match Box::pin(repeat::claim(trip, head, described, asking, body)).await? {
                Claimed::Go(described, content) => (described, content),
                Claimed::Answered(whole) => return Ok(Judged::Answered(whole)),
            }
        }
    };
    let (permitted, content): (Permitted, Content) = permit(trip, head, described, content).await?;
    let (priced, content): (Priced, Content) = price(trip, head, permitted, content).await?;
    let admitted: Admitted = admit(trip, priced).await?;
    let granted: Granted = wait_turn(trip, head, admitted).await?;
    Ok(Judged::Go(Go { content, granted, review }))
}

fn choose_route(trip: &mut Trip, head: &Head) -> Result<Arc<Route>, Refusal> {
    let found = trip.snapshot.routes.find(&trip.facts(head));
    let route = match found {
        Ok(Some(route)) => Arc::clone(route),
        Ok(None) => return Err(Refusal::new(Code::RouteNotFound, "404 Route Not Found")),
        Err(ambiguous) => return Err(Refusal::new(Code::TargetAmbiguous, ambiguous.to_string())),
    };
    trip.route = Some(Arc::clone(&route));
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::{Head, Incoming, Trip, Underway, carry};

    /// The size of what a function returns.
    fn size<A, B, C, R>(_: impl Fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// It is moved once, into its box, and each request under way has one: what is rare belongs into
    /// a box of its own.
    #[test]
    fn the_future_of_a_request_is_small() {
        let size =
            size(|trip: (Trip, Underway), head: Head, body: Incoming| carry(trip, head, body));
        assert!(size <= 5_632, "{size} bytes");
    }
}
