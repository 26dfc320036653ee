//! The producer: one Kafka transaction a batch, on a thread of its own (every step of a transaction
//! blocks).
//!
//! Kafka's transactions can be torn when a late request of one transaction meets the next of the same
//! epoch (KIP-890; librdkafka does not know the cure, confluentinc/librdkafka#4853 asks for it). So a
//! producer that met a time-out, a failed connection or a slow commit is of no more use: whoever holds
//! it opens the id anew, which begins another epoch, and reads back.
//!
//! What a failure means is known exactly except for one step. Before the commit was asked for, nothing
//! has happened and nothing will: whoever opens the id next aborts what is open. A commit without a
//! clear answer is unknown.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, mpsc},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
    util::Timeout,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{
    bus::Inner,
    context::{Context, Undelivered},
    faults, native,
    portion::{BATCH_BYTES, Limit, portion},
};
use crate::{
    bus::{Outgoing, Producer},
    fault::{Fault, Kind, Result},
    model::{Offset, TopicName},
};

/// A commit that takes longer may have a request on its way that comes late.
const SLOW: Duration = Duration::from_secs(1);

/// How often, and how long after each other, brokers are asked for a partition before it is refused: one
/// may not have heard of a new topic yet.
const DOUBTS: u32 = 10;
const DOUBT: Duration = Duration::from_millis(100);

/// How long, after a failure, what librdkafka has to say about it is waited for.
const HEAR: Duration = Duration::from_millis(5);

/// How long one look for what librdkafka has to say takes; so long the listening outlives its producer.
/// Its last millisecond is spent awake, whatever its length.
const LISTEN: Duration = Duration::from_secs(1);

/// How long giving up a transaction may take. That it fails costs nothing: see the module's text.
const ABORT: Duration = Duration::from_secs(3);

/// How long a full queue is left alone.
const FULL: Duration = Duration::from_millis(1);

/// How long readers' sight of a committed transaction is waited for.
const VISIBLE: Duration = Duration::from_secs(1);

struct Sending {
    records: Vec<Outgoing>,
    answer: oneshot::Sender<Result<Vec<Offset>>>,
}

/// The end of a producer's thread that its holder has.
pub(super) struct KafkaProducer {
    commands: mpsc::Sender<Sending>,
    /// A send whose future was dropped. It still happens; the next one waits for it.
    pending: Option<oneshot::Receiver<Result<Vec<Offset>>>>,
}

impl KafkaProducer {
    /// Opens the id, which fences its former holder.
    pub(super) async fn open(inner: Arc<Inner>, id: String) -> Result<Self> {
        let (commands, queue) = mpsc::channel();
        let (opened, answer) = oneshot::channel();
        let thread = move || match Transactions::open(&inner, &id) {
            Ok(mut transactions) => {
                if opened.send(Ok(())).is_ok() {
                    transactions.serve(&queue);
                }
            }
            Err(fault) => drop(opened.send(Err(fault))),
        };
        let spawned = thread::Builder::new().name("kafka-producer".to_owned()).spawn(thread);
        spawned.map_err(|error| Fault::io("the producer's thread", &error))?;
        answer.await.map_err(|_| died())??;
        Ok(Self { commands, pending: None })
    }
}

fn died() -> Fault {
    Fault::internal("the producer's thread has died").unknown_effect()
}

#[async_trait]
impl Producer for KafkaProducer {
    async fn send(&mut self, records: Vec<Outgoing>) -> Result<Vec<Offset>> {
        if let Some(before) = &mut self.pending {
            let _ = before.await;
            self.pending = None;
        }
        let (answer, answered) = oneshot::channel();
        self.commands.send(Sending { records, answer }).map_err(|_| died())?;
        let result = self.pending.insert(answered).await;
        self.pending = None;
        result.unwrap_or_else(|_| Err(died()))
    }
}

/// Has librdkafka's words passed on to the producer's context for as long as there is a producer. A thread
/// of its own: librdkafka can be waited for, but not together with anything else.
fn listen(producer: &Weak<BaseProducer<Context>>) {
    while let Some(producer) = producer.upgrade() {
        producer.poll(LISTEN);
    }
}

/// The fault with what is wrong with the producer's connections.
fn explained(producer: &BaseProducer<Context>, fault: Fault) -> Fault {
    producer.poll(HEAR);
    producer.context().explain(fault)
}

/// What the thread has.
struct Transactions {
    id: String,
    deadline: Duration,
    limit: Limit,
    producer: Arc<BaseProducer<Context>>,
    /// How many partitions topics have, as far as they were asked for.
    partitions: HashMap<TopicName, u32>,
    /// Why nothing more can be sent.
    spent: Option<Fault>,
}

