//! The archiver: batches of records come in, segments of the archive go out.
//!
//! It owns one [`Lane`] per partition. A restart throws away the open segments (the bus still has
//! their records) and opens each lane from the store; published segments are never touched again.
//! Invariant: a lane is given only the batch that begins where it stands; after anything else its
//! reader is re-assigned.

mod counted;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use tokio::time::Instant;

pub use self::counted::Counted;
use super::{
    Suspects,
    assignment::{Drain, TakeBatch, feed, partitions_of},
};
use crate::{
    archive::{Entry, Lane, Parts, Published, Settings},
    bus::{SharedBus, TopicInfo},
    fault::{Fault, Kind, Result, Retry},
    model::{Batch, Clock, Doubling, Epoch, NodeId, Offset, Partition, Pause, Why},
    store::SharedStore,
    supervise::{Delivery, Life, WaitGuard},
    trace::{Run, Tracer, fact, text},
};

/// How often open segments are looked at for their age; the age itself is of minutes.
const ROLL_TICK: Duration = Duration::from_millis(500);

/// What an archiver is made of.
#[derive(Clone)]
pub struct ArchiverParts {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// How many replicas share the topic.
    pub replicas: u32,
    /// Where it runs.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where records come from.
    pub bus: SharedBus,
    /// Where segments go.
    pub store: SharedStore,
    /// Wall time, for the figures.
    pub clock: Arc<dyn Clock>,
    /// What its lives died of.
    pub suspects: Suspects,
    /// What its lives have counted.
    pub counted: Counted,
    /// Goes on with traces.
    pub tracer: Tracer,
}

/// See the module's text.
pub struct Archiver {
    pub(super) life: Life<Self>,
    parts: ArchiverParts,

    topic: Option<TopicInfo>,
    slots: BTreeMap<Partition, Slot>,
    draining: Option<Drain>,
}

/// A lane and what waits for it.
#[derive(Default)]
struct Slot {
    /// Absent while a step of it runs.
    lane: Option<Lane>,
    /// The number of the present assignment.
    assignment: u64,
    reader: Option<SpawnHandle>,
    waiting: VecDeque<Delivery<TakeBatch>>,
    position: Offset,
    failures: u32,
    /// It stands before a record that lives died of, until a person restarts it.
    parked: Option<WaitGuard>,
}

impl Archiver {
    /// A fresh life of an archiver.
    pub fn new(life: Life<Self>, parts: ArchiverParts) -> Self {
        life.vitals.parked.set(0);
        Self { life, parts, topic: None, slots: BTreeMap::new(), draining: None }
    }

    fn lane_parts(&self) -> Parts {
        Parts {
            actor: self.life.id.clone(),
            node: self.parts.node.clone(),
            epoch: self.parts.epoch,
            incarnation: self.life.incarnation,
            bus: self.parts.bus.clone(),
            store: self.parts.store.clone(),
            pause: Arc::new(super::Declared(self.life.clone())),
            settings: self.parts.settings.clone(),
        }
    }

    /// Opens a partition's lane (again), after a pause if it failed before; or parks it: an archive leaves
    /// nothing out.
    fn open(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let Some(topic) = self.topic.clone() else { return };
        if let Some(offset) = self.parts.suspects.condemned(partition) {
            // The next life tries once more.
            self.parts.suspects.forget(partition);
            let place = format!("{}-{partition}@{offset}", topic.name);
            tracing::error!(actor = %self.life.id, place, "died of this record again and again: parked before it");
            let fault = Fault::internal(format!(
                "parked before {place}, of which it died again and again: restart it once that is mended"
            ));
            super::note(&self.life.vitals, &*self.parts.clock, &fault);
            let others = self.slots.iter().filter(|(other, slot)| **other != partition && slot.parked.is_some());
            self.life.vitals.parked.set(i64::try_from(others.count() + 1).unwrap_or(i64::MAX));
            self.slots.entry(partition).or_default().parked = Some(self.life.waiting(fault.message));
            return;
        }
        let parts = self.lane_parts();
        let slot = self.slots.entry(partition).or_default();
        slot.assignment += 1;
        if let Some(reader) = slot.reader.take() {
            ctx.cancel_future(reader);
        }
        self.life.vitals.stale_batches.add(slot.waiting.drain(..).len() as u64);
        let (failures, life, counted) = (slot.failures, self.life.clone(), self.parts.counted.clone());
        let opening = async move {
            if failures > 0 {
                let _waiting = life.waiting(format!("a back-off after {failures} failures of partition {partition}"));
                Doubling::default().pause(failures).await;
            }
            let _attempt = life.attempt("open lane");
            let lane = Lane::open(parts, topic, partition).await?;
            let uncounted = match lane.published_since(counted.since(partition, lane.position())).await {
                // Figures are no reason to stand still.
                Err(fault) if fault.retry == Retry::Never => {
                    tracing::warn!(actor = %life.id, partition, error = %fault, "what an earlier life archived is not counted");
                    Vec::new()
                }
                read => read?,
            };
            Ok((lane, uncounted))
        };
        ctx.spawn(opening.into_actor(self).map(move |opened: Result<_>, archiver, ctx| match opened {
            Ok((lane, uncounted)) => {
                uncounted.iter().for_each(|published| archiver.count_out(partition, published));
                archiver.assign(partition, lane, ctx);
            }
            Err(fault) => archiver.failed(partition, fault, ctx),
        }));
    }

