//! Both ends of a chain, held against the bus: where it begins is decided once, and where it stands
//! has to be a place on the bus that it was written from.

use serde::{Deserialize, Serialize};

use super::{
    Parts,
    entry::{Entry, FORMAT, Times},
};
use crate::{
    bus::{Start, TopicInfo, read_range},
    chain::{Chain, decide},
    fault::{Fault, Kind, Result},
    model::{Offset, Partition},
};

/// The name, in the chain's folder, of what says where the chain begins.
const BEGIN: &str = "begin.json";

/// Where a chain begins, put before its first entry: what the bus forgets between the two is loss and
/// not the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begin {
    /// [`FORMAT`].
    format: u32,
    /// The first offset that it takes.
    low: Offset,
}

/// Where the chain begins: decided now by `start`, if it never was.
///
/// # Errors
/// Those of bus and store; [`Kind::Lost`] if what stands there cannot be read.
pub async fn begin(
    parts: &Parts,
    topic: &TopicInfo,
    partition: Partition,
    chain: &Chain,
    start: &Start,
) -> Result<Offset> {
    let path = chain.folder().join(BEGIN);
    let standing = match parts.store.read(&path).await? {
        Some(bytes) => bytes,
        None => {
            let low = start.resolve(&*parts.bus, topic, partition).await?;
            let mine =
                serde_json::to_vec(&Begin { format: FORMAT, low }).map_err(|e| Fault::internal(e.to_string()))?;
            decide(&*parts.store, &*parts.pause, &path, mine.into()).await?.bytes
        }
    };
    let begin: Begin = serde_json::from_slice(&standing)
        .map_err(|error| Fault::data(format!("is no beginning of a chain: {error}")).kind(Kind::Lost).at(&path))?;
    Ok(begin.low)
}

/// Proves that the chain's last entry was written from this bus: it does not end before the entry, and
/// the entry's last line has the time that the bus gave it (as long as the bus has it).
///
/// # Errors
/// [`Kind::Lost`] for a bus that was put back to an earlier state, and has gone on from there.
pub async fn same_bus(
    parts: &Parts,
    topic: &TopicInfo,
    partition: Partition,
    chain: &Chain,
    last: &Entry,
) -> Result<()> {
    let ends = parts.bus.watermarks(topic, partition).await?;
    let lost = |what: String| {
        let text = format!(
            "{}-{partition}: {what}: the bus has lost records, or an older copy of it was put back",
            topic.name
        );
        Fault::data(text).kind(Kind::Lost)
    };
    if last.next > ends.high {
        return Err(lost(format!("the archive ends at {}, the bus at {}", last.next, ends.high)));
    }
    let is_line = |offset: &Offset| last.holes.iter().all(|hole| !(hole.from..hole.to).contains(offset));
    let (Some(offset), Some(times)) = ((last.start.max(ends.low)..last.next).rev().find(is_line), &last.times) else {
        return Ok(());
    };
    let Some(sidecar) = parts.store.read(&chain.folder().join(times)).await? else { return Ok(()) };
    let archived = Times::decode(&sidecar, last.count).map(|mut times| times.pop());
    let record = read_range(&*parts.bus, topic, partition, offset, offset + 1).await.map(|mut records| records.pop());
    let (archived, record) = match (archived, record) {
        (Ok(archived), Ok(record)) => (archived, record),
        // What is archived already is damaged on the bus, or its sidecar is: no reason to stop here.
        (Err(fault), _) | (_, Err(fault)) if fault.kind == Kind::Lost => {
            tracing::error!(error = %fault, "cannot prove that the archive was written from this bus");
            return Ok(());
        }
        (Err(fault), _) | (_, Err(fault)) => return Err(fault),
    };
    // Retention may have taken it since.
    match record {
        Some(record) if Some(record.time) != archived => {
            Err(lost(format!("the record at offset {offset} is not the one that was archived")))
        }
        _ => Ok(()),
    }
}
