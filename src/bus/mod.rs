//! The bus: where records are kept between the stages, and the only thing stages share.
//!
//! A bus is a set of *topics*, each a number of *partitions*, each a list of records numbered by
//! *offset*. What every bus must keep is written as one contract suite, run against each of them:
//!
//! - A [`Producer`] is bound to an id. Opening it **fences** the former holder of the id: whatever
//!   that one still sends fails with [`Kind::Fenced`](crate::fault::Kind::Fenced). One
//!   [`send`](Producer::send) is atomic over all the topics and partitions it names.
//! - A [`Reader`] is told where to start; nobody else decides what it reads. Each
//!   [`Batch`] says from where to where it goes; an offset in between without a record is a hole
//!   of that batch. A reader that stands below the low watermark gets an empty batch up to it,
//!   with [`Why::Retention`](crate::model::Why::Retention); one that stands above the high
//!   watermark gets a fault, never a reset.
//! - A topic has an identity ([`TopicInfo::id`]): deleted and created anew it is another topic.
//! - A compacted topic keeps at least the last record of each key; a null value removes the key.
//!   Compaction makes holes ([`Why::Marker`](crate::model::Why::Marker)), never renumbers.
//! - A record's time is when it was written to the bus, and it does not go back within a partition.
//! - Group offsets exist for lag tools only. Nothing here reads them to decide where to start.

pub mod embedded;
pub mod kafka;
pub mod letters;
mod start;

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub mod model;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use start::Start;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    fault::Result,
    health::Finding,
    model::{Batch, Header, Millis, Offset, Partition, Record, TopicId, TopicName},
    vitals::Connections,
};

/// How a topic forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Old records go by age and size; `None` is without limit.
    Delete {
        /// Records older than this many milliseconds (bus time) may go.
        retention_ms: Option<i64>,
        /// A partition larger than this many bytes (as stored) loses its oldest batches.
        retention_bytes: Option<u64>,
    },
    /// Only the last record of each key is kept.
    Compact,
}

impl Cleanup {
    /// The age at which records may go; `None` if none is too old.
    pub fn age(&self) -> Option<Millis> {
        let Self::Delete { retention_ms, .. } = self else { return None };
        *retention_ms
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Delete { retention_ms, retention_bytes } = self else {
            return f.write_str("only the last record of each key kept");
        };
        match retention_ms {
            Some(millis) => write!(f, "records kept for {} s", millis / 1_000)?,
            None => f.write_str("records kept for ever")?,
        }
        retention_bytes.map_or(Ok(()), |bytes| write!(f, ", and {bytes} bytes of a partition at most"))
    }
}

/// A topic as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: TopicName,
    /// Number of partitions, at least 1. A topic that exists with another number is refused.
    pub num_partitions: u32,
    /// How it forgets. Of a topic that exists the embedded bus changes how much is kept; Kafka's brokers are not told.
    pub cleanup: Cleanup,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The name.
    pub name: TopicName,
    /// Which of the topics that ever had this name.
    pub id: TopicId,
    /// Number of partitions.
    pub num_partitions: u32,
}

/// The ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is still there (or the next one, when nothing is).
    pub low: Offset,
    /// The offset after the last one that readers may see.
    pub high: Offset,
}

/// A record on its way to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: Partition,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; `None` is a null.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<Header>,
}

/// What is said of a topic that is not there.
const MISSING: &str = "is not there: `howdah topics create FILE` or the first start makes it";

/// A bus; see the module's text for what it promises.
#[async_trait]
pub trait Bus: Send + Sync {
    /// What to call it in messages: `embedded bus /data/bus`.
    fn describe(&self) -> String;

    /// Creates the topic if it is not there and says what stands there now.
    ///
    /// # Errors
    /// `User` if it exists with another number of partitions, or compacts and should not, or the other way round.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo>;

    /// The topic of this name as it is now, if there is one.
    async fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>>;

    /// Opens the producer of this id and fences its former holder.
    async fn producer(&self, id: &str) -> Result<Box<dyn Producer>>;

