//! How far each partition is counted, remembered over an archiver's deaths.
//!
//! A life may end after its entry stands and before that is counted, and the next one reads again what
//! the open segment held. So records count as read once, and an entry counts once, whichever life sees it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    archive::Entry,
    model::{Batch, Offset, Partition},
};

/// See the module's text; one for all lives of an archiver.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Mutex<BTreeMap<Partition, Marks>>>);

#[derive(Clone, Copy, Debug)]
struct Marks {
    read: Offset,
    archived: Offset,
}

impl Counted {
    /// Up to where entries are counted; what was archived before the first life (which opened `at`) is not
    /// this process's to count.
    pub(super) fn since(&self, partition: Partition, at: Offset) -> Offset {
        self.lock().entry(partition).or_insert(Marks { read: at, archived: at }).archived
    }

    /// The batch was read: answers how many of its records, and bytes, were not before.
    pub(super) fn read(&self, partition: Partition, batch: &Batch) -> (u64, u64) {
        let mut marks = self.lock();
        let read = &mut marks.entry(partition).or_insert(Marks { read: batch.from, archived: batch.from }).read;
        let new = &batch.records[batch.records.partition_point(|record| record.offset < *read)..];
        *read = batch.to.max(*read);
        (new.len() as u64, new.iter().map(|record| record.weight() as u64).sum())
    }

    /// The entry stands: answers whether that is news.
    pub(super) fn archived(&self, partition: Partition, entry: &Entry) -> bool {
        let mut marks = self.lock();
        let archived =
            &mut marks.entry(partition).or_insert(Marks { read: entry.next, archived: entry.start }).archived;
        let is_news = entry.start >= *archived;
        *archived = entry.next.max(*archived);
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Marks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
