//! What the lives of an actor died of, remembered over their deaths.
//!
//! A record that makes an actor panic comes back from the bus after each restart, and a restart throws away
//! all the actor knew. So the batch at work is remembered outside of it: the same one again, and from then on
//! its records are taken one by one; the one that is died of again is *condemned*. What then becomes of it is
//! its actor's to say.
//!
//! Only a panic counts. A stall, an order or a sibling's death says nothing of the records.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::{Batch, Offset, Partition};

/// So many deaths of the same batch make its records be taken one by one, and so many of the same record
/// condemn it.
const DEATHS: u32 = 2;

/// See the module's text; one for all lives of an actor.
#[derive(Clone, Debug, Default)]
pub struct Suspects(Arc<Mutex<BTreeMap<Partition, Suspect>>>);

/// What a partition's reader died of last.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    span: Span,
    deaths: u32,
}

/// The offsets at work, and the record if it was one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: Offset,
    to: Offset,
    only: Option<Offset>,
}

impl Span {
    fn of(batch: &Batch) -> Self {
        let only = (batch.records.len() == 1).then(|| batch.records[0].offset);
        Self { from: batch.from, to: batch.to, only }
    }

    fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

impl Suspects {
    /// The batch as it is to be taken: whole, or record by record where it is suspect.
    pub fn pieces<'b>(&self, partition: Partition, batch: &'b Batch) -> Vec<Cow<'b, Batch>> {
        let span = Span::of(batch);
        let is_suspect = |suspect: &Suspect| suspect.deaths >= DEATHS || suspect.span.only.is_some();
        match self.lock().get(&partition) {
            Some(suspect) if is_suspect(suspect) && suspect.span.overlaps(span) => one_by_one(batch),
            _ => vec![Cow::Borrowed(batch)],
        }
    }

    /// Notes that a batch is being taken, for as long as this lives.
    pub fn at_work(&self, partition: Partition, batch: &Batch) -> AtWork {
        AtWork { suspects: self.clone(), partition, span: Span::of(batch) }
    }

    /// The record of this partition that was died of alone, again and again.
    pub fn condemned(&self, partition: Partition) -> Option<Offset> {
        self.lock().get(&partition).filter(|suspect| suspect.deaths >= DEATHS)?.span.only
    }

    /// What was condemned is taken care of, or to be tried once more: nothing of this partition is suspect.
    pub fn forget(&self, partition: Partition) {
        self.lock().remove(&partition);
    }

    fn died_of(&self, partition: Partition, span: Span) {
        let mut suspects = self.lock();
        let again = suspects.get(&partition).filter(|suspect| {
            // Narrowed down to one record is another matter than the batch it was in.
            suspect.span.overlaps(span) && suspect.span.only.is_some() == span.only.is_some()
        });
        let deaths = again.map_or(0, |suspect| suspect.deaths) + 1;
        suspects.insert(partition, Suspect { span, deaths });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, Suspect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is being taken; see [`Suspects::at_work`].
pub struct AtWork {
    suspects: Suspects,
    partition: Partition,
    span: Span,
}

impl AtWork {
    /// It was taken, whatever came of it: nothing in it is suspect.
    pub fn survived(self) {
        let mut suspects = self.suspects.lock();
        let is_past = |suspect: &Suspect| self.span.from <= suspect.span.from && suspect.span.to <= self.span.to;
        if suspects.get(&self.partition).is_some_and(is_past) {
            suspects.remove(&self.partition);
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.suspects.died_of(self.partition, self.span);
        }
    }
}

fn one_by_one<'b>(batch: &'b Batch) -> Vec<Cow<'b, Batch>> {
    let mut pieces = Vec::new();
    let mut from = batch.from;
    for record in &batch.records {
        let to = record.offset + 1;
        let from = mem::replace(&mut from, to);
        pieces.push(Cow::Owned(Batch { from, records: vec![record.clone()], to, why: batch.why }));
    }
    if from < batch.to {
        pieces.push(Cow::Owned(Batch { from, records: Vec::new(), to: batch.to, why: batch.why }));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::model::{Record, Why};

    fn batch(from: Offset, offsets: &[Offset], to: Offset) -> Batch {
        let record = |&offset: &Offset| Record { offset, time: 0, key: None, value: None, headers: Vec::new() };
        Batch { from, records: offsets.iter().map(record).collect(), to, why: Why::Marker }
    }

    /// Takes a batch and dies of record `poison`; whether it survived.
    fn take(suspects: &Suspects, batch: &Batch, poison: Offset) -> bool {
        let life = AssertUnwindSafe(|| {
            for piece in suspects.pieces(0, batch) {
                let work = suspects.at_work(0, &piece);
                assert!(piece.records.iter().all(|record| record.offset != poison), "died of it");
                work.survived();
            }
        });
        catch_unwind(life).is_ok()
    }

    #[test]
    fn the_record_that_lives_die_of_is_found() {
        let suspects = Suspects::default();
        let all = batch(10, &[10, 12, 13, 17], 20);
        for _life in 0..4 {
            assert_eq!(suspects.condemned(0), None);
            assert!(!take(&suspects, &all, 13));
        }
        assert_eq!((suspects.condemned(0), suspects.condemned(1)), (Some(13), None));
        suspects.forget(0);
        assert_eq!(suspects.condemned(0), None);
    }

    #[test]
    fn pieces_make_up_the_batch_and_holes_stay_holes() {
        let all = batch(10, &[11, 12, 17], 20);
        let pieces = one_by_one(&all);
        let spans: Vec<_> = pieces.iter().map(|piece| (piece.from, piece.to, piece.records.len())).collect();
        assert_eq!(spans, [(10, 12, 1), (12, 13, 1), (13, 18, 1), (18, 20, 0)]);
        let holes: u64 = pieces.iter().flat_map(|piece| piece.holes()).map(|hole| hole.to - hole.from).sum();
        assert_eq!(holes, 7);
    }

    #[test]
    fn a_batch_that_was_survived_or_only_interrupted_is_not_suspect() {
        let suspects = Suspects::default();
        let all = batch(0, &[0, 1, 2], 3);
        assert!(!take(&suspects, &all, 1));
        drop(suspects.at_work(0, &all));
        assert!(take(&suspects, &all, 99));
        assert!(!take(&suspects, &all, 1));
        assert_eq!(suspects.pieces(0, &all).len(), 1, "the deaths were not in a row");
        assert!(!take(&suspects, &all, 1));
        assert_eq!((suspects.pieces(0, &all).len(), suspects.pieces(1, &all).len()), (3, 1));
        assert_eq!(suspects.pieces(0, &batch(3, &[3, 4], 5)).len(), 1, "others are taken whole");
    }
}
