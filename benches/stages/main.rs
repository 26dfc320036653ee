//! CPU seconds of each stage's heart over real events on a real embedded bus and local store.
//!
//! `make bench` runs it in release mode; `-- windows` (or ingest, archive, month) runs that stage alone,
//! `--data FOLDER` keeps the bus there for the next run, `--records N` takes more or fewer, and
//! `--events FILE` takes these, one a line, in place of the extract in `data/`, about 1 KB each. Each
//! figure is records per CPU second of the whole process (all threads, user and system time) while the
//! stage works through a backlog. `-- restart` needs a long `--events FILE` and measures restarts in the running
//! pipeline. Not a test: nothing is asserted about time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod month;
mod restart;

use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc};

use bytes::Bytes;
use howdah::{
    archive::{self, Codec, Lane, Parts},
    bus::{
        Bus, SharedBus, Start, TopicInfo,
        embedded::{EmbeddedBus, Settings},
    },
    collect::{
        IngestSettings,
        ingest::{self, Ingest, Spooled},
        position::Claim,
    },
    config::{self, Pipeline, StageKind},
    model::{ActorId, Batch, Doubling, Epoch, Incarnation, SystemClock},
    node,
    store::{SharedStore, local::LocalStore},
    table::{self, Taken, window::Plan},
};
use tokio::time::Instant;

const EVENTS: &[u8] = include_bytes!("../../data/recentchange-2015-09-12.ndjson.gz");
const RECORDS: usize = 300_000;

/// What the command line asks for.
struct Run {
    stages: Vec<&'static str>,
    data: Option<String>,
    events: Option<String>,
    records: usize,
}

const STAGES: [&str; 4] = ["ingest", "archive", "windows", "month"];

fn main() {
    // `cargo bench` passes `--bench`, which means nothing here.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |name: &str| arguments.iter().position(|argument| argument == name).map(|at| arguments[at + 1].clone());
    let named: Vec<_> = STAGES.into_iter().filter(|stage| arguments.iter().any(|argument| argument == stage)).collect();
    let run = Run {
        stages: if named.is_empty() { STAGES.to_vec() } else { named },
        data: value("--data"),
        events: value("--events"),
        records: value("--records").map_or(RECORDS, |number| number.parse().expect("a number of records")),
    };
    let text = run.events.as_ref().map_or_else(recorded, |file| std::fs::read_to_string(file).unwrap());
    if arguments.iter().any(|argument| argument == "restart") {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = |url: &str| pipeline_at(folder.path(), url);
        node::block_on(restart::restart(text.as_bytes(), folder.path(), pipeline)).unwrap();
    } else {
        node::block_on(measure(&run, &text)).unwrap();
    }
}

fn recorded() -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(EVENTS).read_to_string(&mut text).unwrap();
    text
}

async fn measure(Run { stages, data, records, .. }: &Run, text: &str) {
    let records = *records;
    let events: Vec<Bytes> = text.lines().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
    let bytes: usize = events.iter().map(Bytes::len).sum();
    println!("{records} events of {} bytes on average", bytes / events.len());
    let temporary = tempfile::tempdir().unwrap();
    let folder = data.as_ref().map_or_else(|| temporary.path().to_owned(), Into::into);
    let clock = Arc::new(SystemClock);
    let bus = EmbeddedBus::open(Settings { path: folder.join("bus") }, clock.clone()).unwrap();
    let pipeline = pipeline(&folder);
    for spec in &pipeline.topics {
        bus.ensure_topic(spec).await.unwrap();
    }
    let bus: SharedBus = Arc::new(bus);

    let topic = bus.topic(&"wiki_changes".into()).await.unwrap().unwrap();
    if bus.watermarks(&topic, 0).await.unwrap().high < records as u64 {
        ingest(&bus, &topic, &events, records).await;
    }
    for codec in [Codec::Plain, Codec::Zstd, Codec::Gzip].into_iter().filter(|_| stages.contains(&"archive")) {
        let root = temporary.path().join(format!("{codec:?}"));
        archive(&bus, &topic, Arc::new(LocalStore::open(root).await.unwrap()), codec, records).await;
    }
    if stages.contains(&"windows") {
        windows(&bus, &topic, &table_of(&pipeline), records).await;
    }
    if stages.contains(&"month") {
        month::month(&table_of(&pipeline), &topic, &events).await;
    }
    println!("VmHWM of all of it: {} MB", peak_kb() / 1024);
}

fn pipeline(folder: &Path) -> Pipeline {
    pipeline_at(folder, "http://127.0.0.1:9/")
}

fn pipeline_at(folder: &Path, url: &str) -> Pipeline {
    let environment = |name: &str| match name {
        "WIKIMEDIA_URL" => Some(url.to_owned()),
        "HOWDAH_DATA" => Some(folder.display().to_string()),
        "HOWDAH_CONTACT" => Some("bench@example.org".to_owned()),
        _ => None,
    };
    let text = include_str!("../../pipelines/wikimedia.toml");
    config::parse(Path::new("pipelines/wikimedia.toml"), text, &environment).unwrap().remove(0)
}

