//! The loader: batches of records come in, rows go out into a sink.
//!
//! It owns one [`Lane`] per partition. A restart throws them away and opens them where the bus says that they
//! stood; what the sink may have by then is sent again, which changes nothing there. A sink that is away, asks
//! to wait or wants another token is waited for: that is no restart. Invariant: a lane takes only the batch that
//! begins where it stands, and at most one step of it runs.

mod counted;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use async_trait::async_trait;
use tokio::time::Instant;

use self::counted::Fresh;
pub use self::counted::Loads;
use super::{
    Suspects,
    assignment::{Drain, TakeBatch, feed, partitions_of},
};
use crate::{
    bus::{SharedBus, TopicInfo},
    fault::{Domain, Fault, Kind, Result, Retry},
    load::{Around, Lane, Parts, Settings, Witness, sink::Sink},
    model::{Clock, Doubling, Offset, Partition, Pause},
    supervise::{Delivery, Life},
    trace::Tracer,
};

/// How often it looks whether a row has waited long enough.
const LOAD_TICK: Duration = Duration::from_millis(50);

/// The pause after failures of a sink that names none.
const PAUSE: Doubling = Doubling { base: Duration::from_millis(250), cap: Duration::from_secs(30) };

/// What a loader is made of.
#[derive(Clone)]
pub struct LoaderParts {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// How many replicas share the topic.
    pub replicas: u32,
    /// Where records come from.
    pub bus: SharedBus,
    /// Where rows go.
    pub sink: Arc<dyn Sink>,
    /// Wall time, for figures.
    pub clock: Arc<dyn Clock>,
    /// What its lives died of.
    pub suspects: Suspects,
    /// What its lives have under way.
    pub loads: Loads,
    /// What its lives have seen the sink take.
    pub witness: Witness,
    /// Goes on with traces.
    pub tracer: Tracer,
}

/// See the module's text.
pub struct Loader {
    pub(super) life: Life<Self>,
    parts: LoaderParts,

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
    loaded: Offset,
    fresh: Fresh,
    failures: u32,
}

impl Loader {
    /// A fresh life of a loader.
    pub fn new(life: Life<Self>, parts: LoaderParts) -> Self {
        Self { life, parts, topic: None, slots: BTreeMap::new(), draining: None }
    }

    /// Opens a partition's lane (again), after a pause if it failed before.
    fn open(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let Some(topic) = self.topic.clone() else { return };
        let slot = self.slots.entry(partition).or_default();
        slot.assignment += 1;
        slot.fresh = Fresh::default();
        if let Some(reader) = slot.reader.take() {
            ctx.cancel_future(reader);
        }
        self.life.vitals.stale_batches.add(slot.waiting.drain(..).len() as u64);
        let (failures, life) = (slot.failures, self.life.clone());
        let parts = Parts {
            actor: life.id.clone(),
            settings: self.parts.settings.clone(),
            bus: self.parts.bus.clone(),
            sink: self.parts.sink.clone(),
            witness: self.parts.witness.clone(),
            clock: self.parts.clock.clone(),
            progress: Arc::new({
                let life = life.clone();
                move || life.progress()
            }),
        };
        let opening = async move {
            if failures > 0 {
                let _waiting = life.waiting(format!("a back-off after {failures} failures of partition {partition}"));
                Doubling::default().pause(failures).await;
            }
            let _attempt = life.attempt("open lane");
            Lane::open(parts, topic, partition).await
        };
        ctx.spawn(opening.into_actor(self).map(move |opened, loader, ctx| match opened {
            Ok(lane) => loader.assign(partition, lane, ctx),
            Err(fault) => loader.failed(partition, fault, ctx),
        }));
    }

