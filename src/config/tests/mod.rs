//! Whole files: those that ship, bad ones, and bytes that are no files at all.

mod clusters;
mod complaints;
mod loaders;
mod schema;
mod several;
mod sources;
mod spool;

use super::*;
use crate::{
    archive::Codec,
    collect::{
        Layout, SourceSettings,
        spool::naming::{self, Template},
    },
    model::{Filter, Pointer},
    supervise::policy::{Backoff, Intensity, Policy, Strategy},
    table::{Measure, MeasureKind, Number, TimeUnit},
};
use std::time::Duration;

/// A small file in which each section says what it must and nothing else.
const SMALL: &str = r#"format = 1
pipeline.name = "p"
bus = { kind = "embedded", path = "d/bus" }
store = { kind = "local", path = "d/store" }
[topics.t]
[collector.c]
sse = { url = "http://localhost:1/s" }
spool = { path = "d/spool" }
[ingester.i]
collector = "c"
topic = "t"
[archiver.a]
topic = "t"
path = "/raw/t"
[aggregator.g]
topic = "t"
path = "/tables/t"
window = "1m"
time = "/ts"
time_unit = "millis"
measures = [{ name = "n", kind = "count" }]
"#;

/// The small file with one text in it replaced by another.
fn small(from: &str, to: &str) -> String {
    assert_eq!(SMALL.matches(from).count(), 1, "{from:?} stands once in the small file");
    SMALL.replace(from, to)
}

fn env(name: &str) -> Option<String> {
    match name {
        "HOWDAH_CONTACT" => Some("ops@example.org".to_owned()),
        "ONE" => Some("1".to_owned()),
        "INFLUX_URL" => Some("http://127.0.0.1:8086".to_owned()),
        "INFLUX_BUCKET" => Some("users/autogen".to_owned()),
        "LINES" => Some("x\"\n[bus]\nkind = \"evil\"".to_owned()),
        _ => None,
    }
}

fn check_text(text: &str) -> Result<Pipeline, Vec<String>> {
    let pipelines = check(vec![(PathBuf::from("p.toml"), Ok(text.into()))], &env);
    schema::agrees(text, pipelines.as_ref().err().map_or(&[], Vec::as_slice));
    match pipelines {
        Ok(mut pipelines) => Ok(pipelines.pop().unwrap()),
        Err(complaints) => Err(complaints.iter().map(ToString::to_string).collect()),
    }
}

fn shipped() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn every_shipped_file_loads_and_has_nothing_to_notice() {
    for path in shipped() {
        let pipelines = load(std::slice::from_ref(&path), &env).unwrap();
        assert_eq!(pipelines[0].notices, [""; 0], "{}", path.display());
    }
}

#[test]
fn without_a_contact_the_wikimedia_pipeline_is_refused() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/wikimedia.toml"));
    let complaints = load(&[path], &|_| None).unwrap_err();
    assert_eq!(complaints.len(), 1);
    assert_eq!(complaints[0].key, "collector.collect.sse.contact");
    assert!(complaints[0].message.contains("set HOWDAH_CONTACT to an e-mail address or a URL"), "{}", complaints[0]);
}

#[test]
fn a_server_of_ones_own_needs_no_contact_and_data_goes_where_it_is_told() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/wikimedia.toml"));
    let env = |name: &str| match name {
        "WIKIMEDIA_URL" => Some("http://127.0.0.1:9/v2/stream/recentchange".to_owned()),
        "HOWDAH_DATA" => Some("/data".to_owned()),
        _ => None,
    };
    let pipeline = load(&[path], &env).unwrap().remove(0);
    assert_eq!(pipeline.store, StoreSettings::Local { root: "/data/store".into() });
    assert_eq!(pipeline.bus, BusSettings::Embedded { path: "/data/bus".into() });
    let StageKind::Collector(collector) = &pipeline.stages[0].kind else { panic!("{:?}", pipeline.stages[0]) };
    assert_eq!(collector.spool.path, Path::new("/data/spool/wikimedia"));
    let SourceSettings::Sse(sse) = &collector.source else { panic!("{collector:?}") };
    assert_eq!((sse.url.as_str(), &sse.contact), ("http://127.0.0.1:9/v2/stream/recentchange", &None));
}

