//! A bus with an archive behind it: what the bus has deleted of the archived topic comes from there.
//!
//! Readers of the topic see one list of records. Where the bus answers that offsets are gone
//! ([`Why::Retention`]) the archive is asked; only what neither has stays a hole with that reason. A
//! record that was no line, and so is a dead letter, is looked for among those on the bus.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Settings, naming::lane_name, recall::Recall};
use crate::{
    bus::{Bus, Producer, Reader, SharedBus, TopicInfo, TopicSpec, Watermarks, letters},
    failpoint::rare,
    fault::{Fault, Result},
    model::{Batch, Millis, Offset, Partition, Record, TopicName, Why},
    store::SharedStore,
};

/// See the module's text. Everything but reading the archived topic is the bus's own.
#[derive(Clone)]
pub struct BackedBus {
    bus: SharedBus,
    store: SharedStore,
    settings: Arc<Settings>,
    archive_only: bool,
}

impl BackedBus {
    /// This bus with the archive of these settings behind it.
    pub fn new(bus: SharedBus, store: SharedStore, settings: Arc<Settings>) -> Self {
        Self { bus, store, settings, archive_only: false }
    }

    /// The same, but records come from the archive alone: a reader fails where it ends.
    #[must_use]
    pub fn archive_only(self) -> Self {
        Self { archive_only: true, ..self }
    }

    /// The first offset of a partition that either has or once had.
    ///
    /// # Errors
    /// Those of bus and store.
    pub async fn begin(&self, topic: &TopicInfo, partition: Partition) -> Result<Offset> {
        let low = self.bus.watermarks(topic, partition).await?.low;
        let begin = self.recall(topic, partition, 0).await?.begin().await?;
        Ok(begin.map_or(low, |begin| begin.min(low)))
    }

    async fn recall(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Recall> {
        Recall::open(self.store.clone(), &self.settings, topic.id, partition, from).await
    }
}

#[async_trait]
impl Bus for BackedBus {
    fn describe(&self) -> String {
        format!("{}, or the archive {}", self.bus.describe(), self.settings.path)
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo> {
        self.bus.ensure_topic(spec).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>> {
        self.bus.topic(name).await
    }

    async fn producer(&self, id: &str) -> Result<Box<dyn Producer>> {
        self.bus.producer(id).await
    }

    async fn reader(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Box<dyn Reader>> {
        let reader = self.bus.reader(topic, partition, from).await?;
        if topic.name != self.settings.topic {
            return Ok(reader);
        }
        Ok(Box::new(BackedReader {
            bus: self.clone(),
            topic: topic.clone(),
            partition,
            position: from,
            with_headers: true,
            reader,
            recall: None,
            ended: None,
        }))
    }

    async fn watermarks(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        self.bus.watermarks(topic, partition).await
    }

    async fn offset_before(&self, topic: &TopicInfo, partition: Partition, time: Millis) -> Result<Offset> {
        if topic.name != self.settings.topic {
            return self.bus.offset_before(topic, partition, time).await;
        }
        let mut recall = self.recall(topic, partition, 0).await?;
        recall.seek(time).await?;
        Ok(recall.position())
    }

    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()> {
        self.bus.commit_offset(group, topic, partition, next).await
    }

    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        self.bus.committed_offset(group, topic, partition).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<()> {
        self.bus.delete_topic(name).await
    }
}

struct BackedReader {
    bus: BackedBus,
    topic: TopicInfo,
    partition: Partition,
    position: Offset,
    with_headers: bool,
    reader: Box<dyn Reader>,
    /// The archive while it is read, and where the bus begins.
    recall: Option<(Recall, Offset)>,
    /// Where the archive ended when it was last asked.
    ended: Option<Offset>,
}

#[async_trait]
impl Reader for BackedReader {
    async fn next(&mut self) -> Result<Batch> {
        let mut batch = loop {
            if let Some((recall, low)) = &mut self.recall {
                // A call that was given up in the middle may have moved it.
                if recall.position() == self.position
                    && self.position < *low
                    && let Some(batch) = recall.next().await?
                {
                    rare("archive.recalled");
                    break batch;
                }
                self.ended = (recall.position() == self.position).then_some(self.position);
                self.recall = None;
            }
            if self.bus.archive_only {
                if self.ended == Some(self.position) {
                    return Err(self.bus.ends_here(&self.topic, self.partition, self.position));
                }
                let recall = self.bus.recall(&self.topic, self.partition, self.position).await?;
                self.recall = Some((recall, Offset::MAX));
                continue;
            }
            if self.reader.position() != self.position {
                self.reader = self.bus.bus.reader(&self.topic, self.partition, self.position).await?;
                if !self.with_headers {
                    self.reader.leave_out_headers();
                }
            }
            let batch = self.reader.next().await?;
            if batch.why != Why::Retention || !batch.records.is_empty() || self.ended == Some(batch.from) {
                break batch;
            }
            let recall = self.bus.recall(&self.topic, self.partition, self.position).await?;
            self.recall = Some((recall, batch.to));
        };
        if batch.why == Why::DeadLetter {
            batch = self.bus.letters_of(&self.topic, self.partition, batch).await?;
        } else if batch.why == Why::Start {
            // Before the archive's beginning, and gone from the bus: nobody has them.
            batch.why = Why::Retention;
        }
        self.position = batch.to;
        Ok(batch)
    }

    fn position(&self) -> Offset {
        self.position
    }

    fn leave_out_headers(&mut self) {
        self.with_headers = false;
        self.reader.leave_out_headers();
    }
}

impl BackedBus {
    fn ends_here(&self, topic: &TopicInfo, partition: Partition, at: Offset) -> Fault {
        let text =
            format!("the archive ends at {}: what comes after is only on the bus", lane_name(&topic.name, partition));
        Fault::user(format!("{text}, from offset {at} on")).at(&self.settings.path)
    }

    /// The records that were dead letters of the archive, as far as the bus has them; what it has not is
    /// gone.
    async fn letters_of(&self, topic: &TopicInfo, partition: Partition, mut batch: Batch) -> Result<Batch> {
        let letters = letters::of_records(&*self.bus, topic).await?.into_iter();
        // A null says that one was sent again.
        let wanted = letters.filter(|((of, offset), letter)| {
            *of == partition && (batch.from..batch.to).contains(offset) && letter.value.is_some()
        });
        let found: BTreeMap<_, _> = wanted.map(|((_, offset), letter)| (offset, letter)).collect();
        batch.why = Why::Retention;
        let record = |(offset, letter): (Offset, Record)| {
            let time = letters::time_of(&letter);
            let key = letter.header(letters::KEY).cloned();
            Record {
                offset,
                time,
                key,
                value: Some(letter.value.unwrap_or_default()),
                headers: Vec::<(_, Bytes)>::new(),
            }
        };
        batch.records = found.into_iter().map(record).collect();
        Ok(batch)
    }
}
