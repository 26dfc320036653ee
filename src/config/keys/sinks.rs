//! The keys of `[archiver.<name>]` and `[aggregator.<name>]`.

use std::{collections::BTreeMap, time::Duration};

use super::{Body, Role, build, topic_of};
use crate::{
    archive::{self, Codec},
    bus::Start,
    config::{
        StageKind,
        complaint::{At, Place, quoted},
        quantity::{DAY, DURATION, GIB, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND, parse_duration, show_duration},
        section::{ReadKind, Section},
        values,
    },
    model::Filter,
    table::{self, Measure, MeasureKind, Number, TimeUnit},
};

pub(super) fn archiver(section: &mut Section<'_>) -> Body {
    let topic = topic_of(section, "the topic it archives");
    let path = section.key("path", "the folder; the fields %Y %m %d %H %M (of the bus's time, UTC) make time buckets");
    let path = path.parse(values::TEMPLATE, values::template).required();
    let prefix = section.key("prefix", "what each file's name begins with");
    let prefix =
        prefix.parse(values::PREFIX, values::prefix).shown(|prefix| prefix.as_str().into()).or("events-".to_owned());
    let codecs = [("plain", Codec::Plain), ("gzip", Codec::Gzip), ("zstd", Codec::Zstd)];
    let codec = section.key("codec", "how the files are compressed").word(&codecs).or(Codec::Plain);
    let roll_bytes = section.key("roll_bytes", "a file of this size (before compression) is published");
    let roll_bytes = roll_bytes.size(KIB..=64 * GIB).or(128 * MIB);
    let roll_age = section.key("roll_age", "a file this old is published");
    let roll_age = roll_age.duration(100 * MILLISECOND..=7 * DAY).or(10 * MINUTE);
    let bucket = section.key("bucket", "time buckets are rounded down to this; by default the path's finest field");
    let bucket = bucket.parse(DURATION, |text| values::bucket(parse_duration(text)?)).optional();
    let start = start_of(section);
    let words = [("stop", false), ("new-chain", true)];
    let recreated = section.key("recreated", "what it does on a topic that was deleted and created anew");
    let recreated = recreated.word(&words).or(false);

    let finest = path.as_ref().map(|at| at.value.finest);
    if let Some((Some(bucket), finest)) = bucket.as_ref().zip(finest) {
        match finest {
            Some(finest) if bucket.value < finest => section.say_at(
                &bucket.place,
                format!(
                    "the path's finest field tells no two buckets of {} apart, allowed: at least {:?}",
                    show_duration(bucket.value),
                    show_duration(finest)
                ),
            ),
            Some(_) => {}
            None => section.say_at(&bucket.place, "the path has no fields, so there are no buckets"),
        }
    }
    let folder = path.as_ref().map(|at| At { value: at.value.folder.clone(), place: at.place.clone() });
    let settings = build(|| {
        let path = path?.value;
        Some(archive::Settings {
            topic: topic.as_ref()?.value.clone(),
            prefix: prefix?.value,
            codec: codec?.value,
            roll_bytes: roll_bytes?.value,
            roll_age: roll_age?.value,
            bucket: bucket?.map_or(path.finest.unwrap_or(DAY), |at| at.value),
            path: path.text,
            start: start?.value,
            follows_recreated: recreated?.value,
        })
    });
    Body { topic, role: Role::Archiver { folder }, kind: settings.map(StageKind::Archiver) }
}

/// Where a stage begins on a topic that is in use already.
pub(super) fn start_of(section: &mut Section<'_>) -> Option<At<Start>> {
    let start =
        section.key("start", "where it begins on a topic that it never read; what it stored then holds for ever");
    start.parse(values::START, Start::parse).shown(|start| start.to_string().into()).or(Start::Earliest)
}