#[test]
fn what_is_not_written_has_its_default() {
    const KIB: u64 = 1_024;
    let pipeline = check_text(SMALL).unwrap();
    assert_eq!(pipeline.id, PipelineId::from("p"));
    assert_eq!(pipeline.supervision.strategy, Strategy::OneForOne);
    let second = Duration::from_secs(1);
    assert_eq!(pipeline.supervision.intensity, Intensity { restarts: 12, within: 600 * second });
    let backoff = Backoff { base: second / 40, cap: 30 * second, healthy: 60 * second };
    assert_eq!(pipeline.supervision.backoff, backoff);
    let spec = |name: &str, cleanup| TopicSpec { name: TopicName::from(name), num_partitions: 1, cleanup };
    let delete = |days: i64| Cleanup::Delete { retention_ms: Some(days * 86_400_000), retention_bytes: None };
    let topics = [spec("t", delete(7)), spec("t.dead_letters", delete(30)), spec("howdah_positions", Cleanup::Compact)];
    assert_eq!(pipeline.topics, topics);
    assert_eq!(pipeline.num_partitions(&TopicName::from("t")), Some(1));
    assert_eq!(pipeline.num_partitions(&TopicName::from("u")), None);
    assert_eq!(pipeline.notices, [""; 0]);

    let (policy, mailbox) = (Policy::Permanent, 16);
    let supervision = StageSupervision { policy, mailbox, stall: 120 * second, blocked: 30 * second };
    let [collect, ingest, archive, table] = pipeline.stages.as_slice() else { panic!("{:?}", pipeline.stages) };
    for stage in &pipeline.stages {
        assert_eq!((stage.replicas, stage.supervision), (1, supervision));
    }
    let StageKind::Collector(collector) = &collect.kind else { panic!("{collect:?}") };
    let SourceSettings::Sse(sse) = &collector.source else { panic!("{collector:?}") };
    assert_eq!((sse.contact.as_deref(), sse.max_event), (None, KIB * KIB));
    assert_eq!((sse.reconnect_after, sse.silence), (840 * second, 30 * second));
    assert_eq!((&collector.id, collector.dedupe_window, collector.dedupe_ids), (&None, 900 * second, 100_000));
    let spool = &collector.spool;
    assert_eq!(spool.layout, Layout::Packed);
    assert_eq!(
        (spool.max_bytes, spool.roll_bytes, spool.sync_within),
        (2 * KIB * KIB * KIB, 16 * KIB * KIB, second / 5)
    );
    let StageKind::Ingester { collector, settings } = &ingest.kind else { panic!("{ingest:?}") };
    assert_eq!((collector, &settings.key), (&StageId::from("c"), &None));
    assert_eq!((settings.batch_records, settings.batch_bytes), (1_000, 4 * 1_024 * 1_024));
    let StageKind::Archiver(archiver) = &archive.kind else { panic!("{archive:?}") };
    assert_eq!((archiver.path.as_str(), archiver.prefix.as_str(), archiver.codec), ("/raw/t", "events-", Codec::Plain));
    assert_eq!(
        (archiver.roll_bytes, archiver.roll_age, archiver.bucket),
        (128 * KIB * KIB, 600 * second, 86_400 * second)
    );
    let StageKind::Aggregator(table) = &table.kind else { panic!("{table:?}") };
    assert_eq!((table.window, table.watermark_delay, table.lateness), (60 * second, 10 * second, 600 * second));
    assert_eq!((table.future_bound, table.idle), (600 * second, 60 * second));
    assert_eq!((table.commit_interval, table.commit_records), (10 * second, 100_000));
}

