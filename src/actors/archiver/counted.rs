//! How far each partition is counted, remembered over an archiver's deaths.
//!
//! A life may end after its entry stands and before that is counted, and the next one reads again what
//! the open segment held. So records count as read once, and an entry counts once, whichever life sees it;
//! and so the sampled batches among them are followed once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    archive::Entry,
    model::{Batch, Clock, Offset, Partition},
    trace::{Run, Taken, Tracer},
};

/// See the module's text; one for all lives of an archiver.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Mutex<BTreeMap<Partition, Marks>>>);

#[derive(Debug)]
struct Marks {
    read: Offset,
    archived: Offset,
    /// What was read, sampled and not archived.
    sampled: Taken,
}

impl Marks {
    fn at(offset: Offset) -> Self {
        Self { read: offset, archived: offset, sampled: Taken::default() }
    }
}

impl Counted {
    /// Up to where entries are counted; what was archived before the first life (which opened `at`) is not
    /// this process's to count.
    pub(super) fn since(&self, partition: Partition, at: Offset) -> Offset {
        self.lock().entry(partition).or_insert_with(|| Marks::at(at)).archived
    }

    /// The batch was read: answers how many of its records, and bytes, were not before.
    pub(super) fn read(&self, partition: Partition, batch: &Batch, tracer: &Tracer, clock: &dyn Clock) -> (u64, u64) {
        let mut marks = self.lock();
        let marks = marks.entry(partition).or_insert_with(|| Marks::at(batch.from));
        let new = &batch.records[batch.records.partition_point(|record| record.offset < marks.read)..];
        if tracer.is_on() {
            marks.sampled.look(batch, marks.read, clock.now());
        }
        marks.read = batch.to.max(marks.read);
        (new.len() as u64, new.iter().map(|record| record.weight() as u64).sum())
    }

    /// The entry stands: answers, if that is news, with the sampled batches that it completes.
    pub(super) fn archived(&self, partition: Partition, entry: &Entry) -> Option<Vec<Run>> {
        let mut marks = self.lock();
        let marks = marks.entry(partition).or_insert_with(|| Marks::at(entry.start));
        let is_news = entry.start >= marks.archived;
        marks.archived = entry.next.max(marks.archived);
        let runs = marks.sampled.done(entry.next);
        is_news.then_some(runs)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Marks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        archive::{Codec, FORMAT},
        model::{Epoch, Incarnation, ManualClock, Record, Why},
    };

    fn batch(from: Offset, to: Offset) -> Batch {
        let record = |offset| Record { offset, time: 0, key: None, value: Some("four".into()), headers: Vec::new() };
        Batch { from, records: (from..to).map(record).collect(), to, why: Why::Marker }
    }

    fn entry(start: Offset, next: Offset) -> Entry {
        Entry {
            format: FORMAT,
            start,
            next,
            count: next - start,
            bytes: 0,
            crc32c: 0,
            codec: Codec::Plain,
            holes: Vec::new(),
            staging: None,
            target: None,
            times: None,
            epoch: Epoch(1),
            node: "n".into(),
            incarnation: Incarnation(1),
        }
    }

    #[test]
    fn what_is_read_again_or_found_again_is_counted_once() {
        let (counted, clock) = (Counted::default(), ManualClock::at(0));
        let read = |batch: &Batch| counted.read(0, batch, &Tracer::default(), &clock);
        // What lies before the first life was archived before.
        assert_eq!(counted.since(0, 100), 100);
        assert_eq!(read(&batch(100, 110)), (10, 40));
        assert_eq!(counted.archived(0, &entry(100, 105)), Some(Vec::new()));
        // The next life begins behind the entry, and its batches are cut otherwise.
        assert_eq!(counted.since(0, 105), 105);
        assert_eq!(counted.archived(0, &entry(100, 105)), None);
        assert_eq!((read(&batch(105, 108)), read(&batch(108, 113))), ((0, 0), (3, 12)));
        // One that stands and was not counted by its own life.
        assert_eq!(counted.since(0, 113), 105);
        assert_eq!(counted.archived(0, &entry(105, 113)), Some(Vec::new()));
    }
}
