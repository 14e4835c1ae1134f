//! What becomes of a call with a price when its client hangs up: its answer is heard all the same,
//! for a while, so that it is charged what it did cost.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Response;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::body::{ResponseBody, Stream};
use crate::core::{Core, Counted};
use crate::metrics::Guarded;
use crate::respond;
use crate::trip::Trip;

/// Carries a call to the head of its answer, also when its client hangs up after it has left.
pub(crate) async fn carry<F>(core: &Core, departure: Arc<AtomicBool>, work: F) -> F::Output
where
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let client = CancellationToken::new();
    // Dropped with this future, which is when the client has gone.
    let _waits = client.clone().drop_guard();
    let counts = core.shared.metrics.guarded.clone();
    let carried = core.tasks.spawn(async move {
        tokio::select! {
            biased;
            answer = work => Some(answer),
            () = give_up(&client, &departure, &counts) => None,
        }
    });
    carried.await.ok().flatten().unwrap_or_else(respond::failed)
}

/// Returns when nobody waits for the answer any more.
async fn give_up(client: &CancellationToken, departure: &AtomicBool, counts: &Guarded) {
    client.cancelled().await;
    if departure.load(Ordering::Relaxed)
        && let Some(_settling) = settling(counts)
    {
        sleep(SETTLE_WAIT_MAX).await;
    }
}

/// Hears the rest of an answer whose client has gone. The trip ends with it.
pub(crate) fn hear_out(mut trip: Trip, mut stream: Box<Stream>) {
    let Ok(runtime) = Handle::try_current() else { return };
    let core = Arc::clone(&trip.core);
    let Some(settling) = settling(&core.shared.metrics.guarded) else { return };
    let hearing = async move {
        let _settling = settling;
        if timeout(SETTLE_WAIT_MAX, hear(&mut trip, &mut stream)).await == Ok(true) {
            if let Some(bill) = &mut trip.bill {
                bill.heard_all();
            }
            stream.give_back(&trip);
        }
    };
    core.tasks.spawn_on(hearing, &runtime);
}

/// Whether all of it was heard.
async fn hear(trip: &mut Trip, stream: &mut Stream) -> bool {
    while !stream.is_over() {
        let Some(bill) = trip.bill.as_mut().filter(|bill| bill.wants_more()) else { return false };
        match poll_fn(|cx| stream.poll(cx)).await {
            Some(Ok(frame)) => frame.data_ref().into_iter().for_each(|data| bill.hear(data)),
            Some(Err(_)) => return false,
            None => return true,
        }
    }
    true
}

fn settling(counts: &Guarded) -> Option<Counted> {
    (counts.settling.get() < SETTLING_MAX).then(|| Counted::new(&counts.settling))
}

/// How long an answer is waited for whose client has gone. A later one is not heard.
pub(crate) const SETTLE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Answers of a node that are waited for although their clients have gone. When there are as many,
/// the next is not heard: its call is charged what it held.
const SETTLING_MAX: i64 = 4_096;
