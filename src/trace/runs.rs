//! Which of the records that are on their way belong to a sampled batch.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use super::Context;
use crate::model::{Batch, Millis, Offset, Sequence};

/// So many are remembered; what is sampled beyond that is not followed any further.
const MOST: usize = 1_000;

/// The sampled batches in a spool, from the collector to its ingester; cheap to clone. A process that dies takes
/// them with it: the records go on, untraced.
#[derive(Clone, Debug, Default)]
pub struct Handed(Arc<Mutex<VecDeque<Spooled>>>);

/// Entries of a spool, and the batch that they are of.
type Spooled = (Range<Sequence>, Context);

impl Handed {
    /// These entries are a sampled batch.
    pub fn put(&self, entries: Range<Sequence>, context: Context) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() == MOST {
            runs.pop_front();
        }
        runs.push_back((entries, context));
    }

    /// The spool ends there after all: what was to follow comes again, and otherwise.
    pub fn cut(&self, end: Sequence) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(run, _)| run.end <= end);
    }

    /// The sampled batches among these entries, as far as they lie in them. Those before are forgotten: they
    /// were sent.
    pub fn within(&self, entries: &Range<Sequence>) -> Vec<Spooled> {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(run, _)| run.end > entries.start);
        let common =
            runs.iter().map(|(run, context)| (run.start.max(entries.start)..run.end.min(entries.end), context.clone()));
        common.filter(|(run, _)| !run.is_empty()).collect()
    }
}

/// Records of one sampled batch that were taken from one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What they bear.
    pub context: Context,
    /// The first one's offset.
    pub from: Offset,
    /// The offset behind the last one.
    pub to: Offset,
    /// How many there are.
    pub records: u64,
    /// When the first one was taken.
    pub since: Millis,
}

/// The sampled batches that were taken from a partition and not handed on yet.
#[derive(Clone, Debug, Default)]
pub struct Taken(VecDeque<Run>);

impl Taken {
    /// Looks for sampled records in the batch, from offset `from` on.
    pub fn look(&mut self, batch: &Batch, from: Offset, now: Millis) {
        for record in batch.records.iter().filter(|record| record.offset >= from) {
            let Some(context) = Context::of(record) else { continue };
            let to = record.offset + 1;
            let has_room = self.0.len() < MOST;
            match self.0.iter_mut().rev().find(|run| run.context == context) {
                Some(run) => (run.to, run.records) = (to, run.records + 1),
                None if has_room => {
                    self.0.push_back(Run { context, from: record.offset, to, records: 1, since: now });
                }
                None => {}
            }
        }
    }

    /// All before `next` is durable: the batches that this completes.
    pub fn done(&mut self, next: Offset) -> Vec<Run> {
        let (done, open) = self.0.drain(..).partition(|run| run.to <= next);
        self.0 = open;
        Vec::from(done)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Record, Why};

    fn context(n: u8) -> Context {
        Context::parse(format!("00-{n:032x}-00f067aa0ba902b7-01").as_bytes()).unwrap()
    }

    #[test]
    fn a_batch_in_the_spool_is_found_in_all_transactions_that_bear_a_part_of_it() {
        let handed = Handed::default();
        handed.put(3..8, context(1));
        handed.put(20..21, context(2));
        assert_eq!(handed.within(&(0..5)), [(3..5, context(1))]);
        assert_eq!(handed.within(&(5..30)), [(5..8, context(1)), (20..21, context(2))]);
        assert_eq!(handed.within(&(8..20)), []);
        // What lies before was sent.
        assert_eq!(handed.within(&(3..8)), []);
    }

    #[test]
    fn what_did_not_become_part_of_the_spool_is_forgotten() {
        let handed = Handed::default();
        handed.put(0..4, context(1));
        handed.put(4..8, context(2));
        handed.cut(5);
        assert_eq!(handed.within(&(0..9)), [(0..4, context(1))]);
    }

    #[test]
    fn the_eldest_are_forgotten_first() {
        let handed = Handed::default();
        for n in 0..=MOST as u64 {
            handed.put(n..n + 1, context(1));
        }
        let all = handed.within(&(0..u64::MAX));
        assert_eq!((all.len(), all[0].0.start), (MOST, 1));
    }

    #[test]
    fn a_batch_is_done_with_the_last_record_of_it() {
        let record = |offset, of: Option<u8>| Record {
            offset,
            time: 0,
            key: None,
            value: None,
            headers: of.map(|n| context(n).header()).into_iter().collect(),
        };
        let records = vec![record(4, Some(1)), record(5, None), record(6, Some(2)), record(7, Some(1))];
        let batch = Batch { from: 4, records, to: 9, why: Why::Marker };
        let mut taken = Taken::default();
        taken.look(&batch, 5, 100);
        let run = |n, from, to, records| Run { context: context(n), from, to, records, since: 100 };
        assert_eq!(taken.done(6), []);
        assert_eq!(taken.done(7), [run(2, 6, 7, 1)]);
        assert_eq!(taken.done(9), [run(1, 7, 8, 1)]);
        assert_eq!(taken.done(9), []);
        assert_eq!(batch.records[0].header("traceparent").map(Bytes::len), Some(55));
    }
}
