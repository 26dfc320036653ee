//! The aggregator: batches of records come in, commits of a live table go out.
//!
//! It owns one [`Lane`] per partition and the table's [`Committer`]. A restart throws all of it away
//! and opens the lanes from the table's log: what the last commit stored, and a replay of the
//! records that still feed an open hour. Invariants: a lane is given only the batch that begins
//! where it stands; at most one commit is on its way; a lane whose seal did not become durable as it
//! was is thrown away.

mod fresh;
mod keep;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use tokio::time::Instant;

pub use self::fresh::Proposed;
use self::{fresh::Fresh, keep::Keeping};
use super::{
    Reopens, Suspects,
    assignment::{Drain, TakeBatch, feed, partitions_of},
};
use crate::{
    bus::{
        SharedBus, TopicInfo,
        letters::{self, DeadLetter},
        read_range,
    },
    fault::{Fault, Kind, Result, Retry},
    model::{Clock, Doubling, Offset, Partition, Pause},
    store::SharedStore,
    supervise::{Delivery, Life},
    table::{Committer, Lane, LaneId, Outcome, Proposal, Settings, Taken},
    trace::Tracer,
};

/// How often the aggregator looks whether a commit is due.
const COMMIT_TICK: Duration = Duration::from_millis(100);

/// What an aggregator is made of.
#[derive(Clone)]
pub struct AggregatorParts {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// How many replicas share the topic.
    pub replicas: u32,
    /// Where records come from.
    pub bus: SharedBus,
    /// Where the table lies.
    pub store: SharedStore,
    /// Wall time, for figures and for the log.
    pub clock: Arc<dyn Clock>,
    /// What its lives died of.
    pub suspects: Suspects,
    /// The commits its lives have under way.
    pub proposed: Proposed,
    /// Goes on with traces.
    pub tracer: Tracer,
}

/// See the module's text.
pub struct Aggregator {
    pub(super) life: Life<Self>,
    parts: AggregatorParts,

    topic: Option<TopicInfo>,
    /// Records that are not looked into.
    poison: Poison,
    /// Absent while a commit or the opening of lanes runs.
    committer: Option<Committer>,
    slots: BTreeMap<Partition, Slot>,
    /// Lanes there are; those without a slot are being restored.
    num_lanes: usize,
    /// Raised with each opening: the work of an earlier one is void.
    opening: u64,
    assignments: u64,
    last_commit: Instant,
    draining: Option<Drain>,
    failures: u32,
    keeping: Keeping,
}

struct Slot {
    lane: Lane,
    assignment: u64,
    reader: SpawnHandle,
    waiting: VecDeque<Delivery<TakeBatch>>,
    last_record: Instant,
    /// What was taken since the last seal: it counts when it is committed.
    fresh: Fresh,
}

/// What opening the table found: the committer and a lane for each partition.
type Opened = (TopicInfo, Poison, Committer, Vec<(Partition, Lane)>);

/// The places of records that a life died of.
type Poison = BTreeSet<(Partition, Offset)>;

impl Aggregator {
    /// A fresh life of an aggregator.
    pub fn new(life: Life<Self>, parts: AggregatorParts) -> Self {
        Self {
            life,
            parts,
            topic: None,
            poison: Poison::new(),
            committer: None,
            slots: BTreeMap::new(),
            num_lanes: 0,
            opening: 0,
            assignments: 0,
            last_commit: Instant::now(),
            draining: None,
            failures: 0,
            keeping: Keeping::new(),
        }
    }

