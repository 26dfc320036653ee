//! What the archive gives back is what the bus once gave.

use std::sync::Arc;

use tokio::time::Instant;

use super::*;
use crate::{
    archive::{BackedBus, Codec, Lane, Parts, histories},
    bus::{Bus, TopicInfo, model::Payload},
    sim::Sim,
};

pub struct Archived {
    pub sim: Sim,
    pub topic: TopicInfo,
    pub parts: Parts,
}

fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("nothing waits")
}

/// Two hundred offsets: lines, empty lines, nulls, records with a newline, markers; archived in small
/// segments, but for the last few.
pub fn archived(seed: u64, codec: Codec) -> Archived {
    let fill = |sim: &mut Sim| {
        let world = sim.world().clone();
        for n in 0..200_u32 {
            world.clock().advance(sim.below(50) as Millis);
            match sim.below(12) {
                0 => world.skip(&"t".into(), 0, 1 + sim.below(3) as u64),
                1 => drop(world.append(&"t".into(), 0, vec![Payload::null()])),
                2 => drop(world.append(&"t".into(), 0, vec![Payload::value(format!("two\nlines {n}")).key("k")])),
                3 => drop(world.append(&"t".into(), 0, vec![Payload::value("")])),
                _ => drop(world.append(&"t".into(), 0, vec![Payload::value(format!("event {n}"))])),
            }
        }
    };
    archived_from(seed, Settings { roll_bytes: 100, codec, ..Settings::for_test() }, fill, 190)
}

/// What `fill` appends, archived up to `end` at least.
fn archived_from(seed: u64, settings: Settings, fill: impl FnOnce(&mut Sim), end: Offset) -> Archived {
    let mut sim = Sim::new(seed);
    let (world, owner) = (sim.world().clone(), sim.owner());
    let topic = world.topic(&histories::spec("t"));
    world.topic(&histories::spec("t.dead_letters"));
    fill(&mut sim);
    let parts = histories::parts(&sim, owner, &Arc::new(settings));
    let parts = Parts { bus: Arc::new(world.bus()), store: Arc::new(world.store()), ..parts };
    let archived = Archived { sim, topic, parts };
    let mut lane = now(Lane::open(archived.parts.clone(), archived.topic.clone(), 0)).unwrap();
    let mut reader = now(archived.parts.bus.reader(&archived.topic, 0, 0)).unwrap();
    while lane.position() < end {
        let batch = now(reader.next()).unwrap();
        now(lane.take(&batch, Instant::now())).unwrap();
    }
    archived
}

impl Archived {
    fn recall(&self, from: Offset) -> Recall {
        let Parts { store, settings, .. } = &self.parts;
        now(Recall::open(store.clone(), settings, self.topic.id, 0, from)).unwrap()
    }

    /// All of the bus as it was, without what an archive does not keep.
    fn records(&self) -> Vec<Record> {
        self.sim.world().records_ever(self.topic.id, 0)
    }

    /// The records that are lines of the archive, or will be.
    pub fn lines(&self) -> Vec<Record> {
        let is_line = |record: &Record| record.value.as_ref().is_some_and(|value| !value.contains(&b'\n'));
        self.records().into_iter().filter(is_line).collect()
    }

    /// Where the archive ends.
    pub fn recalled_to(&self) -> Offset {
        let mut recall = self.recall(0);
        while now(recall.next()).unwrap().is_some() {}
        recall.position()
    }

    fn backed(&self) -> BackedBus {
        let Parts { bus, store, settings, .. } = &self.parts;
        BackedBus::new(bus.clone(), store.clone(), settings.clone())
    }

    fn read(&self, from: Offset, to: Offset) -> Vec<Batch> {
        let mut reader = now(self.backed().reader(&self.topic, 0, from)).unwrap();
        let mut batches = Vec::new();
        while reader.position() < to {
            batches.push(now(reader.next()).unwrap());
        }
        batches
    }

    fn end(&self) -> Offset {
        now(self.parts.bus.watermarks(&self.topic, 0)).unwrap().high
    }
}

/// Keys and times of nulls are not kept, and of no meaning to those who read values.
fn values(records: &[Record]) -> Vec<(Offset, Millis, Option<Bytes>)> {
    let time = |record: &Record| if record.value.is_some() { record.time } else { 0 };
    records.iter().map(|record| (record.offset, time(record), record.value.clone())).collect()
}

#[test]
fn a_recalled_archive_is_the_topic_with_its_holes() {
    for (seed, codec) in (0..40).zip([Codec::Plain, Codec::Gzip, Codec::Zstd].into_iter().cycle()) {
        let archived = archived(seed, codec);
        let all = archived.records();
        for from in 0..190 {
            let mut recall = archived.recall(from);
            let (mut at, mut found, mut dead) = (from, Vec::new(), 0);
            while let Some(batch) = now(recall.next()).unwrap() {
                assert_eq!((batch.from, batch.to > at), (at, true), "seed {seed}, from {from}");
                at = batch.to;
                match batch.why {
                    Why::DeadLetter => dead += batch.to - batch.from,
                    why => assert_eq!(why, Why::Marker, "seed {seed}, from {from}"),
                }
                found.extend(batch.records);
            }
            let has_newline = |record: &Record| record.value.as_ref().is_some_and(|value| value.contains(&b'\n'));
            let (newlines, lines): (Vec<_>, Vec<_>) =
                all.iter().filter(|record| (from..at).contains(&record.offset)).cloned().partition(has_newline);
            assert_eq!((values(&found), dead), (values(&lines), newlines.len() as u64), "seed {seed}, from {from}");
            assert!(at > from && at > 150, "seed {seed}, from {from}");
        }
    }
}

