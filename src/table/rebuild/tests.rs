//! Hours and whole tables counted again, and what readers see of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::{
    archive::{self, BackedBus},
    bus::{Cleanup, SharedBus, TopicSpec, model::Payload},
    model::{ActorId, Clock, Epoch, Incarnation, Partition},
    sim::Sim,
    store::{SharedStore, StorePath},
    table::{
        Committer, Lane, Measure, MeasureKind, Proposal,
        testing::{self, NoPause, number},
        window::Cell,
    },
};

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;

fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("nothing waits")
}

/// A topic of two partitions, its archive and tables of it, in a world where everything is done at once.
struct World {
    sim: Sim,
    topic: TopicInfo,
    bus: SharedBus,
    store: SharedStore,
    clock: Arc<dyn Clock>,
    /// When the first hour begins.
    base: Millis,
}

impl World {
    fn new() -> Self {
        let sim = Sim::new(7);
        let world = sim.world().clone();
        let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
        let spec = |name: &str, num_partitions| TopicSpec { name: name.into(), num_partitions, cleanup };
        let topic = world.topic(&spec("t", 2));
        world.topic(&spec("t.dead_letters", 1));
        let now = world.clock().now();
        let base = (now.div_euclid(24 * HOUR) + 1) * 24 * HOUR;
        world.clock().advance(base - now);
        let (bus, store) = (Arc::new(world.bus()), Arc::new(world.store()));
        let clock = Arc::new(world.clock());
        Self { sim, topic, bus, store, clock, base }
    }

    /// An event of this minute, on the bus at this minute.
    fn event(&self, partition: Partition, at: Millis, minute: Millis, wiki: &str) {
        let clock = self.sim.world().clock();
        clock.advance((self.base + at * MINUTE - clock.now()).max(1));
        // Fractions whose sum depends on the order.
        let len = 0.1 + minute as f64 / 7.0;
        let seconds = (self.base + minute * MINUTE) / 1000;
        let text = format!("{{\"timestamp\":{seconds},\"wiki\":\"{wiki}\",\"len\":{len}}}");
        self.value(partition, Payload::value(text));
    }

    fn value(&self, partition: Partition, payload: Payload) {
        self.sim.world().append(&"t".into(), partition, vec![payload]);
    }

    fn end(&self, partition: Partition) -> Offset {
        now(self.bus.watermarks(&self.topic, partition)).unwrap().high
    }

    fn forget(&self) {
        for partition in 0..2 {
            self.sim.world().retain(&"t".into(), partition, self.end(partition));
        }
    }

    /// Archives all there is; what is backed by it.
    fn archive(&self) -> BackedBus {
        let settings = archive::Settings { roll_bytes: 300, ..archive::Settings::for_test() };
        let parts = archive::Parts {
            actor: ActorId { pipeline: "p".into(), stage: "archive".into(), replica: 0 },
            node: "n".into(),
            epoch: Epoch(1),
            incarnation: Incarnation(1),
            bus: self.bus.clone(),
            store: self.store.clone(),
            pause: Arc::new(NoPause),
            settings: Arc::new(settings.clone()),
        };
        for partition in 0..2 {
            let mut lane = now(archive::Lane::open(parts.clone(), self.topic.clone(), partition)).unwrap();
            let mut reader = now(self.bus.reader(&self.topic, partition, lane.position())).unwrap();
            while lane.position() < self.end(partition) {
                now(lane.take(&now(reader.next()).unwrap(), Instant::now())).unwrap();
            }
            now(lane.roll()).unwrap();
        }
        BackedBus::new(self.bus.clone(), self.store.clone(), Arc::new(settings))
    }

    fn files(&self) -> BTreeMap<String, Bytes> {
        self.sim.world().files()
    }
}

struct Table<'w> {
    world: &'w World,
    settings: Settings,
    committer: Committer,
    keeper: Keeper,
    lanes: Vec<Lane>,
}

