//! The contract of a bus, as tests: each bus runs all of them with [`suite!`].
//!
//! ```ignore
//! mod contract {
//!     crate::bus::contract::suite!(|| async { MySubject::new() });
//! }
//! ```

mod forgetting;
mod reading;
mod sending;

pub(crate) use self::{forgetting::*, reading::*, sending::*};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Bus, Cleanup, Outgoing, Producer, Reader, TopicInfo, TopicSpec, Watermarks};
use crate::{
    fault::{Domain, Effect, Fault, Kind, Result},
    model::{Batch, ManualClock, Offset, Partition, Record, TopicName},
};

/// A bus under test. A fresh one for each test, or names of its own ([`Subject::name`]).
#[async_trait]
pub trait Subject: Sync {
    /// The bus.
    fn bus(&self) -> &dyn Bus;

    /// The clock from which it takes its records' times, if it can be told one.
    fn clock(&self) -> Option<&ManualClock>;

    /// Whether a send takes offsets for itself (Kafka's transaction markers).
    fn markers(&self) -> bool {
        false
    }

    /// The real name of a topic, producer or group that a test calls `base`.
    fn name(&self, base: &str) -> String {
        base.to_owned()
    }

    /// Lets retention do all it has to do.
    async fn retain(&self) -> Result<()>;

    /// Lets compaction do all it has to do.
    async fn compact(&self) -> Result<()>;
}

/// Makes one test of each case, for the subject that an async closure makes.
macro_rules! suite {
    ($subject:expr) => {
        $crate::bus::contract::suite! { $subject =>
            a_topic_is_made_once_and_refused_in_another_shape
            a_topic_made_anew_is_another_topic
            deleting_a_topic_takes_its_records_and_leaves_others
            offsets_count_from_0_in_each_partition_and_batches_tile_them
            a_send_is_done_to_all_partitions_or_to_none
            an_empty_send_is_nothing
            a_new_holder_fences_the_old_one_for_ever
            producers_that_send_at_once_lose_nothing
            a_reader_at_the_end_waits_and_wakes
            a_reader_begins_in_the_middle_of_a_send
            a_reader_above_the_end_gets_a_fault_and_no_reset
            dropping_a_wait_or_a_read_loses_nothing
            retention_by_size_moves_low_and_never_next
            retention_by_age_empties_a_partition_and_offsets_go_on
            a_reader_below_the_low_watermark_is_told_of_retention_once
            compaction_keeps_the_last_of_each_key_and_every_offset
            times_do_not_go_back
            group_offsets_come_back_per_group_and_partition
            bytes_come_back_as_they_were_sent
            a_record_of_5_mb_comes_back
            many_small_sends_come_back_in_order
            an_unknown_topic_or_partition_is_refused
        }
    };
    ($subject:expr => $($case:ident)*) => {
        $(#[tokio::test]
        async fn $case() {
            let subject = $subject().await;
            let case = $crate::bus::contract::$case(&subject);
            tokio::time::timeout(std::time::Duration::from_secs(120), case).await.expect("in two minutes");
        })*
    };
}
pub(crate) use suite;

const KEEP: Cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };

async fn make(subject: &impl Subject, name: &str, num_partitions: u32, cleanup: Cleanup) -> TopicInfo {
    let spec = TopicSpec { name: TopicName::new(subject.name(name)), num_partitions, cleanup };
    subject.bus().ensure_topic(&spec).await.unwrap()
}

async fn producer(subject: &impl Subject, id: &str) -> Box<dyn Producer> {
    subject.bus().producer(&subject.name(id)).await.unwrap()
}

fn bytes(content: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(content.as_ref())
}

/// A record with this value.
fn plain(topic: &TopicInfo, partition: Partition, value: impl AsRef<[u8]>) -> Outgoing {
    let value = Some(bytes(value));
    Outgoing { topic: topic.name.clone(), partition, key: None, value, headers: Vec::new() }
}

/// A record with this key and this value or null.
fn keyed(topic: &TopicInfo, key: &str, value: Option<&str>) -> Outgoing {
    Outgoing { key: Some(bytes(key)), value: value.map(bytes), ..plain(topic, 0, "") }
}

async fn ends(subject: &impl Subject, topic: &TopicInfo, partition: Partition) -> Watermarks {
    subject.bus().watermarks(topic, partition).await.unwrap()
}

async fn reader(subject: &impl Subject, topic: &TopicInfo, partition: Partition, from: Offset) -> Box<dyn Reader> {
    let reader = subject.bus().reader(topic, partition, from).await.unwrap();
    assert_eq!(reader.position(), from);
    reader
}

/// The batches from `from` to the end, each looked at for what every batch keeps.
async fn batches(subject: &impl Subject, topic: &TopicInfo, partition: Partition, from: Offset) -> Vec<Batch> {
    let high = ends(subject, topic, partition).await.high;
    let mut reader = reader(subject, topic, partition, from).await;
    let mut batches = Vec::new();
    let mut at = from;
    while at < high {
        let batch = reader.next().await.unwrap();
        assert_eq!(batch.from, at, "batches tile");
        assert!(batch.to > batch.from, "a batch goes on");
        assert!(batch.records.is_sorted_by(|a, b| a.offset < b.offset && a.time <= b.time), "in order");
        assert!(batch.records.iter().all(|r| (batch.from..batch.to).contains(&r.offset)), "within the batch");
        at = batch.to;
        assert_eq!(reader.position(), at);
        batches.push(batch);
    }
    assert_eq!(at, high);
    batches
}

async fn records(subject: &impl Subject, topic: &TopicInfo, partition: Partition, from: Offset) -> Vec<Record> {
    batches(subject, topic, partition, from).await.into_iter().flat_map(|batch| batch.records).collect()
}

async fn values(subject: &impl Subject, topic: &TopicInfo, partition: Partition, from: Offset) -> Vec<String> {
    records(subject, topic, partition, from).await.iter().map(text).collect()
}

fn text(record: &Record) -> String {
    record.value.as_ref().map_or("null".to_owned(), |value| String::from_utf8(value.to_vec()).unwrap())
}

/// What the reader gives next that has records; its batches without any may be markers.
async fn some_records(reader: &mut dyn Reader) -> Vec<String> {
    loop {
        let batch = reader.next().await.unwrap();
        if !batch.records.is_empty() {
            return batch.records.iter().map(text).collect();
        }
    }
}

fn check_recreated<T: std::fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().kind, Kind::Recreated);
}

fn check_refused<T: std::fmt::Debug>(result: Result<T>) {
    let fault: Fault = result.unwrap_err();
    assert_eq!((fault.domain, fault.effect), (Domain::User, Effect::NotDone), "{fault}");
}
