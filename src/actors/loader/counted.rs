//! What a load came to: it counts when the bus says that it is done, and only once, by whichever life of the
//! loader learns of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::super::ledger::Ledger;
use crate::{
    load::Loaded,
    model::{Millis, Partition, TopicName},
    trace::{Run, Tracer, fact, text},
    vitals::Vitals,
};

/// The loads under way of each partition; one for all lives of a loader.
#[derive(Clone, Debug, Default)]
pub struct Loads(Arc<Mutex<BTreeMap<Partition, Ledger<Fresh>>>>);

/// A load, with the sampled batches that have a part in it.
#[derive(Debug, Default)]
pub struct Fresh {
    pub(super) loaded: Loaded,
    pub(super) runs: Vec<Run>,
}

impl Loads {
    pub(super) fn of(&self, partition: Partition) -> Ledger<Fresh> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(partition).or_default().clone()
    }
}

impl Fresh {
    /// It is in the sink.
    pub(super) fn count(&self, vitals: &Vitals, now: Millis) {
        let loaded = &self.loaded;
        vitals.latency.observe(&loaded.moments, now);
        vitals.records_in.add(loaded.records);
        vitals.bytes_in.add(loaded.bytes);
        vitals.records_out.add(loaded.rows);
        vitals.bytes_out.add(loaded.row_bytes);
        vitals.filtered.add(loaded.filtered);
        vitals.duplicates.add(loaded.repeated);
        vitals.dead_letters.add(loaded.letters);
        vitals.commits.add(1);
        vitals.last_success.set(now);
        if loaded.lost > 0 {
            vitals.lost.retention.add(loaded.lost);
            tracing::error!(actor = %vitals.id, lost = loaded.lost, "records lost: the bus had deleted them before they were loaded");
        }
    }

    /// It is in the sink: the traces of what was sampled end.
    pub(super) fn end_spans(&self, tracer: &Tracer, vitals: &Vitals, topic: &TopicName, now: Millis) {
        for run in &self.runs {
            let Some(span) = tracer.take("load", &vitals.id, &run.context, run.since) else { continue };
            span.end(
                now,
                [
                    text("messaging.destination.name", topic.as_str()),
                    fact("messaging.kafka.offset", run.from),
                    fact("messaging.batch.message_count", run.records),
                ],
            );
        }
    }
}
