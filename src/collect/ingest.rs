//! From the spool onto the bus, each event once: what an ingester owns.
//!
//! One bus transaction holds events and the new [position](super::position): where the ingester stands
//! in the spool, keyed by **source and spool uuid**, so that a spool that was lost and begun anew starts
//! at its own beginning. The producer's id is the source's: opening it fences whoever sent for this
//! source before.
//!
//! *The records decide.* Each bears its spool sequence, and the position holds the last one of
//! each target partition. On opening, both are compared: a transaction that was torn (records
//! without position, or position without records) is mended by sending exactly what the topic's
//! tail lacks.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    IngestSettings, POSITIONS_TOPIC,
    marks::{Marks, record_sequence},
    position::{Claim, FORMAT, Position, Target, read_positions, refuse_if_newer},
    route::Router,
    tail::last_sequence,
};
use crate::{
    bus::{Outgoing, Producer, SharedBus, TopicInfo, letters::DeadLetter, read_range},
    failpoint::{cross, rare},
    fault::{Effect, Fault, Kind, Result},
    model::{ActorId, Epoch, Header, Millis, Offset, Sequence, TopicName},
};

/// What an ingester is made of.
#[derive(Clone)]
pub struct Parts {
    /// Whose it is.
    pub actor: ActorId,
    /// The source: `wikimedia/collect`.
    pub source: String,
    /// The spool it reads.
    pub spool: Uuid,
    /// When that was made, ms since 1970.
    pub made: Millis,
    /// Told of each step of what may take long.
    pub progress: Arc<dyn Fn() + Send + Sync>,
    /// The bus.
    pub bus: SharedBus,
    /// What the ingester was told.
    pub settings: Arc<IngestSettings>,
}

/// An event as it comes out of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spooled {
    /// An event: value and its own id.
    Event {
        /// Its sequence in the spool.
        sequence: Sequence,
        /// The source's resume token after it.
        token: Option<String>,
        /// The event's own id.
        id: Bytes,
        /// The payload.
        value: Bytes,
        /// What its record tells of it besides.
        headers: Vec<Header>,
    },
    /// A dead letter of the collector.
    Letter {
        /// Its sequence in the spool.
        sequence: Sequence,
        /// The source's resume token after it.
        token: Option<String>,
        /// The id of what it is about.
        id: Bytes,
        /// The letter.
        letter: DeadLetter,
    },
}

impl Spooled {
    /// Its sequence in the spool.
    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Event { sequence, .. } | Self::Letter { sequence, .. } => *sequence,
        }
    }

    fn token(&self) -> Option<&String> {
        match self {
            Self::Event { token, .. } | Self::Letter { token, .. } => token.as_ref(),
        }
    }
}

/// Where a source's collector goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The token of the highest epoch over all the source's spools.
    pub token: Option<String>,
    /// Where the source was begun, ms since 1970.
    pub since: Millis,
}

/// See the module's text.
pub struct Ingest {
    parts: Parts,
    topic: TopicInfo,
    router: Router,
    marks: Marks,

    producer: Box<dyn Producer>,
    position: Position,
    handover: Handover,
    letters: TopicInfo,
    /// Which of the next events are traced, and what they bear.
    traced: Vec<(Range<Sequence>, Header)>,
    /// The last sequence that is on the bus at each place.
    done: BTreeMap<Target, Sequence>,
    /// Where sent records stand that were not read back yet.
    unproven: BTreeMap<Target, (Offset, Sequence)>,
    proven: Sequence,
}

