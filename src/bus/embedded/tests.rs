//! The contract, and what only the embedded bus promises: what a crash, another process, damaged
//! bytes and a full disk do.

mod damage;
mod life;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    bus::{Cleanup, contract::Subject},
    model::{Batch, ManualClock},
};

const NOON: i64 = 1_760_000_000_000;

const KEEP: Cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };

struct Fresh {
    bus: EmbeddedBus,
    clock: ManualClock,
    _folder: TempDir,
}

impl Fresh {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOON);
        let settings = Settings { path: folder.path().to_owned() };
        let bus = EmbeddedBus::open(settings, Arc::new(clock.clone())).unwrap();
        Self { bus, clock, _folder: folder }
    }
}

#[async_trait]
impl Subject for Fresh {
    fn bus(&self) -> &dyn Bus {
        &self.bus
    }

    fn clock(&self) -> Option<&ManualClock> {
        Some(&self.clock)
    }

    async fn retain(&self) -> Result<()> {
        self.bus.retain_now().await
    }

    async fn compact(&self) -> Result<()> {
        self.bus.compact_now().await
    }
}

mod contract {
    crate::bus::contract::suite!(super::Fresh::new);
}

fn open(folder: &Path) -> Result<EmbeddedBus> {
    EmbeddedBus::open(Settings { path: folder.to_owned() }, Arc::new(ManualClock::at(NOON)))
}

fn spec(name: &str, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { name: name.into(), num_partitions: 1, cleanup }
}

#[tokio::test]
async fn a_time_leads_to_the_first_record_that_is_not_earlier() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOON);
    let bus = EmbeddedBus::open(Settings { path: folder.path().to_owned() }, Arc::new(clock.clone())).unwrap();
    let keep = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    let topic = bus.ensure_topic(&spec("t", keep)).await.unwrap();
    let mut sender = bus.producer("p").await.unwrap();
    let mut sent = Vec::new();
    for n in 0..20 {
        let offsets = sender.send(vec![record(&topic, "a"), record(&topic, "b")]).await.unwrap();
        sent.push((NOON + n * 1_000, offsets[0]));
        clock.advance(1_000);
    }
    assert_eq!(bus.offset_before(&topic, 0, NOON).await.unwrap(), 0);
    for (time, first) in &sent[1..] {
        assert_eq!(bus.offset_before(&topic, 0, *time).await.unwrap(), *first);
        assert_eq!(bus.offset_before(&topic, 0, time - 1).await.unwrap(), *first);
    }
    let high = bus.watermarks(&topic, 0).await.unwrap().high;
    assert_eq!(bus.offset_before(&topic, 0, NOON + 20_000).await.unwrap(), high);
    // What retention took may have been as late.
    let short = Cleanup::Delete { retention_ms: Some(5_500), retention_bytes: None };
    bus.ensure_topic(&spec("t", short)).await.unwrap();
    bus.retain_now().await.unwrap();
    let low = bus.watermarks(&topic, 0).await.unwrap().low;
    let at = sent.iter().position(|(_, first)| *first == low).unwrap();
    assert!(at > 3, "{low}");
    for (time, _) in &sent[..=at] {
        assert_eq!(bus.offset_before(&topic, 0, *time).await.unwrap(), 0);
    }
    assert_eq!(bus.offset_before(&topic, 0, sent[at].0 + 1).await.unwrap(), sent[at + 1].1);
    clock.advance(100_000);
    bus.retain_now().await.unwrap();
    assert_eq!(bus.watermarks(&topic, 0).await.unwrap().low, high);
    assert_eq!(bus.offset_before(&topic, 0, NOON + 500_000).await.unwrap(), 0);
}

fn record(topic: &TopicInfo, value: impl AsRef<[u8]>) -> Outgoing {
    let value = Some(Bytes::copy_from_slice(value.as_ref()));
    Outgoing { topic: topic.name.clone(), partition: 0, key: None, value, headers: vec![] }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// All batches of partition 0 from its low watermark on.
async fn read_all(bus: &EmbeddedBus, topic: &TopicInfo) -> Result<Vec<Batch>> {
    let ends = bus.watermarks(topic, 0).await?;
    let mut reader = bus.reader(topic, 0, ends.low).await?;
    let mut batches = Vec::new();
    while reader.position() < ends.high {
        batches.push(reader.next().await?);
    }
    Ok(batches)
}

async fn read_values(bus: &EmbeddedBus, topic: &TopicInfo) -> Result<Vec<Vec<u8>>> {
    let batches = read_all(bus, topic).await?;
    Ok(batches.into_iter().flat_map(|batch| batch.records).map(|record| record.value.unwrap().to_vec()).collect())
}