impl Transactions {
    fn open(inner: &Inner, id: &str) -> Result<Self> {
        let place = format!("{}: producer {id}", inner.describe());
        let config = inner.settings.sending(inner.password.as_deref(), id);
        let context = Context::new(Arc::clone(&inner.connections));
        let producer: BaseProducer<Context> =
            config.create_with_context(context).map_err(|error| faults::classify(&place, &error))?;
        let producer = Arc::new(producer);
        let heard = Arc::downgrade(&producer);
        let spawned = thread::Builder::new().name("kafka-delivery".to_owned()).spawn(move || listen(&heard));
        spawned.map_err(|error| Fault::io("the producer's second thread", &error))?;
        producer
            .init_transactions(inner.settings.deadline)
            .map_err(|error| explained(&producer, faults::classify(&place, &error)))?;
        producer.context().was_disturbed();
        let (id, deadline) = (place, inner.settings.deadline);
        let limit = Limit { records: inner.settings.batch_records as usize, bytes: BATCH_BYTES };
        Ok(Self { id, deadline, limit, producer, partitions: HashMap::new(), spent: None })
    }

    fn serve(&mut self, queue: &mpsc::Receiver<Sending>) {
        for Sending { records, answer } in queue {
            // Who asked may have stopped waiting; it is done all the same.
            drop(answer.send(self.send(&records)));
        }
    }

    fn send(&mut self, records: &[Outgoing]) -> Result<Vec<Offset>> {
        if let Some(fault) = &self.spent {
            return Err(fault.clone());
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.check(records)?;
        let end = Instant::now() + self.deadline;
        self.producer.begin_transaction().map_err(|error| self.spend(&error))?;
        let offsets = match self.deliver(records, end) {
            Ok(offsets) => offsets,
            Err(fault) => return Err(self.abort(fault)),
        };
        self.commit(end)?;
        self.await_visible(records, &offsets);
        Ok(offsets)
    }

    /// Waits until readers see what was committed: the brokers write the marker that ends a transaction
    /// after they have answered. That the records are durable does not depend on it; so, where it takes
    /// long (another producer's transaction may stand open before them), it is not waited for any longer.
    fn await_visible(&self, records: &[Outgoing], offsets: &[Offset]) {
        let mut last = HashMap::new();
        for (record, &offset) in records.iter().zip(offsets) {
            last.insert((&record.topic, record.partition), offset);
        }
        let end = Instant::now() + VISIBLE;
        for ((topic, partition), offset) in last {
            let mut pause = Duration::from_micros(500);
            let (name, number) = (topic.as_str(), partition.cast_signed());
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                let ends = self.producer.client().fetch_watermarks(name, number, left);
                if ends.is_ok_and(|(_, high)| u64::try_from(high).is_ok_and(|high| high > offset)) {
                    break;
                }
                thread::sleep(pause);
                pause *= 2;
            }
        }
    }

    /// Refuses what names no partition before anything is begun.
    fn check(&mut self, records: &[Outgoing]) -> Result<()> {
        for record in records {
            if self.partitions.get(&record.topic).is_some_and(|&known| record.partition < known) {
                continue;
            }
            let mut count = 0;
            for doubt in 0..DOUBTS {
                count = self.num_partitions(&record.topic)?;
                if record.partition < count {
                    break;
                }
                if doubt + 1 < DOUBTS {
                    thread::sleep(DOUBT);
                }
            }
            if record.partition >= count {
                let (place, partition) = (format!("{}: topic {}", self.id, record.topic), record.partition);
                return Err(Fault::user(format!("{place} has no partition {partition} (it has {count})")));
            }
            self.partitions.insert(record.topic.clone(), count);
        }
        Ok(())
    }