    /// Gives a lane back to its slot and a reader that begins where it stands.
    fn assign(&mut self, partition: Partition, lane: Lane, ctx: &mut Context<Self>) {
        let Some(topic) = self.topic.clone() else { return };
        let slot = self.slots.entry(partition).or_default();
        slot.assignment += 1;
        slot.position = lane.position();
        slot.lane = Some(lane);
        if let Some(reader) = slot.reader.take() {
            ctx.cancel_future(reader);
        }
        let stale = slot.waiting.drain(..).len() as u64;
        let (position, assignment, bus) = (slot.position, slot.assignment, self.parts.bus.clone());
        let reading = feed(bus, topic, partition, position, assignment, self.parts.tracer.is_on(), self.life.clone());
        let reader = ctx.spawn(reading.into_actor(self));
        self.slots.entry(partition).or_default().reader = Some(reader);
        self.life.vitals.stale_batches.add(stale);
        self.settle(partition, ctx);
    }

    /// A step of a lane failed: what no repetition mends is this actor's death, the rest waits.
    fn failed(&mut self, partition: Partition, fault: Fault, ctx: &mut Context<Self>) {
        if fault.kind == Kind::Lost {
            self.life.vitals.lost.missing.add(1);
        }
        if fault.retry == Retry::Never {
            return self.life.fail(ctx, fault);
        }
        tracing::warn!(actor = %self.life.id, partition, error = %fault, "a step of the archive failed, opening the lane anew");
        super::note(&self.life.vitals, &*self.parts.clock, &fault);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.failures += 1;
        }
        self.open(partition, ctx);
    }

    /// Starts the lane's next step, if it is at rest and there is one.
    fn settle(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let drained = self.is_drained(partition);
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(mut lane) = slot.lane.take() else { return };
        let due = lane.due().is_some_and(|due| due <= now) || (drained && lane.due().is_some());
        let next = if due { None } else { slot.waiting.pop_front() };
        if next.is_none() && !due {
            slot.lane = Some(lane);
            return self.finish_drain();
        }
        if let Some(Ok(batch)) = next.as_ref().map(|delivery| &delivery.message.batch) {
            let (records, bytes) = self.parts.counted.read(partition, batch, &self.parts.tracer, &*self.parts.clock);
            self.life.vitals.records_in.add(records);
            self.life.vitals.bytes_in.add(bytes);
        }
        let (life, suspects) = (self.life.clone(), self.parts.suspects.clone());
        let step = async move {
            let _attempt = life.attempt(if due { "publish" } else { "take batch" });
            let (result, expected) = match &next {
                Some(delivery) => match &delivery.message.batch {
                    Ok(batch) => (take(&suspects, partition, &mut lane, batch, now).await, Some(batch.to)),
                    Err(fault) => {
                        // What was read before the reader's end is archived: it may be all that is left.
                        if let Err(fault) = lane.roll().await {
                            tracing::warn!(actor = %life.id, error = %fault, "the open segment was not published");
                        }
                        (Err(fault.clone()), None)
                    }
                },
                None => (lane.roll().await.map(|published| published.into_iter().collect()), Some(lane.position())),
            };
            (lane, result, expected)
        };
        ctx.spawn(step.into_actor(self).map(move |(lane, result, expected), archiver, ctx| {
            archiver.stepped(partition, lane, result, expected, ctx);
        }));
    }

    /// Counts what a step did and goes on.
    fn stepped(
        &mut self,
        partition: Partition,
        lane: Lane,
        result: Result<Vec<Published>>,
        expected: Option<Offset>,
        ctx: &mut Context<Self>,
    ) {
        let published = match result {
            Ok(published) => published,
            Err(fault) => {
                ctx.spawn(lane.abandon().into_actor(self));
                return self.failed(partition, fault, ctx);
            }
        };
        self.life.progress();
        let has_published = !published.is_empty();
        let adopted = published.iter().any(|published| !published.mine);
        published.iter().for_each(|published| self.count_out(partition, published));
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        // Taking a batch may touch nothing but memory; only what was published proves the store well.
        if has_published {
            slot.failures = 0;
        }
        slot.position = lane.position();
        if adopted || expected != Some(lane.position()) {
            return self.assign(partition, lane, ctx);
        }
        slot.lane = Some(lane);
        self.settle(partition, ctx);
    }

    fn count_out(&self, partition: Partition, published: &Published) {
        let (vitals, entry) = (&self.life.vitals, &published.entry);
        let news = self.parts.counted.archived(partition, entry);
        let ours = entry.node == self.parts.node && entry.epoch == self.parts.epoch;
        if !ours {
            tracing::info!(actor = %self.life.id, start = entry.start, next = entry.next, "another writer was first, going on from its segment");
        }
        let Some(runs) = news.filter(|_| ours) else { return };
        let trace = runs.first().map(|run| run.context.trace());
        if let Some(file) = &entry.target {
            tracing::info!(actor = %self.life.id, file, lines = entry.count, bytes = entry.bytes, trace, "archived");
        }
        self.end_spans(partition, entry, &runs);
        vitals.latency.observe(&published.moments, self.parts.clock.now());
        vitals.records_out.add(entry.count);
        vitals.bytes_out.add(entry.bytes);
        vitals.commits.add(1);
        vitals.last_success.set(self.parts.clock.now());
        for hole in &entry.holes {
            match hole.why {
                Why::Retention => {
                    vitals.lost.retention.add(hole.to - hole.from);
                    tracing::error!(actor = %self.life.id, from = hole.from, to = hole.to, "records lost: the bus had deleted them before they were archived");
                }
                Why::DeadLetter => vitals.dead_letters.add(hole.to - hole.from),
                Why::Marker | Why::Start | Why::Null => {}
            }
        }
    }

    /// What was sampled is in the archive.
    fn end_spans(&self, partition: Partition, entry: &Entry, runs: &[Run]) {
        let (tracer, now) = (&self.parts.tracer, self.parts.clock.now());
        for run in runs {
            let Some(span) = tracer.take("archive", &self.life.id, &run.context, run.since) else { continue };
            let facts = [
                text("messaging.destination.name", self.parts.settings.topic.as_str()),
                text("messaging.destination.partition.id", &partition.to_string()),
                fact("messaging.kafka.offset", run.from),
                fact("messaging.batch.message_count", run.records),
            ];
            span.end(now, facts.into_iter().chain(entry.target.as_ref().map(|file| text("file.path", file))));
        }
    }

    /// Whether a drain is on and this partition has come to its end.
    fn is_drained(&self, partition: Partition) -> bool {
        let Some(drain) = &self.draining else { return false };
        let Some(slot) = self.slots.get(&partition) else { return true };
        slot.position >= drain.until.get(&partition).copied().unwrap_or(0)
    }

    /// Answers the drain once every lane is at its end with nothing open.
    fn finish_drain(&mut self) {
        let idle = |(partition, slot): (&Partition, &Slot)| {
            let is_at_rest = slot.lane.as_ref().is_some_and(|lane| lane.due().is_none());
            slot.parked.is_some() || (is_at_rest && self.is_drained(*partition))
        };
        if self.topic.is_some()
            && self.draining.is_some()
            && self.slots.iter().all(idle)
            && let Some(drain) = self.draining.take()
        {
            let _ = drain.done.send(());
        }
    }
}