#[test]
fn what_is_written_is_meant() {
    let text = r#"
format = 1
[aggregator.g]                     # before what it needs: the order of stages is the file's
topic = "t"
path = "/tables//t/"
window = "2h"
time = "/a/0/t~1s"
time_unit = "rfc3339"
keys = [{ name = "Wiki", pointer = "/wiki" }, { name = "kind", pointer = "/type" }]
measures = [{ name = "n", kind = "count" }, { name = "size", kind = "avg", pointer = "/length", minus = "/old" },
            { name = "s", kind = "sum", pointer = "/s" }, { name = "lo", kind = "min", pointer = "/s" },
            { name = "hi", kind = "max", pointer = "/s" }]
filters = [{ pointer = "/d", exclude = ["canary"] }, { pointer = "/e", include = ["a", "${ONE}"] }]
watermark_delay = "0s"
lateness = "1d"
future_bound = "5s"
idle = "2s"
commit_interval = "100ms"
commit_records = 7
history = "1h"
checkpoint_every = 10
success_files = true
replicas = 2
policy = "transient"
mailbox = 3
stall = "5s"
blocked = "1m"
[archiver.a]
topic = "t"
path = "/raw/%Y/%m/%d/%H%M"
prefix = ""
codec = "gzip"
roll_bytes = "10MB"
roll_age = "1s"
bucket = "10m"
[topics.t]
partitions = 2
retention_age = "unlimited"
retention_bytes = "2GiB"
[topics.u]
retention_age = "2h"
retention_bytes = "unlimited"
[ingester.i]
collector = "c"
topic = "t"
key = "/wiki"
batch_records = 5
batch_bytes = "8KiB"
[collector.c]
id = "/meta/id"
dedupe_window = "1m"
dedupe_ids = 10
[collector.c.sse]
url = "https://stream.wikimedia.org/v2/stream/recentchange"
contact = "${HOWDAH_CONTACT}"
reconnect_after = "15m"
silence = "1s"
max_event = "100KB"
[collector.c.spool]
path = "d/spool"
layout = "file-per-event"
file_name = "response_%Y%m%d_%H%M%S.json"
max_bytes = "1MiB"
roll_bytes = "512KiB"
sync_within = "10ms"
[bus]
kind = "embedded"
path = "d/${ONE}/bus"
[store]
kind = "local"
path = "d/store"
[pipeline]
name = "p-1_x"
strategy = "rest_for_one"
intensity = { restarts = 3, within = "5s" }
backoff = { base = "1ms", cap = "2ms", healthy = "3ms" }
"#;
    let pipeline = check_text(text).unwrap();
    let ids: Vec<_> = pipeline.stages.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(ids, ["g", "a", "i", "c"]);
    assert_eq!(pipeline.bus, BusSettings::Embedded { path: "d/1/bus".into() });
    let ms = Duration::from_millis;
    assert_eq!(pipeline.supervision.strategy, Strategy::RestForOne);
    assert_eq!(pipeline.supervision.intensity, Intensity { restarts: 3, within: ms(5_000) });
    assert_eq!(pipeline.supervision.backoff, Backoff { base: ms(1), cap: ms(2), healthy: ms(3) });
    let cleanups: Vec<_> = pipeline.topics[..2].iter().map(|spec| (spec.num_partitions, spec.cleanup)).collect();
    let first = Cleanup::Delete { retention_ms: None, retention_bytes: Some(2_147_483_648) };
    let second = Cleanup::Delete { retention_ms: Some(7_200_000), retention_bytes: None };
    assert_eq!(cleanups, [(2, first), (1, second)]);
    let names: Vec<_> = pipeline.topics.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["t", "u", "t.dead_letters", "u.dead_letters", "howdah_positions"]);

    let (policy, mailbox) = (Policy::Transient, 3);
    let supervision = StageSupervision { policy, mailbox, stall: ms(5_000), blocked: ms(60_000) };
    assert_eq!((pipeline.stages[0].replicas, pipeline.stages[0].supervision), (2, supervision));
    let pointer = |text: &str| Pointer::parse(text).unwrap();
    let StageKind::Aggregator(table) = &pipeline.stages[0].kind else { panic!() };
    assert_eq!((table.path.as_str(), table.time_unit), ("/tables/t", TimeUnit::Rfc3339));
    assert_eq!((table.window, &table.time), (ms(7_200_000), &pointer("/a/0/t~1s")));
    let key = |name: &str, at: &str| table::Key { name: name.to_owned(), pointer: pointer(at) };
    assert_eq!(table.keys, [key("Wiki", "/wiki"), key("kind", "/type")]);
    let measure = |name: &str, kind| Measure { name: name.to_owned(), kind };
    let number = |at: &str, minus: Option<&str>| Number { pointer: pointer(at), minus: minus.map(pointer) };
    let measures = [
        measure("n", MeasureKind::Count),
        measure("size", MeasureKind::Avg(number("/length", Some("/old")))),
        measure("s", MeasureKind::Sum(number("/s", None))),
        measure("lo", MeasureKind::Min(number("/s", None))),
        measure("hi", MeasureKind::Max(number("/s", None))),
    ];
    assert_eq!(table.measures, measures);
    let filter = |at: &str, include, values: &[&str]| {
        let values = values.iter().map(ToString::to_string).collect();
        Filter { pointer: pointer(at), include, values }
    };
    assert_eq!(table.filters, [filter("/d", false, &["canary"]), filter("/e", true, &["a", "1"])]);
    assert_eq!((table.watermark_delay, table.lateness), (ms(0), ms(86_400_000)));
    assert_eq!((table.future_bound, table.idle), (ms(5_000), ms(2_000)));
    assert_eq!((table.commit_interval, table.commit_records), (ms(100), 7));
    assert_eq!((table.history, table.checkpoint_every, table.success_files), (ms(3_600_000), 10, true));

    let StageKind::Archiver(archiver) = &pipeline.stages[1].kind else { panic!() };
    assert_eq!((archiver.path.as_str(), archiver.prefix.as_str()), ("/raw/%Y/%m/%d/%H%M", ""));
    assert_eq!((archiver.codec, archiver.roll_bytes), (Codec::Gzip, 10_000_000));
    assert_eq!((archiver.roll_age, archiver.bucket), (ms(1_000), ms(600_000)));
    let StageKind::Ingester { settings, .. } = &pipeline.stages[2].kind else { panic!() };
    assert_eq!(
        (settings.key.as_ref(), settings.batch_records, settings.batch_bytes),
        (Some(&pointer("/wiki")), 5, 8_192)
    );
    let StageKind::Collector(collector) = &pipeline.stages[3].kind else { panic!() };
    let SourceSettings::Sse(sse) = &collector.source else { panic!("{collector:?}") };
    assert_eq!((sse.contact.as_deref(), sse.max_event), (Some("ops@example.org"), 100_000));
    assert_eq!(
        (collector.id.as_ref(), collector.dedupe_window, collector.dedupe_ids),
        (Some(&pointer("/meta/id")), ms(60_000), 10)
    );
    let spool = &collector.spool;
    assert_eq!(spool.layout, Layout::FilePerEvent(Template::parse("response_%Y%m%d_%H%M%S.json").unwrap()));
    assert_eq!((spool.max_bytes, spool.roll_bytes, spool.sync_within), (1_048_576, 524_288, ms(10)));

    let notices = [
        "topic t has 2 partitions: order is kept within each, not between them",
        "topic u is declared, but no stage of this pipeline uses it",
        "c opens the next connection after 15m, but Wikimedia cuts each after 15m: write less than that",
    ];
    assert_eq!(pipeline.notices, notices);
}

