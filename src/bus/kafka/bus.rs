//! The bus itself: questions about topics, ends and groups, and what makes producers and readers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    Offset as At, TopicPartitionList,
    admin::AdminClient,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
};
use tokio::time::Instant;

use super::{
    Settings,
    context::Context,
    faults,
    native::{self, Described},
    reading, sending,
};
use crate::{
    bus::{Bus, Producer, Reader, TopicInfo, TopicSpec, Watermarks},
    fault::{Fault, Kind, Result},
    health::Finding,
    model::{Millis, Offset, Partition, TopicName},
    vitals::Connections,
};

/// How often a topic that is not the one it was is asked for before it is believed, and the pause between
/// doubtful answers.
const DOUBTS: u32 = 2;
const DOUBT: Duration = Duration::from_millis(300);

/// A topic to ask for where only the brokers are wanted: nothing is created by asking.
const NO_TOPIC: &str = "howdah_asks_for_brokers";

/// Errors that are heard in one go at most.
const EARFUL: usize = 64;

/// How often clients that nobody polls are polled.
const HOUSE: Duration = Duration::from_secs(1);

/// How long a client waits before it asks again who leads a partition.
const LEARN: Duration = Duration::from_millis(20);

/// A Kafka cluster; see the folder's text.
pub struct KafkaBus {
    inner: Arc<Inner>,
}

