//! What this node may do while the fleet's store is there or away, as its cluster has agreed
//! (`rules::outage`). A node that is alone asks its store whenever it reaches it, and has no share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::{Clock, Uptime};
use parking_lot::{Mutex, RwLock};
use rules::outage::{Epoch, Holder, Reach, Report, Source, Terms};
use tokio::sync::watch;

use super::Fleet;
use crate::Embedded;
use crate::metrics::Metrics;

/// A node's place in a cluster that agrees on who counts.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its number there.
    pub number: u64,
    /// What was agreed on when it last ran.
    pub epoch: Option<Epoch>,
}

/// What the node knows, and what follows from it.
pub(crate) struct Outage {
    /// `None`: the node is alone.
    holder: Option<Mutex<Holder>>,
    /// From and until when the store counts limits that may be shared. All cores read them.
    from: AtomicU64,
    until: AtomicU64,
    share: RwLock<Option<Arc<Share>>>,
    reach: Mutex<(Reach, Uptime)>,
    /// Rings whenever something else is known.
    news: watch::Sender<()>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// This node's share of every limit that is shared, in one era.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    era: u64,
    pub(crate) parts: u64,
    from: u64,
    until: u64,
    /// When this node heard of it: what it had spent before that is not known.
    heard: u64,
    book: Arc<OnceLock<Embedded>>,
}

/// Who counts a limit that may be shared.
#[derive(Debug)]
pub(crate) enum Counting {
    Store,
    Share(Arc<Share>),
    /// Nobody: what is leased may be spent.
    Nobody,
}

impl Share {
    /// The buckets of the share. Each begins empty.
    pub(crate) fn book(&self) -> &Embedded {
        let begun = Uptime::from_micros(self.from.max(self.heard));
        self.book.get_or_init(|| Embedded::empty_since(begun))
    }
}

impl Outage {
    pub(crate) fn new(place: Option<Place>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let now = clock.uptime();
        let (news, _) = watch::channel(());
        let holder = place.as_ref().map(|place| Holder::new(place.number, Terms::default()));
        let outage = Self {
            holder: holder.map(Mutex::new),
            from: AtomicU64::new(0),
            until: AtomicU64::new(0),
            share: RwLock::default(),
            reach: Mutex::new((Reach::Waits, now)),
            news,
            clock,
            metrics,
        };
        if let Some(epoch) = place.and_then(|place| place.epoch) {
            outage.hear(&epoch);
        }
        outage
    }

    fn now(&self) -> u64 {
        self.clock.uptime().as_micros()
    }

    /// Something was agreed on.
    pub(crate) fn hear(&self, epoch: &Epoch) {
        let now = self.now();
        self.change(|holder| holder.hear(now, epoch));
    }

    /// Nothing newer was agreed on by `asked`, where an era was known for so long.
    pub(crate) fn confirm(&self, asked: Uptime, era: u64, age: Duration) {
        self.change(|holder| holder.confirm(asked.as_micros(), era, age));
    }

    fn change(&self, change: impl FnOnce(&mut Holder)) {
        let Some(holder) = &self.holder else { return };
        let mut holder = holder.lock();
        change(&mut holder);
        let (source, era) = (holder.source(), holder.epoch().map_or(0, |epoch| epoch.era));
        let (from, until) = match source {
            Source::Store { from, until } => (from, until),
            Source::Local { .. } | Source::Nobody => (u64::MAX, 0),
        };
        if self.from.load(Ordering::Relaxed) != from {
            // Nobody may take one era's beginning with another's end.
            self.until.store(0, Ordering::Release);
            self.from.store(from, Ordering::Release);
        }
        self.until.store(until, Ordering::Release);
        let mut share = self.share.write();
        match source {
            Source::Local { parts, from, until } => {
                let known = share.as_ref().filter(|share| share.era == era);
                let (heard, book) = known.map_or_else(
                    || (self.now(), Arc::default()),
                    |known| (known.heard, Arc::clone(&known.book)),
                );
                *share = Some(Arc::new(Share { era, parts, from, until, heard, book }));
            }
            Source::Store { .. } | Source::Nobody => *share = None,
        }
        self.metrics.era.set(i64::try_from(era).unwrap_or(i64::MAX));
        self.metrics.sharing.set(i64::from(matches!(source, Source::Local { .. })));
        drop(share);
        self.news.send_replace(());
    }

