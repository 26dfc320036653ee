//! Model histories of the ingester: owners of one source send the events of a spool, each running
//! [`Ingest`]'s own code, in a world that delays, loses, repeats and tears transactions, freezes and
//! kills owners, cuts the power, lets the bus forget and takes a disk away. At the end each
//! partition holds exactly the events routed to it, once, in the order of the spool.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    IngestSettings, POSITIONS_TOPIC,
    ingest::{Ingest, Parts, Spooled},
    marks::record_sequence,
    position::Claim,
    route::Router,
};
use crate::{
    bus::{Cleanup, TopicInfo, TopicSpec, letters::DeadLetter},
    failpoint::tests_only::taken,
    fault::{Fault, Kind, Result, Retry},
    model::{ActorId, Pointer, Sequence, TopicName},
    sim::{Owner, Sim, Weather, histories},
};

const COUNT: u64 = 30_000;

/// Rare branches that the histories must have taken, all together.
const RARE: &[&str] = &[
    "ingest.fenced_by_position",
    "ingest.position_without_records",
    "ingest.records_without_position",
    "ingest.on_the_bus_already",
    "ingest.unknown_send",
    "ingest.spool_lost_its_end",
];

/// A spool as the ingester sees it: events, of which a prefix was released.
#[derive(Clone)]
struct Spool {
    uuid: Uuid,
    /// By sequence; `None` where the disk has lost what the bus bears.
    events: Rc<RefCell<Vec<Option<Spooled>>>>,
    released: Rc<RefCell<Sequence>>,
    /// What the disk has lost, by sequence. Below the bus's position it must not come again; above it
    /// the sequence is given to another event.
    lost: Rc<RefCell<BTreeMap<Sequence, Spooled>>>,
    /// As the collector does, which connects only when the ingester has told where to go on.
    closed: Rc<Cell<bool>>,
}

impl Spool {
    fn new() -> Self {
        let uuid = Uuid::from_u128(fastrand::u128(..));
        Self { uuid, events: Rc::default(), released: Rc::default(), lost: Rc::default(), closed: Rc::default() }
    }

    /// The disk comes back without its last entries.
    fn lose_end(&self, keep: usize) {
        let mut events = self.events.borrow_mut();
        let keep = keep.max(usize::try_from(*self.released.borrow()).unwrap()).min(events.len());
        let lost = events.drain(keep..).flatten();
        self.lost.borrow_mut().extend(lost.map(|event| (event.sequence(), event)));
        self.closed.set(true);
    }

    /// What a record with this sequence has to be.
    fn event(&self, sequence: Sequence) -> Option<Spooled> {
        let kept = self.events.borrow().get(usize::try_from(sequence).unwrap()).cloned().flatten();
        kept.or_else(|| self.lost.borrow().get(&sequence).cloned())
    }

    fn push(&self, sim: &Sim) {
        if self.closed.get() {
            return;
        }
        let mut events = self.events.borrow_mut();
        let sequence = events.len() as Sequence;
        let token = sim.one_in(3).then(|| format!("token {sequence}"));
        events.push(Some(if sim.one_in(10) {
            let coordinate = format!("{}@{sequence}", self.uuid);
            let letter = DeadLetter {
                reason: "oversized".into(),
                detail: String::new(),
                coordinate,
                payload: None,
                file: None,
                record: None,
            };
            Spooled::Letter { sequence, token, id: Bytes::new(), letter }
        } else {
            let value = format!("{{\"wiki\":\"{}\",\"n\":{sequence}}}", sim.below(5));
            let id = Bytes::from(format!("id {sequence}"));
            Spooled::Event { sequence, token, id, value: value.into(), headers: Vec::new() }
        }));
    }
}

fn parts(sim: &Sim, owner: Owner, spool: &Spool, settings: &Arc<IngestSettings>) -> Parts {
    Parts {
        actor: ActorId { pipeline: "p".into(), stage: "ingest".into(), replica: 0 },
        source: "p/collect".into(),
        spool: spool.uuid,
        made: 0,
        progress: Arc::new(|| ()),
        bus: sim.bus(owner),
        settings: settings.clone(),
    }
}

