//! The actors under supervision, on a real bus and a store that can be watched and held up.
//!
//! A restart in a test comes when something is in flight: [`Witness`] tells when a call to bus or
//! store has begun, and the actor dies before or while it is answered.

mod aggregator;
mod archiver;
mod blocked;
mod collector;
mod ingester;
mod loader;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::Supervised;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::*;
use crate::{
    bus::{
        Bus, Cleanup, Outgoing, Producer, Reader, SharedBus, TopicInfo, TopicSpec, Watermarks,
        embedded::{EmbeddedBus, Settings},
    },
    model::{ActorId, Batch, Incarnation, Offset, Partition, SystemClock, TopicName},
    store::{Entry, Put, Renamed, Store, StorePath, StoreWriter, memory::MemoryStore},
    supervise::{
        Here, Ref, Root, Spawner, Spec, Threads, Tree,
        policy::{Backoff, Intensity, Policy, StageSupervision, Strategy, Supervision},
    },
    trace::Tracer,
};

const MAILBOX: usize = 4;

const BLOCKED: Duration = Duration::from_secs(2);

/// Tells when a call begins that changes something.
#[derive(Clone)]
struct Witness(watch::Sender<u64>);

impl Witness {
    fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    fn begins(&self) {
        self.0.send_modify(|calls| *calls += 1);
    }
}

/// A store that is watched, and whose writes wait while it is held.
struct Watched {
    inner: MemoryStore,
    witness: Witness,
    held: AtomicBool,
    freed: Notify,
    /// How long each write takes.
    slow: Duration,
}

impl Watched {
    fn new(held: bool) -> Arc<Self> {
        Self::slow(held, Duration::ZERO)
    }

    fn slow(held: bool, slow: Duration) -> Arc<Self> {
        let inner = MemoryStore::new(Arc::new(SystemClock));
        Arc::new(Self { inner, witness: Witness::new(), held: AtomicBool::new(held), freed: Notify::new(), slow })
    }

    async fn pass(&self) {
        while self.held.load(Ordering::SeqCst) {
            self.freed.notified().await;
        }
    }

    fn free(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    /// A call that takes its time, before and after it is done: the actor may die on either side.
    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.witness.begins();
        tokio::task::yield_now().await;
        if !self.slow.is_zero() {
            tokio::time::sleep(self.slow).await;
        }
        let answer = call.await;
        tokio::task::yield_now().await;
        answer
    }
}

#[async_trait]
impl Store for Watched {
    fn describe(&self) -> String {
        "watched store".to_owned()
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        self.pass().await;
        self.call(self.inner.create(path)).await
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        self.call(self.inner.put_if_absent(path, bytes)).await
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        self.call(self.inner.rename_if_absent(from, to)).await
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
        self.call(self.inner.delete(path)).await
    }
}

/// A bus whose transactions are watched and may be held, whose readers of partition 1 wait while they
/// are held, and which does not say where it ends while it is told not to.
struct WatchedBus {
    inner: SharedBus,
    witness: Witness,
    held: watch::Sender<bool>,
    sends_held: watch::Sender<bool>,
    unreadable: AtomicBool,
}

impl WatchedBus {
    fn new(inner: SharedBus, held: bool) -> Arc<Self> {
        let (held, sends_held) = (watch::Sender::new(held), watch::Sender::new(false));
        Arc::new(Self { inner, witness: Witness::new(), held, sends_held, unreadable: AtomicBool::new(false) })
    }
}

struct HeldReader {
    inner: Box<dyn Reader>,
    held: watch::Receiver<bool>,
}

#[async_trait]
impl Reader for HeldReader {
    async fn next(&mut self) -> Result<Batch> {
        let _ = self.held.wait_for(|held| !held).await;
        self.inner.next().await
    }

    fn position(&self) -> Offset {
        self.inner.position()
    }

    fn leave_out_headers(&mut self) {
        self.inner.leave_out_headers();
    }
}

struct WatchedProducer {
    inner: Box<dyn Producer>,
    witness: Witness,
    held: watch::Receiver<bool>,
}

#[async_trait]
impl Producer for WatchedProducer {
    async fn send(&mut self, records: Vec<Outgoing>) -> Result<Vec<Offset>> {
        // One record alone is a position: the opening, or a read-back.
        if records.len() > 1 {
            self.witness.begins();
            let _ = self.held.wait_for(|held| !held).await;
        }
        self.inner.send(records).await
    }
}

#[async_trait]
impl Bus for WatchedBus {
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
        let (inner, witness) = (self.inner.producer(id).await?, self.witness.clone());
        Ok(Box::new(WatchedProducer { inner, witness, held: self.sends_held.subscribe() }))
    }

    async fn reader(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Box<dyn Reader>> {
        let inner = self.inner.reader(topic, partition, from).await?;
        if partition != 1 {
            return Ok(inner);
        }
        Ok(Box::new(HeldReader { inner, held: self.held.subscribe() }))
    }

    async fn watermarks(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(Fault::external("the bus cannot be read for a moment"));
        }
        self.inner.watermarks(topic, partition).await
    }

    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()> {
        self.inner.commit_offset(group, topic, partition, next).await
    }

    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        self.inner.committed_offset(group, topic, partition).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<()> {
        self.inner.delete_topic(name).await
    }
}

