//! The kinds of figures: what they may do, and how they are read.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use crate::model::Millis;

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The count since the process started.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, to: i64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// Moves it by so much (down, if negative); exact when many threads move it.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long until something happens, as far as it can be told; at first it cannot.
#[derive(Debug)]
pub struct Forecast(AtomicI64);

impl Default for Forecast {
    fn default() -> Self {
        Self(AtomicI64::new(Self::NEVER))
    }
}

impl Forecast {
    const NEVER: i64 = -1;

    /// Sets it; `None`: as things are, never.
    pub fn set(&self, after: Option<Duration>) {
        let seconds = after.map_or(Self::NEVER, |after| i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
        self.0.store(seconds, Ordering::Relaxed);
    }

    /// Seconds from when it was set; `None`: never.
    pub fn get(&self) -> Option<u64> {
        u64::try_from(self.0.load(Ordering::Relaxed)).ok()
    }
}

/// How long things took, by bounds that fit both a live stream and the return from an outage.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; Self::BOUNDS.len() + 1],
    sum_ms: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// For each bound how many took no longer.
    pub within: [u64; Histogram::BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// How long they took together, in milliseconds.
    pub sum_ms: u64,
}

impl Histogram {
    /// The bounds, in milliseconds: from 5 ms to an hour.
    pub const BOUNDS: [u64; 16] =
        [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000];

    /// Adds how long ago each of these moments is. One that lies ahead took no time.
    pub fn observe(&self, moments: &Moments, now: Millis) {
        for &(moment, number) in &moments.runs {
            let took = u64::try_from(now.saturating_sub(moment)).unwrap_or(0);
            let bound = Self::BOUNDS.partition_point(|&bound| bound < took);
            self.counts[bound].fetch_add(number, Ordering::Relaxed);
            self.sum_ms.fetch_add(took.saturating_mul(number), Ordering::Relaxed);
        }
    }

    /// What it holds now.
    pub fn get(&self) -> Distribution {
        let mut count = 0;
        let counts: [u64; Self::BOUNDS.len() + 1] = std::array::from_fn(|bound| {
            count += self.counts[bound].load(Ordering::Relaxed);
            count
        });
        let within = std::array::from_fn(|bound| counts[bound]);
        Distribution { within, count, sum_ms: self.sum_ms.load(Ordering::Relaxed) }
    }
}

/// When things happened, until it is known how long they took: equal moments in a row are one entry, so
/// that a stream in order costs little.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    runs: Vec<(Millis, u64)>,
}

impl Moments {
    /// Moments are kept to so many milliseconds: the age of what is older is that much too large at most.
    const GRAIN: Millis = 10;

    /// Adds one.
    pub fn push(&mut self, moment: Millis) {
        let moment = moment - moment.rem_euclid(Self::GRAIN);
        match self.runs.last_mut() {
            Some((last, number)) if *last == moment => *number += 1,
            _ => self.runs.push((moment, 1)),
        }
    }

    /// Adds those.
    pub fn append(&mut self, mut those: Self) {
        self.runs.append(&mut those.runs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happens_has_no_time() {
        let forecast = Forecast::default();
        assert_eq!(forecast.get(), None);
        forecast.set(Some(Duration::from_millis(2_900)));
        assert_eq!(forecast.get(), Some(2));
        forecast.set(Some(Duration::MAX));
        assert_eq!(forecast.get(), Some(i64::MAX.unsigned_abs()));
        forecast.set(None);
        assert_eq!(forecast.get(), None);
    }

    #[test]
    fn a_histogram_counts_each_moment_at_its_bound_and_below_all_larger() {
        let (histogram, mut moments) = (Histogram::default(), Moments::default());
        // Ages at 100,000: 0 (ahead), 10, 10, 1,000 and 4,000,000.
        for moment in [100_500, 99_990, 99_999, 99_000, 100_000 - 4_000_000] {
            moments.push(moment);
        }
        histogram.observe(&moments, 100_000);
        let held = histogram.get();
        assert_eq!(held.within, [1, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((held.count, held.sum_ms), (5, 10 + 10 + 1_000 + 4_000_000));
    }
}