#[test]
fn the_finest_field_of_a_path_is_the_bucket() {
    for (path, seconds) in [("/r/%Y", 86_400), ("/r/%Y/%d", 86_400), ("/r/%d/%H", 3_600), ("/r/%H%M", 60)] {
        let pipeline = check_text(&small("/raw/t", path)).unwrap();
        let StageKind::Archiver(archiver) = &pipeline.stages[2].kind else { panic!() };
        assert_eq!(archiver.bucket, Duration::from_secs(seconds), "{path}");
    }
}

#[test]
fn variables_are_filled_in_strings_and_nowhere_else() {
    // A comment may hold what would be refused in a string.
    check_text(&small("[topics.t]", "[topics.t]  # ${NOT_SET} ${ $")).unwrap();
    // A key is a key.
    let complaints = check_text(&small("[topics.t]", "[topics.t]\n\"${ONE}\" = 1")).unwrap_err();
    assert!(complaints[0].starts_with("p.toml:6:1: topics.t.\"${ONE}\": unknown key; "), "{complaints:?}");
    // A number stays a number, and a string does not become one.
    let complaints = check_text(&small("[topics.t]", "[topics.t]\npartitions = \"${ONE}\"")).unwrap_err();
    let expected = "p.toml:6:14: topics.t.partitions: found a string, allowed: a whole number from 1 to 1000";
    assert_eq!(complaints, [expected]);
    let complaints = check_text(&small("[topics.t]", "[topics.t]\npartitions = ${ONE}")).unwrap_err();
    assert!(complaints[0].starts_with("p.toml:6:14: not TOML: "), "{complaints:?}");
    // A value is a value, whatever is in it.
    let complaints = check_text(&small("\"/ts\"", "\"/${LINES}\"")).unwrap();
    let StageKind::Aggregator(table) = &complaints.stages[3].kind else { panic!() };
    assert_eq!(table.time.to_string(), "/x\"\n[bus]\nkind = \"evil\"");
    // Strings within arrays and inline tables are strings; literal and long ones too.
    let pipeline = check_text(&small("\"/ts\"", "'''/${ONE}'''\nfilters = [{ pointer = '/x', include = ['${ONE}'] }]"));
    let StageKind::Aggregator(table) = &pipeline.unwrap().stages[3].kind else { panic!() };
    assert_eq!((table.time.to_string().as_str(), table.filters[0].values.as_slice()), ("/1", &["1".to_owned()][..]));
}

