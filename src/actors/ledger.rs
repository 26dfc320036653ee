//! What the lives of an actor have under way, remembered over their deaths, so that each step is counted
//! once, by whichever life learns that it is durable.
//!
//! A life may end after its step is durable and before it is counted; the next one finds, on opening, how
//! far the work stands. So a step is noted before it is done, with where it ends.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::{Incarnation, Sequence};

/// See the module's text; one for all lives of an actor.
#[derive(Debug)]
pub struct Ledger<T>(Arc<Mutex<Pages<T>>>);

#[derive(Debug)]
struct Pages<T> {
    /// The youngest life that opened; what an earlier one still does has failed by then.
    life: Incarnation,
    /// Where each step ends, and what counts then; in order.
    steps: VecDeque<(Sequence, T)>,
}

impl<T> Clone for Ledger<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Pages { life: Incarnation(0), steps: VecDeque::new() })))
    }
}

impl<T> Ledger<T> {
    /// This life is about to do steps, in order; each with the sequence behind it.
    pub(super) fn begin(&self, life: Incarnation, steps: impl IntoIterator<Item = (Sequence, T)>) {
        let mut pages = self.lock();
        if life >= pages.life {
            pages.steps.extend(steps);
        }
    }

    /// All below `to` is durable; answers with what was not counted before.
    pub(super) fn reached(&self, to: Sequence) -> Vec<T> {
        let steps = &mut self.lock().steps;
        let done = steps.partition_point(|&(end, _)| end <= to);
        steps.drain(..done).map(|(_, what)| what).collect()
    }

    /// This life has opened what it stands on, and found all below `to` durable: as [`reached`](Self::reached),
    /// and what lies behind has failed.
    pub(super) fn found(&self, life: Incarnation, to: Sequence) -> Vec<T> {
        let done = self.reached(to);
        let mut pages = self.lock();
        if life >= pages.life {
            pages.life = life;
            pages.steps.clear();
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Pages<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Incarnation = Incarnation(1);
    const SECOND: Incarnation = Incarnation(2);

    #[test]
    fn what_a_life_did_not_count_is_counted_by_the_next_and_only_once() {
        let ledger = Ledger::default();
        ledger.begin(FIRST, [(3, "a"), (5, "b"), (9, "c")]);
        assert_eq!(ledger.reached(4), ["a"]);
        assert_eq!(ledger.found(SECOND, 5), ["b"]);
        // It had failed: the same entries come again, otherwise cut.
        ledger.begin(SECOND, [(7, "d"), (12, "e")]);
        assert_eq!(ledger.reached(12), ["d", "e"]);
        assert_eq!(ledger.reached(12), [""; 0]);
    }

    #[test]
    fn an_earlier_life_that_wakes_late_notes_nothing() {
        let ledger = Ledger::default();
        assert_eq!(ledger.found(SECOND, 0), [""; 0]);
        ledger.begin(FIRST, [(3, "a")]);
        assert_eq!(ledger.found(FIRST, 0), [""; 0]);
        ledger.begin(SECOND, [(4, "b")]);
        assert_eq!(ledger.found(FIRST, 0), [""; 0]);
        assert_eq!(ledger.reached(4), ["b"]);
    }
}
