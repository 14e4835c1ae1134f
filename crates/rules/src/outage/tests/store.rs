//! A store with one bucket: it begins lives, leases, and may forget.

use model::Bucket;

/// What comes of calling it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attached {
    At(u64),
    Ahead(u64),
}

/// The store. Credit is in units of the bucket; what is out on leases does not refill.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) is_up: bool,
    pub(super) life: u64,
    pub(super) number: u64,
    bucket: Bucket,
    /// Whether a number that is higher begins a life.
    begins_anew: bool,
    run: u64,
    /// The run in which its life began.
    run_of_life: u64,
    credit: u64,
    /// From when it refills.
    at: u64,
    leases: Vec<(u64, u64)>,
    /// What an old snapshot holds.
    saved: Option<Box<Self>>,
}

impl Store {
    pub(super) fn new(bucket: Bucket, begins_anew: bool) -> Self {
        Self {
            is_up: true,
            life: 0,
            number: 0,
            bucket,
            begins_anew,
            run: 1,
            run_of_life: 0,
            credit: 0,
            at: 0,
            leases: Vec::new(),
            saved: None,
        }
    }

    /// Starts again: with nothing, or with what was saved when it started last.
    pub(super) fn restart(&mut self, now: u64, has_lost: bool) {
        let saved = self.saved.take();
        let old = Self { saved: None, ..self.clone() };
        let next = match saved.filter(|_| !has_lost) {
            Some(saved) => *saved,
            None => Self::new(self.bucket, self.begins_anew),
        };
        *self = Self { is_up: true, run: now, saved: Some(Box::new(old)), ..next };
    }

    /// A call with a number, of a node that knows which life counts.
    pub(super) fn attach(&mut self, now: u64, number: u64, life: u64) -> Attached {
        if self.number > number {
            return Attached::Ahead(self.number);
        }
        let is_first = self.life == 0 && life == 0 && number <= 1;
        let is_behind = self.number < number && self.begins_anew;
        if is_behind || self.run_of_life != self.run || life > self.life {
            self.number = number;
            (self.life, self.run_of_life) = (now, self.run);
            self.credit = if is_first { self.bucket.capacity() } else { 0 };
            // The longest lease of the life before.
            self.at = if is_first { now } else { now + 2_000_000 };
            self.leases.clear();
        }
        self.number = self.number.max(number);
        Attached::At(self.life)
    }

    fn refill(&mut self, now: u64) {
        let mut ends: Vec<u64> = self.leases.iter().map(|(end, _)| *end).collect();
        ends.retain(|end| *end <= now && *end > self.at);
        ends.sort_unstable();
        for moment in ends.into_iter().chain([now]) {
            let out: u64 = self.leases.iter().map(|(_, held)| held).sum();
            let room = self.bucket.capacity().saturating_sub(out * self.bucket.unit());
            let elapsed = moment.saturating_sub(self.at);
            self.credit = (self.credit + elapsed * self.bucket.refill()).min(room);
            self.at = self.at.max(moment);
            self.leases.retain(|(end, _)| *end > moment);
        }
    }

    pub(super) fn take(&mut self, now: u64, wanted: u64) -> u64 {
        self.refill(now);
        let given = wanted.min(self.credit / self.bucket.unit());
        self.credit -= given * self.bucket.unit();
        given
    }

    pub(super) fn lease(&mut self, now: u64, wanted: u64) -> u64 {
        let given = self.take(now, wanted);
        self.leases.push((now + 2_000_000, given));
        given
    }
}
