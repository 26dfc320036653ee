//! What became of records that are not committed yet: it counts when they are.

use crate::{
    model::Millis,
    table::window::Counts,
    vitals::{Moments, Vitals},
};

/// See the module's text.
#[derive(Default)]
pub(super) struct Fresh {
    pub(super) counts: Counts,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) moments: Moments,
}

impl Fresh {
    pub(super) fn add(&mut self, more: Self) {
        self.counts.add(&more.counts);
        self.bytes += more.bytes;
        self.lost += more.lost;
        self.moments.append(more.moments);
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
}