    /// Who counts limits that may be shared, now.
    pub(crate) fn source(&self, now: u64) -> Counting {
        if self.is_by_store(now) {
            return Counting::Store;
        }
        let share = self.share.read().clone();
        match share.filter(|share| share.from <= now && now < share.until) {
            Some(share) => Counting::Share(share),
            None => Counting::Nobody,
        }
    }

    /// Whether what the store gives may be used now for limits that may be shared.
    pub(crate) fn is_by_store(&self, now: u64) -> bool {
        let until = self.until.load(Ordering::Acquire);
        self.holder.is_none() || (self.from.load(Ordering::Acquire) <= now && now < until)
    }

    /// The same at this moment.
    pub(crate) fn is_sure(&self) -> bool {
        self.is_by_store(self.now())
    }

    /// With which number the store may be called now, and the life of it that is known to count.
    pub(crate) fn call(&self) -> Option<(u64, u64)> {
        let Some(holder) = &self.holder else { return Some((0, 0)) };
        let holder = holder.lock();
        let life = holder.epoch().map_or(0, |epoch| epoch.life);
        Some((holder.number(self.now())?, life))
    }

    /// Whether this life of the store counts.
    pub(crate) fn counts(&self, life: u64) -> bool {
        self.holder.as_ref().is_none_or(|holder| holder.lock().counts(life))
    }

    /// Returns when something else is known, or may be done without it.
    pub(crate) async fn turns(&self) {
        let mut news = self.news.subscribe();
        let ready = self.holder.as_ref().map_or(0, |holder| holder.lock().ready());
        let wait = Duration::from_micros(ready.saturating_sub(self.now()));
        let wait = if wait.is_zero() { IDLE_MAX } else { wait.min(IDLE_MAX) };
        // The sender lives as long as this.
        drop(tokio::time::timeout(wait, news.changed()).await);
    }

    /// Returns when a life of the store counts no more.
    pub(crate) async fn leaves(&self, life: u64) {
        let mut news = self.news.subscribe();
        while self.counts(life) {
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// The nodes that the cluster knows to count, by their names in the ledger.
    pub(crate) fn names(&self) -> Vec<String> {
        let Some(holder) = &self.holder else { return Vec::new() };
        let holder = holder.lock();
        holder.epoch().map_or_else(Vec::new, |epoch| epoch.members.values().cloned().collect())
    }

    /// How the store is reached from now on.
    pub(crate) fn reaches(&self, reach: Reach) {
        let mut known = self.reach.lock();
        if known.0 != reach {
            *known = (reach, self.clock.uptime());
        }
    }

    /// How the store is reached, and for how long so.
    pub(crate) fn reach(&self) -> (Reach, Duration) {
        let (reach, since) = *self.reach.lock();
        (reach, self.clock.uptime().since(since))
    }
}

impl Fleet {
    /// Whether it has a place in a cluster that agrees on who counts.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.outage.holder.is_some()
    }

    /// The cluster has agreed on something.
    pub fn hear(&self, epoch: &Epoch) {
        self.outage.hear(epoch);
    }

    /// Nothing newer was agreed on by `asked` than what was heard, where who leads had known an era
    /// for so long.
    pub fn confirm(&self, asked: Uptime, era: u64, age: Duration) {
        self.outage.confirm(asked, era, age);
    }

    /// What its cluster has to know of this node.
    #[must_use]
    pub fn report(&self) -> Report {
        let (reach, since) = self.outage.reach();
        let for_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Report { name: self.till.node.to_string(), reach, for_ms }
    }
}

impl fmt::Debug for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outage").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// Longest rest.
const IDLE_MAX: Duration = Duration::from_secs(1);