/// What an ingester does, without the mailbox: sends until everything is sent, for ever or once.
async fn ingester(
    parts: Parts,
    topic: TopicInfo,
    spool: Spool,
    pause: Arc<dyn crate::model::Pause>,
    once: bool,
) -> Fault {
    let (claim, mut attempt) = (Claim::default(), 0);
    loop {
        match life(&parts, &topic, &spool, &*pause, &claim, once).await {
            Ok(()) => return Fault::internal("drained"),
            Err(fault) if fault.retry == Retry::Never => return fault,
            Err(_) => {
                attempt += 1;
                pause.pause(attempt).await;
            }
        }
    }
}

async fn life(
    parts: &Parts,
    topic: &TopicInfo,
    spool: &Spool,
    pause: &dyn crate::model::Pause,
    claim: &Claim,
    once: bool,
) -> Result<()> {
    let kept = *spool.released.borrow()..spool.events.borrow().len() as Sequence;
    let mut ingest = Ingest::open(parts.clone(), topic.clone(), 0, claim, kept).await?;
    while (spool.events.borrow().len() as Sequence) < ingest.next() {
        spool.events.borrow_mut().push(None);
    }
    spool.closed.set(false);
    loop {
        let released = *spool.released.borrow();
        if ingest.next() < released {
            return Err(Fault::internal(format!("event {} is wanted and {released} was released", ingest.next())));
        }
        let from = usize::try_from(ingest.next()).unwrap();
        let batch: Vec<_> =
            spool.events.borrow().iter().skip(from).flatten().take(fastrand::usize(1..6)).cloned().collect();
        if batch.is_empty() {
            ingest.read_back().await?;
            if once {
                return Ok(());
            }
            pause.pause(3).await;
            continue;
        }
        ingest.send(&batch).await?;
        if fastrand::u8(..3) == 0 {
            ingest.read_back().await?;
            let mut released = spool.released.borrow_mut();
            *released = (*released).max(ingest.proven());
        }
    }
}

fn history(seed: u64) -> Result<(), String> {
    let mut sim = Sim::new(seed);
    let world = sim.world().clone();
    let num_partitions = 1 + sim.below(3) as u32;
    let keep = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    let topic = world.topic(&TopicSpec { name: "t".into(), num_partitions, cleanup: keep });
    world.topic(&TopicSpec { name: "t.dead_letters".into(), num_partitions: 1, cleanup: keep });
    world.topic(&TopicSpec { name: POSITIONS_TOPIC.into(), num_partitions: 1, cleanup: Cleanup::Compact });
    let key = Some(Pointer::parse("/wiki").unwrap());
    let settings = Arc::new(IngestSettings { topic: "t".into(), key, batch_records: 5, batch_bytes: 1000 });
    // Where the bus may forget, a torn transaction cannot be told from a forgotten one.
    let torn = sim.one_in(2);
    sim.weather(Weather { torn: if torn { 0.5 } else { 0.0 }, ..Weather::rough() });

    let owners: Vec<_> = (0..=sim.below(3)).map(|_| sim.owner()).collect();
    let mut spools = vec![Spool::new()];
    for _ in 0..8 + sim.below(10) {
        let owner = owners[sim.below(owners.len())];
        let spool = spools[spools.len() - 1].clone();
        match sim.below(12) {
            0 => sim.kill(owner),
            1 => sim.freeze(owner),
            2 => sim.wake(owner),
            3 if sim.one_in(3) => sim.power_cut(),
            4 => world.compact_all(),
            5 if !torn => {
                let partition = sim.below(num_partitions as usize) as u32;
                let high = world.records(&"t".into(), partition).last().map_or(0, |record| record.offset + 1);
                world.retain(&"t".into(), partition, high.saturating_sub(sim.below(4) as u64));
            }
            7 if !torn => {
                owners.iter().for_each(|&owner| sim.kill(owner));
                let len = spool.events.borrow().len();
                spool.lose_end(sim.below(len + 1));
            }
            6 if sim.one_in(4) => {
                // The disk is lost: all owners of this spool die with it.
                owners.iter().for_each(|&owner| sim.kill(owner));
                spools.push(Spool::new());
            }
            _ => (0..sim.below(6)).for_each(|_| spool.push(&sim)),
        }
        let spool = spools[spools.len() - 1].clone();
        for &owner in &owners {
            if !sim.is_alive(owner) && sim.one_in(2) {
                let parts = parts(&sim, owner, &spool, &settings);
                sim.spawn(owner, ingester(parts, topic.clone(), spool.clone(), sim.pause(), false));
            }
        }
        let steps = sim.below(60);
        sim.run(steps);
    }
    owners.iter().for_each(|&owner| sim.kill(owner));
    let (spool, survivor) = (spools[spools.len() - 1].clone(), sim.owner());
    let survive = |sim: &mut Sim| {
        let parts = parts(sim, survivor, &spool, &settings);
        let task = ingester(parts, topic.clone(), spool.clone(), sim.pause(), true);
        sim.spawn(survivor, task)
    };
    let mut end = survive(&mut sim);
    // Alone in bad weather: no other owner writes, so no position may tell it that one did. (The bus
    // may still carry out an opening of its own that it had given up, which fences it.)
    let steps = sim.below(200);
    sim.run(steps);
    sim.calm();
    loop {
        if !sim.run_until(50_000, |_| end.is_done()) {
            return Err("the last owner came to no end in calm weather".to_owned());
        }
        match end.take() {
            Some(fault) if fault.message == "drained" => break,
            Some(fault) if fault.kind == Kind::Fenced && fault.message.starts_with("producer") => {
                end = survive(&mut sim);
            }
            other => return Err(format!("the last owner ended with {other:?}")),
        }
    }
    let last = spools.len() - 1;
    for (at, spool) in spools.iter().enumerate() {
        check(&sim, &topic, spool, at == last)?;
    }
    Ok(())
}

