//! What became of records that are not committed yet: it counts when they are, and only once, by whichever
//! life of the aggregator learns of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    model::{Millis, Partition},
    table::{LaneId, Positions, Sealed, Snapshot, window::Counts},
    trace::{Run, Tracer, fact, text},
    vitals::{Moments, Vitals},
};

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) counts: Counts,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) moments: Moments,
    /// The sampled batches among them.
    pub(super) runs: Vec<(Partition, Run)>,
}

impl Fresh {
    pub(super) fn add(&mut self, more: Self) {
        self.counts.add(&more.counts);
        self.bytes += more.bytes;
        self.lost += more.lost;
        self.moments.append(more.moments);
        self.runs.extend(more.runs);
    }

    /// They are committed.
    pub(super) fn count(&self, vitals: &Vitals, now: Millis) {
        vitals.latency.observe(&self.moments, now);
        vitals.records_in.add(self.counts.total());
        vitals.records_out.add(self.counts.total());
        vitals.bytes_in.add(self.bytes);
        vitals.skipped.add(self.counts.skipped);
        vitals.filtered.add(self.counts.filtered);
        vitals.late.add(self.counts.late);
        vitals.future.add(self.counts.future);
        if self.lost > 0 {
            vitals.lost.retention.add(self.lost);
            tracing::error!(actor = %vitals.id, lost = self.lost, "records lost: the bus had deleted them before they were counted");
        }
    }

    /// They are committed: the traces of what was sampled end.
    pub(super) fn end_spans(&self, tracer: &Tracer, vitals: &Vitals, table: &Snapshot, now: Millis) {
        for (partition, run) in &self.runs {
            let Some(span) = tracer.take("aggregate", &vitals.id, &run.context, run.since) else { continue };
            let facts = [
                text("messaging.destination.partition.id", &partition.to_string()),
                fact("messaging.kafka.offset", run.from),
                fact("messaging.batch.message_count", run.records),
                fact("howdah.table.version", table.version()),
            ];
            span.end(now, facts);
            tracing::debug!(actor = %vitals.id, trace = run.context.trace(), version = table.version(), "sampled records are in the table");
        }
    }
}

/// So many proposals are remembered: a store that takes none sees ever new ones, and one that lands after so many
/// others is not counted.
const MOST: usize = 16;

/// The commits that lives have proposed and not counted; one for all lives of an aggregator. A commit may
/// land after its life has ended.
#[derive(Clone, Debug, Default)]
pub struct Proposed(Arc<Mutex<Vec<Proposal>>>);

#[derive(Debug)]
struct Proposal {
    /// What it stores.
    lanes: Vec<(LaneId, Positions)>,
    fresh: Fresh,
}

impl Proposal {
    /// Whether the table stands at what it stores.
    fn stands(&self, table: &Snapshot) -> bool {
        self.lanes.iter().all(|&(lane, stored)| table.positions(lane) == Some(stored))
    }

    /// Whether it may be committed yet: all its lanes or none.
    fn can_land(&self, table: &Snapshot) -> bool {
        self.lanes.iter().all(|&(lane, stored)| table.positions(lane).is_none_or(|found| found.seq < stored.seq))
    }
}

impl Proposed {
    /// A commit is about to be tried.
    pub(super) fn note(&self, sealed: &[Sealed], fresh: Fresh) {
        let lanes = sealed.iter().map(|sealed| (sealed.lane, sealed.positions)).collect();
        let mut proposals = self.lock();
        if proposals.len() == MOST {
            proposals.remove(0);
        }
        proposals.push(Proposal { lanes, fresh });
    }

    /// The table as it was found: answers with what counts now, and forgets what can land no more. Lives
    /// that end one after the other propose the same again, or the same and more: one of them has landed.
    pub(super) fn found(&self, table: &Snapshot) -> Fresh {
        let mut proposals = self.lock();
        let standing = (0..proposals.len()).filter(|&n| proposals[n].stands(table));
        let landed = standing.max_by_key(|&n| proposals[n].lanes.len());
        let fresh = landed.map(|n| proposals.remove(n).fresh);
        proposals.retain(|proposal| proposal.can_land(table));
        fresh.unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Proposal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
