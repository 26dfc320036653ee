//! Whether a thread still runs anything.
//!
//! An actor that waits, however long, leaves its thread free; one that blocks it (a lock, a blocking call, a
//! loop without end) takes everything from it: messages, timers, and also the supervisor's word, so that
//! neither an order nor a stall reaches it. So the supervisor asks each thread on which an actor of its
//! runs, over and over, to run a task that does nothing but answer. A thread that owes the answer for
//! longer than the stage's bound is blocked.
//!
//! Only time counts in which the watcher itself ran: each look counts for little more than the time between
//! two looks. When everything stood still (a machine that was suspended, a stopped process), hours may
//! have passed since the question, and nobody had the chance to answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::ArbiterHandle;
use tokio::time::Instant;

/// One look counts for at most so many times the time between two.
const LATE: u32 = 2;

/// Watches one thread, from another.
pub(super) struct Watch {
    thread: ArbiterHandle,
    asked: u64,
    answered: Arc<AtomicU64>,
    silence: Silence,
}

impl Watch {
    pub(super) fn new(thread: ArbiterHandle) -> Self {
        Self { thread, asked: 0, answered: Arc::default(), silence: Silence::new(Instant::now()) }
    }

    /// For how long the thread has owed an answer. Asks it, if it owes none. To be called about once in
    /// `every`.
    pub(super) fn look(&mut self, every: Duration) -> Duration {
        let owes = self.answered.load(Ordering::Acquire) < self.asked;
        if !owes {
            self.asked += 1;
            let (question, answered) = (self.asked, Arc::clone(&self.answered));
            // A thread that has ended is no blocked one; that is told otherwise.
            if !self.thread.spawn_fn(move || answered.store(question, Ordering::Release)) {
                self.asked -= 1;
            }
        }
        self.silence.look(Instant::now(), owes, every * LATE)
    }
}

/// For how long an answer is owed, by the time in which somebody waited for it.
#[derive(Debug)]
struct Silence {
    looked: Instant,
    lasts: Duration,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { looked: now, lasts: Duration::ZERO }
    }

    fn look(&mut self, now: Instant, owes: bool, longest: Duration) -> Duration {
        let passed = now.saturating_duration_since(self.looked).min(longest);
        self.looked = now;
        self.lasts = if owes { self.lasts + passed } else { Duration::ZERO };
        self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these seconds, at which the answer is owed or not; what the silence lasts then.
    fn check(looks: &[(u64, bool, u64)]) {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        for (at, owes, lasts) in looks {
            let seen = silence.look(start + Duration::from_secs(*at), *owes, Duration::from_secs(2));
            assert_eq!(seen, Duration::from_secs(*lasts), "at {at} s");
        }
    }

    #[test]
    fn silence_lasts_from_look_to_look_until_an_answer() {
        check(&[(1, false, 0), (2, true, 1), (3, true, 2), (5, true, 4), (6, false, 0), (7, true, 1)]);
    }

    #[test]
    fn a_time_without_looks_is_not_silence() {
        check(&[(1, true, 1), (3_601, true, 3), (3_602, false, 0), (9_000, true, 2), (99_000, false, 0)]);
    }
}
