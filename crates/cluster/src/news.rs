//! Waiting for what a watch channel tells.

use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

/// Returns when a value fits.
pub(crate) async fn until<T>(
    news: &mut watch::Receiver<T>,
    fits: impl FnMut(&T) -> bool,
) -> Result<(), RecvError> {
    in_turn(async move { news.wait_for(fits).await.map(drop) }).await
}

/// Returns when there is a value that was not seen.
pub(crate) async fn change<T>(news: &mut watch::Receiver<T>) -> Result<(), RecvError> {
    in_turn(news.changed()).await
}

/// Waits for something that others are told at the same moment.
#[cfg(not(test))]
pub(crate) async fn in_turn<T>(waiting: impl Future<Output = T>) -> T {
    waiting.await
}

/// Those that wait for the same news are woken in an order of tokio's own chance; in a simulation
/// that order follows from the seed, too.
#[cfg(test)]
pub(crate) async fn in_turn<T>(waiting: impl Future<Output = T>) -> T {
    let ticket = crate::sim::is_running().then(crate::sim::turn::Ticket::draw);
    let told = waiting.await;
    if let Some(ticket) = ticket {
        ticket.take().await;
    }
    told
}