    /// Opens the table and all lanes (again), after a pause if that failed before.
    fn open(&mut self, ctx: &mut Context<Self>) {
        self.opening += 1;
        self.committer = None;
        if let Some(round) = self.keeping.reset() {
            ctx.cancel_future(round);
        }
        for (_, slot) in std::mem::take(&mut self.slots) {
            ctx.cancel_future(slot.reader);
            self.life.vitals.stale_batches.add(slot.waiting.len() as u64);
        }
        let (life, parts, failures) = (self.life.clone(), self.parts.clone(), self.failures);
        let opening = async move {
            if failures > 0 {
                let _waiting = life.waiting(format!("a back-off after {failures} failures"));
                Doubling::default().pause(failures).await;
            }
            let _attempt = life.attempt("open table");
            open(&life, &parts).await
        };
        self.then(opening, ctx, |aggregator, opened, ctx| match opened {
            Ok(opened) => aggregator.opened(opened, ctx),
            Err(fault) => aggregator.failed(&fault, ctx),
        });
    }

    fn opened(&mut self, (topic, poison, committer, lanes): Opened, ctx: &mut Context<Self>) {
        self.poison = poison;
        self.topic = Some(topic);
        self.count(&committer);
        self.committer = Some(committer);
        self.num_lanes = lanes.len();
        lanes.into_iter().for_each(|(partition, lane)| self.assign(partition, lane, Fresh::default(), ctx));
    }

    /// Gives a lane a new reader.
    fn reassign(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        if let Some(slot) = self.slots.remove(&partition) {
            ctx.cancel_future(slot.reader);
            self.life.vitals.stale_batches.add(slot.waiting.len() as u64);
            self.assign(partition, slot.lane, slot.fresh, ctx);
        }
    }

    /// Puts a lane into its slot with a reader that begins where it stands.
    fn assign(&mut self, partition: Partition, lane: Lane, fresh: Fresh, ctx: &mut Context<Self>) {
        let Some(topic) = self.topic.clone() else { return };
        self.assignments += 1;
        let assignment = self.assignments;
        if let Some(before) = self.slots.remove(&partition) {
            ctx.cancel_future(before.reader);
        }
        let reading = feed(
            self.parts.bus.clone(),
            topic,
            partition,
            lane.at(),
            assignment,
            self.parts.tracer.is_on(),
            self.life.clone(),
        );
        let reader = ctx.spawn(reading.into_actor(self));
        let slot = Slot { lane, assignment, reader, waiting: VecDeque::new(), last_record: Instant::now(), fresh };
        self.slots.insert(partition, slot);
    }

    /// A step failed: what no repetition mends is this actor's death, the rest waits and opens anew.
    fn failed(&mut self, fault: &Fault, ctx: &mut Context<Self>) {
        if fault.retry == Retry::Never {
            return self.life.fail(ctx, fault.clone());
        }
        tracing::warn!(actor = %self.life.id, error = %fault, "a step of the table failed, opening it anew");
        super::note(&self.life.vitals, &*self.parts.clock, fault);
        self.failures += 1;
        self.open(ctx);
    }

    /// Takes what waits for a lane. A lane is not fed beyond the bound of a commit while one is on
    /// its way: that is the back-pressure.
    fn settle(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let bound = self.parts.settings.commit_records;
        loop {
            let Some(slot) = self.slots.get_mut(&partition) else { return };
            if slot.fresh.counts.total() >= bound {
                return self.commit_if_due(ctx);
            }
            let Some(mut delivery) = slot.waiting.pop_front() else { return };
            let batch = match &mut delivery.message.batch {
                Ok(batch) => batch,
                Err(fault) => {
                    let fault = fault.clone();
                    return self.failed(&fault, ctx);
                }
            };
            letters::blind(batch, partition, &self.poison);
            for piece in self.parts.suspects.pieces(partition, batch) {
                let at_work = self.parts.suspects.at_work(partition, &piece);
                let runs = self.parts.tracer.look(&piece, slot.lane.sealed().next, &*self.parts.clock);
                let taken = slot.lane.take(&piece);
                at_work.survived();
                match taken {
                    Taken::Counted { counts, lost, moments } => {
                        slot.last_record = if counts.total() > 0 { Instant::now() } else { slot.last_record };
                        let runs = runs.into_iter().map(|run| (partition, run)).collect();
                        slot.fresh.add(Fresh { counts, bytes: piece.weight() as u64, lost, moments, runs });
                    }
                    Taken::Elsewhere => {
                        self.life.vitals.stale_batches.add(1);
                        return self.reassign(partition, ctx);
                    }
                    Taken::ReplayGone => return self.restore(partition, ctx),
                }
            }
        }
    }

