//! The keys of `[collector.<name>]` and `[ingester.<name>]`.

use super::{Body, Role, build, sources::source, topic_of};
use crate::{
    collect::{
        FileHeaders, IngestSettings, Layout, Settings, SourceSettings, SpoolSettings,
        folder::AHEAD_EVENTS,
        spool::naming::{self, Template},
    },
    config::{
        StageKind,
        complaint::At,
        quantity::{DAY, GIB, KIB, MIB, MILLISECOND, MINUTE, SECOND, TIB, show_size},
        section::Section,
        values,
    },
    model::StageId,
};

/// Of a folder so many ids are known at least: what may be repeated, and as much again that came meanwhile.
const FEWEST_IDS: usize = 2 * AHEAD_EVENTS as usize;

pub(super) fn collector(section: &mut Section<'_>) -> Body {
    let source = source(section);
    let id = section.key("id", "where the event's own id stands; without it the source's event id is taken");
    let id = id.parse(values::POINTER, values::pointer).optional();
    let window = section
        .key("dedupe_window", "an event whose id was seen within this time is dropped (up to a million of them) …");
    let window = window.duration(SECOND..=7 * DAY).or(15 * MINUTE);
    let ids = section.key("dedupe_ids", "… and so is one among at least this many last ids");
    let ids = ids.integer(1..=10_000_000).or(100_000);
    let spool = section.key("spool", "where events lie before they are on the bus: spool = { path = \"…\" }");
    let spool = spool.section().required().and_then(|at| self::spool(at.value));

    let file_headers = file_headers(section, source.as_ref(), spool.as_ref().map(|at| &at.value));

    let largest = source.as_ref().map(SourceSettings::bound).zip(spool.as_ref());
    if let Some(((bound, event), spool)) = largest.filter(|((_, event), spool)| *event > spool.value.max_bytes) {
        let (event, spool) = (show_size(event), show_size(spool.value.max_bytes));
        section.say(format!(
            "an event may be larger ({bound} = {event}) than the whole spool (spool.max_bytes = {spool})"
        ));
    }
    if let (Some(SourceSettings::Folder(_)), Some(ids)) = (&source, ids.as_ref().filter(|ids| ids.value < FEWEST_IDS)) {
        let text =
            format!("after a restart a folder repeats up to {AHEAD_EVENTS} events, allowed: at least {FEWEST_IDS}");
        section.say_at(&ids.place, text);
    }
    let watched = match &source {
        Some(SourceSettings::Folder(folder)) => Some(At { value: folder.path.clone(), place: section.place().clone() }),
        _ => None,
    };
    let folder = spool.as_ref().map(|at| At { value: at.value.path.clone(), place: at.place.clone() });
    let settings = build(|| {
        Some(Settings {
            source: source?,
            id: id?.map(|at| at.value),
            dedupe_window: window?.value,
            dedupe_ids: ids?.value,
            spool: spool?.value,
            file_headers: file_headers?,
        })
    });
    Body { topic: None, role: Role::Collector { spool: folder, watched }, kind: settings.map(StageKind::Collector) }
}

fn file_headers(
    section: &mut Section<'_>,
    source: Option<&SourceSettings>,
    spool: Option<&SpoolSettings>,
) -> Option<FileHeaders> {
    let path =
        section.key("file_header", "the header of records that bears the path of an event's file; none without it");
    let path = path.parse(values::RECORD_HEADER, values::record_header).optional();
    let name = section.key("basename_header", "the header that bears the file's name alone; none without it");
    let name = name.parse(values::RECORD_HEADER, values::record_header).optional();
    let has_files = match (source, spool) {
        (Some(SourceSettings::Folder(_)), _) => true,
        (Some(_), Some(spool)) => spool.layout != Layout::Packed,
        // There are other complaints.
        _ => true,
    };
    for wanted in [path.as_ref(), name.as_ref()].into_iter().flatten().flatten().filter(|_| !has_files) {
        let text = "an event has no file: the source is no folder, and the spool has no layout = \"file-per-event\"";
        section.say_at(&wanted.place, text);
    }
    Some(FileHeaders { path: path?.map(|at| at.value), name: name?.map(|at| at.value) })
}