    /// How many partitions a topic has, as one of the brokers knows it; 0 without the topic.
    fn num_partitions(&self, topic: &TopicName) -> Result<u32> {
        let metadata = self.producer.client().fetch_metadata(Some(topic.as_str()), self.deadline);
        let fault = |error| explained(&self.producer, faults::classify(format!("{}: topic {topic}", self.id), &error));
        let metadata = metadata.map_err(fault)?;
        let topic = metadata.topics().first().filter(|topic| topic.error().is_none());
        Ok(topic.map_or(0, |topic| u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX)))
    }

    /// Sends the records and waits until every one is on the brokers, still open to be given up.
    fn deliver(&mut self, records: &[Outgoing], end: Instant) -> Result<Vec<Offset>> {
        let mut offsets = Vec::with_capacity(records.len());
        while offsets.len() < records.len() {
            let rest = &records[offsets.len()..];
            offsets.extend(self.deliver_at_once(&rest[..portion(rest, self.limit)], end)?);
        }
        Ok(offsets)
    }

    fn deliver_at_once(&mut self, records: &[Outgoing], end: Instant) -> Result<Vec<Offset>> {
        let first = self.producer.context().expect(records.len());
        for (place, record) in records.iter().enumerate() {
            self.produce(first + place, record, end)?;
        }
        native::flush(&self.producer, end.saturating_duration_since(Instant::now()));
        match self.producer.context().delivered() {
            Ok(offsets) => Ok(offsets.into_iter().map(|offset| u64::try_from(offset).unwrap_or_default()).collect()),
            Err(Undelivered::Failed(place, code)) => {
                let record = &records[place];
                // The topic may be gone for good, or grown: ask anew next time.
                self.partitions.remove(&record.topic);
                let place = format!("{}: {}-{}", self.id, record.topic, record.partition);
                Err(match self.producer.client().fatal_error() {
                    Some((code, words)) => faults::of_code(place, code, &words),
                    None => self.producer.context().explain(faults::of_code(place, code, &code.to_string())),
                })
            }
            Err(Undelivered::Missing(missing)) => {
                let text = format!("{}: {missing} records unanswered after {:?}", self.id, self.deadline);
                Err(explained(&self.producer, Fault::external(text)))
            }
        }
    }

    fn produce(&self, number: usize, record: &Outgoing, end: Instant) -> Result<()> {
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(record.topic.as_str(), number).partition(record.partition.cast_signed());
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let headers = record
                .headers
                .iter()
                .fold(headers, |headers, (name, value)| headers.insert(Header { key: name, value: Some(&value[..]) }));
            message = message.headers(headers);
        }
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) if Instant::now() < end => {
                    message = again;
                    thread::sleep(FULL);
                }
                Err((error, _)) => {
                    let place = format!("{}: {}-{}", self.id, record.topic, record.partition);
                    return Err(faults::classify(place, &error));
                }
            }
        }
    }

    /// Gives an open transaction up. The fault tells what has become of the records: nothing. That another
    /// holder has opened the id may come to light only now; then that is the fault, for it must not be
    /// answered by opening the id again.
    fn abort(&mut self, fault: Fault) -> Fault {
        let given_up = self.producer.abort_transaction(ABORT);
        if fault.kind == Kind::Fenced {
            self.spent = Some(fault.clone());
        } else if let Err(error) = given_up {
            let next = self.fenced_or("a transaction could not be given up", &error);
            self.spent = Some(next.clone());
            if next.kind == Kind::Fenced {
                return next;
            }
        } else if self.producer.context().was_disturbed() {
            self.spent = Some(self.replaced("a connection failed in a transaction"));
        }
        fault
    }

    fn commit(&mut self, end: Instant) -> Result<()> {
        let begun = Instant::now();
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let error = match self.producer.commit_transaction(Timeout::After(left)) {
                Ok(()) => break,
                Err(error) => error,
            };
            let KafkaError::Transaction(told) = &error else { return Err(self.spend(&error).unknown_effect()) };
            if told.is_retriable() && Instant::now() < end {
                continue;
            }
            if told.txn_requires_abort() {
                let fault = faults::classify(format!("{}: commit", self.id), &error);
                return Err(self.abort(fault));
            }
            return Err(self.spend(&error).unknown_effect());
        }
        if begun.elapsed() > SLOW {
            self.spent = Some(self.replaced("a commit was slow"));
        } else if self.producer.context().was_disturbed() {
            self.spent = Some(self.replaced("a connection failed in a transaction"));
        }
        Ok(())
    }

    /// What sends after this one are told. It is not certain that nothing of them would happen only
    /// in so far as the holder has to read back.
    fn replaced(&self, why: &str) -> Fault {
        let fault = Fault::external(format!("{}: {why}: to be opened anew", self.id));
        explained(&self.producer, fault).unknown_effect()
    }

    fn fenced_or(&self, why: &str, error: &KafkaError) -> Fault {
        let fault = faults::classify(&self.id, error);
        if fault.kind == Kind::Fenced { fault } else { self.replaced(why) }
    }

    /// An error after which librdkafka's producer is of no use.
    fn spend(&mut self, error: &KafkaError) -> Fault {
        let fault = explained(&self.producer, faults::classify(&self.id, error));
        let later = if fault.kind == Kind::Fenced { fault.clone() } else { self.replaced("a transaction failed") };
        self.spent = Some(later);
        fault
    }
}