impl<'w> Table<'w> {
    fn open(world: &'w World, path: &str, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let mut settings = testing::settings();
        (settings.topic, settings.path) = ("t".into(), StorePath::new(path).unwrap());
        (settings.history, settings.checkpoint_every) = (Duration::from_secs(3600), 2);
        change(&mut settings);
        let (store, pause, clock) = (world.store.clone(), Arc::new(NoPause), world.clock.clone());
        let committer = now(Committer::open(&settings, store.clone(), pause.clone(), clock.clone()))?;
        let keeper = now(Keeper::open(&settings, store, pause, clock))?;
        let id = |partition| LaneId { topic: world.topic.id, partition };
        let lanes = (0..2).map(|partition| committer.lane(id(partition), 0)).collect();
        Ok(Self { world, settings, committer, keeper, lanes })
    }

    /// Counts what is new in both partitions, and commits.
    fn count(&mut self, bus: &dyn Bus) -> Outcome {
        for lane in &mut self.lanes {
            let partition = lane.id().partition;
            let mut reader = now(bus.reader(&self.world.topic, partition, lane.at())).unwrap();
            while lane.at() < self.world.end(partition) {
                lane.take(&now(reader.next()).unwrap());
            }
        }
        let sealed = self.lanes.iter_mut().filter_map(|lane| lane.seal(None)).collect();
        now(self.committer.commit(&Proposal::new(sealed))).unwrap()
    }

    fn round(&mut self) {
        now(self.keeper.round(&self.world.topic)).unwrap();
    }

    fn rebuild(&mut self, hours: Range<Millis>, bus: &dyn Bus) -> Result<Rebuilt> {
        let range = self.world.base + hours.start * HOUR..self.world.base + hours.end * HOUR;
        now(self.keeper.rebuild(&self.world.topic, &range, &Source { bus, despite_gaps: false }))
    }

    /// The files of a folder of the table, with their bytes.
    fn folder(&self, folder: &str) -> BTreeMap<String, Bytes> {
        let prefix = format!("{}/{folder}/", self.settings.path);
        let files = self.world.files();
        let within = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(&prefix)?, bytes)));
        within.map(|(name, bytes)| (name.to_owned(), bytes.clone())).collect()
    }

    /// What plain readers find: the name of each file and its edits per minute and wiki.
    fn plain(&self) -> BTreeMap<String, Edits> {
        let files = self.folder(&format!("dt={}", &rfc3339(self.world.base)[..10])).into_iter();
        files.map(|(name, bytes)| (name, self.edits(bytes))).collect()
    }

    fn edits(&self, file: Bytes) -> Edits {
        let columns = Definition::of(&self.settings).columns();
        let rows = crate::table::parquet::read(&columns, file).unwrap();
        let edits = |row: &Row| match row.cells[0] {
            Cell::Long(edits) => ((row.window_start - self.world.base) / MINUTE, row.keys.join("/"), edits),
            cell => panic!("{cell:?}"),
        };
        rows.iter().map(edits).collect()
    }

    /// The name of this hour's file, of this generation.
    fn name(&self, hour: Millis, generation: u64) -> String {
        let name = &rfc3339(self.world.base + hour * HOUR)[11..13];
        if generation == 0 { format!("{name}.parquet") } else { format!("{name}-{generation}.parquet") }
    }

    /// Commits and rounds until a version of now is old.
    fn pass_history(&mut self, bus: &dyn Bus, from_minute: Millis) {
        for minute in (from_minute..from_minute + 180).step_by(30) {
            (0..2).for_each(|partition| self.world.event(partition, minute, minute, "later"));
            self.count(bus);
            self.round();
        }
    }
}

type Edits = Vec<(Millis, String, i64)>;

fn edits(rows: &[(Millis, &str, i64)]) -> Edits {
    rows.iter().map(|&(minute, wiki, edits)| (minute, wiki.to_owned(), edits)).collect()
}

