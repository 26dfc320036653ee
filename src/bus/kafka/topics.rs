//! Topics: made as the pipeline wants them, or compared with what it wants.

use std::{collections::HashMap, sync::Arc, time::Instant};

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::{Durability, Settings, bus::Inner, faults};
use crate::{
    bus::{Cleanup, TopicInfo, TopicSpec},
    fault::{Fault, Result},
    model::TopicName,
};

/// Copies of a record where there are brokers enough, and how many must have it before it counts.
const COPIES: usize = 3;
const IN_SYNC: usize = 2;

impl Inner {
    fn options(&self) -> AdminOptions {
        let deadline = self.settings.deadline;
        AdminOptions::new().request_timeout(Some(deadline)).operation_timeout(Some(deadline))
    }

    /// See [`Bus::ensure_topic`](crate::bus::Bus::ensure_topic).
    pub(super) async fn ensure_topic(self: &Arc<Self>, spec: &TopicSpec) -> Result<TopicInfo> {
        if spec.num_partitions == 0 {
            return Err(Fault::user(format!("topic {}: a topic has one partition at least", spec.name)));
        }
        let found = match self.topic(&spec.name).await? {
            Some(found) => found,
            None => self.create(spec).await?,
        };
        self.compare(spec, &found).await?;
        Ok(found)
    }