    /// The bus no longer has what the replay needs: the lane's own files do. It has no slot and no reader
    /// until it is back.
    fn restore(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let Some(slot) = self.slots.remove(&partition) else { return };
        ctx.cancel_future(slot.reader);
        self.life.vitals.stale_batches.add(slot.waiting.len() as u64);
        let (id, parts, life) = (slot.lane.id(), self.parts.clone(), self.life.clone());
        let restoring = async move {
            let _attempt = life.attempt("restore from live files");
            let pause = Arc::new(super::Declared(life.clone()));
            let committer = Committer::open(&parts.settings, parts.store, pause, parts.clock).await?;
            let mut lane = committer.lane(id, 0);
            committer.restore(&mut lane).await?;
            Ok(lane)
        };
        self.then(restoring, ctx, move |aggregator, lane: Result<Lane>, ctx| match lane {
            Ok(lane) => aggregator.assign(partition, lane, Fresh::default(), ctx),
            Err(fault) => aggregator.failed(&fault, ctx),
        });
    }

    /// Starts a commit of all lanes if it is time and none is on its way.
    fn commit_if_due(&mut self, ctx: &mut Context<Self>) {
        let settings = self.parts.settings.clone();
        let full = self.slots.values().any(|slot| slot.fresh.counts.total() >= settings.commit_records);
        if !full && !self.is_drained() && self.last_commit.elapsed() < settings.commit_interval {
            return;
        }
        let (Some(mut committer), Some(topic)) = (self.committer.take(), self.topic.clone()) else { return };
        self.last_commit = Instant::now();
        let is_quiet = |slot: &Slot| slot.waiting.is_empty() && slot.last_record.elapsed() >= settings.idle;
        let quiet: Vec<_> =
            self.slots.iter().filter(|(_, slot)| is_quiet(slot)).map(|(&p, slot)| (p, slot.lane.at())).collect();
        let (life, bus) = (self.life.clone(), self.parts.bus.clone());
        let looking = async move {
            let _attempt = life.attempt("look what others committed");
            committer.follow().await?;
            // Quiet is only who was read to its end: a reader that cannot read is not.
            let mut idle = BTreeMap::new();
            for (partition, at) in quiet {
                if at >= bus.watermarks(&topic, partition).await?.high {
                    idle.insert(partition, at);
                }
            }
            Ok((committer, idle))
        };
        self.then(looking, ctx, |aggregator, looked: Result<_>, ctx| match looked {
            Ok((committer, idle)) => aggregator.commit(committer, &idle, ctx),
            Err(fault) => aggregator.failed(&fault, ctx),
        });
    }

    /// Seals every lane and commits; a lane that still stands where it was `idle` follows the others.
    fn commit(&mut self, mut committer: Committer, idle: &BTreeMap<Partition, Offset>, ctx: &mut Context<Self>) {
        let ours = |lane: &Lane| committer.snapshot().positions(lane.id()) == Some(lane.sealed());
        let lanes = self.slots.values().map(|slot| &slot.lane);
        let taken: Vec<_> = lanes.filter(|lane| !ours(lane)).map(Lane::id).collect();
        if !taken.is_empty() {
            return self.superseded(&taken, ctx);
        }
        let (mut sealed, mut fresh) = (Vec::new(), Fresh::default());
        for (partition, slot) in &mut self.slots {
            let is_idle = slot.waiting.is_empty() && idle.get(partition) == Some(&slot.lane.at());
            let follow = if is_idle { committer.snapshot().watermark_of_others(slot.lane.id()) } else { None };
            if let Some(seal) = slot.lane.seal(follow) {
                fresh.add(std::mem::take(&mut slot.fresh));
                sealed.push(seal);
            }
        }
        if sealed.is_empty() {
            self.committer = Some(committer);
            if self.is_drained()
                && self.keep_if_due(ctx)
                && let Some(drain) = self.draining.take()
            {
                let _ = drain.done.send(());
            }
            return;
        }
        self.parts.proposed.note(&sealed, fresh);
        let (life, proposal) = (self.life.clone(), Proposal::new(sealed));
        let committing = async move {
            let _attempt = life.attempt("commit");
            let outcome = committer.commit(&proposal).await;
            (committer, outcome)
        };
        self.then(committing, ctx, move |aggregator, (committer, outcome), ctx| match outcome {
            Ok(Outcome::Committed { version }) => aggregator.committed(committer, version, ctx),
            Ok(Outcome::Superseded { lanes }) => aggregator.superseded(&lanes, ctx),
            Err(fault) => aggregator.failed(&fault, ctx),
        });
    }

