//! What a person should know though nothing is wrong.

use std::time::Duration;

use super::{
    StageKind,
    keys::{File, Role},
    quantity::{HOUR, MINUTE, show_duration, show_size},
    rules::{counted, keys_of},
    values,
};
use crate::{
    archive,
    bus::{Cleanup, TopicSpec},
    collect::SourceSettings,
    model::{Pointer, StageId, TopicName},
    table,
};

/// The notices about one of the files that are to run in one process.
pub fn of(file: &File, all: &[File]) -> Vec<String> {
    let mut notices = Vec::new();
    for topic in &file.topics {
        let Some(spec) = &topic.spec else { continue };
        if spec.num_partitions > 1 {
            let has = counted(spec.num_partitions, "partition");
            notices.push(format!("topic {} has {has}: order is kept within each, not between them", spec.name));
        }
        if !file.stages.iter().any(|stage| stage.topic.as_ref().is_some_and(|at| at.value == spec.name)) {
            notices.push(format!("topic {} is declared, but no stage of this pipeline uses it", spec.name));
        }
    }
    for stage in &file.stages {
        let id = &stage.id.value;
        match &stage.kind {
            Some(StageKind::Collector(settings)) => {
                if let SourceSettings::Sse(sse) = &settings.source {
                    notices.extend(late_reconnect(id, &sse.url, sse.reconnect_after));
                }
            }
            Some(StageKind::Archiver(settings)) => {
                let Some(spec) = spec_of(file, &settings.topic) else { continue };
                notices.extend(retention_before_roll(id, settings, spec));
            }
            Some(StageKind::Aggregator(settings)) => {
                let Some(spec) = spec_of(file, &settings.topic) else { continue };
                notices.extend(rows_to_sum(id, settings, spec, &keys_of(file, all, &spec.name)));
                notices.extend(short_retention(id, settings, spec));
            }
            None if matches!(stage.role, Role::Loader { is_off: true, .. }) => {
                notices.push(format!("loader {id} is off: its url says nothing"));
            }
            Some(StageKind::Ingester { .. } | StageKind::Loader(_)) | None => {}
        }
    }
    notices
}

fn spec_of<'f>(file: &'f File, topic: &TopicName) -> Option<&'f TopicSpec> {
    file.topics.iter().filter_map(|topic| topic.spec.as_ref()).find(|spec| spec.name == *topic)
}

/// Wikimedia cuts each connection; who opens the next one only then misses what comes in between,
/// and has to fetch it anew.
fn late_reconnect(id: &StageId, url: &str, after: Duration) -> Option<String> {
    const CUT: Duration = Duration::from_secs(15 * 60);
    let wikimedia = values::host(url).is_ok_and(|host| values::is_wikimedia(&host));
    (wikimedia && after >= CUT).then(|| {
        let (after, cut) = (show_duration(after), show_duration(CUT));
        format!(
            "{id} opens the next connection after {after}, but Wikimedia cuts each after {cut}: write less than that"
        )
    })
}

/// Equal keys lie in one partition if the record's key is one of the table's; otherwise each
/// partition has a row of its own for them.
fn rows_to_sum(id: &StageId, table: &table::Settings, topic: &TopicSpec, keys: &[Option<&Pointer>]) -> Option<String> {
    let among = |key: &Option<&Pointer>| key.is_some_and(|key| table.keys.iter().any(|column| column.pointer == *key));
    if topic.num_partitions == 1 || (!keys.is_empty() && keys.iter().all(among)) {
        return None;
    }
    let rows = counted(topic.num_partitions, "row");
    let way = match table.keys.as_slice() {
        [] => String::new(),
        columns => {
            let pointers: Vec<_> = columns.iter().map(|column| format!("{:?}", column.pointer.to_string())).collect();
            format!(" (or key the topic by one of its keys: key = {} in the ingester)", pointers.join(" or "))
        }
    };
    let topic = &topic.name;
    Some(format!(
        "table {id} may hold up to {rows} for a window and key, one for each partition of {topic}: readers must sum{way}"
    ))
}

/// After a restart the aggregator reads again whatever feeds an hour that is not final.
fn short_retention(id: &StageId, table: &table::Settings, topic: &TopicSpec) -> Option<String> {
    let Cleanup::Delete { retention_ms: Some(retention), .. } = topic.cleanup else { return None };
    let needed = HOUR.max(table.window) + table.lateness + table.watermark_delay;
    let needed = MINUTE * u32::try_from(needed.as_secs().div_ceil(60)).unwrap_or(u32::MAX);
    let retention = Duration::from_millis(u64::try_from(retention).unwrap_or_default());
    (retention < needed).then(|| {
        let (topic, retention, needed) = (&topic.name, show_duration(retention), show_duration(needed));
        format!(
            "topic {topic} keeps records for {retention}, but after a restart {id} reads again up to {needed} of them"
        )
    })
}

/// Until a segment is published only the bus has its records.
fn retention_before_roll(id: &StageId, archive: &archive::Settings, topic: &TopicSpec) -> Option<String> {
    let Cleanup::Delete { retention_ms, retention_bytes } = topic.cleanup else { return None };
    let (age, bytes) = (archive.roll_age, archive.roll_bytes);
    let too_soon = retention_ms.is_some_and(|ms| Duration::from_millis(ms.unsigned_abs()) <= 2 * age);
    let too_small = retention_bytes.is_some_and(|most| most <= bytes.saturating_mul(2));
    let kept = match (too_soon, too_small) {
        (true, _) => show_duration(Duration::from_millis(retention_ms?.unsigned_abs())),
        (_, true) => show_size(retention_bytes?),
        _ => return None,
    };
    let (topic, age, bytes) = (&topic.name, show_duration(age), show_size(bytes));
    Some(format!(
        "topic {topic} keeps {kept}, and {id} publishes a segment after {age} or {bytes} only: what the bus deletes \
         before that is lost"
    ))
}
