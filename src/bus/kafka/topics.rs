//! Topics: made as the pipeline wants them, or compared with what it wants.

use std::{collections::HashMap, sync::Arc};

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use tokio::time::Instant;

use super::{Durability, Settings, bus::Inner, faults};
use crate::{
    bus::{Cleanup, MISSING, TopicInfo, TopicSpec},
    fault::{Fault, Result},
    health::{Finding, Verdict},
    model::TopicName,
};

type Map = HashMap<String, String>;

/// The command that gives a topic another setting.
fn mend(spec: &TopicSpec, setting: &str) -> String {
    format!("kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {setting}", spec.name)
}

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
        let found = match self.topic_now(&spec.name).await? {
            Some(found) => found,
            None => self.create(spec).await?,
        };
        self.demand(spec).await?;
        Ok(found)
    }

    async fn create(self: &Arc<Self>, spec: &TopicSpec) -> Result<TopicInfo> {
        let place = format!("{}: topic {}", self.describe(), spec.name);
        let brokers = self.num_brokers(&spec.name).await?;
        if brokers == 0 {
            return Err(Fault::external(format!("{place}: the broker that was asked knows of no broker yet")));
        }
        let copies = brokers.min(COPIES);
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
        let results = self.admin()?.create_topics([&topic], &self.options()).await;
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
            let found = self.topic_now(name).await?;
            if awaited(&found) || begun.elapsed() > self.settings.deadline {
                return Ok(found);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Refuses a topic that is not what the pipeline wants.
    async fn demand(self: &Arc<Self>, spec: &TopicSpec) -> Result<()> {
        let findings = self.compare(spec).await?;
        let wrong: Vec<_> = findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let texts: Vec<_> = wrong.iter().map(|finding| finding.text.as_str()).collect();
        Err(Fault::user(format!("{}: topic {}: {}", self.describe(), spec.name, texts.join("; "))))
    }

    /// See [`Bus::compare`](crate::bus::Bus::compare).
    pub(super) async fn compare(self: &Arc<Self>, spec: &TopicSpec) -> Result<Vec<Finding>> {
        let subject = format!("topic {}", spec.name);
        let Some(found) = self.described(&spec.name).await? else { return Ok(vec![Finding::wrong(subject, MISSING)]) };
        let settings = self.topic_settings(&spec.name).await?;
        let mut findings = self.shape(spec, &subject, found.replicas.len(), &settings);
        findings.extend(self.safety(spec, &subject, found.replicas.into_iter().min().unwrap_or(0), &settings));
        if findings.is_empty() {
            findings.push(Finding::fine(subject, format!("as it is wanted, identity {}", found.id)));
        }
        Ok(findings)
    }

    /// What of its shape is another one than the pipeline's.
    fn shape(&self, spec: &TopicSpec, subject: &str, has: usize, settings: &Map) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (word, wanted) = (|key: &str| settings.get(key).map_or("", String::as_str), spec.num_partitions);
        if has != wanted as usize {
            findings.push(Finding::wrong(subject, format!("has {has} partitions, the pipeline wants {wanted}")));
        }
        let (policy, kept) = match spec.cleanup {
            Cleanup::Compact => ("compact", None),
            Cleanup::Delete { retention_ms, .. } => ("delete", Some(retention_ms.unwrap_or(-1))),
        };
        if word("cleanup.policy") != policy {
            let text = format!("has cleanup.policy {:?}, the pipeline wants {policy:?}", word("cleanup.policy"));
            findings.push(Finding::wrong(subject, text));
        } else if let Some(wanted) = kept.filter(|kept| word("retention.ms") != kept.to_string()) {
            let text = format!("keeps records for {} ms, the pipeline says {wanted}", word("retention.ms"));
            findings
                .push(Finding::doubtful(subject, format!("{text}: {}", mend(spec, &format!("retention.ms={wanted}")))));
        }
        if word("message.timestamp.type") == "CreateTime" {
            let text = "takes its records' times from their senders: archives are sorted by them";
            let mend = mend(spec, "message.timestamp.type=LogAppendTime");
            findings.push(Finding::doubtful(subject, format!("{text}: {mend}")));
        }
        findings
    }

    /// What a lost disk would cost.
    fn safety(&self, spec: &TopicSpec, subject: &str, copies: usize, settings: &Map) -> Vec<Finding> {
        let word = |key: &str| settings.get(key).map_or("", String::as_str);
        let in_sync = word("min.insync.replicas");
        let mut texts = Vec::new();
        if copies < COPIES {
            texts.push(format!(
                "has {copies} copies, {COPIES} are safe: what only a lost disk had is lost: kafka-reassign-partitions.sh"
            ));
        } else if in_sync.parse::<usize>().unwrap_or(0) < IN_SYNC {
            let mend = mend(spec, &format!("min.insync.replicas={IN_SYNC}"));
            texts.push(format!(
                "has min.insync.replicas {in_sync}: a record counts before {IN_SYNC} disks have it: {mend}"
            ));
        }
        if word("unclean.leader.election.enable") == "true" {
            let mend = mend(spec, "unclean.leader.election.enable=false");
            texts.push(format!("may elect a leader without the newest records: {mend}"));
        }
        let finding = match self.settings.durability {
            Durability::Required => |subject: &str, text: String| Finding::wrong(subject, text),
            Durability::AsAvailable => |subject: &str, text: String| Finding::doubtful(subject, text),
        };
        texts.into_iter().map(|text| finding(subject, text)).collect()
    }

    /// A topic's settings as the brokers have them.
    pub(super) async fn topic_settings(&self, name: &TopicName) -> Result<HashMap<String, String>> {
        let place = format!("{}: settings of topic {name}", self.describe());
        let resource = ResourceSpecifier::Topic(name.as_str());
        let answer = self.admin()?.describe_configs([&resource], &self.options()).await;
        let answer = answer.map_err(|error| faults::classify(&place, &error))?;
        let mut settings = HashMap::new();
        for resource in answer {
            let resource = resource.map_err(|code| faults::of_code(&place, code, &code.to_string()))?;
            let entries = resource.entries.into_iter();
            settings.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// See [`Bus::delete_topic`](crate::bus::Bus::delete_topic).
    pub(super) async fn delete_topic(self: &Arc<Self>, name: &TopicName) -> Result<()> {
        let place = format!("{}: topic {name}", self.describe());
        let results = self.admin()?.delete_topics(&[name.as_str()], &self.options()).await;
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
