//! The ledger of one node: buckets in memory, saved over a clean stop.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::{Bucket, Timestamp, Uptime};
use parking_lot::{Mutex, MutexGuard};
use rules::limit::{Level, Short, Taken};
use rules::plan::{BucketKey, Draw, DrawRule, Plan};
use rules::quota::{Edition, News, Step};

use crate::limit::worst;
use crate::storage::{self, Error, Saved};
use crate::{Accounts, Denial, Reservation};
use quota::Principals;

mod quota;

/// Counts shared by all cores of a node.
///
/// A take locks only the shards its buckets live in, in one order, for well under a microsecond.
/// After a stop that was not clean every bucket begins empty, since what was taken before is not
/// known: no window over the crash ever gets more than `burst + rate · w`.
#[derive(Debug)]
pub struct Embedded {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Buckets never seen begin empty at this moment; `None`: they begin full.
    lost_at: Option<Uptime>,
    directory: Option<PathBuf>,
    accounts: Arc<Accounts>,
    quotas: Principals,
}

#[derive(Debug, Default)]
struct Shard {
    buckets: HashMap<BucketKey, Entry>,
    swept: Uptime,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    level: Level,
    bucket: Bucket,
}

impl Embedded {
    /// A ledger that lives and dies with the process: for dry runs and tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(None, None)
    }

    /// Opens the ledger of a node and takes back what the last clean stop saved.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds a file this version cannot read.
    pub fn open(directory: &Path, now: Timestamp, uptime: Uptime) -> Result<Self, Error> {
        // First, since what the buckets saved counts once and must not be used up by a failure.
        let accounts = Arc::new(Accounts::open(directory, now)?);
        let opened = storage::open(directory)?;
        let lost_at = opened.unclean.then_some(uptime);
        if opened.unclean {
            tracing::warn!(
                directory = %directory.display(),
                "the last stop was not clean, so the counts of the limits are lost: \
                 every bucket begins empty"
            );
        }
        let quotas = Principals::open(directory, lost_at, (now, uptime));
        let quotas = quotas.map_err(storage::io_error("read the quotas in", directory))?;
        let empty = Self::with(Some(directory.to_owned()), lost_at);
        let ledger = Self { accounts, quotas, ..empty };
        for Saved { key, bucket, used, at } in opened.saved {
            let elapsed =
                Uptime::from_micros(u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX));
            let (used, unit, _) =
                Level::restored(used, bucket.unit(), Uptime::default()).at(bucket, elapsed).parts();
            let level = Level::restored(used, unit, uptime);
            ledger.shard(ledger.place(&key)).buckets.insert(key, Entry { level, bucket });
        }
        Ok(ledger)
    }

    /// A ledger in memory whose buckets all begin empty at a moment.
    pub(crate) fn empty_since(begun: Uptime) -> Self {
        Self::with(None, Some(begun))
    }

    fn with(directory: Option<PathBuf>, lost_at: Option<Uptime>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (hasher, accounts, quotas) =
            (RandomState::new(), Arc::default(), Principals::default());
        Self { shards, hasher, lost_at, directory, accounts, quotas }
    }

    /// The money of this node.
    #[must_use]
    pub const fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// Takes everything the plan draws on and holds, or nothing.
    ///
    /// # Errors
    /// Which draw found its bucket short, which hold its budget, or which had no room.
    pub fn take(&self, plan: &Plan, now: Uptime) -> Result<Reservation, Denial> {
        if plan.holds.is_empty() {
            return self.draw(plan, now);
        }
        self.accounts.take(plan, || self.draw(plan, now))
    }

    fn draw(&self, plan: &Plan, now: Uptime) -> Result<Reservation, Denial> {
        if plan.draws.is_empty() {
            return Ok(Reservation::default());
        }
        let places: Vec<usize> = plan.draws.iter().map(|draw| self.place(&draw.key)).collect();
        let mut locked = self.lock(&places);
        let found = self.look(plan, &places, &locked, now);
        if let Some(denial) = worst(plan, found.iter().map(|found| found.as_ref().err().copied())) {
            return Err(denial);
        }
        for (place, shard) in &mut locked {
            let draws = plan.draws.iter().zip(&places).enumerate();
            let mut new = draws
                .filter(|(_, (draw, of))| *of == place && !shard.buckets.contains_key(&draw.key))
                .map(|(index, _)| index);
            let (Some(draw), further) = (new.next(), new.count()) else { continue };
            if !shard.has_room(1 + further, now) {
                return Err(Denial::Full { draw });
            }
        }
        Ok(commit(plan, &places, &mut locked, found))
    }

    /// Looks at a bucket without drawing on it: whether one token is there.
    ///
    /// # Errors
    /// How long the bucket is short.
    pub fn peek(&self, draw: &Draw, now: Uptime) -> Result<(), Short> {
        let shard = self.shard(self.place(&draw.key));
        let level = shard.buckets.get(&draw.key).map_or_else(|| self.fresh(draw, now), |e| e.level);
        level.take(draw.bucket, draw.cost, now).map(|_| ())
    }

    /// How many buckets are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().buckets.len()).sum()
    }

    /// Whether no bucket is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the buckets that are full again. Call it now and then.
    pub fn sweep(&self, now: Uptime) {
        (0..SHARDS).for_each(|part| self.sweep_part(part, now));
    }

    /// Does one of the [`Embedded::PARTS`] of a sweep, which holds its lock for less than a
    /// millisecond.
    pub fn sweep_part(&self, part: usize, now: Uptime) {
        if let Some(shard) = self.shards.get(part) {
            shard.lock().sweep(now);
        }
    }

    /// How many parts a sweep has.
    pub const PARTS: usize = SHARDS;

    /// Saves every bucket that is not full, durably, so that the next start knows them, and ends
    /// the journal of the budgets. Call it when nothing takes any more.
    ///
    /// # Errors
    /// When the file of the buckets cannot be written; the next start then treats every bucket as
    /// empty.
    pub fn close(&self, now: Timestamp, uptime: Uptime) -> Result<(), Error> {
        let Some(directory) = &self.directory else { return Ok(()) };
        self.accounts.close();
        let mut saved = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.sweep(uptime);
            saved.extend(shard.buckets.iter().map(|(key, entry)| {
                let (used, _, _) = entry.level.at(entry.bucket, uptime).parts();
                Saved { key: key.clone(), bucket: entry.bucket, used, at: now }
            }));
        }
        let quotas = self.quotas.save(directory, now, uptime);
        quotas.map_err(storage::io_error("save the quotas in", directory))?;
        storage::save(directory, &saved)
    }

    /// Takes a step of a quota; `None` when there is no room for another credential.
    pub(crate) fn step(
        &self,
        subject: &Arc<str>,
        edition: &Edition,
        now: Uptime,
        news: &News,
    ) -> Option<Step> {
        self.quotas.step(subject, edition, now, news)
    }

    fn place(&self, key: &BucketKey) -> usize {
        usize::try_from(self.hasher.hash_one(key) % (SHARDS as u64)).unwrap_or_default()
    }

    #[expect(clippy::indexing_slicing, reason = "a place is a remainder of the number of shards")]
    fn shard(&self, place: usize) -> MutexGuard<'_, Shard> {
        self.shards[place].lock()
    }

    /// Locks each shard once, in ascending order, so that two takes never wait for each other.
    fn lock(&self, places: &[usize]) -> Vec<(usize, MutexGuard<'_, Shard>)> {
        let mut order = places.to_vec();
        order.sort_unstable();
        order.dedup();
        order.into_iter().map(|place| (place, self.shard(place))).collect()
    }

    /// What each draw would find. Draws of one plan that share a bucket draw on each other's rest.
    fn look(
        &self,
        plan: &Plan,
        places: &[usize],
        locked: &[(usize, MutexGuard<'_, Shard>)],
        now: Uptime,
    ) -> Vec<Result<(Level, Taken), Short>> {
        let mut found: Vec<Result<(Level, Taken), Short>> = Vec::with_capacity(plan.draws.len());
        for (index, (draw, place)) in plan.draws.iter().zip(places).enumerate() {
            let earlier = plan.draws.iter().zip(&found).take(index).rev();
            let drawn = earlier
                .filter(|(other, _)| other.key == draw.key)
                .find_map(|(_, found)| found.as_ref().ok().map(|(level, _)| *level));
            let stored = || {
                let shard = locked.iter().find(|(of, _)| of == place)?;
                shard.1.buckets.get(&draw.key).map(|entry| entry.level)
            };
            let level = drawn.or_else(stored).unwrap_or_else(|| self.fresh(draw, now));
            found.push(level.take(draw.bucket, draw.cost, now));
        }
        found
    }

    fn fresh(&self, draw: &Draw, now: Uptime) -> Level {
        match (self.lost_at, &draw.rule) {
            // Nobody was promised anything by the count of failures, and a crash is no failure of
            // those who come after it.
            (Some(_), DrawRule::Failures) | (None, _) => Level::full(now),
            (Some(at), _) => Level::empty(draw.bucket, at),
        }
    }
}

impl Shard {
    fn has_room(&mut self, wanted: usize, now: Uptime) -> bool {
        if self.buckets.len() + wanted <= SHARD_BUCKETS_MAX {
            return true;
        }
        if now.since(self.swept) >= SWEEP_PAUSE {
            self.sweep(now);
        }
        self.buckets.len() + wanted <= SHARD_BUCKETS_MAX
    }

    fn sweep(&mut self, now: Uptime) {
        self.buckets.retain(|_, entry| !entry.level.is_full(entry.bucket, now));
        self.swept = now;
    }
}

fn commit(
    plan: &Plan,
    places: &[usize],
    locked: &mut [(usize, MutexGuard<'_, Shard>)],
    found: Vec<Result<(Level, Taken), Short>>,
) -> Reservation {
    let mut reservation = Reservation::default();
    for ((draw, place), found) in plan.draws.iter().zip(places).zip(found) {
        let Ok((level, taken)) = found else {
            reservation.taken.push(None);
            continue;
        };
        if draw.rule.queues() {
            reservation.turn = reservation.turn.max(taken.turn);
        }
        reservation.taken.push(Some(taken));
        let entry = Entry { level, bucket: draw.bucket };
        let Some((_, shard)) = locked.iter_mut().find(|(of, _)| of == place) else { continue };
        if let Some(kept) = shard.buckets.get_mut(&draw.key) {
            *kept = entry;
        } else {
            shard.buckets.insert(draw.key.clone(), entry);
        }
    }
    reservation
}

/// Locks that cores share; each holds a 64th of the buckets.
const SHARDS: usize = 64;

/// Buckets a shard holds: about a million in all, some 200 MB at the worst. When a shard is full
/// of buckets that are still in use, a request that needs a further one is denied as
/// [`Denial::Full`]: forgetting a bucket in use would break its limit.
const SHARD_BUCKETS_MAX: usize = 16_384;

/// A full shard is searched for buckets to forget at most this often.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