#[test]
fn what_the_bus_has_forgotten_comes_from_the_archive_dead_letters_too() {
    for seed in 0..40 {
        let archived = archived(seed, Codec::Plain);
        let (all, end) = (archived.records(), archived.end());
        archived.sim.world().retain(&"t".into(), 0, 100 + seed);
        for from in [0, 7, 99, 120, end - 1] {
            let batches = archived.read(from, end);
            let found: Vec<_> = batches.iter().flat_map(|batch| batch.records.clone()).collect();
            let expected: Vec<_> = all.iter().filter(|record| record.offset >= from).cloned().collect();
            assert_eq!(values(&found), values(&expected), "seed {seed}, from {from}");
            let gone = |batch: &&Batch| batch.why == Why::Retention && !batch.holes().is_empty();
            assert_eq!(batches.iter().find(gone), None, "seed {seed}, from {from}");
        }
    }
}

#[test]
fn what_neither_has_is_a_hole_of_retention() {
    let archived = archived(1, Codec::Plain);
    let end = archived.end();
    archived.sim.world().append(&"t".into(), 0, (0..100).map(|n| Payload::value(format!("after {n}"))).collect());
    let low = end + 50;
    archived.sim.world().retain(&"t".into(), 0, low);
    let batches = archived.read(0, low + 50);
    let gone: Vec<_> = batches.iter().filter(|batch| batch.why == Why::Retention && batch.records.is_empty()).collect();
    assert_eq!(gone.len(), 1);
    let mut recall = archived.recall(0);
    while now(recall.next()).unwrap().is_some() {}
    assert_eq!((gone[0].from, gone[0].to), (recall.position(), low));
    assert_eq!(batches.iter().map(|batch| batch.records.len()).sum::<usize>(), {
        let kept = |record: &&Record| record.offset < recall.position() || record.offset >= low;
        archived.records().iter().filter(kept).count()
    });
}

#[test]
fn a_segment_that_is_altered_or_missing_is_a_hole_and_the_rest_is_there() {
    for alter in [true, false] {
        let archived = archived(2, Codec::Plain);
        let (path, text) = archived.sim.world().files().into_iter().find(|(path, _)| path.ends_with(".jsonl")).unwrap();
        let path = crate::store::StorePath::new(&path).unwrap();
        let store = &archived.parts.store;
        assert!(now(store.delete(&path)).unwrap());
        if alter {
            let altered: Bytes =
                text.iter().map(|&byte| if byte == b'e' { b'E' } else { byte }).collect::<Vec<_>>().into();
            now(store.put_if_absent(&path, altered)).unwrap();
        }
        archived.sim.world().retain(&"t".into(), 0, 150);
        let batches = archived.read(0, 150);
        let (first, rest) = batches.split_first().unwrap();
        assert_eq!((first.from, first.records.len(), first.why), (0, 0, Why::Retention));
        assert!(rest.iter().all(|batch| batch.why != Why::Retention || batch.holes().is_empty()));
    }
}

/// Lines of which no two are the same, some longer than what is read at a time, in one segment.
fn long_lines(codec: Codec) -> Archived {
    let fill = |sim: &mut Sim| {
        for n in 0..40_u64 {
            let len = if n % 10 == 7 { 700_000 } else { sim.below(30_000) };
            let noise: String = (0..len / 8).map(|_| format!("{:08x}", sim.below(1 << 32))).collect();
            sim.world().append(&"t".into(), 0, vec![Payload::value(format!("{n} {noise}"))]);
        }
    };
    archived_from(4, Settings { roll_bytes: 3_000_000, codec, ..Settings::for_test() }, fill, 40)
}

#[test]
fn a_segment_is_read_in_pieces_whatever_its_lines() {
    for codec in [Codec::Plain, Codec::Gzip, Codec::Zstd] {
        let archived = long_lines(codec);
        let (mut recall, mut found) = (archived.recall(0), Vec::new());
        while let Some(batch) = now(recall.next()).unwrap() {
            found.extend(batch.records);
        }
        assert!(found.len() > 30, "{codec:?}: the first segment at least");
        assert!(values(&found) == values(&archived.records()[..found.len()]), "{codec:?}");
    }
}

#[test]
fn a_segment_that_goes_while_it_is_read_is_a_hole_from_there_on() {
    for codec in [Codec::Plain, Codec::Zstd] {
        let archived = long_lines(codec);
        let mut recall = archived.recall(0);
        let entry = now(recall.entry()).unwrap().unwrap();
        let mut segment = now(recall.load(entry.clone())).unwrap();
        let first = now(segment.step()).unwrap().unwrap();
        assert_eq!(first.value, archived.records()[0].value);
        (recall.position, recall.segment) = (1, Some(segment));
        let path = recall.layout.base.join(entry.target.as_ref().unwrap());
        assert!(now(archived.parts.store.delete(&path)).unwrap());
        let hole = now(recall.next()).unwrap().unwrap();
        assert_eq!((hole.from, hole.to, hole.why, hole.records.len()), (1, entry.next, Why::Retention, 0), "{codec:?}");
    }
}

#[test]
fn a_time_is_sought_by_segments() {
    let archived = archived(3, Codec::Zstd);
    let all: Vec<_> = archived.records().into_iter().filter(|record| record.value.is_some()).collect();
    for record in &all {
        let mut recall = archived.recall(0);
        now(recall.seek(record.time)).unwrap();
        let sought = recall.position();
        let before = all.iter().filter(|other| other.offset < sought).map(|other| other.time).max();
        assert!(before < Some(record.time), "{before:?} lies before {sought}, sought was {}", record.time);
    }
    let mut recall = archived.recall(0);
    now(recall.seek(all[all.len() / 2].time)).unwrap();
    assert!(recall.position() > 20, "the first half is passed over");
}