/// Two hours with all that makes an archive differ from a topic; some of hour 0 is late, some from the
/// future.
fn odd(world: &World) {
    for minute in 0..20 {
        world.event(minute as Partition % 2, minute, minute, "a");
    }
    world.value(0, Payload::null());
    world.sim.world().skip(&"t".into(), 0, 2);
    let pretty = format!("{{\n\"timestamp\":{},\n\"wiki\":\"pretty\"}}", (world.base + 5 * MINUTE) / 1000);
    world.value(1, Payload::value(pretty).key("k"));
    world.value(1, Payload::value(""));
    // Ahead of its bus time by more than the bound, at this time; not if it was judged by any later one.
    world.event(0, 21, 59, "future");
    for partition in 0..2 {
        world.event(partition, 140, 140, "b");
    }
}

#[test]
fn an_hour_is_rebuilt_to_the_same_bytes_from_the_bus_and_from_the_archive() {
    let world = World::new();
    let mut tables = ["/a", "/b"].map(|path| Table::open(&world, path, |_| ()).unwrap());
    odd(&world);
    tables.iter_mut().for_each(|table| drop(table.count(&*world.bus)));
    world.event(0, 141, 3, "late");
    world.event(1, 142, 5, "late");
    tables.iter_mut().for_each(|table| drop(table.count(&*world.bus)));
    tables.iter_mut().for_each(Table::round);
    let backed = world.archive();
    let [a, b] = &mut tables;
    let old = a.plain();
    assert!(old[&a.name(0, 0)].iter().all(|(_, wiki, _)| wiki != "late"));
    assert_eq!(a.rebuild(0..1, &*world.bus).unwrap().changed.len(), 1);
    world.forget();
    let fault = b.rebuild(0..1, &*world.bus).unwrap_err();
    assert_eq!(fault.kind, Kind::Lost, "{fault}");
    assert_eq!(b.rebuild(0..1, &backed).unwrap().changed.len(), 1);
    // From the archive alone there is no dead letter missing either.
    assert_eq!(b.rebuild(0..1, &backed.clone().archive_only()).unwrap().same, 1);
    let files = [&*a, &*b].map(|table| table.folder("_rebuilt").into_values().collect::<Vec<_>>());
    assert_eq!((files[0].len(), &files[0]), (1, &files[1]));
    let mut expected: Edits = (0..20).map(|minute| (minute, "a".to_owned(), 1)).collect();
    expected.extend(edits(&[(3, "late", 1), (5, "late", 1), (5, "pretty", 1)]));
    expected.sort();
    assert_eq!(a.edits(files[0][0].clone()), expected);
}

#[test]
fn plain_readers_see_the_old_rows_until_no_version_names_them_and_then_the_new() {
    let world = World::new();
    let mut table = Table::open(&world, "/a", |_| ()).unwrap();
    for partition in 0..2 {
        world.event(partition, 5, 5, "a");
        world.event(partition, 90, 90, "a");
    }
    table.count(&*world.bus);
    world.event(0, 91, 7, "late");
    table.count(&*world.bus);
    table.round();
    let (old, new) = (table.name(0, 0), table.name(0, 1));
    assert_eq!(table.plain()[&old], edits(&[(5, "a", 2)]));
    let rebuilt = table.rebuild(0..1, &*world.bus).unwrap();
    assert_eq!((rebuilt.changed.len(), rebuilt.same, rebuilt.gaps.len()), (1, 0, 0));
    // Once more finds nothing to do.
    let rebuilt = table.rebuild(0..1, &*world.bus).unwrap();
    assert_eq!((rebuilt.changed.len(), rebuilt.same), (0, 1));
    table.round();
    assert_eq!(table.plain()[&old], edits(&[(5, "a", 2)]), "and not the new beside it");
    let shown = now(crate::table::show(&*world.store, &table.settings.path, None, None)).unwrap().unwrap();
    let late = |row: &&Row| row.keys == ["late"];
    assert_eq!(shown.rows.iter().filter(late).count(), 1, "who reads the log sees it at once");
    let before = table.plain().len();
    table.pass_history(&*world.bus, 100);
    let plain = table.plain();
    assert_eq!((plain.get(&old), &plain[&new]), (None, &edits(&[(5, "a", 2), (7, "late", 1)])));
    assert!(plain.len() > before, "{plain:?}");
    // A second correction goes the same way.
    world.event(1, 300, 8, "late");
    table.count(&*world.bus);
    table.rebuild(0..1, &*world.bus).unwrap();
    table.pass_history(&*world.bus, 310);
    let plain = table.plain();
    assert_eq!((plain.get(&new), plain[&table.name(0, 2)].len()), (None, 3));
    assert_eq!(table.folder("_rebuilt").len(), 1, "the first correction's file is gone");
}