impl Ingest {
    /// Opens the producer (which fences the former holder), reads the positions, compares them with
    /// the topic's tail, and stands at the first sequence that is not wholly on the bus.
    ///
    /// `now` is the wall time of a source that was never begun; `kept` are the sequences that the
    /// spool has. Where the
    /// bus bears entries behind them, the spool's disk has lost its end: this stands behind what the
    /// bus bears then, and the spool has to [go on there](super::spool::Writer::skip_to).
    ///
    /// # Errors
    /// [`Kind::Fenced`] if a position says that a newer owner exists; [`Kind::Lost`] if entries are
    /// wanted that neither bus nor spool has; those of the bus.
    pub async fn open(
        parts: Parts,
        topic: TopicInfo,
        now: Millis,
        claim: &Claim,
        kept: Range<Sequence>,
    ) -> Result<Self> {
        let positions = topic_named(&parts, POSITIONS_TOPIC.into()).await?;
        // Before the producer is opened, so that an old owner stops without fencing the new one;
        // and after it, because only then nobody else writes.
        refuse_if_newer(&parts.source, claim, &read_positions(&*parts.bus, &parts.source, &positions).await?)?;
        let producer = parts.bus.producer(&format!("ingest/{}", parts.source)).await?;
        let all = read_positions(&*parts.bus, &parts.source, &positions).await?;
        refuse_if_newer(&parts.source, claim, &all)?;

        let highest = all.values().max_by_key(|position| position.epoch);
        let epoch = Epoch(highest.map_or(0, |position| position.epoch.0) + 1);
        let handover = Handover {
            token: highest.and_then(|position| position.token.clone()),
            since: all.values().map(|position| position.since).min().unwrap_or(now),
        };
        let mut position = all.get(&parts.spool).cloned().unwrap_or_else(|| Position {
            format: FORMAT,
            epoch,
            owner: claim.owner,
            spool: parts.spool,
            next: 0,
            token: handover.token.clone(),
            since: handover.since,
            last: BTreeMap::new(),
        });
        (position.epoch, position.owner) = (epoch, claim.owner);
        let letters = topic_named(&parts, topic.name.dead_letters()).await?;
        let done = compare_with_tail(&parts, &topic, &letters, &position).await?;
        let said = position.next;
        let borne = done.values().flatten().map(|done| done + 1).fold(said, Sequence::max);
        let lacking = position.last.iter().filter_map(|(target, &said)| {
            let done = done.get(target).copied().flatten();
            (done < Some(said)).then(|| done.map_or(0, |done| done + 1))
        });
        if let Some(start) = lacking.min() {
            rare("ingest.position_without_records");
            // What lies before the spool was seen on the bus once, or it would be there.
            position.next = position.next.min(start).max(kept.start);
        }
        if position.next < kept.start {
            return Err(lost_begin(position.next, kept.start).at(&parts.source));
        }
        if borne > kept.end {
            rare("ingest.spool_lost_its_end");
            if position.next < said.max(kept.end) {
                return Err(lost_end(position.next, borne, kept.end).at(&parts.source));
            }
            position.next = borne;
        }
        let router = Router::new(parts.settings.key.as_ref(), &parts.source, topic.num_partitions);
        let done = done.into_iter().filter_map(|(target, done)| Some((target, done?))).collect();
        let proven = position.next;
        let mut ingest = Self {
            topic,
            letters,
            router,
            marks: Marks::new(parts.spool),
            producer,
            handover,
            traced: Vec::new(),
            done,
            unproven: BTreeMap::new(),
            proven,
            position,
            parts,
        };
        // The new epoch, and the mark where a new source begins, are on the bus before the first
        // connection.
        claim.raise(epoch);
        ingest.send(&[]).await?;
        Ok(ingest)
    }

    /// The first sequence wanted.
    pub fn next(&self) -> Sequence {
        self.position.next
    }

    /// Where the collector goes on if its spool does not say.
    pub fn handover(&self) -> &Handover {
        &self.handover
    }

    /// The epoch of this opening.
    pub fn epoch(&self) -> Epoch {
        self.position.epoch
    }

    /// The topic of the source's dead letters.
    pub fn letters(&self) -> &TopicInfo {
        &self.letters
    }

    /// Everything below this sequence has been seen on the bus by reading it back: the spool may
    /// forget it.
    pub fn proven(&self) -> Sequence {
        self.proven
    }

    /// Gives the records of these entries one more header when they are sent; until the next call.
    pub fn trace(&mut self, entries: Vec<(Range<Sequence>, Header)>) {
        self.traced = entries;
    }