/// The spool's settings; the place is that of its path.
fn spool(mut section: Section<'_>) -> Option<At<SpoolSettings>> {
    let path = section.key("path", "its folder on a local disk, for it alone");
    let path = path.parse(values::LOCAL_PATH, values::local_path).required();
    let layout = layout(&mut section);
    let max_bytes = section.key("max_bytes", "it never holds more; when it is full the source waits");
    let max_bytes = max_bytes.size(MIB..=64 * TIB).or(2 * GIB);
    let roll_bytes = section.key("roll_bytes", "a file of this size is ended and the next begun");
    let roll_bytes = roll_bytes.size(4 * KIB..=GIB).or(16 * MIB);
    let sync_within = section.key("sync_within", "what was received is on disk within this time");
    let sync_within = sync_within.duration(MILLISECOND..=SECOND).or(200 * MILLISECOND);

    // A file goes only when it is ended and sent: with less than two a full spool never empties.
    if let Some((max, roll)) =
        max_bytes.as_ref().zip(roll_bytes.as_ref()).filter(|(max, roll)| max.value < 2 * roll.value)
    {
        let (max, roll) = (show_size(max.value), show_size(roll.value));
        section.say(format!("max_bytes ({max}) must be at least twice roll_bytes ({roll})"));
    }
    section.finish();
    let At { value: path, place } = path?;
    let value = SpoolSettings {
        path,
        layout: layout?,
        max_bytes: max_bytes?.value,
        roll_bytes: roll_bytes?.value,
        sync_within: sync_within?.value,
    };
    Some(At { value, place })
}

fn layout(section: &mut Section<'_>) -> Option<Layout> {
    let kind = section.key("layout", "whether events lie in the spool's own files or each in one of its own");
    let is_packed = kind.word(&[("packed", true), ("file-per-event", false)]).or(true);
    let name = section.key("file_name", "the template of events' file names, with layout = \"file-per-event\"");
    let name = name.parse(values::FILE_NAME, Template::parse).optional();
    match (is_packed?.value, name?) {
        (true, None) => Some(Layout::Packed),
        (true, Some(At { place, .. })) => {
            section.say_at(&place, "is only for layout = \"file-per-event\": a packed spool has no file for an event");
            None
        }
        (false, Some(At { value, .. })) => Some(Layout::FilePerEvent(value)),
        (false, None) => Template::parse(naming::DEFAULT).ok().map(Layout::FilePerEvent),
    }
}

pub(super) fn ingester(section: &mut Section<'_>) -> Body {
    let collector = section.key("collector", "the collector whose spool it empties");
    let collector = collector.parse(values::COLLECTOR, |text| Ok(StageId::from(text))).required();
    let topic = topic_of(section, "the topic it writes");
    let key = section.key("key", "where the record's key stands in the event; without it the source's id is the key");
    let key = key.parse(values::POINTER, values::pointer).optional();
    let records = section.key("batch_records", "records in one transaction at most").integer(1..=10_000).or(1_000);
    let bytes = section.key("batch_bytes", "bytes in one transaction at most; a larger event goes alone");
    let bytes = bytes.size(KIB..=64 * MIB).or(4 * MIB);

    let key_for_rules = key.as_ref().and_then(|key| key.as_ref().map(|at| at.value.clone()));
    let settings = build(|| {
        Some(IngestSettings {
            topic: topic.as_ref()?.value.clone(),
            key: key?.map(|at| at.value),
            batch_records: records?.value,
            batch_bytes: usize::try_from(bytes?.value).unwrap_or(usize::MAX),
        })
    });
    let kind =
        build(|| Some(StageKind::Ingester { collector: collector.as_ref()?.value.clone(), settings: settings? }));
    Body { topic, role: Role::Ingester { collector, key: key_for_rules }, kind }
}