pub(super) fn aggregator(section: &mut Section<'_>) -> Body {
    let topic = topic_of(section, "the topic it reads");
    let path = section.key("path", "the table's folder");
    let path = path.parse(values::STORE_PATH, values::store_path).required();
    let window = section.key("window", "the width of the windows: it divides an hour or is whole hours");
    let window = window.parse(DURATION, |text| values::window(parse_duration(text)?)).required();
    let time = section.key("time", "where the event's time stands");
    let time = time.parse(values::POINTER, values::pointer).required();
    let units = [("seconds", TimeUnit::Seconds), ("millis", TimeUnit::Millis), ("rfc3339", TimeUnit::Rfc3339)];
    let time_unit = section.key("time_unit", "what the event's time is: \"seconds\", \"millis\" or \"rfc3339\"");
    let time_unit = time_unit.word(&units).required();

    let mut columns = Columns::default();
    let keys = section.key("keys", "the columns that rows are told apart by: [{ name = \"…\", pointer = \"…\" }]");
    let keys = keys.sections().or(Vec::new());
    let keys = keys.and_then(|at| all(at.value, |section| key(section, &mut columns)));
    let measures = section.key("measures", "what is measured: [{ name = \"…\", kind = \"count\" }]").sections();
    let measures = measures.filled("a table without measures says nothing, allowed: at least one").required();
    let measures = measures.and_then(|at| all(at.value, |section| measure(section, &mut columns)));
    let filters = section.key("filters", "what is counted: [{ pointer = \"…\", exclude = [\"…\"] }]");
    let filters = filters.sections().or(Vec::new()).and_then(|at| all(at.value, filter));

    let delay = section.key("watermark_delay", "the watermark is the largest event time minus this");
    let delay = delay.duration(Duration::ZERO..=DAY).or(10 * SECOND);
    let lateness = section.key("lateness", "an hour is final once the watermark is past its end by this");
    let lateness = lateness.duration(Duration::ZERO..=7 * DAY).or(10 * MINUTE);
    let future = section.key("future_bound", "an event further ahead of the bus's time moves nothing");
    let future = future.duration(SECOND..=DAY).or(10 * MINUTE);
    let idle = section.key("idle", "a partition without a record for this long follows the others");
    let idle = idle.duration(SECOND..=DAY).or(MINUTE);
    let interval = section.key("commit_interval", "the table is brought up to date this often …");
    let interval = interval.duration(100 * MILLISECOND..=HOUR).or(10 * SECOND);
    let records = section.key("commit_records", "… and after this many records of one partition");
    let records = records.integer(1..=10_000_000_u64).or(100_000);
    let history = section.key("history", "how long an older version of the table stays readable");
    let history = history.duration(SECOND..=366 * DAY).or(DAY);
    let every = section.key("checkpoint_every", "a checkpoint of the table's log is made after so many versions");
    let every = every.integer(10..=10_000_u64).or(100);
    let success = section.key("success_files", "whether a day gets a _SUCCESS file once all its hours are final");
    let success = success.boolean().or(false);
    let start = start_of(section);

    let folder = path.clone();
    let settings = build(|| {
        Some(table::Settings {
            topic: topic.as_ref()?.value.clone(),
            path: path?.value,
            window: window?.value,
            time: time?.value,
            time_unit: time_unit?.value,
            keys: keys?,
            measures: measures?,
            filters: filters?,
            watermark_delay: delay?.value,
            lateness: lateness?.value,
            future_bound: future?.value,
            idle: idle?.value,
            commit_interval: interval?.value,
            commit_records: records?.value,
            history: history?.value,
            checkpoint_every: every?.value,
            success_files: success?.value,
            start: start?.value,
        })
    });
    Body { topic, role: Role::Aggregator { folder }, kind: settings.map(StageKind::Aggregator) }
}

fn key(mut section: Section<'_>, columns: &mut Columns) -> Option<table::Key> {
    let name = section.key("name", "the column's name").parse(values::COLUMN, values::column).required();
    let pointer = section.key("pointer", "where the key stands in the event");
    let pointer = pointer.parse(values::POINTER, values::pointer).required();
    if let Some(name) = &name {
        columns.take(&section, name, &[&name.value]);
    }
    section.finish();
    Some(table::Key { name: name?.value, pointer: pointer?.value })
}