    /// Gives a lane its slot and a reader that begins where it stands.
    fn assign(&mut self, partition: Partition, lane: Lane, ctx: &mut Context<Self>) {
        let Some(topic) = self.topic.clone() else { return };
        self.count(self.parts.loads.of(partition).found(self.life.incarnation, lane.loaded()));
        let slot = self.slots.entry(partition).or_default();
        slot.assignment += 1;
        slot.loaded = lane.loaded();
        let (position, assignment) = (lane.position(), slot.assignment);
        slot.lane = Some(lane);
        if let Some(reader) = slot.reader.take() {
            ctx.cancel_future(reader);
        }
        let stale = slot.waiting.drain(..).len() as u64;
        let traced = self.parts.tracer.is_on();
        let reading = feed(self.parts.bus.clone(), topic, partition, position, assignment, traced, self.life.clone());
        let reader = ctx.spawn(reading.into_actor(self));
        self.slots.entry(partition).or_default().reader = Some(reader);
        self.life.vitals.stale_batches.add(stale);
        self.settle(partition, ctx);
    }

    /// A step of a lane failed: what no repetition mends is this actor's death, the rest waits.
    fn failed(&mut self, partition: Partition, fault: Fault, ctx: &mut Context<Self>) {
        // Another process runs this pipeline too: both write the same, and take turns, with a pause that grows.
        if fault.retry == Retry::Never && fault.kind != Kind::Fenced {
            return self.life.fail(ctx, fault);
        }
        tracing::warn!(actor = %self.life.id, partition, error = %fault, "a step of the load failed, opening the lane anew");
        super::note(&self.life.vitals, &*self.parts.clock, &fault);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.failures += 1;
        }
        self.open(partition, ctx);
    }

    /// Takes what waits, as long as there is room, and starts a load if one is due.
    fn settle(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let now = Instant::now();
        loop {
            let is_drained = self.is_drained(partition);
            let Some(slot) = self.slots.get_mut(&partition) else { return };
            let Some(lane) = &mut slot.lane else { return };
            if lane.due().is_some_and(|due| due <= now || is_drained) {
                return self.load(partition, ctx);
            }
            let Some(delivery) = slot.waiting.pop_front() else { return self.finish_drain() };
            let batch = match delivery.message.batch {
                Ok(batch) => batch,
                Err(fault) => return self.failed(partition, fault, ctx),
            };
            slot.fresh.runs.extend(self.parts.tracer.look(&batch, lane.loaded(), &*self.parts.clock));
            let suspects = &self.parts.suspects;
            let condemned = suspects.condemned(partition);
            for piece in suspects.pieces(partition, &batch) {
                let at_work = suspects.at_work(partition, &piece);
                let is_taken = lane.take(&piece, |offset| condemned == Some(offset), now);
                at_work.survived();
                if !is_taken {
                    self.life.vitals.stale_batches.add(1);
                    return self.open(partition, ctx);
                }
            }
        }
    }

    /// Brings what a lane has into the sink, and onto the bus that it is there.
    fn load(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(mut lane) = slot.lane.take() else { return };
        let mut fresh = std::mem::take(&mut slot.fresh);
        let (life, parts, ledger) = (self.life.clone(), self.parts.clone(), self.parts.loads.of(partition));
        let loading = async move {
            let _attempt = life.attempt("load");
            let around = Watched { life: life.clone(), parts };
            fresh.loaded = lane.deliver(&around).await;
            ledger.begin(life.incarnation, [(lane.position(), fresh)]);
            let stored = lane.store().await;
            (lane, stored)
        };
        ctx.spawn(loading.into_actor(self).map(move |(lane, stored), loader, ctx| match stored {
            Ok(()) => loader.loaded(partition, lane, ctx),
            Err(fault) => loader.failed(partition, fault, ctx),
        }));
    }

    fn loaded(&mut self, partition: Partition, lane: Lane, ctx: &mut Context<Self>) {
        self.life.progress();
        self.count(self.parts.loads.of(partition).reached(lane.loaded()));
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        slot.failures = 0;
        slot.loaded = lane.loaded();
        slot.lane = Some(lane);
        self.settle(partition, ctx);
    }

    /// These loads are in the sink.
    fn count(&self, done: Vec<Fresh>) {
        let (vitals, now) = (&self.life.vitals, self.parts.clock.now());
        for fresh in done {
            fresh.count(vitals, now);
            fresh.end_spans(&self.parts.tracer, vitals, &self.parts.settings.topic, now);
        }
    }

    /// Whether a drain is on and this partition was taken up to its end.
    fn is_drained(&self, partition: Partition) -> bool {
        let (Some(drain), Some(slot)) = (&self.draining, self.slots.get(&partition)) else { return false };
        let until = drain.until.get(&partition).copied().unwrap_or(0);
        slot.lane.as_ref().is_some_and(|lane| lane.position() >= until)
    }

    /// Answers the drain once every lane is at its end with nothing open.
    fn finish_drain(&mut self) {
        let is_idle = |slot: &Slot| slot.lane.as_ref().is_some_and(|lane| lane.due().is_none());
        let done = self.topic.is_some()
            && self.slots.iter().all(|(&partition, slot)| is_idle(slot) && self.is_drained(partition));
        if done && let Some(drain) = self.draining.take() {
            let _ = drain.done.send(());
        }
    }

    fn settle_all(&mut self, ctx: &mut Context<Self>) {
        let partitions: Vec<_> = self.slots.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.settle(partition, ctx));
    }
}