#[test]
fn who_slept_cannot_bring_an_older_generation_back() {
    let world = World::new();
    let mut table = Table::open(&world, "/a", |_| ()).unwrap();
    for partition in 0..2 {
        world.event(partition, 5, 5, "a");
        world.event(partition, 90, 90, "a");
    }
    table.count(&*world.bus);
    world.event(0, 91, 7, "late");
    table.count(&*world.bus);
    let mut sleeper = Table::open(&world, "/a", |_| ()).unwrap();
    let hour = Hour::parse(&rfc3339(world.base)).unwrap();
    let merges = sleeper.keeper.table.snapshot.hidden_of(hour);
    let rows = now(sleeper.keeper.rows_of(&merges)).unwrap();
    let file = HourFile { hour, generation: 0 };
    let staged = table.settings.path.join(&file.staged_path());
    table.round();
    table.rebuild(0..1, &*world.bus).unwrap();
    // It has staged its file, and seen that its rows are still wanted.
    now(world.store.put_if_absent(&staged, Bytes::from_static(b"the old rows"))).unwrap();
    table.pass_history(&*world.bus, 100);
    assert_eq!(now(world.store.stat(&staged)).unwrap(), None, "its rename finds nothing");
    // Or it has not, and looks.
    assert_eq!(now(sleeper.keeper.bring(file, &merges, &rows)).unwrap(), None);
    let plain = table.plain();
    assert_eq!((plain.get(&table.name(0, 0)), plain[&table.name(0, 1)].len()), (None, 2));
}

#[test]
fn records_that_are_gone_are_named_if_they_may_belong_to_the_hours() {
    let world = World::new();
    let mut table = Table::open(&world, "/a", |_| ()).unwrap();
    for hour in 0..4 {
        for minute in [0, 20, 40] {
            (0..2).for_each(|p| world.event(p, hour * 60 + minute, hour * 60 + minute, "a"));
        }
        table.count(&*world.bus);
    }
    table.round();
    // Hour 0 is gone, and hour 1 up to its second event.
    world.sim.world().retain(&"t".into(), 1, 4);
    let fault = table.rebuild(1..2, &*world.bus).unwrap_err();
    assert_eq!(fault.kind, Kind::Lost);
    assert!(fault.message.contains("1@[0, 4) of topic t;"), "{fault}");
    assert_eq!(table.rebuild(2..3, &*world.bus).unwrap().same, 1);
    let range = world.base + HOUR..world.base + 2 * HOUR;
    let source = Source { bus: &*world.bus, despite_gaps: true };
    let rebuilt = now(table.keeper.rebuild(&world.topic, &range, &source)).unwrap();
    assert_eq!((rebuilt.changed.len(), rebuilt.gaps.len()), (1, 1));
    let fault = table.rebuild(2..4, &*world.bus).unwrap_err();
    let until = rfc3339(world.base + 3 * HOUR);
    assert!(fault.message.contains(&format!("all before {until} are")), "{fault}");
}