/// What the partitions hold of a spool against the spool. Of a lost one only a part was sent, but
/// that once and in order.
fn check(sim: &Sim, topic: &TopicInfo, spool: &Spool, whole: bool) -> Result<(), String> {
    let router = Router::new(Some(&Pointer::parse("/wiki").unwrap()), "p/collect", topic.num_partitions);
    let mut expected: BTreeMap<u32, Vec<Sequence>> = BTreeMap::new();
    let mut letters = Vec::new();
    for event in spool.events.borrow().iter().flatten() {
        match event {
            Spooled::Event { sequence, value, .. } => {
                expected.entry(router.route(value).1).or_default().push(*sequence);
            }
            Spooled::Letter { letter, .. } => letters.push(letter.coordinate.clone()),
        }
    }
    for partition in 0..topic.num_partitions {
        let records = sim.world().records_ever(topic.id, partition);
        let found: Vec<_> = records.iter().filter_map(|record| record_sequence(record, spool.uuid)).collect();
        let expected = expected.remove(&partition).unwrap_or_default();
        let lost = |sequence: &Sequence| !expected.contains(sequence);
        let once = found.is_sorted_by(|a, b| a < b)
            && found.iter().filter(|s| lost(s)).all(|s| spool.lost.borrow().contains_key(s));
        if !once || (whole && expected.iter().any(|sequence| !found.contains(sequence))) {
            return Err(format!("partition {partition} holds {found:?} instead of {expected:?}"));
        }
        for record in records.iter().filter(|record| record_sequence(record, spool.uuid).is_some()) {
            let sequence = record_sequence(record, spool.uuid).unwrap_or_default();
            let event = spool.event(sequence);
            if !matches!(&event, Some(Spooled::Event { value, .. }) if Some(value) == record.value.as_ref()) {
                return Err(format!("partition {partition}: record {record:?} is not event {event:?}"));
            }
        }
    }
    let name = TopicName::from("t.dead_letters");
    let sent: Vec<_> = sim.world().records(&name, 0).into_iter().filter_map(|letter| letter.key).collect();
    match letters.into_iter().find(|letter| whole && !sent.contains(&Bytes::from(letter.clone()))) {
        Some(letter) => Err(format!("letter {letter} was not sent")),
        None => Ok(()),
    }
}

#[test]
fn every_event_of_a_spool_is_on_the_bus_once_in_order_whatever_happens() {
    histories("ingest", COUNT, history);
    let taken = taken();
    for rare in RARE {
        assert!(taken.contains_key(rare), "no history took the branch {rare}; taken: {taken:?}");
    }
}