#[test]
fn random_bytes_never_panic() {
    let mut files: Vec<String> = shipped().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    files.push(SMALL.to_owned());
    let pieces =
        ["[", "]]", "{", "}", "\"", "'''", "=", ".", ",", "\n", "\r\n", "#", "${", "${A:-", "$", "\u{feff}", "é"];
    let mut random = fastrand::Rng::with_seed(7);
    let run = |bytes: Vec<u8>| {
        let pipelines = check(vec![(PathBuf::from("p.toml"), Ok(bytes.clone()))], &env);
        let complaints = pipelines.as_ref().err().map_or(&[][..], Vec::as_slice);
        std::str::from_utf8(&bytes).into_iter().for_each(|text| schema::refuses_only(text, complaints));
        if let Err(complaints) = pipelines {
            let shown: Vec<_> = complaints.iter().map(ToString::to_string).collect();
            assert!(
                !shown.is_empty() && shown.iter().all(|line| line.starts_with("p.toml:") && !line.contains('\n')),
                "{shown:?}"
            );
        }
    };
    for _ in 0..2_000 {
        let length = random.usize(..200);
        run((0..length).map(|_| random.u8(..)).collect());
        run((0..random.usize(..40)).flat_map(|_| random.choice(pieces).unwrap().bytes()).collect());
        let mut bytes = random.choice(&files).unwrap().as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            let end = (at + random.usize(..20)).min(bytes.len());
            let piece: Vec<u8> = match random.u8(..3) {
                0 => vec![random.u8(..)],
                1 => random.choice(pieces).unwrap().into(),
                _ => bytes[end.saturating_sub(30)..end].to_vec(),
            };
            bytes.splice(at..end, piece);
        }
        run(bytes);
    }
}