fn table_of(pipeline: &Pipeline) -> table::Settings {
    let settings = pipeline.stages.iter().find_map(|stage| match &stage.kind {
        StageKind::Aggregator(settings) => Some(settings.clone()),
        _ => None,
    });
    settings.unwrap()
}

fn actor(stage: &str) -> ActorId {
    ActorId { pipeline: "bench".into(), stage: stage.into(), replica: 0 }
}

async fn ingest(bus: &SharedBus, topic: &TopicInfo, events: &[Bytes], records: usize) {
    let settings = IngestSettings { topic: topic.name.clone(), key: None, batch_records: 500, batch_bytes: 1 << 20 };
    let parts = ingest::Parts {
        actor: actor("ingest"),
        source: "bench/collect".to_owned(),
        spool: uuid::Uuid::new_v4(),
        made: 0,
        progress: Arc::new(|| ()),
        bus: bus.clone(),
        settings: Arc::new(settings),
    };
    let mut ingest = Ingest::open(parts, topic.clone(), 0, &Claim::default(), 0..records as u64).await.unwrap();
    let clock = Clock::start("ingest into the embedded bus", records);
    for start in (0..records).step_by(500) {
        let event = |n: usize| Spooled::Event {
            sequence: n as u64,
            token: None,
            id: Bytes::from(n.to_string()),
            value: events[n % events.len()].clone(),
            headers: Vec::new(),
        };
        ingest.send(&(start..start + 500).map(event).collect::<Vec<_>>()).await.unwrap();
    }
    clock.stop();
}

async fn archive(bus: &SharedBus, topic: &TopicInfo, store: SharedStore, codec: Codec, records: usize) {
    let settings = archive::Settings {
        topic: topic.name.clone(),
        path: "/raw".to_owned(),
        prefix: String::new(),
        codec,
        roll_bytes: 128 << 20,
        roll_age: std::time::Duration::from_secs(600),
        bucket: std::time::Duration::from_secs(600),
        start: Start::Earliest,
        follows_recreated: false,
    };
    let parts = Parts {
        actor: actor("archive"),
        node: "bench".into(),
        epoch: Epoch(1),
        incarnation: Incarnation(1),
        bus: bus.clone(),
        store,
        pause: Arc::new(Doubling::default()),
        settings: Arc::new(settings),
    };
    let mut lane = Lane::open(parts, topic.clone(), 0).await.unwrap();
    let clock = Clock::start(&format!("archive from the bus, {codec:?}"), records);
    let mut reader = bus.reader(topic, 0, 0).await.unwrap();
    while lane.position() < records as u64 {
        let batch = reader.next().await.unwrap();
        lane.take(&batch, Instant::now()).await.unwrap();
    }
    lane.roll().await.unwrap();
    clock.stop();
}

async fn windows(bus: &SharedBus, topic: &TopicInfo, settings: &table::Settings, records: usize) {
    let plan = Arc::new(Plan::new(settings));
    let mut lane = table::Lane::open(plan, table::LaneId { topic: topic.id, partition: 0 }, None, 0, None);
    let (mut edits, mut hours) = (0, BTreeMap::new());
    let mut seal = |lane: &mut table::Lane| {
        let sealed = lane.seal(None).unwrap();
        hours.extend(sealed.hours.into_iter().map(|written| (written.hour, written.rows.len())));
    };
    let clock = Clock::start("windows from the bus", records);
    let mut reader = bus.reader(topic, 0, 0).await.unwrap();
    while lane.at() < records as u64 {
        let batch: Batch = reader.next().await.unwrap();
        let Taken::Counted { counts, .. } = lane.take(&batch) else { panic!("not taken at {}", lane.at()) };
        edits += counts.counted;
        if lane.at() % 50_000 < batch.to - batch.from {
            seal(&mut lane);
        }
    }
    if lane.at() > lane.sealed().next {
        seal(&mut lane);
    }
    clock.stop();
    println!("  {} rows, {edits} edits", hours.values().sum::<usize>());
}

/// CPU time of the whole process between two moments.
struct Clock {
    what: String,
    records: usize,
    cpu: f64,
    wall: Instant,
}

impl Clock {
    fn start(what: &str, records: usize) -> Self {
        Self { what: what.to_owned(), records, cpu: cpu_seconds(), wall: Instant::now() }
    }

    fn stop(self) {
        let (cpu, wall) = (cpu_seconds() - self.cpu, self.wall.elapsed().as_secs_f64());
        let rate = self.records as f64 / cpu / 1000.0;
        println!("{:<32} {rate:>7.0} k records per CPU second ({cpu:.2} CPU s, {wall:.2} s)", self.what);
    }
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