/// An embedded bus with topic `t`, its dead letters and the positions.
async fn bus(folder: &Path) -> SharedBus {
    bus_of(folder, 1).await
}

async fn bus_of(folder: &Path, num_partitions: u32) -> SharedBus {
    let bus = EmbeddedBus::open(Settings { path: folder.join("bus") }, Arc::new(SystemClock)).unwrap();
    let keep = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    let topics = [
        ("t", keep),
        ("t.dead_letters", keep),
        (crate::collect::POSITIONS_TOPIC, Cleanup::Compact),
        (crate::load::state::POSITIONS_TOPIC, Cleanup::Compact),
        ("howdah_keys.p.users", keep),
    ];
    for (name, cleanup) in topics {
        let num_partitions = if name == "t" { num_partitions } else { 1 };
        bus.ensure_topic(&TopicSpec { name: name.into(), num_partitions, cleanup }).await.unwrap();
    }
    Arc::new(bus)
}

/// Puts these values onto topic `t`.
async fn send(bus: &SharedBus, values: impl Iterator<Item = String>) {
    send_to(bus, 0, values).await;
}

async fn send_to(bus: &SharedBus, partition: Partition, values: impl Iterator<Item = String>) {
    let mut producer = bus.producer("test").await.unwrap();
    let values: Vec<_> = values.collect();
    for some in values.chunks(500) {
        let record = |value: &String| Outgoing {
            topic: "t".into(),
            partition,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        };
        producer.send(some.iter().map(record).collect()).await.unwrap();
    }
}

/// Everything on topic `t`, as text.
async fn values(bus: &SharedBus) -> Vec<String> {
    let topic = bus.topic(&"t".into()).await.unwrap().unwrap();
    let end = bus.watermarks(&topic, 0).await.unwrap().high;
    let records = crate::bus::read_range(&**bus, &topic, 0, 0, end).await.unwrap();
    records.into_iter().map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
}

/// A supervisor that restarts at once, as often as a test wants.
fn tree() -> Tree {
    tree_on(Arc::new(Here))
}

fn tree_on(spawner: Arc<dyn Spawner>) -> Tree {
    let at_once = Duration::from_millis(1);
    let supervision = Supervision {
        strategy: Strategy::OneForOne,
        intensity: Intensity { restarts: 1_000, within: Duration::from_secs(60) },
        backoff: Backoff { base: at_once, cap: at_once, healthy: Duration::from_secs(60) },
    };
    Tree::new(
        Vitals::new(id("supervisor"), crate::vitals::Kind::Supervisor),
        supervision,
        spawner,
        Arc::new(SystemClock),
    )
}

/// Starts what is expected to give up; answers with why.
async fn start_and_give_up(tree: Tree) -> String {
    let (said, mut told) = watch::channel(String::new());
    let _root = tree.start(move |_: &ActorId, why: &str| drop(said.send_replace(why.to_owned()))).unwrap();
    told.wait_for(|why| !why.is_empty()).await.unwrap().clone()
}

fn start(tree: Tree) -> Root {
    tree.start(|who: &ActorId, why: &str| panic!("{who} gave up: {why}")).unwrap()
}

fn id(stage: &str) -> ActorId {
    ActorId { pipeline: "p".into(), stage: stage.into(), replica: 0 }
}

fn child<A>(tree: &mut Tree, stage: &str, make: impl Fn(Life<A>) -> A + Send + Sync + 'static) -> Ref<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    child_with(tree, stage, Duration::from_secs(600), make)
}

fn child_with<A>(
    tree: &mut Tree,
    stage: &str,
    stall: Duration,
    make: impl Fn(Life<A>) -> A + Send + Sync + 'static,
) -> Ref<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    let supervision = StageSupervision { policy: Policy::Permanent, mailbox: MAILBOX, stall, blocked: BLOCKED };
    tree.child(Spec::new(Vitals::new(id(stage), crate::vitals::Kind::Supervisor), supervision, make))
}

/// Restarts the actor a hundred times, each time a little later after a call has begun: before it
/// is done, before it is answered, or before the actor knows. `feed` gives each life something to do.
async fn restart_a_hundred_times<A: Actor<Context = Context<A>>>(
    root: &Root,
    actor: &Ref<A>,
    witness: &Witness,
    feed: impl AsyncFn(u64),
) {
    let mut calls = witness.0.subscribe();
    for life in 0..100 {
        calls.mark_unchanged();
        feed(life).await;
        calls.changed().await.unwrap();
        for _ in 0..life % 7 {
            tokio::task::yield_now().await;
        }
        root.supervisor().restart(actor.id()).await.unwrap();
    }
    assert_eq!(actor.vitals().life().restarts.values().sum::<u64>(), 100);
}
