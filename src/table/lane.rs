//! A lane: one partition of the topic on its way into the table.
//!
//! Opened from what its last commit stored, it first *replays* `[rewind, next)` and then takes new
//! records from `next` on. [`Lane::seal`] ends a commit: from then on the records after it are
//! judged by its watermark, so taking goes on while the commit is on its way. A seal that does not
//! become durable as it is (superseded, given up) makes the lane worthless: throw it away and
//! open it anew. At most one seal of a lane may be on its way.
//!
//! Where the bus no longer has the records to replay, [`Lane::restore`] takes the rows of the
//! lane's live files instead; they hold the same.

use std::sync::Arc;

use super::{
    delta::{LaneId, Positions},
    grid::Hour,
    window::{Counts, HourRows, Plan, Row, Windows},
};
use crate::{
    model::{Batch, Millis, Offset, Why},
    vitals::Moments,
};

/// A lane; see the module's text.
#[derive(Debug)]
pub struct Lane {
    id: LaneId,
    windows: Windows,
    sealed: Positions,
    at: Offset,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken; these are its new records (a replay counts nothing).
    Counted {
        /// What became of them.
        counts: Counts,
        /// Offsets that the bus deleted before they were read: loss.
        lost: u64,
        /// When those that are counted in a window happened.
        moments: Moments,
    },
    /// It does not begin where the lane stands, and was left alone: assign the reader anew.
    Elsewhere,
    /// The bus no longer has records that the replay needs: open the lane anew and restore it.
    ReplayGone,
}

/// A lane's part of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The lane.
    pub lane: LaneId,
    /// The `seq` it was built on.
    pub built_on: u64,
    /// What it stores.
    pub positions: Positions,
    /// The hours that changed, each complete.
    pub hours: Vec<HourRows>,
}

impl Lane {
    /// A lane at what its last commit stored, or, if it never made one, at `start` and the `least`
    /// watermark that the table's final hours ask of it.
    pub fn open(plan: Arc<Plan>, id: LaneId, stored: Option<Positions>, start: Offset, least: Option<Millis>) -> Self {
        let sealed = stored.unwrap_or(Positions { seq: 0, next: start, rewind: start, watermark: least });
        Self { id, windows: Windows::new(plan, sealed.watermark), sealed, at: sealed.rewind.min(sealed.next) }
    }

    /// Which lane this is.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// Where the next batch has to begin.
    pub fn at(&self) -> Offset {
        self.at
    }

    /// Whether it is still replaying.
    pub fn is_replaying(&self) -> bool {
        self.at < self.sealed.next
    }

    /// What the last seal stores, or what the lane was opened with.
    pub fn sealed(&self) -> Positions {
        self.sealed
    }

    /// Whether this hour takes no more records.
    pub fn is_final(&self, hour: Hour) -> bool {
        self.windows.is_final(hour)
    }

    /// How many windows it holds that are not final.
    pub fn num_open(&self) -> usize {
        self.windows.num_open()
    }

    /// Takes rows of live files in place of the replay; see
    /// [`Committer::restore`](super::Committer::restore).
    pub fn restore(&mut self, hours: Vec<(Hour, Vec<Row>)>) {
        for (hour, rows) in hours {
            self.windows.restore(hour, rows, self.sealed.rewind);
        }
        self.at = self.sealed.next;
    }

    /// Takes a batch if it begins where the lane stands.
    pub fn take(&mut self, batch: &Batch) -> Taken {
        if batch.from != self.at {
            return Taken::Elsewhere;
        }
        let next = self.sealed.next;
        let gone = batch.holes().into_iter().filter(|hole| hole.why == Why::Retention);
        let gone: Vec<_> = gone.map(|hole| (hole.from, hole.to)).collect();
        if gone.iter().any(|&(from, _)| from < next) {
            return Taken::ReplayGone;
        }
        let (again, new) = batch.records.split_at(batch.records.partition_point(|record| record.offset < next));
        self.windows.replay(again);
        let (counts, moments) = self.windows.take(new);
        self.at = batch.to;
        Taken::Counted { counts, lost: gone.iter().map(|(from, to)| to - from).sum(), moments }
    }

    /// The first commit of a lane that never made one: where it begins is stored before anything is
    /// taken, or what the bus forgets by the time of the first commit would be missing in silence.
    pub fn begin(&mut self) -> Option<Sealed> {
        if self.sealed.seq > 0 {
            return None;
        }
        self.sealed.seq = 1;
        Some(Sealed { lane: self.id, built_on: 0, positions: self.sealed, hours: Vec::new() })
    }

