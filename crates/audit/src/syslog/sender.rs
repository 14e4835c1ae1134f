//! The task of one target: gathers, sends, tries again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rules::record::{Batch, SyslogTarget};
use tokio::time::sleep;

use super::connection::{Connection, Tls};
use super::outbox::{Due, Outbox};
use crate::Metrics;
use crate::metrics::Sink;

/// Sends what stands in an outbox. Ends when the outbox is drained, or after [`IDLE_MAX`] without
/// a record.
#[derive(Debug)]
pub(crate) struct Sender {
    target: SyslogTarget,
    outbox: Arc<Outbox>,
    tls: Tls,
    metrics: Metrics,
    /// Records of the batch that is due and not sent yet; a large one takes several writes.
    owed: usize,
    /// Tries in a row that failed.
    failed: u32,
    is_away: bool,
    /// Whether the server was away already when a try of a drain failed first.
    was_away: Option<bool>,
    /// Failed tries of a drain.
    last_tries: u32,
}

impl Sender {
    pub(crate) fn new(
        target: &SyslogTarget,
        outbox: Arc<Outbox>,
        tls: &Tls,
        metrics: Metrics,
    ) -> Self {
        let (target, tls) = (target.clone(), tls.clone());
        Self {
            target,
            outbox,
            tls,
            metrics,
            owed: 0,
            failed: 0,
            is_away: false,
            was_away: None,
            last_tries: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut connection = None;
        while let Some(batch) = self.gather(&mut connection).await {
            match self.attempt(&mut connection, batch).await {
                Ok(()) => self.note_success(),
                Err(error) => {
                    self.lose(&mut connection);
                    if self.is_hopeless() {
                        return;
                    }
                    self.note_failure(&error, batch);
                    self.pause(batch.retry_delay).await;
                }
            }
        }
        if let Some(connection) = connection {
            connection.close().await;
        }
    }

    /// Waits until a batch is due; `None` when there will be none. Notices meanwhile when the
    /// server closes the connection.
    async fn gather(&mut self, connection: &mut Option<Connection>) -> Option<Batch> {
        let mut waits_for_others = false;
        loop {
            let patience = match self.outbox.due() {
                Due::Over => return None,
                Due::Later(batch) if self.owed > 0 => return Some(batch),
                Due::Now(batch) => return self.begin(batch),
                Due::Later(batch) if waits_for_others => return self.begin(batch),
                Due::Later(batch) => {
                    waits_for_others = true;
                    batch.inactive
                }
                Due::Nothing => {
                    self.owed = 0;
                    IDLE_MAX
                }
            };
            let is_over = self.wait(connection, patience).await;
            if is_over && !waits_for_others && self.outbox.close_if_empty() {
                return None;
            }
        }
    }

    /// Everything that waits now has waited long enough.
    fn begin(&mut self, batch: Batch) -> Option<Batch> {
        self.owed = self.outbox.len();
        Some(batch)
    }

    /// Waits for the outbox to be due, for as long as `patience` lasts; `true` when it ended.
    async fn wait(&mut self, connection: &mut Option<Connection>, patience: Duration) -> bool {
        let over = sleep(patience);
        tokio::pin!(over);
        loop {
            let broken = async {
                match connection.as_mut() {
                    Some(connection) => connection.broken().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut over => return true,
                () = self.outbox.changed() => match self.outbox.due() {
                    // The first record of a batch: the caller begins its patience.
                    Due::Later(_) if patience != IDLE_MAX => {}
                    Due::Nothing | Due::Later(_) | Due::Now(_) | Due::Over => return false,
                },
                _closed = broken => {
                    self.lose(connection);
                    if self.outbox.len() > 0 {
                        return false;
                    }
                }
            }
        }
    }

    /// Connects if need be, and sends one batch.
    async fn attempt(
        &mut self,
        connection: &mut Option<Connection>,
        batch: Batch,
    ) -> io::Result<()> {
        let open = match connection {
            Some(open) => open,
            None => connection.insert(Connection::open(&self.target, &self.tls).await?),
        };
        let messages = self.outbox.begin(batch.max_size as usize, WRITE_BYTES_MAX);
        let (sent, result) = match open.send(&messages).await {
            Ok(()) => (messages.len(), Ok(())),
            Err((sent, error)) => (sent, Err(error)),
        };
        self.outbox.written(sent);
        self.owed = self.owed.saturating_sub(sent);
        let bytes = messages.iter().take(sent).map(|message| message.len()).sum();
        self.metrics.wrote(Sink::syslog, sent as u64, bytes);
        result
    }

    /// Lets a broken connection go, and takes back what may not have arrived.
    fn lose(&self, connection: &mut Option<Connection>) {
        if let Some(lost) = connection.take() {
            self.outbox.put_back(lost.into_tail());
        }
    }

    /// Whether a drain has tried long enough at a server that was away before it: the end of the
    /// node is not held up for one that is not there.
    fn is_hopeless(&mut self) -> bool {
        if !self.outbox.is_draining() {
            return false;
        }
        // One that has gone away only now may be restarting: it has the drain's whole time.
        self.last_tries += 1;
        *self.was_away.get_or_insert(self.is_away) && self.last_tries > LAST_TRIES
    }

    fn note_success(&mut self) {
        self.failed = 0;
        self.was_away = None;
        self.last_tries = 0;
        if std::mem::take(&mut self.is_away) {
            let (host, port) = (&self.target.host, self.target.port);
            tracing::info!(%host, port, "the syslog server takes records again");
        }
    }

    fn note_failure(&mut self, error: &io::Error, batch: Batch) {
        self.failed += 1;
        self.metrics.failed(Sink::syslog);
        let (host, port) = (&self.target.host, self.target.port);
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(%host, port, %error, "the syslog server is away; records wait for it");
        }
        if batch.max_retries > 0 && self.failed > batch.max_retries {
            let count = self.outbox.give_up(batch.max_size as usize);
            self.failed = 0;
            tracing::error!(%host, port, count, "a batch of records was given up after its last retry");
        }
    }

    /// Waits before the next try: twice as long after each, and shortly while the node drains.
    async fn pause(&self, first: Duration) {
        let doubled =
            first.max(PAUSE_MIN).saturating_mul(1 << self.failed.saturating_sub(1).min(8));
        let pause = doubled.min(PAUSE_MAX.max(first));
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            if self.outbox.is_draining() {
                sleep(PAUSE_MIN).await;
                return;
            }
            tokio::select! {
                () = &mut over => return,
                () = self.outbox.changed() => {}
            }
        }
    }
}

/// Tries of a drain, a tenth of a second each, at a server that was away before it.
const LAST_TRIES: u32 = 15;
/// Bytes of one write; a batch above it is written in several.
const WRITE_BYTES_MAX: usize = 256 << 10;
/// A target without records for this long loses its task and its connection.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Bounds of the pause between two tries; a longer `retry_delay` is kept.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
