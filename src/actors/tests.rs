//! The actors under supervision, on a real bus and a store that can be held up.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::{
    archive,
    bus::{
        Bus, Cleanup, Outgoing, SharedBus, TopicSpec,
        embedded::{EmbeddedBus, Settings},
    },
    model::{ActorId, Epoch, Millis, SystemClock},
    store::{Entry, Put, Renamed, SharedStore, Store, StorePath, StoreWriter, memory::MemoryStore},
    supervise::{
        Here, Ref, Root, Spec, Tree,
        policy::{Backoff, Intensity, Policy, StageSupervision, Strategy, Supervision},
    },
};

const MAILBOX: usize = 4;

/// A store whose writes wait while it is held.
struct Held {
    inner: MemoryStore,
    held: AtomicBool,
    freed: Notify,
}

impl Held {
    async fn pass(&self) {
        while self.held.load(Ordering::SeqCst) {
            self.freed.notified().await;
        }
    }

    fn free(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.freed.notify_waiters();
    }
}

#[async_trait]
impl Store for Held {
    fn describe(&self) -> String {
        "held store".to_owned()
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        self.pass().await;
        self.inner.create(path).await
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        self.inner.put_if_absent(path, bytes).await
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        self.inner.rename_if_absent(from, to).await
    }

    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>> {
        self.inner.read(path).await
    }

    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.inner.read_range(path, offset, len).await
    }

    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        self.inner.stat(path).await
    }

    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.inner.list(folder).await
    }

    async fn delete(&self, path: &StorePath) -> Result<bool> {
        self.inner.delete(path).await
    }
}

struct House {
    bus: SharedBus,
    store: Arc<Held>,
    archiver: Ref<Archiver>,
    root: Root,
}

/// An archiver of one partition that holds `num_records` records, on a held store.
async fn house(folder: &Path, num_records: u32, replicas: u32) -> House {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let bus = EmbeddedBus::open(Settings { path: folder.join("bus") }, clock.clone()).unwrap();
    let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    for name in ["t", "t.dead_letters"] {
        bus.ensure_topic(&TopicSpec { name: name.into(), num_partitions: 1, cleanup }).await.unwrap();
    }
    let mut producer = bus.producer("test").await.unwrap();
    for start in (0..num_records).step_by(500) {
        let record = |n: u32| Outgoing {
            topic: "t".into(),
            partition: 0,
            key: None,
            value: Some(Bytes::from(format!("event {n}"))),
            headers: Vec::new(),
        };
        producer.send((start..num_records.min(start + 500)).map(record).collect()).await.unwrap();
    }
    let store =
        Arc::new(Held { inner: MemoryStore::new(clock.clone()), held: AtomicBool::new(true), freed: Notify::new() });
    let shared: SharedStore = store.clone();
    let parts = ArchiverParts {
        settings: Arc::new(archive::Settings { roll_bytes: 4_000, ..archive::Settings::for_test() }),
        replicas,
        node: "n".into(),
        epoch: Epoch(1),
        bus: Arc::new(bus.clone()),
        store: shared,
        clock: clock.clone(),
    };
    let supervision = Supervision {
        strategy: Strategy::OneForOne,
        intensity: Intensity { restarts: 10, within: Duration::from_secs(60) },
        backoff: Backoff {
            base: Duration::from_millis(1),
            cap: Duration::from_millis(1),
            healthy: Duration::from_secs(60),
        },
    };
    let stage = StageSupervision { policy: Policy::Permanent, mailbox: MAILBOX, stall: Duration::from_secs(600) };
    let id = |stage: &str| ActorId { pipeline: "p".into(), stage: stage.into(), replica: 0 };
    let mut tree = Tree::new(Vitals::new(id("supervisor")), supervision, Arc::new(Here), clock);
    let spec = Spec::new(Vitals::new(id("archive")), stage, move |life| Archiver::new(life, parts.clone()));
    let archiver = tree.child(spec);
    let root = tree.start(|who: &ActorId, why: &str| panic!("{who} gave up: {why}")).unwrap();
    House { bus: Arc::new(bus), store, archiver, root }
}

async fn drain(archiver: &Ref<Archiver>, until: u64) {
    let (done, answered) = oneshot::channel();
    archiver.order(Drain { until: BTreeMap::from([(0, until)]), done }).await.unwrap();
    answered.await.unwrap();
}

/// The archive's lines, in the order of the files' names.
async fn lines(store: &dyn Store) -> Vec<String> {
    let folder = StorePath::new("/raw").unwrap();
    let mut lines = Vec::new();
    for entry in store.list(&folder).await.unwrap().into_iter().filter(|entry| !entry.name.starts_with('_')) {
        let bytes = store.read(&folder.join(&entry.name)).await.unwrap().unwrap();
        lines.extend(String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned));
    }
    lines
}

fn expected(num_records: u32) -> Vec<String> {
    (0..num_records).map(|n| format!("event {n}")).collect()
}

#[actix::test]
async fn a_suspended_archiver_makes_its_reader_wait_within_the_mailbox_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path(), 20_000, 1).await;
    let vitals = house.archiver.vitals().clone();
    // The reader fills the mailbox and then waits: the depth reaches the bound and stays there.
    while vitals.mailbox_depth.get() < MAILBOX as Millis {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(vitals.mailbox_depth.get() <= MAILBOX as Millis, "more in the mailbox than it holds");
    }
    assert_eq!(vitals.records_in.get(), 0, "a batch was taken while the store was held");
    house.store.free();
    drain(&house.archiver, 20_000).await;
    assert_eq!(lines(&*house.store).await, expected(20_000));
    assert_eq!(vitals.records_in.get(), 20_000);
    assert!(vitals.life().restarts.is_empty(), "{:?}", vitals.life().restarts);
}

#[actix::test]
async fn an_archiver_restarted_a_hundred_times_over_its_writes_archives_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path(), 20_000, 1).await;
    house.store.free();
    let (id, vitals) = (house.archiver.id().clone(), house.archiver.vitals().clone());
    for life in 0..100 {
        // Wait until this life has done something, at another place each time, and kill it there.
        let seen = vitals.records_in.get();
        for _ in 0..life * 3 {
            tokio::task::yield_now().await;
        }
        house.root.supervisor().restart(&id).await.unwrap();
        assert!(vitals.records_in.get() >= seen);
    }
    drain(&house.archiver, 20_000).await;
    assert_eq!(lines(&*house.store).await, expected(20_000));
    assert_eq!(vitals.life().restarts.values().sum::<u64>(), 100);
    let ends = house.bus.watermarks(&house.bus.topic(&"t".into()).await.unwrap().unwrap(), 0).await.unwrap();
    assert_eq!(ends.high, 20_000);
}