    async fn create(self: &Arc<Self>, spec: &TopicSpec) -> Result<TopicInfo> {
        let place = format!("{}: topic {}", self.describe(), spec.name);
        let brokers = self.num_brokers(&spec.name).await?;
        let copies = brokers.clamp(1, COPIES);
        if copies < COPIES {
            match self.settings.durability {
                Durability::Required => {
                    return Err(Fault::user(format!(
                        "{place}: there are {brokers} brokers, and durability = \"required\" wants {COPIES}: \
                     add brokers, or say durability = \"as-available\""
                    )));
                }
                Durability::AsAvailable => tracing::warn!(
                    topic = %spec.name, brokers,
                    "made with fewer than three copies: a lost disk loses what only it had"
                ),
            }
        }
        let in_sync = if copies == COPIES { IN_SYNC } else { 1 };
        let mut config = HashMap::from([
            ("min.insync.replicas", in_sync.to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
            // The bus's time, which archives are sorted by, is the broker's.
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("max.message.bytes", Settings::MAX_RECORD.to_string()),
        ]);
        match spec.cleanup {
            Cleanup::Compact => drop(config.insert("cleanup.policy", "compact".to_owned())),
            Cleanup::Delete { retention_ms, retention_bytes } => {
                let bytes = retention_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
                config.insert("cleanup.policy", "delete".to_owned());
                config.insert("retention.ms", retention_ms.unwrap_or(-1).to_string());
                config.insert("retention.bytes", bytes.to_string());
            }
        }
        config.extend((self.extra)(spec));
        let count = i32::try_from(spec.num_partitions).unwrap_or(i32::MAX);
        let copies = i32::try_from(copies).unwrap_or(1);
        let mut topic = NewTopic::new(spec.name.as_str(), count, TopicReplication::Fixed(copies));
        for (key, value) in &config {
            topic = topic.set(key, value);
        }
        let results = self.admin.create_topics([&topic], &self.options()).await;
        let results = results.map_err(|error| faults::classify(&place, &error).unknown_effect())?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(faults::of_code(&place, code, &code.to_string())),
            }
        }
        // The controller has it; the brokers learn of it a moment later.
        let found = self.until(&spec.name, |found| found.is_some()).await?;
        found.ok_or_else(|| Fault::external(format!("{place}: made, and no broker knows it")))
    }

    /// Asks for a topic until it is as awaited, or the deadline is over.
    async fn until(
        self: &Arc<Self>,
        name: &TopicName,
        awaited: impl Fn(&Option<TopicInfo>) -> bool,
    ) -> Result<Option<TopicInfo>> {
        let begun = Instant::now();
        loop {
            let found = self.topic(name).await?;
            if awaited(&found) || begun.elapsed() > self.settings.deadline {
                return Ok(found);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Refuses a topic that is not what the pipeline wants.
    async fn compare(self: &Arc<Self>, spec: &TopicSpec, found: &TopicInfo) -> Result<()> {
        let place = format!("{}: topic {}", self.describe(), spec.name);
        if found.num_partitions != spec.num_partitions {
            let (has, wanted) = (found.num_partitions, spec.num_partitions);
            return Err(Fault::user(format!("{place} has {has} partitions, the pipeline wants {wanted}")));
        }
        let config = self.topic_settings(&spec.name).await?;
        let policy = config.get("cleanup.policy").map_or("", String::as_str);
        let fits = match spec.cleanup {
            Cleanup::Compact => policy == "compact",
            Cleanup::Delete { .. } => policy == "delete",
        };
        if !fits {
            return Err(Fault::user(format!(
                "{place} has cleanup.policy {policy:?}, the pipeline wants it otherwise ({:?})",
                spec.cleanup
            )));
        }
        if self.settings.durability == Durability::Required {
            self.demand_durable(&place, &spec.name, &config).await?;
        }
        Ok(())
    }

    /// A topic's settings as the brokers have them.
    pub(super) async fn topic_settings(&self, name: &TopicName) -> Result<HashMap<String, String>> {
        let place = format!("{}: settings of topic {name}", self.describe());
        let resource = ResourceSpecifier::Topic(name.as_str());
        let answer = self.admin.describe_configs([&resource], &self.options()).await;
        let answer = answer.map_err(|error| faults::classify(&place, &error))?;
        let mut settings = HashMap::new();
        for resource in answer {
            let resource = resource.map_err(|code| faults::of_code(&place, code, &code.to_string()))?;
            let entries = resource.entries.into_iter();
            settings.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    async fn demand_durable(
        self: &Arc<Self>,
        place: &str,
        name: &TopicName,
        config: &HashMap<String, String>,
    ) -> Result<()> {
        let described = self.described(name).await?;
        let copies = described.and_then(|described| described.replicas.into_iter().min()).unwrap_or(0);
        let word = |key: &str| config.get(key).map_or("", String::as_str);
        let tool = format!("kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config");
        if copies < COPIES {
            return Err(Fault::user(format!(
                "{place} has {copies} copies, durability = \"required\" wants {COPIES}: \
                 mend it with kafka-reassign-partitions.sh, or say durability = \"as-available\""
            )));
        }
        if word("min.insync.replicas").parse::<usize>().unwrap_or(0) < IN_SYNC {
            return Err(Fault::user(format!(
                "{place} has min.insync.replicas {}, durability = \"required\" wants {IN_SYNC}: {tool} \
                 min.insync.replicas={IN_SYNC}",
                word("min.insync.replicas")
            )));
        }
        if word("unclean.leader.election.enable") == "true" {
            return Err(Fault::user(format!(
                "{place} may elect a leader without the newest records, which durability = \"required\" forbids: \
                 {tool} unclean.leader.election.enable=false"
            )));
        }
        Ok(())
    }

    /// See [`Bus::delete_topic`](crate::bus::Bus::delete_topic).
    pub(super) async fn delete_topic(self: &Arc<Self>, name: &TopicName) -> Result<()> {
        let place = format!("{}: topic {name}", self.describe());
        let results = self.admin.delete_topics(&[name.as_str()], &self.options()).await;
        for result in results.map_err(|error| faults::classify(&place, &error).unknown_effect())? {
            match result {
                Ok(_) => {}
                Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => return Ok(()),
                Err((_, code)) => return Err(faults::of_code(&place, code, &code.to_string())),
            }
        }
        match self.until(name, Option::is_none).await? {
            None => Ok(()),
            Some(_) => Err(Fault::external(format!("{place}: deleted, and brokers still know it")).unknown_effect()),
        }
    }
}