fn measure<'t>(mut section: Section<'t>, columns: &mut Columns) -> Option<Measure> {
    let name = section.key("name", "the column's name").parse(values::COLUMN, values::column).required();
    let kinds: [(_, ReadKind<'t, Option<MeasureKind>>); 5] = [
        ("count", count),
        ("sum", |section| number(section).map(MeasureKind::Sum)),
        ("min", |section| number(section).map(MeasureKind::Min)),
        ("max", |section| number(section).map(MeasureKind::Max)),
        ("avg", |section| number(section).map(MeasureKind::Avg)),
    ];
    let meaning = "what is measured: \"count\", \"sum\", \"min\", \"max\" or \"avg\"";
    let kind = section.kind("kind", meaning, &kinds);
    if let Some(name) = &name {
        // A mean is kept in two columns, so that rows can be merged.
        let (sum, count) = (format!("{}_sum", name.value), format!("{}_count", name.value));
        let is_mean = kind.as_ref().is_some_and(|(word, _)| *word == "avg");
        let made = [name.value.as_str(), &sum, &count];
        columns.take(&section, name, if is_mean { &made } else { &made[..1] });
    }
    section.finish();
    Some(Measure { name: name?.value, kind: kind?.1? })
}

fn count(section: &mut Section<'_>) -> Option<MeasureKind> {
    let alone = "\"count\" counts events and takes no pointer";
    let refused = [section.refuse("pointer", alone), section.refuse("minus", alone)];
    (refused == [false; 2]).then_some(MeasureKind::Count)
}

fn number(section: &mut Section<'_>) -> Option<Number> {
    let pointer = section.key("pointer", "where the number stands in the event");
    let pointer = pointer.parse(values::POINTER, values::pointer).required();
    let minus = section.key("minus", "where the number stands that is taken away from it");
    let minus = minus.parse(values::POINTER, values::pointer).optional();
    Some(Number { pointer: pointer?.value, minus: minus?.map(|at| at.value) })
}

pub(super) fn filter(mut section: Section<'_>) -> Option<Filter> {
    let empty = "an empty list, allowed: at least one text";
    let pointer = section.key("pointer", "where to look in the event");
    let pointer = pointer.parse(values::POINTER, values::pointer).required();
    let include = section.key("include", "what stands there must be one of these").texts().filled(empty).optional();
    let exclude = section.key("exclude", "what stands there must be none of these").texts().filled(empty).optional();
    section.one_of(["include", "exclude"], "a filter has either include = [\"…\"] or exclude = [\"…\"]");
    section.finish();
    let (include, values) = match (include?, exclude?) {
        (Some(include), None) => (true, include),
        (None, Some(exclude)) => (false, exclude),
        _ => return None,
    };
    Some(Filter { pointer: pointer?.value, include, values: values.value })
}

/// Reads each section before it answers, so that all their mistakes are said.
pub(super) fn all<'t, T>(sections: Vec<Section<'t>>, read: impl FnMut(Section<'t>) -> Option<T>) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = sections.into_iter().map(read).collect();
    read.into_iter().collect()
}

/// The columns of a table so far, in lower case as the readers of tables compare them.
#[derive(Default)]
struct Columns(BTreeMap<String, Place>);

impl Columns {
    /// Columns that every table has.
    const OWN: [&str; 3] = ["window_start", "window_end", "dt"];

    fn take(&mut self, section: &Section<'_>, name: &At<String>, columns: &[&str]) {
        for column in columns {
            let lower = column.to_ascii_lowercase();
            if Self::OWN.contains(&lower.as_str()) {
                section.say_at(&name.place, format!("every table has a column {} of its own", quoted(column)));
            } else if let Some(taken) = self.0.get(&lower) {
                let key = &taken.key;
                section.say_at(&name.place, format!("the column {} is there already ({key})", quoted(column)));
            } else {
                self.0.insert(lower, name.place.clone());
            }
        }
    }
}
