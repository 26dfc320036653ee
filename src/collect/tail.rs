//! What a topic's tail says of a source: how far its spool was sent, and which events are known.

use uuid::Uuid;

use super::{
    marks::{ID, record_sequence},
    seen::MOST_IDS,
};
use crate::{
    bus::{SharedBus, TopicInfo, read_range},
    fault::Result,
    model::{Fingerprint, Millis, Partition, Record, Sequence},
};

/// Records looked at in one step when the tail of a partition is searched backwards.
const STEP: u64 = 1_000;

/// A spool's records are younger than the spool, give or take a clock that was set meanwhile.
const CLOCKS: Millis = 24 * 3_600_000;

/// The sequence of a spool's last record in a partition, if it has one, and whether one that it had may
/// have been deleted. Nothing that is older than the spool, made at `made`, is looked at; `progress` is
/// told after each step.
///
/// # Errors
/// Those of the bus.
pub async fn last_sequence(
    bus: &SharedBus,
    topic: &TopicInfo,
    partition: Partition,
    (spool, made): (Uuid, Millis),
    progress: &dyn Fn(),
) -> Result<(Option<Sequence>, bool)> {
    let ends = bus.watermarks(topic, partition).await?;
    let mut to = ends.high;
    while to > ends.low {
        let from = to.saturating_sub(STEP).max(ends.low);
        let records = read_range(&**bus, topic, partition, from, to).await?;
        let found = records.iter().rev().find_map(|record| record_sequence(record, spool));
        if found.is_some() {
            return Ok((found, ends.low > 0));
        }
        progress();
        if records.first().is_some_and(|oldest| oldest.time < made.saturating_sub(CLOCKS)) {
            return Ok((None, false));
        }
        to = from;
    }
    // Asked again: what was there when the search began may have been deleted before it was read, and
    // then finding nothing means nothing.
    Ok((None, bus.watermarks(topic, partition).await?.low > 0))
}

/// The ids in the topic's tail, oldest first, with their bus times: at least `num_ids` of them per
/// partition and all that are younger than `since`, as far as the bus has them; of all partitions
/// about [`MOST_IDS`], unless `num_ids` asks for more. `progress` is told after each step.
///
/// # Errors
/// Those of the bus.
pub async fn ids_in_tail(
    bus: &SharedBus,
    topic: &TopicInfo,
    since: Millis,
    num_ids: usize,
    progress: impl Fn(),
) -> Result<Vec<(Fingerprint, Millis)>> {
    let id = |record: &Record| Some((Fingerprint::of(record.header(ID)?), record.time));
    let most = num_ids.max(MOST_IDS / topic.num_partitions.max(1) as usize);
    let mut ids = Vec::new();
    for partition in 0..topic.num_partitions {
        let ends = bus.watermarks(topic, partition).await?;
        let mut to = ends.high;
        let mut seen = 0;
        while to > ends.low {
            let from = to.saturating_sub(STEP * 10).max(ends.low);
            let records = read_range(&**bus, topic, partition, from, to).await?;
            progress();
            seen += records.len();
            ids.extend(records.iter().filter_map(id));
            to = from;
            let is_old = records.first().is_none_or(|oldest| oldest.time < since);
            if seen >= most || (seen >= num_ids && is_old) {
                break;
            }
        }
    }
    ids.sort_by_key(|(_, time)| *time);
    Ok(ids)
}