    /// A reader of one partition that stands at `from`. Nothing is read before the first
    /// [`Reader::next`].
    async fn reader(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Box<dyn Reader>>;

    /// The partition's ends.
    ///
    /// # Errors
    /// [`Kind::Recreated`](crate::fault::Kind::Recreated) if the topic of this name has another
    /// identity by now (this holds for every call that takes a [`TopicInfo`]).
    async fn watermarks(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks>;

    /// An offset before which every record, also of those that are gone, has an earlier bus time than this: the first
    /// record's that has not. 0 where nothing tells, since no record that is earlier is left, or the bus does not know.
    async fn offset_before(&self, _topic: &TopicInfo, _partition: Partition, _time: Millis) -> Result<Offset> {
        Ok(0)
    }

    /// Stores a group's offset, for lag tools.
    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()>;

    /// A group's offset, if it ever stored one.
    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>>;

    /// How a topic stands to what is wanted: whether it is there, and what is different about it.
    async fn compare(&self, spec: &TopicSpec) -> Result<Vec<Finding>> {
        let subject = format!("topic {}", spec.name);
        let finding = match self.topic(&spec.name).await? {
            None => Finding::wrong(subject, MISSING),
            Some(found) if found.num_partitions != spec.num_partitions => {
                let (has, wanted) = (found.num_partitions, spec.num_partitions);
                Finding::wrong(subject, format!("has {has} partitions, the pipeline wants {wanted}"))
            }
            Some(found) => {
                Finding::fine(subject, format!("{} partitions, identity {}", found.num_partitions, found.id))
            }
        };
        Ok(vec![finding])
    }

    /// Everything about the bus itself that a person may want to know before a start: whether it answers,
    /// whether it may be written to, whose clock it keeps.
    async fn diagnose(&self) -> Vec<Finding> {
        vec![Finding::fine("bus", self.describe())]
    }

    /// What its clients count of their connections; `None` for a bus without any.
    fn connections(&self) -> Option<Arc<Connections>> {
        None
    }

    /// Deletes a topic and all it holds; a topic that is not there is no error.
    async fn delete_topic(&self, name: &TopicName) -> Result<()>;
}

/// Writes records; see [`Bus::producer`].
#[async_trait]
pub trait Producer: Send {
    /// Writes all of them or none, in order, and answers with the offset of each once it is
    /// durable.
    ///
    /// # Errors
    /// [`Kind::Fenced`](crate::fault::Kind::Fenced) once somebody else has opened the id.
    /// [`Effect::Unknown`](crate::fault::Effect::Unknown) when it may have happened or may still:
    /// the producer is of no more use then; open it anew and read back.
    async fn send(&mut self, records: Vec<Outgoing>) -> Result<Vec<Offset>>;
}

/// Reads one partition in order; see [`Bus::reader`].
#[async_trait]
pub trait Reader: Send {
    /// The next batch; waits until there is one. Dropping the future loses nothing: the reader
    /// moves on only when it returns.
    ///
    /// # Errors
    /// [`Kind::Recreated`](crate::fault::Kind::Recreated) for another topic of the same name;
    /// [`Kind::Lost`](crate::fault::Kind::Lost) when it stands above the high watermark or the
    /// bytes are damaged.
    async fn next(&mut self) -> Result<Batch>;

    /// Where it stands.
    fn position(&self) -> Offset;

    /// Has records come without their headers, for who has no use for them. To be called before the first
    /// [`next`](Self::next).
    fn leave_out_headers(&mut self);
}

/// A bus that is shared.
pub type SharedBus = Arc<dyn Bus>;

/// The records of `[from, to)` of one partition, in order (fewer where there are holes).
/// Stops early when the partition's end comes first.
///
/// # Errors
/// Those of the reader.
pub async fn read_range(
    bus: &dyn Bus,
    topic: &TopicInfo,
    partition: Partition,
    from: Offset,
    to: Offset,
) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let to = to.min(bus.watermarks(topic, partition).await?.high);
    let mut reader = bus.reader(topic, partition, from).await?;
    while reader.position() < to {
        records.extend(reader.next().await?.records.into_iter().filter(|record| record.offset < to));
    }
    Ok(records)
}

/// What a compacted topic says now: the last value of each key, over all partitions, as of the
/// moment of the call.
///
/// # Errors
/// Those of the reader.
pub async fn latest(bus: &dyn Bus, topic: &TopicInfo) -> Result<BTreeMap<Bytes, Record>> {
    let mut view = BTreeMap::new();
    for partition in 0..topic.num_partitions {
        let ends = bus.watermarks(topic, partition).await?;
        for record in read_range(bus, topic, partition, ends.low, ends.high).await? {
            match (&record.key, &record.value) {
                (Some(key), Some(_)) => drop(view.insert(key.clone(), record)),
                (Some(key), None) => drop(view.remove(key)),
                (None, _) => {}
            }
        }
    }
    Ok(view)
}
