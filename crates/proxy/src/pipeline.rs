//! The path of one request, whole.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use model::{Code, Refusal};
use rules::route::Route;

use crate::admit::{Admitted, admit};
use crate::body::ResponseBody;
use crate::core::Core;
use crate::describe::{Described, describe};
use crate::forward::{Answer, forward};
use crate::head::{self, Head};
use crate::identify::{Identified, identify};
use crate::quota::{Granted, wait_turn};
use crate::respond;
use crate::trip::{Peer, Trip};

/// Carries a request from its head to the head of its answer. Never fails: what goes wrong is
/// answered and recorded.
pub(crate) async fn serve(
    core: Arc<Core>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let Some(seat) = core.recorder.seat() else {
        core.shared.metrics.unrecorded.inc();
        return respond::without_a_seat();
    };
    let mut trip = Trip::begin(&core, peer, seat, &request);
    match travel(&mut trip, request).await {
        Ok(answer) => respond::pass(trip, answer),
        Err(refusal) => respond::refuse(trip, &refusal),
    }
}

/// The table of contents of a request: each stage takes the proof that the one before made.
async fn travel(trip: &mut Trip, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (parts, body) = request.into_parts();
    let mut head = head::read(parts)?;
    let route = choose_route(trip, &head)?;
    let identified: Identified = identify(trip, &head, route)?;
    let described: Described = describe(trip, &head, identified)?;
    let admitted: Admitted = admit(trip, &head, described).await?;
    let granted: Granted = wait_turn(trip, &head, admitted).await?;
    forward(trip, &mut head, body, granted).await
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
    use super::{Arc, Core, Incoming, Peer, Request, serve};

    /// The size of what a function returns.
    fn size<A, B, C, R>(_: impl Fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// hyper moves the future of a request several times: what is rare belongs into a box.
    #[test]
    fn the_future_of_a_request_is_small() {
        let size = size(|core: Arc<Core>, peer: Peer, request: Request<Incoming>| {
            serve(core, peer, request)
        });
        assert!(size <= 5_120, "{size} bytes");
    }
}