    /// Puts these events (which begin where it stands) and the new position onto the bus, in one
    /// transaction.
    ///
    /// # Errors
    /// Those of the producer. Whatever it is, open anew: the bus knows what happened.
    pub async fn send(&mut self, events: &[Spooled]) -> Result<()> {
        let mut records = Vec::with_capacity(events.len() + 1);
        let mut slots = Vec::with_capacity(events.len());
        let mut position = self.position.clone();
        let mut token = None;
        for event in events {
            if event.sequence() < position.next {
                let text = format!("event {} where {} is wanted", event.sequence(), position.next);
                return Err(Fault::internal(text).at(&self.parts.source));
            }
            position.next = event.sequence() + 1;
            token = event.token().or(token);
            let (target, record) = match event {
                Spooled::Event { sequence, id, value, headers: more, .. } => {
                    let (key, partition) = self.router.route(value);
                    let mut headers = Vec::from(self.marks.of(*sequence, id));
                    let traced = self.traced.iter().find(|(entries, _)| entries.contains(sequence));
                    headers.extend(more.iter().chain(traced.map(|(_, header)| header)).cloned());
                    let record = Outgoing {
                        topic: self.topic.name.clone(),
                        partition,
                        key: Some(key),
                        value: Some(value.clone()),
                        headers,
                    };
                    (Target::Partition(partition), record)
                }
                Spooled::Letter { sequence, id, letter, .. } => {
                    let mut record = letter.clone().outgoing(&self.topic.name, &self.parts.actor);
                    record.headers.extend(self.marks.of(*sequence, id));
                    (Target::Letters, record)
                }
            };
            let sequence = event.sequence();
            let last = position.last.entry(target).or_insert(sequence);
            *last = sequence.max(*last);
            if self.done.get(&target).is_some_and(|done| sequence <= *done) {
                rare("ingest.on_the_bus_already");
                continue;
            }
            slots.push((target, sequence));
            records.push(record);
        }
        if let Some(token) = token {
            position.token = Some(token.clone());
        }
        records.push(position.record(&self.parts.source)?);
        cross("ingest.before_send");
        let offsets = match self.producer.send(records).await {
            Ok(offsets) => offsets,
            Err(fault) => {
                if fault.effect == Effect::Unknown {
                    rare("ingest.unknown_send");
                }
                return Err(fault);
            }
        };
        cross("ingest.after_send");
        for (slot, offset) in slots.into_iter().zip(offsets) {
            let (target, sequence) = slot;
            self.done.insert(target, sequence);
            self.unproven.insert(target, (offset, sequence));
        }
        self.position = position;
        Ok(())
    }

    /// Reads back the last record sent to each partition; what was seen is [`proven`](Self::proven).
    ///
    /// # Errors
    /// [`Kind::Unknown`] if a record that the bus had acknowledged is not there: open anew, the tail
    /// will tell what is missing. Those of the bus.
    pub async fn read_back(&mut self) -> Result<()> {
        for (&target, &(offset, sequence)) in &self.unproven {
            let (topic, partition) = match target {
                Target::Partition(partition) => (&self.topic, partition),
                Target::Letters => (&self.letters, 0),
            };
            if offset < self.parts.bus.watermarks(topic, partition).await?.low {
                continue;
            }
            let records = read_range(&*self.parts.bus, topic, partition, offset, offset + 1).await?;
            let seen = records.first().and_then(|record| record_sequence(record, self.parts.spool));
            if seen != Some(sequence) {
                let name = &topic.name;
                let text = format!("{name}-{partition}@{offset}: event {sequence} was acknowledged and is not there");
                return Err(Fault::external(text).kind(Kind::Unknown));
            }
        }
        self.unproven.clear();
        self.proven = self.position.next;
        Ok(())
    }
}

/// The spool has lost its beginning, and nobody has seen that on the bus.
fn lost_begin(next: Sequence, first: Sequence) -> Fault {
    let text = format!("events [{next}, {first}) were not sent and are not in the spool any more");
    Fault::data(format!("{text}: put its folder back, or aside for a new one that begins where the bus stands"))
        .kind(Kind::Lost)
}

/// The spool has lost its end, and not all of it is on the bus.
fn lost_end(next: Sequence, borne: Sequence, end: Sequence) -> Fault {
    let text = format!("event {next} is wanted, the bus has some below {borne}, but the spool ends at {end}");
    Fault::data(format!("{text}: put the spool's folder aside, a new one begins where the bus stands")).kind(Kind::Lost)
}

async fn topic_named(parts: &Parts, name: TopicName) -> Result<TopicInfo> {
    let found = parts.bus.topic(&name).await?;
    found.ok_or_else(|| Fault::internal(format!("topic {name} was not created at the start")))
}

/// The last sequence of this spool that each place really holds.
///
/// Where the tail shows none: `None` if nothing was ever deleted there, so that the position has no
/// records behind it; the position's own word if retention may have taken them.
async fn compare_with_tail(
    parts: &Parts,
    topic: &TopicInfo,
    letters: &TopicInfo,
    position: &Position,
) -> Result<BTreeMap<Target, Option<Sequence>>> {
    let partitions = (0..topic.num_partitions).map(|partition| (Target::Partition(partition), topic, partition));
    let mut done = BTreeMap::new();
    for (target, topic, partition) in partitions.chain([(Target::Letters, letters, 0)]) {
        let spool = (parts.spool, parts.made);
        let (found, forgotten) = last_sequence(&parts.bus, topic, partition, spool, &*parts.progress).await?;
        let said = position.last.get(&target).copied();
        if found > said {
            rare("ingest.records_without_position");
        }
        done.insert(target, if found.is_some() || !forgotten { found } else { said });
    }
    Ok(done)
}
