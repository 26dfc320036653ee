//! The reader of one partition: a thread that polls librdkafka, and a short queue of batches.
//!
//! It is told where to begin and never asks a group. What lies between records is a transaction's
//! marker, an aborted or a compacted record; where the partition ends behind such, librdkafka's
//! end-of-partition message says how far. What the broker refuses as out of range is looked up: below the
//! low watermark it is retention, above the high one it is loss.
//!
//! librdkafka goes on at the same offset when a topic was deleted and created anew in the meantime (its
//! `rdkafka_topic.c`, as of 2.12.1, notes that a reset is missing there). So batches are held back until the brokers have said,
//! after they were fetched, that the topic is still the one it was: one question for many batches
//! where there are many.
//!
//! librdkafka steps over a record set whose checksum is wrong and over nothing else; so after any error
//! but a passing one the consumer is thrown away, and a new one begins where the last batch ended.

use std::{sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rdkafka::{
    Offset as At, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{
    bus::Inner,
    context::Context,
    faults,
    native::{Fetched, Records, Told},
};
use crate::{
    bus::{Reader, TopicInfo},
    fault::{Fault, Kind, Result},
    model::{Batch, Header, Offset, Partition, Record, Why},
};

/// Records of one batch at most, and their bytes.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

/// Batches that wait for their consumer.
const WAITING: usize = 2;

/// Batches that are held back at most, and how often the brokers are asked while fewer come.
const HELD: usize = 8;
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long one look for records takes at most; so long a thread outlives its reader.
const POLL: Duration = Duration::from_millis(100);

/// After a failed connection the brokers are asked something, to tell a short break from an outage;
/// not more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(2);

pub(super) struct KafkaReader {
    inner: Arc<Inner>,
    topic: TopicInfo,
    partition: Partition,
    position: Offset,
    with_headers: bool,
    batches: Option<mpsc::Receiver<Result<Batch>>>,
}

impl KafkaReader {
    pub(super) fn new(inner: Arc<Inner>, topic: TopicInfo, partition: Partition, from: Offset) -> Self {
        Self { inner, topic, partition, position: from, with_headers: true, batches: None }
    }

    fn start(&self) -> Result<mpsc::Receiver<Result<Batch>>> {
        let (outbox, batches) = mpsc::channel(WAITING);
        let mut polling = Polling {
            inner: Arc::clone(&self.inner),
            topic: self.topic.clone(),
            partition: self.partition,
            at: self.position,
            with_headers: self.with_headers,
            outbox,
            held: Vec::with_capacity(HELD),
            looked: Instant::now(),
        };
        let run = move || {
            if let Err(fault) = polling.run() {
                let _ = polling.outbox.blocking_send(Err(fault));
            }
        };
        let spawned = thread::Builder::new().name("kafka-reader".to_owned()).spawn(run);
        spawned.map_err(|error| Fault::io("the reader's thread", &error))?;
        Ok(batches)
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Batch> {
        if self.batches.is_none() {
            self.batches = Some(self.start()?);
        }
        let Some(batches) = &mut self.batches else { return Err(Fault::internal("a reader without its thread")) };
        match batches.recv().await {
            Some(Ok(batch)) => {
                self.position = batch.to;
                Ok(batch)
            }
            Some(Err(fault)) => {
                self.batches = None;
                Err(fault)
            }
            None => {
                self.batches = None;
                Err(Fault::internal("the reader's thread has died"))
            }
        }
    }

    fn position(&self) -> Offset {
        self.position
    }

    fn leave_out_headers(&mut self) {
        self.with_headers = false;
    }
}

/// What the thread has.
struct Polling {
    inner: Arc<Inner>,
    topic: TopicInfo,
    partition: Partition,
    at: Offset,
    with_headers: bool,
    outbox: mpsc::Sender<Result<Batch>>,
    /// Batches that are not known to be of the topic yet.
    held: Vec<Batch>,
    /// When the topic's identity was last looked at.
    looked: Instant,
}

impl Polling {
    fn place(&self) -> String {
        format!("{}: {}-{}@{}", self.inner.describe(), self.topic.name, self.partition, self.at)
    }

    fn run(&mut self) -> Result<()> {
        self.look()?;
        if self.partition >= self.topic.num_partitions {
            let text = format!("{} has no partition {}", self.topic.name, self.partition);
            return Err(Fault::user(format!("{}: topic {text}", self.inner.describe())));
        }
        let mut records = self.assign()?;
        let mut refused = 0;
        while !self.outbox.is_closed() {
            match self.poll(&mut records) {
                Ok(()) => refused = 0,
                // Also a broker that has not heard of a new topic yet: the others tell whether there is one.
                Err(KafkaError::MessageConsumption(code)) if faults::passes(code) || faults::is_ignorance(code) => {
                    if self.looked.elapsed() >= ASK_AGAIN {
                        self.look()?;
                    }
                }
                Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                )) => {
                    refused += 1;
                    self.out_of_range(refused)?;
                    records = self.assign()?;
                }
                Err(error) => {
                    self.look()?;
                    return Err(faults::classify(self.place(), &error));
                }
            }
            if self.is_due() {
                self.look()?;
                self.look_for_open_transaction(records.consumer())?;
            }
        }
        Ok(())
    }

    /// Asks whether the topic is the one it was (and so, whether the brokers answer); hands out what is
    /// held back.
    fn look(&mut self) -> Result<()> {
        self.inner.identify(&self.topic).map_err(|fault| fault.at(self.place()))?;
        self.looked = Instant::now();
        for batch in self.held.drain(..) {
            // A reader that is gone is noticed by the caller.
            let _ = self.outbox.blocking_send(Ok(batch));
        }
        Ok(())
    }

    /// A transaction that nobody ends would hold readers up for ever, without a word.
    fn look_for_open_transaction(&self, consumer: &BaseConsumer<Context>) -> Result<()> {
        let Some((stable, lasts)) = consumer.context().stable() else { return Ok(()) };
        let stable = u64::try_from(stable).unwrap_or_default();
        let is_new = lasts < self.inner.settings.open_transaction || self.at < stable;
        // What a fetch told may be old by now.
        if is_new || self.inner.ends(&self.topic, self.partition)?.high > stable {
            return Ok(());
        }
        let text = format!("a transaction is open from offset {stable} on, for {} s now", lasts.as_secs());
        let way_out = "nobody gets behind it: find it with kafka-transactions.sh find-hanging, end it with its abort";
        Err(Fault::external(format!("{}: {text}; {way_out}", self.place())))
    }

    fn is_due(&self) -> bool {
        let pause = if self.held.is_empty() { self.inner.settings.identity_every } else { ASK_EVERY };
        self.held.len() >= HELD || self.looked.elapsed() >= pause
    }

    fn hold(&mut self, records: Vec<Record>, to: Offset, why: Why) {
        self.held.push(Batch { from: self.at, records, to, why });
        self.at = to;
    }

    fn assign(&self) -> Result<Records> {
        let at = i64::try_from(self.at).map_err(|_| self.above(None))?;
        // Where offsets end, librdkafka's own marks begin.
        if at == i64::MAX {
            return Err(self.above(None));
        }
        let fault = |error: KafkaError| faults::classify(self.place(), &error);
        let config = self.inner.settings.reading(self.inner.password.as_deref());
        let consumer: BaseConsumer<Context> =
            config.create_with_context(Context::new(Arc::clone(&self.inner.connections))).map_err(fault)?;
        let records = Records::new(consumer, &self.topic.name, self.partition)?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(self.topic.name.as_str(), self.partition.cast_signed(), At::Offset(at))
            .map_err(fault)?;
        records.consumer().assign(&list).map_err(fault)?;
        Ok(records)
    }

    /// Passes on what there is: records, and how far the partition goes behind them.
    fn poll(&mut self, records: &mut Records) -> Result<(), KafkaError> {
        let mut gathered = Gathered::default();
        let mut wait = if self.held.is_empty() { POLL } else { ASK_EVERY.saturating_sub(self.looked.elapsed()) };
        let (mut end, mut outcome) = (self.at, Ok(()));
        while !gathered.is_full() {
            match records.next(wait) {
                Ok(Some(Told::Record(record))) => gathered.add(&record, self.with_headers),
                Ok(Some(Told::End(offset))) => {
                    end = offset;
                    break;
                }
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        let records = gathered.records();
        let to = records.last().map_or(self.at, |last| last.offset + 1).max(end);
        if to > self.at {
            self.hold(records, to, Why::Marker);
        }
        outcome
    }

    /// The broker refused where we stand.
    fn out_of_range(&mut self, refused: u32) -> Result<()> {
        let ends = self.inner.ends(&self.topic, self.partition)?;
        if self.at < ends.low {
            self.hold(Vec::new(), ends.low, Why::Retention);
            return Ok(());
        }
        if self.at > ends.high {
            return Err(self.above(Some(ends.high)));
        }
        if refused > 3 {
            let text = format!("refused as out of range, but it lies in [{}, {}]", ends.low, ends.high);
            return Err(Fault::external(text).at(self.place()));
        }
        Ok(())
    }

    fn above(&self, high: Option<Offset>) -> Fault {
        let high = high.map_or_else(|| "any partition's end".to_owned(), |high| format!("the partition's end {high}"));
        let text = format!("this lies above {high}: records that were there are gone");
        Fault::data(format!("{}: {text}", self.place())).kind(Kind::Lost)
    }
}

/// Records on their way into a batch. Their bytes lie in one buffer, so that a batch is one piece of
/// memory and not thousands.
#[derive(Default)]
struct Gathered {
    buffer: BytesMut,
    shapes: Vec<Shape>,
    names: Vec<Arc<str>>,
}

/// A record whose bytes are in the buffer, by their lengths.
struct Shape {
    offset: Offset,
    time: i64,
    key: Option<usize>,
    value: Option<usize>,
    headers: Vec<(Arc<str>, usize)>,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.shapes.len() >= BATCH_RECORDS || self.buffer.len() >= BATCH_BYTES
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        self.buffer.extend_from_slice(bytes);
        bytes.len()
    }

    fn add(&mut self, record: &Fetched<'_>, with_headers: bool) {
        let key = record.key().map(|key| self.put(key));
        let value = record.value().map(|value| self.put(value));
        let mut headers = Vec::new();
        if with_headers {
            record.headers(|name, value| headers.push((self.name(name), self.put(value))));
        }
        self.shapes.push(Shape { offset: record.offset(), time: record.time(), key, value, headers });
    }

    /// A header's name, shared by the records of the batch.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        name
    }

    fn records(self) -> Vec<Record> {
        let mut rest = self.buffer.freeze();
        let mut cut = |len: usize| -> Bytes { rest.split_to(len) };
        let record = |shape: Shape| Record {
            offset: shape.offset,
            time: shape.time,
            key: shape.key.map(&mut cut),
            value: shape.value.map(&mut cut),
            headers: shape.headers.into_iter().map(|(name, len)| -> Header { (name, cut(len)) }).collect(),
        };
        self.shapes.into_iter().map(record).collect()
    }
}
