//! What breaks a careless ingester, one step at a time: spools and owners that change, transactions
//! that were torn.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use uuid::Uuid;

use super::{
    IngestSettings, POSITIONS_TOPIC,
    ingest::{Ingest, Parts, Spooled},
    marks::{ID, SEQUENCE, SPOOL, record_sequence},
    position::{Claim, Position, Target},
    tail::{ids_in_tail, last_sequence},
};
use crate::{
    bus::{Cleanup, SharedBus, TopicInfo, TopicSpec, model::Payload},
    fault::{Kind, Result, Retry},
    model::{ActorId, Fingerprint, Header, Incarnation, Millis, Sequence},
    sim::Sim,
};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits")
}

/// A bus on which everything is done at once.
struct Calm {
    sim: Sim,
    topic: TopicInfo,
    /// When the spools were made.
    made: Cell<Millis>,
}

impl Calm {
    fn new() -> Self {
        let sim = Sim::new(1);
        let keep = Cleanup::Delete { retention_ms: None, retention_bytes: None };
        let make =
            |name: &str, cleanup| sim.world().topic(&TopicSpec { name: name.into(), num_partitions: 1, cleanup });
        let topic = make("t", keep);
        make("t.dead_letters", keep);
        make(POSITIONS_TOPIC, Cleanup::Compact);
        Self { sim, topic, made: Cell::new(0) }
    }

    fn bus(&self) -> SharedBus {
        Arc::new(self.sim.world().bus())
    }

    fn open(&self, spool: Uuid, claim: &Claim, kept: std::ops::Range<Sequence>) -> Result<Ingest> {
        let settings = IngestSettings { topic: "t".into(), key: None, batch_records: 9, batch_bytes: 9_000 };
        let parts = Parts {
            actor: ActorId { pipeline: "p".into(), stage: "ingest".into(), replica: 0 },
            source: "p/collect".to_owned(),
            spool,
            made: self.made.get(),
            progress: Arc::new(|| ()),
            bus: self.bus(),
            settings: Arc::new(settings),
        };
        now(Ingest::open(parts, self.topic.clone(), 0, claim, kept))
    }

    fn sequences(&self, spool: Uuid) -> Vec<Sequence> {
        let records = self.sim.world().records(&"t".into(), 0);
        records.iter().filter_map(|record| record_sequence(record, spool)).collect()
    }
}

fn events(sequences: std::ops::Range<Sequence>) -> Vec<Spooled> {
    let event = |sequence: Sequence| Spooled::Event {
        sequence,
        token: Some(format!("token {sequence}")),
        id: Bytes::from(format!("id {sequence}")),
        value: Bytes::from(format!("event {sequence}")),
        headers: Vec::new(),
    };
    sequences.map(event).collect()
}

#[test]
fn a_new_spool_begins_at_its_own_beginning_and_leaves_the_old_position_alone() {
    let (calm, claim) = (Calm::new(), Claim::default());
    let mut old = calm.open(A, &claim, 0..3).unwrap();
    now(old.send(&events(0..3))).unwrap();
    let mut new = calm.open(B, &claim, 0..0).unwrap();
    assert_eq!((new.next(), new.handover().token.as_deref()), (0, Some("token 2")));
    now(new.send(&events(0..2))).unwrap();
    assert_eq!((calm.sequences(A), calm.sequences(B)), (vec![0, 1, 2], vec![0, 1]));
    assert_eq!(calm.open(A, &claim, 0..3).unwrap().next(), 3);
}

#[test]
fn who_is_fenced_stops_without_fencing_the_owner() {
    let (calm, old, new) = (Calm::new(), Claim::default(), Claim::default());
    let mut first = calm.open(A, &old, 0..9).unwrap();
    let mut second = calm.open(A, &new, 0..9).unwrap();
    let fault = now(first.send(&events(0..1))).unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Fenced, Retry::Never));
    assert_eq!(calm.open(A, &old, 0..9).err().unwrap().kind, Kind::Fenced);
    // Had the old one opened the producer to find that out, this would be fenced now, and so on.
    now(second.send(&events(0..1))).unwrap();
    assert_eq!(calm.sequences(A), [0]);
}

/// It was blocked between looking at the positions and opening the producer.
#[test]
fn an_earlier_life_that_wakes_does_not_fence_its_successor() {
    let (calm, claim) = (Calm::new(), Claim::default());
    let (earlier, later) = (claim.of(Incarnation(1)), claim.of(Incarnation(2)));
    let mut ingest = calm.open(A, &later, 0..9).unwrap();
    assert_eq!(calm.open(A, &earlier, 0..9).err().unwrap().kind, Kind::Fenced);
    now(ingest.send(&events(0..1))).unwrap();
    assert_eq!(calm.sequences(A), [0]);
}

/// Its own write may have been done although nobody said so: that is no other owner.
#[test]
fn an_owner_whose_opening_was_not_answered_is_not_fenced_by_itself() {
    let (calm, claim) = (Calm::new(), Claim::default());
    let epoch = calm.open(A, &claim, 0..9).unwrap().epoch();
    // What an opening leaves that was done and given up.
    let record = calm.sim.world().records(&POSITIONS_TOPIC.into(), 0).pop().unwrap();
    let mut position: Position = serde_json::from_slice(&record.value.unwrap()).unwrap();
    position.epoch.0 += 1;
    claim.raise(position.epoch);
    let text = serde_json::to_vec(&position).unwrap();
    calm.sim.world().append(&POSITIONS_TOPIC.into(), 0, vec![Payload::value(text).key(record.key.unwrap())]);
    assert_eq!(calm.open(A, &claim, 0..9).unwrap().epoch().0, epoch.0 + 2);
}