#[test]
fn a_table_of_other_settings_is_refused_or_counted_anew_or_has_another_path() {
    let world = World::new();
    let mut table = Table::open(&world, "/a", |_| ()).unwrap();
    for partition in 0..2 {
        world.event(partition, 5, 5, "a");
        world.event(partition, 65, 65, "b");
        world.event(partition, 150, 150, "b");
    }
    let backed = world.archive();
    table.count(&*world.bus);
    table.round();
    let (first, second) = (table.name(0, 0), table.name(1, 0));
    assert_eq!(table.plain().keys().collect::<Vec<_>>(), [&first, &second]);
    world.forget();
    let other = |settings: &mut Settings| {
        settings.measures = vec![Measure { name: "len".into(), kind: MeasureKind::Max(number("/len")) }];
        settings.measures.insert(0, Measure { name: "n".into(), kind: MeasureKind::Count });
        settings.filters[0].values.push("canary".into());
        settings.filters.push(crate::model::Filter {
            pointer: testing::pointer("/wiki"),
            include: true,
            values: vec!["b".into(), "later".into()],
        });
    };
    let refused = Table::open(&world, "/a", other).err().unwrap();
    for way in ["give the table a new path", "howdah table rebuild FILE --table NAME --all", "go back to its settings"]
    {
        assert!(refused.message.contains(way), "{refused}");
    }
    // Back to its settings, and a path of its own.
    assert!(Table::open(&world, "/a", |_| ()).is_ok() && Table::open(&world, "/b", other).is_ok());
    // All again.
    let mut settings = table.settings.clone();
    other(&mut settings);
    let begin: Vec<_> = table.lanes.iter().map(|lane| (lane.id(), 0)).collect();
    now(replace(&settings, &*world.store, &NoPause, &begin, 0)).unwrap();
    world.event(0, 151, 151, "zombie");
    let lane = &mut table.lanes[0];
    let mut reader = now(world.bus.reader(&world.topic, 0, lane.at())).unwrap();
    lane.take(&now(reader.next()).unwrap());
    let zombie = Proposal::new(lane.seal(None).into_iter().collect());
    let fault = now(table.committer.commit(&zombie)).unwrap_err();
    assert!(fault.message.contains("made by other settings"), "{fault}");
    let mut table = Table::open(&world, "/a", |settings| {
        other(settings);
    })
    .unwrap();
    table.count(&backed);
    table.round();
    let day = format!("dt={}", &rfc3339(world.base)[..10]);
    assert_eq!(table.folder(&day).keys().collect::<Vec<_>>(), [&first, &second], "the old rows");
    table.pass_history(&*world.bus, 160);
    let plain = table.plain();
    // Hour 0 has no rows by the new settings.
    assert_eq!((plain.get(&first), plain.get(&second)), (None, None));
    assert_eq!(plain.get(&table.name(0, 1)), None);
    assert_eq!(plain[&table.name(1, 1)], edits(&[(65, "b", 2)]));
    assert_eq!(plain[&table.name(2, 1)].len(), 2, "{plain:?}");
}

#[test]
fn nobody_who_counted_before_a_replacement_commits_after_it() {
    let world = World::new();
    let mut table = Table::open(&world, "/a", |_| ()).unwrap();
    world.event(0, 5, 5, "a");
    table.count(&*world.bus);
    let begin: Vec<_> = table.lanes.iter().map(|lane| (lane.id(), 0)).collect();
    now(replace(&table.settings, &*world.store, &NoPause, &begin, 0)).unwrap();
    world.event(0, 6, 6, "a");
    assert!(matches!(table.count(&*world.bus), Outcome::Superseded { .. }));
    let mut table = Table::open(&world, "/a", |_| ()).unwrap();
    assert!(matches!(table.count(&*world.bus), Outcome::Committed { .. }));
    let shown = now(crate::table::show(&*world.store, &table.settings.path, None, None)).unwrap().unwrap();
    assert_eq!(shown.rows.len(), 2);
}