type ExtraSettings = fn(&TopicSpec) -> Vec<(&'static str, String)>;

pub(super) struct Inner {
    pub(super) settings: Settings,
    /// What the password's file held when the bus was opened.
    pub(super) password: Option<String>,
    /// For metadata, ends and times.
    asker: BaseConsumer<Context>,
    /// For offsets of groups.
    groups: Mutex<HashMap<String, Arc<BaseConsumer<Context>>>>,
    pub(super) connections: Arc<Connections>,
    /// Settings of the topics it makes, beside those that follow from the spec: for tests, in which
    /// brokers are to forget at once.
    pub(super) extra: ExtraSettings,
}

impl KafkaBus {
    /// Makes the clients. Nothing is asked of the brokers yet: the first call tells whether they are there.
    ///
    /// # Errors
    /// `User` if librdkafka refuses the settings, or the password's file cannot be read.
    pub fn new(settings: Settings) -> Result<Self> {
        Self::with_extra(settings, |_| Vec::new())
    }

    pub(super) fn with_extra(settings: Settings, extra: ExtraSettings) -> Result<Self> {
        let password = match &settings.sasl {
            None => None,
            Some(sasl) => {
                let text = std::fs::read_to_string(&sasl.password_file)
                    .map_err(|error| Fault::user(format!("password file {}: {error}", sasl.password_file.display())))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        let place = format!("kafka {}", settings.brokers);
        let fault = |error: KafkaError| faults::classify(&place, &error);
        let asking = settings.asking(password.as_deref());
        let connections = Arc::<Connections>::default();
        let asker = asking.create_with_context(Context::new(Arc::clone(&connections))).map_err(fault)?;
        let groups = Mutex::default();
        let inner = Arc::new(Inner { settings, password, asker, groups, connections, extra });
        let house = Arc::downgrade(&inner);
        let spawned = thread::Builder::new().name("kafka-house".to_owned()).spawn(move || {
            while let Some(inner) = house.upgrade() {
                inner.keep_house();
                drop(inner);
                thread::sleep(HOUSE);
            }
        });
        spawned.map_err(|error| Fault::io("the thread of the Kafka bus", &error))?;
        Ok(Self { inner })
    }
}

impl Inner {
    pub(super) fn describe(&self) -> String {
        format!("kafka {}", self.settings.brokers)
    }

    /// Runs what blocks on a thread that may.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| Err(Fault::internal(format!("kafka: {error}")).unknown_effect()))
    }

    /// Takes what librdkafka has to say (log, errors, statistics) from clients that nobody polls: it would
    /// pile up.
    fn keep_house(&self) {
        hear(&self.asker);
        let groups: Vec<_> =
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        groups.iter().for_each(|group| hear(group));
    }

    /// The fault of a question that was not answered, with what is wrong with the connection.
    fn unanswered(&self, what: impl std::fmt::Display, error: &KafkaError) -> Fault {
        hear(&self.asker);
        self.asker.context().explain(faults::classify(format!("{}: {what}", self.describe()), error))
    }

    pub(super) async fn described(self: &Arc<Self>, name: &TopicName) -> Result<Option<Described>> {
        let name = name.clone();
        self.run(move |inner| inner.describe_topic(&name)).await
    }

    async fn topic(self: &Arc<Self>, name: &TopicName) -> Result<Option<TopicInfo>> {
        let name = name.clone();
        self.run(move |inner| inner.find(&name)).await
    }

    /// A topic as the broker knows it that is asked: one may not have heard yet of what another has.
    pub(super) async fn topic_now(self: &Arc<Self>, name: &TopicName) -> Result<Option<TopicInfo>> {
        let name = name.clone();
        self.run(move |inner| inner.find_now(&name)).await
    }

    fn describe_topic(&self, name: &TopicName) -> Result<Option<Described>> {
        if self.asker.context().is_troubled() {
            // While all brokers are away, librdkafka's admin requests look for a controller without a
            // pause. A plain request waits for a broker first.
            let any = self.asker.fetch_metadata(Some(name.as_str()), self.settings.deadline);
            any.map_err(|error| self.unanswered(format!("topic {name}"), &error))?;
        }
        native::describe(self.asker.client(), name, self.settings.deadline).map_err(|fault| {
            hear(&self.asker);
            self.asker.context().explain(fault.at(self.describe()))
        })
    }

    /// A topic, or that there is none, by the word of a broker that knows others. (A broker that keeps its
    /// metadata in ZooKeeper answers for a while after its start as if there were no topics at all.) Where
    /// nobody knows any, there is none after a deadline's time. Blocks.
    fn find(&self, name: &TopicName) -> Result<Option<TopicInfo>> {
        let begun = Instant::now();
        loop {
            let found = self.find_now(name)?;
            if found.is_some() || begun.elapsed() >= self.settings.deadline || self.is_missing_among_others(name)? {
                return Ok(found);
            }
            thread::sleep(DOUBT);
        }
    }

    fn is_missing_among_others(&self, name: &TopicName) -> Result<bool> {
        let metadata = self.asker.fetch_metadata(None, self.settings.deadline);
        let metadata = metadata.map_err(|error| self.unanswered("topics", &error))?;
        let topics = metadata.topics();
        Ok(!topics.is_empty() && topics.iter().all(|topic| topic.name() != name.as_str()))
    }

    /// A topic as the broker knows it that is asked.
    fn find_now(&self, name: &TopicName) -> Result<Option<TopicInfo>> {
        Ok(self.describe_topic(name)?.map(|Described { id, replicas }| TopicInfo {
            name: name.clone(),
            id,
            num_partitions: u32::try_from(replicas.len()).unwrap_or(u32::MAX),
        }))
    }

    /// Whether the topic of this name is still the one we know; blocks.
    pub(super) fn identify(&self, topic: &TopicInfo) -> Result<TopicInfo> {
        let mut doubts = 0;
        loop {
            let found = self.find(&topic.name)?;
            match found {
                Some(found) if found.id == topic.id => return Ok(found),
                _ if doubts < DOUBTS => {
                    doubts += 1;
                    thread::sleep(DOUBT);
                }
                Some(found) => {
                    let text =
                        format!("topic {} was deleted and created anew ({} was {})", topic.name, found.id, topic.id);
                    return Err(Fault::external(format!("{}: {text}", self.describe())).kind(Kind::Recreated));
                }
                None => {
                    let text = format!("topic {} ({}) is not there any more", topic.name, topic.id);
                    return Err(Fault::external(format!("{}: {text}", self.describe())).kind(Kind::Recreated));
                }
            }
        }
    }

    /// The same, for one partition of it.
    fn identify_partition(&self, topic: &TopicInfo, partition: Partition) -> Result<()> {
        let found = self.identify(topic)?;
        if partition >= found.num_partitions {
            let text = format!("topic {} has no partition {partition}", topic.name);
            return Err(Fault::user(format!("{}: {text}", self.describe())));
        }
        Ok(())
    }

    /// A partition's ends; blocks.
    pub(super) fn ends(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        self.identify_partition(topic, partition)?;
        let (name, deadline) = (topic.name.as_str(), self.settings.deadline);
        let begun = Instant::now();
        loop {
            let error = match self.asker.fetch_watermarks(name, partition.cast_signed(), deadline) {
                Ok((low, high)) => {
                    let offset = |raw| u64::try_from(raw).unwrap_or_default();
                    return Ok(Watermarks { low: offset(low), high: offset(high) });
                }
                Err(error) => error,
            };
            // The partition is there (we have just asked), and this client has yet to learn who leads it.
            let learns = error.rdkafka_error_code().is_some_and(faults::is_ignorance);
            if !learns || begun.elapsed() > deadline {
                return Err(self.unanswered(format!("ends of {name}-{partition}"), &error));
            }
            let _ = self.asker.fetch_metadata(Some(name), deadline);
            thread::sleep(LEARN);
        }
    }

    pub(super) async fn num_brokers(self: &Arc<Self>, near: &TopicName) -> Result<usize> {
        let near = near.clone();
        self.run(move |inner| {
            let metadata = inner.asker.fetch_metadata(Some(near.as_str()), inner.settings.deadline);
            Ok(metadata.map_err(|error| inner.unanswered("brokers", &error))?.brokers().len())
        })
        .await
    }

    /// A client that changes topics. Made for each use: nobody polls what it has to say beside its answers.
    pub(super) fn admin(&self) -> Result<AdminClient<Context>> {
        let config = self.settings.asking(self.password.as_deref());
        let made = config.create_with_context(Context::new(Arc::clone(&self.connections)));
        made.map_err(|error| faults::classify(self.describe(), &error))
    }

    fn group(&self, name: &str) -> Result<Arc<BaseConsumer<Context>>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = groups.get(name) {
            return Ok(known.clone());
        }
        let config = self.settings.grouped(self.password.as_deref(), name);
        let consumer: BaseConsumer<Context> =
            config
                .create_with_context(Context::new(Arc::clone(&self.connections)))
                .map_err(|error| faults::classify(format!("{}: group {name}", self.describe()), &error))?;
        let consumer = Arc::new(consumer);
        groups.insert(name.to_owned(), consumer.clone());
        Ok(consumer)
    }

    fn commit(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()> {
        self.identify_partition(topic, partition)?;
        let place = format!("{}: group {group}, {}-{partition}", self.describe(), topic.name);
        let fault = |error: KafkaError| faults::classify(&place, &error).unknown_effect();
        let consumer = self.group(group)?;
        let mut list = TopicPartitionList::with_capacity(1);
        {
            let mut place = list.add_partition(topic.name.as_str(), partition.cast_signed());
            place.set_offset(At::Offset(i64::try_from(next).unwrap_or(i64::MAX))).map_err(fault)?;
            place.set_metadata(topic.id.to_string());
        }
        consumer.commit(&list, CommitMode::Sync).map_err(fault)
    }

    fn committed(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        self.identify_partition(topic, partition)?;
        let place = format!("{}: group {group}, {}-{partition}", self.describe(), topic.name);
        let fault = |error: KafkaError| faults::classify(&place, &error);
        let consumer = self.group(group)?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic.name.as_str(), partition.cast_signed());
        let found = consumer.committed_offsets(list, self.settings.deadline).map_err(fault)?;
        let Some(place) = found.find_partition(topic.name.as_str(), partition.cast_signed()) else { return Ok(None) };
        place.error().map_err(fault)?;
        // Ours name the topic that they were committed for; those of other programs name none.
        let foreign = place.metadata().parse::<uuid::Uuid>().is_ok_and(|id| id != topic.id.0);
        Ok(match place.offset() {
            At::Offset(offset) if !foreign => u64::try_from(offset).ok(),
            _ => None,
        })
    }
}

/// Takes what librdkafka has to say; a consumer that is assigned nothing has nothing else.
fn hear(client: &BaseConsumer<Context>) {
    for _ in 0..EARFUL {
        if client.poll(Duration::from_millis(1)).is_none() {
            return;
        }
    }
}

#[async_trait]
impl Bus for KafkaBus {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo> {
        self.inner.ensure_topic(spec).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>> {
        self.inner.topic(name).await
    }

    async fn producer(&self, id: &str) -> Result<Box<dyn Producer>> {
        Ok(Box::new(sending::KafkaProducer::open(Arc::clone(&self.inner), id.to_owned()).await?))
    }

    async fn reader(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reading::KafkaReader::new(Arc::clone(&self.inner), topic.clone(), partition, from)))
    }

    async fn watermarks(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        let topic = topic.clone();
        self.inner.run(move |inner| inner.ends(&topic, partition)).await
    }

    async fn offset_before(&self, topic: &TopicInfo, partition: Partition, time: Millis) -> Result<Offset> {
        let topic = topic.clone();
        self.inner
            .run(move |inner| {
                let ends = inner.ends(&topic, partition)?;
                let place = format!("{}: {}-{partition} at {time}", inner.describe(), topic.name);
                let fault = |error: KafkaError| faults::classify(&place, &error);
                let (name, number) = (topic.name.as_str(), partition.cast_signed());
                let first_at = |time| {
                    let mut list = TopicPartitionList::with_capacity(1);
                    list.add_partition_offset(name, number, At::Offset(time)).map_err(fault)?;
                    let found = inner.asker.offsets_for_times(list, inner.settings.deadline).map_err(fault)?;
                    let Some(place) = found.find_partition(name, number) else { return Ok(ends.high) };
                    place.error().map_err(fault)?;
                    Ok::<_, Fault>(match place.offset() {
                        At::Offset(offset) => u64::try_from(offset).unwrap_or_default(),
                        _ => ends.high,
                    })
                };
                // If the first one that is left is it, nothing tells of those that are gone.
                let found = first_at(time)?;
                Ok(if found == first_at(0)? { 0 } else { found })
            })
            .await
    }

    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()> {
        let (group, topic) = (group.to_owned(), topic.clone());
        self.inner.run(move |inner| inner.commit(&group, &topic, partition, next)).await
    }

    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        let (group, topic) = (group.to_owned(), topic.clone());
        self.inner.run(move |inner| inner.committed(&group, &topic, partition)).await
    }

    fn connections(&self) -> Option<Arc<Connections>> {
        Some(Arc::clone(&self.inner.connections))
    }

    async fn compare(&self, spec: &TopicSpec) -> Result<Vec<Finding>> {
        self.inner.compare(spec).await
    }

    async fn diagnose(&self) -> Vec<Finding> {
        let (subject, version) = (self.describe(), rdkafka::util::get_rdkafka_version().1);
        let asked = self.inner.run(|inner| {
            let metadata = inner.asker.fetch_metadata(Some(NO_TOPIC), inner.settings.deadline);
            let metadata = metadata.map_err(|error| inner.unanswered("brokers", &error))?;
            let brokers: Vec<_> =
                metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
            Ok(brokers)
        });
        let mut findings = vec![Finding::fine("librdkafka", format!("version {version}"))];
        findings.push(match asked.await {
            Ok(brokers) => Finding::fine(subject, format!("brokers that answer: {}", brokers.join(", "))),
            Err(fault) => Finding::wrong(subject, format!("{fault}: is it running, and is this its address?")),
        });
        findings
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<()> {
        self.inner.delete_topic(name).await
    }
}