#[test]
fn a_torn_transaction_is_mended_from_either_side() {
    let (calm, claim) = (Calm::new(), Claim::default());
    now(calm.open(A, &claim, 0..3).unwrap().send(&events(0..3))).unwrap();
    // Records without position: the fourth is there, and is not sent again.
    let headers = |sequence: Sequence| -> Vec<Header> {
        vec![
            (SPOOL.into(), Bytes::copy_from_slice(A.as_bytes())),
            (SEQUENCE.into(), Bytes::copy_from_slice(&sequence.to_be_bytes())),
        ]
    };
    calm.sim.world().append(&"t".into(), 0, vec![Payload { headers: headers(3), ..Payload::value("event 3") }]);
    let mut ingest = calm.open(A, &claim, 0..5).unwrap();
    assert_eq!(ingest.next(), 3);
    now(ingest.send(&events(3..5))).unwrap();
    assert_eq!(calm.sequences(A), (0..5).collect::<Vec<_>>());
    // Position without records: they are sent.
    let record = calm.sim.world().records(&POSITIONS_TOPIC.into(), 0).pop().unwrap();
    let mut position: Position = serde_json::from_slice(&record.value.unwrap()).unwrap();
    position.next = 7;
    position.last = BTreeMap::from([(Target::Partition(0), 6)]);
    let text = serde_json::to_vec(&position).unwrap();
    calm.sim.world().append(&POSITIONS_TOPIC.into(), 0, vec![Payload::value(text).key(record.key.unwrap())]);
    let mut ingest = calm.open(A, &claim, 0..8).unwrap();
    assert_eq!(ingest.next(), 5);
    now(ingest.send(&events(5..8))).unwrap();
    assert_eq!(calm.sequences(A), (0..8).collect::<Vec<_>>());
}

#[test]
fn events_that_neither_bus_nor_spool_has_are_loss_and_not_progress() {
    let (calm, claim) = (Calm::new(), Claim::default());
    now(calm.open(A, &claim, 0..3).unwrap().send(&events(0..3))).unwrap();
    // Released below what was sent: well.
    assert_eq!(calm.open(A, &claim, 2..9).unwrap().next(), 3);
    // A file with the next ones is gone.
    let fault = calm.open(A, &claim, 5..9).err().unwrap();
    assert_eq!(fault.kind, Kind::Lost);
    assert!(fault.message.contains("events [3, 5) were not sent") && fault.message.contains("p/collect"), "{fault}");
    // The spool ends before what was sent: what comes next is behind it.
    assert_eq!(calm.open(A, &claim, 0..2).unwrap().next(), 3);
}

/// A topic of years is not read to its beginning for a spool of today.
#[test]
fn a_new_spool_is_looked_for_among_the_young_records_only() {
    let (calm, claim) = (Calm::new(), Claim::default());
    let world = calm.sim.world();
    let mut time = 0;
    for _ in 0..20 {
        world.append(&"t".into(), 0, (0..1_000).map(|_| Payload::value("old")).collect());
        world.clock().advance(86_400_000);
        time = world.records(&"t".into(), 0).last().unwrap().time;
    }
    let steps = Cell::new(0);
    calm.made.set(time);
    let progress = || steps.set(steps.get() + 1);
    let last = |spool| now(last_sequence(&calm.bus(), &calm.topic, 0, (spool, time), &progress)).unwrap();
    assert_eq!(last(A), (None, false));
    assert!((1..=3).contains(&steps.get()), "{} steps of 20", steps.get());
    now(calm.open(A, &claim, 0..3).unwrap().send(&events(0..3))).unwrap();
    assert_eq!(last(A), (Some(2), false));
}

#[test]
fn the_tail_gives_ids_by_number_and_by_time_over_all_partitions() {
    let sim = Sim::new(1);
    let keep = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    let topic = sim.world().topic(&TopicSpec { name: "t".into(), num_partitions: 2, cleanup: keep });
    for n in 0..50_000_u32 {
        let headers = vec![(ID.into(), Bytes::from(n.to_string()))];
        sim.world().append(&"t".into(), n % 2, vec![Payload { headers, ..Payload::value("x") }]);
        sim.world().clock().advance(1);
    }
    let bus: SharedBus = Arc::new(sim.world().bus());
    let check = |since: i64, num_ids: usize, least: u32| {
        let counted = Cell::new(0);
        let ids = now(ids_in_tail(&bus, &topic, since, num_ids, || counted.set(counted.get() + 1))).unwrap();
        assert!(ids.is_sorted_by_key(|(_, time)| *time), "{since} {num_ids}");
        let oldest = (0..50_000_u32).find(|n| Fingerprint::of(n.to_string().as_bytes()) == ids[0].0).unwrap();
        assert!(oldest <= least && oldest + 25_000 > least, "{since} {num_ids}: from {oldest} on, not {least}");
        assert_eq!(ids.len() as u32, 50_000 - oldest, "none is left out");
        assert!(counted.get() >= 2, "told of each step");
    };
    let last = sim.world().records(&"t".into(), 1).last().unwrap().time;
    check(i64::MAX, 100, 49_800);
    check(i64::MAX, 12_000, 26_000);
    check(last - 30_000, 1, 20_000);
    check(0, 1, 0);
}