/// A delivery as its supervisor and the figures see it.
struct Watched {
    life: Life<Loader>,
    parts: LoaderParts,
}

#[async_trait]
impl Around for Watched {
    fn answered(&self) {
        self.life.vitals.sink_requests.add(1);
        self.life.progress();
    }

    async fn wait(&self, fault: &Fault, attempt: u32) {
        self.life.vitals.sink_failures.add(1);
        let before = self.life.vitals.life().last_error.map(|(_, text)| text);
        super::note(&self.life.vitals, &*self.parts.clock, fault);
        // Once aloud, and again when it says something else; a person has to do something about the first kind.
        if attempt == 1 || before.as_deref() != Some(&fault.message) {
            match fault.domain {
                Domain::User => {
                    tracing::error!(actor = %self.life.id, error = %fault, "the sink takes nothing until this is mended; nothing is dropped");
                }
                _ => tracing::warn!(actor = %self.life.id, error = %fault, "the sink does not take this for now"),
            }
        }
        let _waiting = self.life.waiting(fault.message.clone());
        match fault.retry {
            // Some say zero.
            Retry::After(time) => tokio::time::sleep(time.max(PAUSE.plain(attempt))).await,
            _ => PAUSE.pause(attempt).await,
        }
        self.life.progress();
    }
}

impl Actor for Loader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (bus, name, life) = (self.parts.bus.clone(), self.parts.settings.topic.clone(), self.life.clone());
        let finding = async move {
            let _attempt = life.attempt("find topic");
            bus.topic(&name).await?.ok_or_else(|| Fault::user(format!("topic {name} does not exist")))
        };
        ctx.wait(finding.into_actor(self).map(|found: Result<TopicInfo>, loader, ctx| match found {
            Ok(topic) => {
                let (replica, replicas) = (loader.life.id.replica, loader.parts.replicas);
                let partitions: Vec<_> = partitions_of(replica, replicas, topic.num_partitions).collect();
                loader.topic = Some(topic);
                partitions.into_iter().for_each(|partition| loader.open(partition, ctx));
            }
            Err(fault) => loader.life.fail(ctx, fault),
        }));
        ctx.run_interval(LOAD_TICK, |loader, ctx| loader.settle_all(ctx));
    }
}

impl Supervised for Loader {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Handler<Delivery<Drain>> for Loader {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Drain>, ctx: &mut Context<Self>) {
        self.draining = Some(delivery.message);
        self.settle_all(ctx);
    }
}

impl Handler<Delivery<TakeBatch>> for Loader {
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
        self.life.breathe(ctx);
    }
}