/// Gives a batch to its lane: whole, or record by record where lives died of it.
async fn take(
    suspects: &Suspects,
    partition: Partition,
    lane: &mut Lane,
    batch: &Batch,
    now: Instant,
) -> Result<Vec<Published>> {
    let mut published = Vec::new();
    for piece in suspects.pieces(partition, batch) {
        let at_work = suspects.at_work(partition, &piece);
        let taken = lane.take(&piece, now).await;
        at_work.survived();
        published.extend(taken?);
        // Another writer was first: the lane stands elsewhere.
        if lane.position() != piece.to {
            break;
        }
    }
    Ok(published)
}

impl Actor for Archiver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (bus, name, life) = (self.parts.bus.clone(), self.parts.settings.topic.clone(), self.life.clone());
        let finding = async move {
            let _attempt = life.attempt("find topic");
            bus.topic(&name).await?.ok_or_else(|| Fault::user(format!("topic {name} does not exist")))
        };
        ctx.wait(finding.into_actor(self).map(|found, archiver, ctx| match found {
            Ok(topic) => {
                let (replica, replicas) = (archiver.life.id.replica, archiver.parts.replicas);
                let partitions: Vec<_> = partitions_of(replica, replicas, topic.num_partitions).collect();
                archiver.topic = Some(topic);
                partitions.into_iter().for_each(|partition| archiver.open(partition, ctx));
            }
            Err(fault) => archiver.life.fail(ctx, fault),
        }));
        ctx.run_interval(ROLL_TICK, |archiver, ctx| {
            let partitions: Vec<_> = archiver.slots.keys().copied().collect();
            partitions.into_iter().for_each(|partition| archiver.settle(partition, ctx));
        });
    }
}

impl Supervised for Archiver {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Handler<Delivery<Drain>> for Archiver {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Drain>, ctx: &mut Context<Self>) {
        self.draining = Some(delivery.message);
        let partitions: Vec<_> = self.slots.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.settle(partition, ctx));
        self.finish_drain();
    }
}

impl Handler<Delivery<TakeBatch>> for Archiver {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<TakeBatch>, ctx: &mut Context<Self>) {
        if !self.life.takes(&delivery) {
            return;
        }
        let partition = delivery.message.partition;
        let current = self.slots.get_mut(&partition).filter(|slot| slot.assignment == delivery.message.assignment);
        match current {
            Some(slot) => slot.waiting.push_back(delivery),
            None => return self.life.vitals.stale_batches.add(1),
        }
        self.settle(partition, ctx);
    }
}
