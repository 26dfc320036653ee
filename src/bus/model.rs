//! A bus as a data structure: topics, producers' epochs, and what a power cut leaves of them.
//!
//! Nothing here waits or fails by chance; the [simulation](crate::sim) decides when an operation is
//! applied and when it is answered.
//!
//! - Offsets are used as a transactional bus does: a marker behind each send in every partition it
//!   touches, now and then an aborted transaction before it.
//! - What somebody has read is durable, and what was answered; a power cut takes back the end of
//!   the list of all other changes.
//! - Nothing is forgotten here: what retention, compaction or deletion removed is only hidden, so
//!   that a test can compare against all that ever was.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;
use uuid::Uuid;

use super::{Cleanup, Outgoing, TopicInfo, TopicSpec, Watermarks};
use crate::{
    fault::{Fault, Kind, Result},
    model::{Batch, Header, Millis, Offset, Partition, Record, TopicId, TopicName, Why},
};

/// A record without its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; `None` is a null.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<Header>,
}

impl Payload {
    /// A record without key and headers.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A null.
    pub fn null() -> Self {
        Self::default()
    }

    /// The same with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }
}

#[derive(Default)]
struct Log {
    // Sorted by offset; also what is not there any more.
    records: Vec<Kept>,
    low: Offset,
    next: Offset,
}

struct Kept {
    record: Record,
    compacted: bool,
}

struct Topic {
    info: TopicInfo,
    cleanup: Cleanup,
    logs: Vec<Log>,
    deleted: bool,
}

// What takes a change back.
enum Undo {
    Create { topic: usize },
    Delete { topic: usize },
    Append { topic: usize, partition: usize, records: usize, next: Offset },
    Open { id: String, epoch: u64 },
    Commit { group: String, topic: TopicId, partition: Partition, before: Option<Offset> },
}

/// All topics of a bus.
pub struct Topics {
    /// Whether a send leaves a marker behind its records.
    pub markers: bool,
    topics: Vec<Topic>,
    epochs: BTreeMap<String, u64>,
    offsets: BTreeMap<(String, TopicId, Partition), Offset>,
    journal: Vec<(u64, Undo)>,
    version: u64,
    rng: Rng,
}

impl Topics {
    /// A bus without topics. The generator draws topics' identities and where batches are cut.
    pub fn new(rng: Rng) -> Self {
        Self {
            markers: true,
            topics: Vec::new(),
            epochs: BTreeMap::new(),
            offsets: BTreeMap::new(),
            journal: Vec::new(),
            version: 0,
            rng,
        }
    }

    /// Another number after each change that a waiting reader wants to know of.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// See [`Bus::ensure_topic`](super::Bus::ensure_topic).
    pub fn ensure(&mut self, op: u64, spec: &TopicSpec) -> Result<TopicInfo> {
        if let Some(at) = self.find(&spec.name) {
            let topic = &mut self.topics[at];
            let is_compact = |cleanup| cleanup == Cleanup::Compact;
            if topic.info.num_partitions != spec.num_partitions || is_compact(topic.cleanup) != is_compact(spec.cleanup)
            {
                return Err(Fault::user(format!("topic {} exists and is different: {:?}", spec.name, topic.info)));
            }
            topic.cleanup = spec.cleanup;
            return Ok(topic.info.clone());
        }
        if spec.num_partitions == 0 {
            return Err(Fault::user(format!("topic {}: it needs at least one partition", spec.name)));
        }
        let id = TopicId(Uuid::from_u128(self.rng.u128(..)));
        let info = TopicInfo { name: spec.name.clone(), id, num_partitions: spec.num_partitions };
        let logs = (0..spec.num_partitions).map(|_| Log::default()).collect();
        self.journal.push((op, Undo::Create { topic: self.topics.len() }));
        self.topics.push(Topic { info: info.clone(), cleanup: spec.cleanup, logs, deleted: false });
        self.version += 1;
        Ok(info)
    }

    /// See [`Bus::topic`](super::Bus::topic).
    pub fn topic(&mut self, name: &TopicName) -> Option<TopicInfo> {
        self.settle_all();
        self.find(name).map(|at| self.topics[at].info.clone())
    }