    /// Another writer has committed for these lanes, or the table was replaced.
    fn superseded(&mut self, lanes: &[LaneId], ctx: &mut Context<Self>) {
        tracing::info!(actor = %self.life.id, ?lanes, "another writer committed for these lanes, opening the table anew");
        // Two that live take turns, with a pause that grows.
        self.failures += 1;
        self.open(ctx);
    }

    /// Counts what the table holds now and did not before.
    fn count(&self, committer: &Committer) {
        let (table, vitals, now) = (committer.snapshot(), &self.life.vitals, self.parts.clock.now());
        let committed = self.parts.proposed.found(table);
        committed.count(vitals, now);
        committed.end_spans(&self.parts.tracer, vitals, table, now);
    }

    fn committed(&mut self, committer: Committer, version: u64, ctx: &mut Context<Self>) {
        self.count(&committer);
        let vitals = &self.life.vitals;
        vitals.commits.add(1);
        vitals.last_success.set(self.parts.clock.now());
        let watermark = |slot: &Slot| committer.snapshot().positions(slot.lane.id()).and_then(|p| p.watermark);
        vitals.watermark.set(self.slots.values().map(watermark).min().flatten().unwrap_or(0));
        tracing::debug!(actor = %self.life.id, version, "table committed");
        let open: usize = self.slots.values().map(|slot| slot.lane.num_open()).sum();
        vitals.open_windows.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.life.progress();
        self.failures = 0;
        self.committer = Some(committer);
        self.keeping.stir();
        let partitions: Vec<_> = self.slots.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.settle(partition, ctx));
        if self.draining.is_some() {
            self.commit_if_due(ctx);
        }
    }

    /// Whether a drain is on and every lane has come to its end.
    fn is_drained(&self) -> bool {
        let Some(drain) = &self.draining else { return false };
        let at_end = |(partition, slot): (&Partition, &Slot)| {
            !slot.lane.is_replaying() && slot.lane.at() >= drain.until.get(partition).copied().unwrap_or(0)
        };
        self.num_lanes > 0 && self.slots.len() == self.num_lanes && self.slots.iter().all(at_end)
    }
}

impl Reopens for Aggregator {
    fn opening(&self) -> u64 {
        self.opening
    }
}

