//! The bus as an owner of the simulated world reaches it.

use async_trait::async_trait;

use super::{
    operation::{Kind, Services, chance},
    world::Caller,
};
use crate::{
    bus::{Bus, Outgoing, Producer, Reader, TopicInfo, TopicSpec, Watermarks},
    fault::{Effect, Result},
    model::{Batch, Offset, Partition, TopicName},
};

/// The model bus in the hands of one owner; see [`Topics`](crate::bus::model::Topics).
pub struct ModelBus(Caller);

impl ModelBus {
    pub(super) fn new(caller: Caller) -> Self {
        Self(caller)
    }
}

#[async_trait]
impl Bus for ModelBus {
    fn describe(&self) -> String {
        "model bus".to_owned()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo> {
        let wanted = spec.clone();
        let label = || format!("ensure_topic {}", spec.name);
        self.0.call(Kind::Write, label, move |s| Some(s.topics.ensure(s.op, &wanted))).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>> {
        let wanted = name.clone();
        self.0.call(Kind::Read, || format!("topic {name}"), move |s| Some(Ok(s.topics.topic(&wanted)))).await
    }

    async fn producer(&self, id: &str) -> Result<Box<dyn Producer>> {
        let (caller, id) = (self.0.clone(), id.to_owned());
        let wanted = id.clone();
        let label = || format!("producer {id}");
        let epoch = caller.call(Kind::Write, label, move |s| Some(Ok(s.topics.open(s.op, &wanted)))).await?;
        Ok(Box::new(ModelProducer { caller, id, epoch, spent: false }))
    }

    async fn reader(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Box<dyn Reader>> {
        let wanted = topic.clone();
        let label = || format!("reader {}/{partition} from {from}", topic.name);
        self.0.call(Kind::Read, label, move |s| Some(s.topics.check(&wanted, partition))).await?;
        Ok(Box::new(ModelReader {
            caller: self.0.clone(),
            topic: topic.clone(),
            partition,
            at: from,
            with_headers: true,
        }))
    }

    async fn watermarks(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        let wanted = topic.clone();
        let label = || format!("watermarks {}/{partition}", topic.name);
        self.0.call(Kind::Read, label, move |s| Some(s.topics.watermarks(&wanted, partition))).await
    }

    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()> {
        let (name, wanted) = (group.to_owned(), topic.clone());
        let label = || format!("commit_offset {group} {}/{partition} {next}", topic.name);
        self.0.call(Kind::Write, label, move |s| Some(s.topics.commit(s.op, &name, &wanted, partition, next))).await
    }

    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        let (name, wanted) = (group.to_owned(), topic.clone());
        let label = || format!("committed_offset {group} {}/{partition}", topic.name);
        self.0.call(Kind::Read, label, move |s| Some(s.topics.committed(&name, &wanted, partition))).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<()> {
        let wanted = name.clone();
        let apply = move |s: &mut Services<'_>| {
            s.topics.delete(s.op, &wanted);
            Some(Ok(()))
        };
        self.0.call(Kind::Write, || format!("delete_topic {name}"), apply).await
    }
}

struct ModelProducer {
    caller: Caller,
    id: String,
    epoch: u64,
    // A send stayed unknown or was given up: the contract forbids another one.
    spent: bool,
}

#[async_trait]
impl Producer for ModelProducer {
    async fn send(&mut self, records: Vec<Outgoing>) -> Result<Vec<Offset>> {
        assert!(!self.spent, "producer {} was used after a send whose end is not known", self.id);
        self.spent = true;
        let (id, epoch, num_records) = (self.id.clone(), self.epoch, records.len());
        let label = || format!("send by {} of epoch {epoch}, {num_records} records", self.id);
        let apply = move |s: &mut Services<'_>| {
            if chance(s.rng, s.aborted)
                && let Some(record) = records.first()
                && s.topics.is_holder(&id, epoch)
            {
                s.topics.skip(&record.topic, record.partition, s.rng.u64(2..5));
            }
            let torn = chance(s.rng, s.torn);
            let lands = |_: &_, _| !torn || s.rng.bool();
            Some(s.topics.send(s.op, s.now, (&id, epoch), &records, lands))
        };
        let sent = self.caller.call(Kind::Write, label, apply).await;
        self.spent = sent.as_ref().is_err_and(|fault| fault.effect == Effect::Unknown);
        sent
    }
}

struct ModelReader {
    caller: Caller,
    topic: TopicInfo,
    partition: Partition,
    at: Offset,
    with_headers: bool,
}

#[async_trait]
impl Reader for ModelReader {
    async fn next(&mut self) -> Result<Batch> {
        let (topic, partition, from) = (self.topic.clone(), self.partition, self.at);
        let label = || format!("next {}/{partition} from {from}", self.topic.name);
        let batch = self.caller.call(Kind::Read, label, move |s| {
            let short = chance(s.rng, s.short);
            s.topics.read(&topic, partition, from, short)
        });
        let mut batch = batch.await?;
        if !self.with_headers {
            batch.records.iter_mut().for_each(|record| record.headers.clear());
        }
        self.at = batch.to;
        Ok(batch)
    }

    fn position(&self) -> Offset {
        self.at
    }

    fn leave_out_headers(&mut self) {
        self.with_headers = false;
    }
}