    /// See [`Bus::delete_topic`](super::Bus::delete_topic).
    pub fn delete(&mut self, op: u64, name: &TopicName) {
        if let Some(topic) = self.find(name) {
            self.topics[topic].deleted = true;
            self.journal.push((op, Undo::Delete { topic }));
            self.version += 1;
        }
    }

    /// Deletes a topic and creates it anew.
    ///
    /// # Panics
    /// If it is not there.
    pub fn recreate(&mut self, name: &TopicName) -> TopicInfo {
        let old = &self.topics[self.find(name).expect("the topic is there")];
        let spec = TopicSpec { name: name.clone(), num_partitions: old.info.num_partitions, cleanup: old.cleanup };
        self.delete(0, name);
        let info = self.ensure(0, &spec).expect("the old one is deleted");
        self.settle_all();
        info
    }

    /// Raises a producer id's epoch, and returns it.
    pub fn open(&mut self, op: u64, id: &str) -> u64 {
        let epoch = self.epochs.get(id).copied().unwrap_or_default();
        self.journal.push((op, Undo::Open { id: id.to_owned(), epoch }));
        self.epochs.insert(id.to_owned(), epoch + 1);
        epoch + 1
    }

    /// Whether nobody opened the id after this epoch.
    pub fn is_holder(&self, id: &str, epoch: u64) -> bool {
        self.epochs.get(id) == Some(&epoch)
    }