    /// Ends a commit where the lane stands; `None` if there is nothing to say.
    ///
    /// `follow` is the watermark of the idle rule, when it applies.
    pub fn seal(&mut self, follow: Option<Millis>) -> Option<Sealed> {
        if self.is_replaying() {
            return None;
        }
        if self.at == self.sealed.next && follow <= self.sealed.watermark {
            return None;
        }
        let seal = self.windows.seal(self.at, follow);
        let built_on = self.sealed.seq;
        self.sealed = Positions { seq: built_on + 1, next: self.at, rewind: seal.rewind, watermark: seal.watermark };
        Some(Sealed { lane: self.id, built_on, positions: self.sealed, hours: seal.hours })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        model::{Record, TopicId},
        table::testing::{edit, settings},
    };

    const TEN: Millis = 1_442_052_000_000;

    fn lane(stored: Option<Positions>) -> Lane {
        let id = LaneId { topic: TopicId(Uuid::nil()), partition: 0 };
        Lane::open(Arc::new(Plan::new(&settings())), id, stored, 100, None)
    }

    fn batch(from: Offset, offsets: &[Offset], to: Offset, why: Why) -> Batch {
        let records: Vec<Record> = offsets.iter().map(|&offset| edit(offset, TEN, "enwiki")).collect();
        Batch { from, records, to, why }
    }

    fn counted(counted: u64, lost: u64) -> Taken {
        let mut moments = Moments::default();
        (0..counted).for_each(|_| moments.push(TEN));
        Taken::Counted { counts: Counts { counted, ..Counts::default() }, lost, moments }
    }

    #[test]
    fn only_a_batch_that_begins_where_the_lane_stands_is_taken() {
        let mut lane = lane(None);
        assert_eq!(lane.take(&batch(101, &[101], 102, Why::Marker)), Taken::Elsewhere);
        assert_eq!(lane.take(&batch(0, &[100], 101, Why::Marker)), Taken::Elsewhere);
        assert_eq!(lane.take(&batch(100, &[100, 103], 105, Why::Marker)), counted(2, 0));
        assert_eq!(lane.at(), 105);
        assert_eq!(lane.take(&batch(105, &[], 200, Why::Retention)), counted(0, 95));
    }

    #[test]
    fn a_batch_across_the_end_of_the_replay_is_counted_from_there_on() {
        let stored = Positions { seq: 7, next: 52, rewind: 50, watermark: Some(TEN) };
        let mut lane = lane(Some(stored));
        assert_eq!((lane.at(), lane.is_replaying(), lane.seal(Some(TEN + 1))), (50, true, None));
        assert_eq!(lane.take(&batch(50, &[50, 51, 52], 53, Why::Marker)), counted(1, 0));
        let sealed = lane.seal(None).unwrap();
        assert_eq!(sealed.built_on, 7);
        assert_eq!(sealed.positions, Positions { seq: 8, next: 53, rewind: 50, watermark: Some(TEN) });
        assert_eq!(sealed.hours[0].rows[0].cells[0], super::super::window::Cell::Long(3));
    }

    #[test]
    fn a_replay_that_the_bus_cannot_give_is_not_taken_for_a_hole() {
        let stored = Positions { seq: 7, next: 52, rewind: 50, watermark: Some(TEN) };
        assert_eq!(lane(Some(stored)).take(&batch(50, &[], 60, Why::Retention)), Taken::ReplayGone);
        assert_eq!(lane(Some(stored)).take(&batch(50, &[51], 60, Why::Retention)), Taken::ReplayGone);
        let mut restored = lane(Some(stored));
        restored.restore(Vec::new());
        assert_eq!(restored.take(&batch(52, &[], 60, Why::Retention)), counted(0, 8));
    }

    #[test]
    fn a_lane_without_a_commit_begins_with_one_that_says_where() {
        let mut lane = lane(None);
        let begun = lane.begin().unwrap();
        assert_eq!((begun.built_on, begun.hours.len()), (0, 0));
        assert_eq!(begun.positions, Positions { seq: 1, next: 100, rewind: 100, watermark: None });
        assert_eq!((lane.begin(), lane.seal(None)), (None, None));
        lane.take(&batch(100, &[100], 101, Why::Marker));
        assert_eq!(lane.seal(None).unwrap().built_on, 1);
    }

    #[test]
    fn a_seal_that_says_nothing_is_none() {
        let mut lane = lane(None);
        assert_eq!(lane.seal(None), None);
        // A commit that only moves the watermark, twice; the same one again is nothing new.
        for (seq, time) in [(1, TEN), (2, TEN + 1)] {
            let sealed = lane.seal(Some(time)).unwrap();
            assert_eq!(sealed.positions, Positions { seq, next: 100, rewind: 100, watermark: Some(time) });
            assert_eq!(lane.seal(Some(time)), None);
        }
        lane.take(&batch(100, &[], 104, Why::Marker));
        assert_eq!(lane.seal(None).unwrap().positions.next, 104);
    }
}