/// Opens the table and the lanes of this replica from what the log says.
async fn open(life: &Life<Aggregator>, parts: &AggregatorParts) -> Result<Opened> {
    let settings = &parts.settings;
    let topic = parts.bus.topic(&settings.topic).await?;
    let topic = topic.ok_or_else(|| Fault::user(format!("topic {} does not exist", settings.topic)))?;
    bury(life, parts, &topic).await?;
    let poison = letters::poison(&*parts.bus, &topic).await?;
    let pause = Arc::new(super::Declared(life.clone()));
    let mut committer = Committer::open(settings, parts.store.clone(), pause, parts.clock.clone()).await?;
    if let Some((other, _)) = committer.snapshot().lanes().find(|(lane, _)| lane.topic != topic.id) {
        let text = format!(
            "table {}: topic {} is {} now, the table was built on {}: the topic was deleted and created anew; \
             give the table another path, or count it all again with `howdah table rebuild FILE --table NAME --all`",
            settings.path, topic.name, topic.id, other.topic
        );
        return Err(Fault::user(text).kind(Kind::Recreated));
    }
    let mut lanes = Vec::new();
    for partition in partitions_of(life.id.replica, parts.replicas, topic.num_partitions) {
        let id = LaneId { topic: topic.id, partition };
        let known = committer.snapshot().positions(id).is_some();
        let start = if known { 0 } else { settings.start.resolve(&*parts.bus, &topic, partition).await? };
        let lane = committer.lane(id, start);
        let (next, high) = (lane.sealed().next, parts.bus.watermarks(&topic, partition).await?.high);
        if next > high {
            let (table, name) = (&settings.path, &topic.name);
            let text = format!("table {table} stands at {name}-{partition}@{next}, and the bus ends at {high}");
            return Err(Fault::data(format!("{text}: the bus has lost records or was replaced")).kind(Kind::Lost));
        }
        lanes.push((partition, lane));
    }
    let begun: Vec<_> = lanes.iter_mut().filter_map(|(_, lane)| lane.begin()).collect();
    if !begun.is_empty()
        && let Outcome::Superseded { .. } = committer.commit(&Proposal::new(begun)).await?
    {
        return Err(Fault::external(format!("table {}: another writer has begun its lanes", settings.path)));
    }
    Ok((topic, poison, committer, lanes))
}

/// Makes a dead letter of each record that lives died of alone.
async fn bury(life: &Life<Aggregator>, parts: &AggregatorParts, topic: &TopicInfo) -> Result<()> {
    for partition in partitions_of(life.id.replica, parts.replicas, topic.num_partitions) {
        let Some(offset) = parts.suspects.condemned(partition) else { continue };
        let Some(record) = read_range(&*parts.bus, topic, partition, offset, offset + 1).await?.pop() else {
            parts.suspects.forget(partition);
            continue;
        };
        tracing::error!(actor = %life.id, partition, offset, "died of this record again and again: it is a dead letter now");
        let place = format!("{partition}@{offset}");
        let letter = DeadLetter {
            reason: letters::POISON.to_owned(),
            detail: format!("{}-{place}: {} died of it again and again", topic.name, life.id),
            coordinate: letters::coordinate(topic, place),
            payload: record.value,
            file: None,
            record: Some((record.time, record.key)),
        };
        let mut producer = parts.bus.producer(&format!("{}/letters/{partition}", life.id)).await?;
        producer.send(vec![letter.outgoing(&topic.name, &life.id)]).await?;
        parts.suspects.forget(partition);
        life.vitals.dead_letters.add(1);
    }
    Ok(())
}

impl Actor for Aggregator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.open(ctx);
        ctx.run_interval(COMMIT_TICK, |aggregator, ctx| {
            aggregator.commit_if_due(ctx);
            aggregator.keep_if_due(ctx);
        });
    }
}

impl Supervised for Aggregator {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = self.life.reborn();
    }
}

impl Handler<Delivery<Drain>> for Aggregator {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<Drain>, ctx: &mut Context<Self>) {
        self.draining = Some(delivery.message);
        self.commit_if_due(ctx);
    }
}

impl Handler<Delivery<TakeBatch>> for Aggregator {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<TakeBatch>, ctx: &mut Context<Self>) {
        if !self.life.takes(&delivery) {
            return;
        }
        let partition = delivery.message.partition;
        match self.slots.get_mut(&partition) {
            Some(slot) if slot.assignment == delivery.message.assignment => slot.waiting.push_back(delivery),
            _ => return self.life.vitals.stale_batches.add(1),
        }
        self.settle(partition, ctx);
        self.life.breathe(ctx);
    }
}