    /// Writes the records, if `epoch` is still the id's. The places for which `lands` is false are
    /// left out (a torn transaction).
    pub fn send(
        &mut self,
        op: u64,
        now: Millis,
        (id, epoch): (&str, u64),
        records: &[Outgoing],
        mut lands: impl FnMut(&TopicName, Partition) -> bool,
    ) -> Result<Vec<Offset>> {
        if !self.is_holder(id, epoch) {
            return Err(Fault::external(format!("producer {id}: epoch {epoch} is fenced")).kind(Kind::Fenced));
        }
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            places.push(self.place(&record.topic, record.partition)?);
        }
        let mut touched = BTreeMap::new();
        for (at, record) in places.iter().zip(records) {
            touched.entry(*at).or_insert_with(|| lands(&record.topic, record.partition));
        }
        touched.retain(|_, lands| *lands);
        for &(topic, partition) in touched.keys() {
            let log = &self.topics[topic].logs[partition];
            let undo = Undo::Append { topic, partition, records: log.records.len(), next: log.next };
            self.journal.push((op, undo));
        }
        let mut offsets = Vec::with_capacity(records.len());
        for (place, record) in places.into_iter().zip(records) {
            let log = &mut self.topics[place.0].logs[place.1];
            offsets.push(log.next);
            if touched.contains_key(&place) {
                log.push(now, record.key.clone(), record.value.clone(), record.headers.clone());
            }
        }
        if self.markers {
            for &(topic, partition) in touched.keys() {
                self.topics[topic].logs[partition].next += 1;
            }
        }
        self.version += 1;
        Ok(offsets)
    }

    /// Adds a record without any producer.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn push(&mut self, topic: &TopicName, partition: Partition, now: Millis, record: Payload) -> Offset {
        let (topic, partition) = self.place(topic, partition).expect("the partition is there");
        self.version += 1;
        self.topics[topic].logs[partition].push(now, record.key, record.value, record.headers)
    }

    /// Uses up offsets.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn skip(&mut self, topic: &TopicName, partition: Partition, num_offsets: u64) {
        let (topic, partition) = self.place(topic, partition).expect("the partition is there");
        self.topics[topic].logs[partition].next += num_offsets;
        self.version += 1;
    }

    /// Moves the low watermark up, at most to the end.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn retain(&mut self, topic: &TopicName, partition: Partition, low: Offset) {
        let (topic, partition) = self.place(topic, partition).expect("the partition is there");
        self.settle_all();
        let log = &mut self.topics[topic].logs[partition];
        log.low = log.low.max(low.min(log.next));
        self.version += 1;
    }

    /// Lets every topic forget by age and size, as its own settings say.
    pub fn retain_all(&mut self, now: Millis) {
        self.settle_all();
        for topic in &mut self.topics {
            let Cleanup::Delete { retention_ms, retention_bytes } = topic.cleanup else { continue };
            for log in &mut topic.logs {
                let weight = |log: &Log| log.between(log.low, log.next).map(|k| k.record.weight() as u64).sum::<u64>();
                let mut excess = retention_bytes.map_or(0, |most| weight(log).saturating_sub(most));
                let oldest = retention_ms.map_or(Millis::MIN, |age| now - age);
                let first = log.records.partition_point(|kept| kept.record.offset < log.low);
                let goes = |kept: &&Kept| {
                    let goes = excess > 0 || kept.record.time < oldest;
                    excess = excess.saturating_sub(kept.record.weight() as u64);
                    goes
                };
                let num_gone = log.records[first..].iter().take_while(goes).count();
                if num_gone > 0 {
                    log.low = log.records.get(first + num_gone).map_or(log.next, |kept| kept.record.offset);
                }
            }
        }
        self.version += 1;
    }

    /// Compacts every compacted topic: what is not the last record of its key goes, by chance; so
    /// does a last one that is a null.
    pub fn compact_all(&mut self) {
        self.settle_all();
        let compacted = self.topics.iter_mut().filter(|topic| topic.cleanup == Cleanup::Compact);
        for log in compacted.flat_map(|topic| &mut topic.logs) {
            let mut seen = BTreeSet::new();
            for kept in log.records.iter_mut().rev() {
                let Some(key) = &kept.record.key else { continue };
                let last = seen.insert(key.clone());
                if (!last || kept.record.value.is_none()) && self.rng.u8(..4) > 0 {
                    kept.compacted = true;
                }
            }
        }
    }

    /// See [`Bus::watermarks`](super::Bus::watermarks).
    pub fn watermarks(&mut self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        let (topic, partition) = self.same(topic, partition)?;
        self.settle_all();
        let log = &self.topics[topic].logs[partition];
        Ok(Watermarks { low: log.low, high: log.next })
    }

    /// A batch from `from` on, cut by chance if it is to be `short`; `None` if there is nothing yet.
    pub fn read(
        &mut self,
        topic: &TopicInfo,
        partition: Partition,
        from: Offset,
        short: bool,
    ) -> Option<Result<Batch>> {
        let (at, number) = match self.same(topic, partition) {
            Ok(place) => place,
            Err(fault) => return Some(Err(fault)),
        };
        let log = &self.topics[at].logs[number];
        if from > log.next {
            let message = format!("{}/{partition}: offset {from} lies above the end {}", topic.name, log.next);
            return Some(Err(Fault::external(message).kind(Kind::Lost)));
        }
        if from < log.low {
            return Some(Ok(Batch { from, records: Vec::new(), to: log.low, why: Why::Retention }));
        }
        if from == log.next {
            return None;
        }
        let longest = (log.next - from).min(1_000);
        let to = from
            + if short {
                let magnitude = self.rng.u32(..6);
                self.rng.u64(1..=longest.min(1 << magnitude))
            } else {
                longest
            };
        let records = log.between(from, to).filter(|kept| !kept.compacted).map(|kept| kept.record.clone()).collect();
        self.settle_all();
        Some(Ok(Batch { from, records, to, why: Why::Marker }))
    }

    /// Stores a group's offset.
    pub fn commit(
        &mut self,
        op: u64,
        group: &str,
        topic: &TopicInfo,
        partition: Partition,
        next: Offset,
    ) -> Result<()> {
        self.same(topic, partition)?;
        let before = self.offsets.insert((group.to_owned(), topic.id, partition), next);
        self.journal.push((op, Undo::Commit { group: group.to_owned(), topic: topic.id, partition, before }));
        Ok(())
    }

    /// A group's offset.
    pub fn committed(&mut self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        self.same(topic, partition)?;
        self.settle_all();
        Ok(self.offsets.get(&(group.to_owned(), topic.id, partition)).copied())
    }

    /// The identity of this topic is still that of its name.
    pub fn check(&self, topic: &TopicInfo, partition: Partition) -> Result<()> {
        self.same(topic, partition).map(drop)
    }

    /// What a reader from the low watermark on would see.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn records(&self, topic: &TopicName, partition: Partition) -> Vec<Record> {
        let (topic, partition) = self.place(topic, partition).expect("the partition is there");
        let log = &self.topics[topic].logs[partition];
        log.between(log.low, log.next).filter(|kept| !kept.compacted).map(|kept| kept.record.clone()).collect()
    }

    /// All that ever stood there.
    ///
    /// # Panics
    /// If there never was such a partition.
    pub fn records_ever(&self, topic: TopicId, partition: Partition) -> Vec<Record> {
        let topic = self.topics.iter().find(|t| t.info.id == topic).expect("there was such a topic");
        topic.logs[partition as usize].records.iter().map(|kept| kept.record.clone()).collect()
    }

    /// The operation was answered: it is durable, and what came before it.
    pub fn settle(&mut self, op: u64) {
        if let Some(last) = self.journal.iter().rposition(|(by, _)| *by == op) {
            self.journal.drain(..=last);
        }
    }

    /// Everything is durable.
    pub fn settle_all(&mut self) {
        self.journal.clear();
    }

    /// Takes back some of the last changes that are not durable; of each operation all or nothing.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        let mut num_kept = rng.usize(..=self.journal.len());
        while num_kept > 0 && num_kept < self.journal.len() && self.journal[num_kept].0 == self.journal[num_kept - 1].0
        {
            num_kept += 1;
        }
        for (_, undo) in self.journal.split_off(num_kept).into_iter().rev() {
            match undo {
                Undo::Create { topic } => self.topics[topic].deleted = true,
                Undo::Delete { topic } => self.topics[topic].deleted = false,
                Undo::Append { topic, partition, records, next } => {
                    let log = &mut self.topics[topic].logs[partition];
                    log.records.truncate(records);
                    log.next = next;
                }
                Undo::Open { id, epoch } => drop(self.epochs.insert(id, epoch)),
                Undo::Commit { group, topic, partition, before } => {
                    let key = (group, topic, partition);
                    match before {
                        Some(offset) => drop(self.offsets.insert(key, offset)),
                        None => drop(self.offsets.remove(&key)),
                    }
                }
            }
        }
        self.settle_all();
        self.version += 1;
    }

    fn find(&self, name: &TopicName) -> Option<usize> {
        self.topics.iter().rposition(|topic| !topic.deleted && topic.info.name == *name)
    }

    fn place(&self, name: &TopicName, partition: Partition) -> Result<(usize, usize)> {
        let number = partition as usize;
        match self.find(name) {
            Some(at) if number < self.topics[at].logs.len() => Ok((at, number)),
            _ => Err(Fault::user(format!("there is no partition {partition} of a topic {name}"))),
        }
    }

    fn same(&self, topic: &TopicInfo, partition: Partition) -> Result<(usize, usize)> {
        match self.find(&topic.name) {
            Some(at) if self.topics[at].info.id == topic.id => self.place(&topic.name, partition),
            _ => {
                let message = format!("topic {} is not the one with the id {} any more", topic.name, topic.id);
                Err(Fault::external(message).kind(Kind::Recreated))
            }
        }
    }
}

impl Log {
    fn push(&mut self, now: Millis, key: Option<Bytes>, value: Option<Bytes>, headers: Vec<Header>) -> Offset {
        let time = self.records.last().map_or(now, |last| last.record.time.max(now));
        let offset = self.next;
        self.records.push(Kept { record: Record { offset, time, key, value, headers }, compacted: false });
        self.next += 1;
        offset
    }

    fn between(&self, from: Offset, to: Offset) -> impl Iterator<Item = &Kept> {
        let first = self.records.partition_point(|kept| kept.record.offset < from);
        self.records[first..].iter().take_while(move |kept| kept.record.offset < to)
    }
}
