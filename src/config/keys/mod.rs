//! Every key of a pipeline's file, named once: what it means, what is allowed, and its default.
//!
//! This is where a key is added. The functions here read sections of the tree ([`Section`]) into
//! what the parts want to be told, as far as one section can be judged by itself; what concerns
//! several sections or files is in `rules`.

mod bus;
mod collect;
mod loaders;
mod sinks;
mod sources;
mod store;

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    BusSettings, StageKind, StoreSettings,
    complaint::{At, Place, Sink},
    outline::Outline,
    quantity::{DAY, HOUR, MIB, MILLISECOND, MINUTE, SECOND, TIB},
    section::{Key, Section},
    tree::Node,
    values,
};
use crate::{
    bus::{Cleanup, TopicSpec},
    model::{PipelineId, Pointer, StageId, TopicName},
    store::StorePath,
    supervise::policy::{Backoff, Intensity, Policy, StageSupervision, Strategy, Supervision},
};

/// The format of files that this version reads.
const FORMAT: u32 = 1;

/// One file, each section judged by itself. Whatever is `None` was complained about.
#[derive(Debug)]
pub struct File {
    /// Where the file begins.
    pub place: Place,
    /// `[pipeline] name`.
    pub id: Option<At<PipelineId>>,
    /// The rest of `[pipeline]`.
    pub supervision: Option<Supervision>,
    /// `[bus]`; its place is that of the path.
    pub bus: Option<At<BusSettings>>,
    /// `[store]`; its place is that of the path.
    pub store: Option<At<StoreSettings>>,
    /// `[topics.<name>]`, in the order of the file.
    pub topics: Vec<Topic>,
    /// All stages, in the order of the file.
    pub stages: Vec<Stage>,
}

/// A topic as declared.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: At<TopicName>,
    /// What is wanted.
    pub spec: Option<TopicSpec>,
}

/// A stage as declared.
#[derive(Debug)]
pub struct Stage {
    /// Its name; the place is the section's.
    pub id: At<StageId>,
    /// How many actors.
    pub replicas: Option<At<u32>>,
    /// How they are supervised.
    pub supervision: Option<StageSupervision>,
    /// The topic it reads or writes; the outer `None` for stages without one.
    pub topic: Option<At<TopicName>>,
    /// What other sections have to do with.
    pub role: Role,
    /// What it is told.
    pub kind: Option<StageKind>,
}

/// What a stage is, and those of its settings that concern others.
#[derive(Debug)]
pub enum Role {
    /// It owns a spool.
    Collector {
        /// The spool's folder.
        spool: Option<At<std::path::PathBuf>>,
        /// The folder that is its source.
        watched: Option<At<std::path::PathBuf>>,
    },
    /// It empties a collector's spool onto a topic.
    Ingester {
        /// The collector's name.
        collector: Option<At<StageId>>,
        /// What its records are keyed by.
        key: Option<Pointer>,
    },
    /// It owns a folder of the store.
    Archiver {
        /// The folder.
        folder: Option<At<StorePath>>,
    },
    /// It owns a folder of the store.
    Aggregator {
        /// The folder.
        folder: Option<At<StorePath>>,
    },
    /// It brings a topic into a sink.
    Loader {
        /// The key of which only the first element counts.
        key: Option<At<Pointer>>,
        /// Whether records have several elements.
        has_explode: bool,
        /// Whether it has no sink, and is left out.
        is_off: bool,
    },
}

impl Role {
    /// The kind's name, as it stands in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Collector { .. } => "collector",
            Self::Ingester { .. } => "ingester",
            Self::Archiver { .. } => "archiver",
            Self::Aggregator { .. } => "aggregator",
            Self::Loader { .. } => "loader",
        }
    }
}

/// Reads a file; `None` if it is of a format that this version does not know.
pub fn file(root: &Node, sink: &Sink) -> Option<File> {
    read(Section::new(root, &root.place, sink), sink)
}

/// Every key that a file may have.
pub fn outline() -> Outline {
    let (place, unheard) = (Place::whole(&Arc::from(Path::new(""))), Sink::default());
    let root = Section::described(place, &unheard);
    let outline = root.outline();
    read(root, &unheard);
    outline
}

fn read(mut root: Section<'_>, sink: &Sink) -> Option<File> {
    let place = root.place().clone();
    let unknown = |other: &str| format!("format {other} is unknown to this howdah, allowed: {FORMAT}");
    let format = root.key("format", "format = 1, the format of this file").exactly(FORMAT, unknown);
    let is_foreign = format.is_broken();
    format.required();
    if is_foreign {
        return None;
    }
    let pipeline = root.key("pipeline", "the section [pipeline] with the pipeline's name").section().required();
    let (id, supervision) = pipeline.map_or((None, None), |at| self::pipeline(at.value));
    let bus = root.key("bus", "the section [bus]: what carries the records").section().required();
    let bus = bus.and_then(|at| bus::bus(at.value));
    let store = root.key("store", "the section [store]: where archives and tables lie").section().required();
    let store = store.and_then(|at| store::store(at.value));
    let topics = root.key("topics", "the topics of the bus").named(values::NAME);
    let topics = topics.into_iter().map(|(name, section)| topic(&name, section, sink)).collect();

    let mut stages = Vec::new();
    let mut stages_of = |key: Key<'_>, read: fn(&mut Section<'_>) -> Body| {
        stages.extend(key.named(values::NAME).into_iter().map(|(name, section)| stage(&name, section, sink, read)));
    };
    stages_of(root.key("collector", "stages that take events from outside into a spool"), collect::collector);
    stages_of(root.key("ingester", "stages that bring a spool's events onto a topic"), collect::ingester);
    stages_of(root.key("archiver", "stages that archive a topic, byte for byte"), sinks::archiver);
    stages_of(root.key("aggregator", "stages that keep a live table of a topic"), sinks::aggregator);
    stages_of(root.key("loader", "stages that bring a topic into InfluxDB or Elasticsearch"), loaders::loader);
    stages.sort_by_key(|stage| (stage.id.place.line, stage.id.place.column));
    root.finish();
    Some(File { place, id, supervision, bus, store, topics, stages })
}

fn pipeline(mut section: Section<'_>) -> (Option<At<PipelineId>>, Option<Supervision>) {
    let name = section.key("name", "the pipeline's name, once among all of a node");
    let id = name.parse(values::NAME, |text| values::name(text).map(PipelineId::from)).required();
    let strategies = [
        ("one_for_one", Strategy::OneForOne),
        ("one_for_all", Strategy::OneForAll),
        ("rest_for_one", Strategy::RestForOne),
    ];
    let strategy = section.key("strategy", "who is restarted when one stage dies").word(&strategies);
    let strategy = strategy.or(Strategy::OneForOne);

    let intensity = section.key("intensity", "how many restarts are borne before the pipeline gives up");
    let intensity = intensity.section().or_defaults().and_then(|mut section| {
        let restarts = section.key("restarts", "so many restarts are borne …").integer(0..=10_000).or(12);
        let within = section.key("within", "… within this time").duration(SECOND..=DAY).or(10 * MINUTE);
        section.finish();
        Some(Intensity { restarts: restarts?.value, within: within?.value })
    });

    let backoff =
        section.key("backoff", "the pause before a restart").section().or_defaults().and_then(|mut section| {
            let base = section.key("base", "the first pause, doubled with each death in a row");
            let base = base.duration(MILLISECOND..=HOUR).or(25 * MILLISECOND);
            let cap = section.key("cap", "the longest pause").duration(MILLISECOND..=DAY).or(30 * SECOND);
            let healthy = section.key("healthy", "who lived this long begins again at the first pause");
            let healthy = healthy.duration(MILLISECOND..=DAY).or(MINUTE);
            if base.as_ref().zip(cap.as_ref()).is_some_and(|(base, cap)| base.value > cap.value) {
                section.say("the first pause (base) is longer than the longest (cap)");
            }
            section.finish();
            Some(Backoff { base: base?.value, cap: cap?.value, healthy: healthy?.value })
        });
    section.finish();
    let supervision =
        build(|| Some(Supervision { strategy: strategy?.value, intensity: intensity?, backoff: backoff? }));
    (id, supervision)
}

fn topic(name: &At<&str>, mut section: Section<'_>, sink: &Sink) -> Topic {
    let partitions = section.key("partitions", "the number of partitions; order is kept within each");
    let partitions = partitions.integer(1..=1_000).or(1);
    let age = section.key("retention_age", "records older than this may go, or \"unlimited\"");
    let age = age.duration_or_unlimited(MINUTE..=3_650 * DAY).or(Some(7 * DAY));
    let bytes = section.key("retention_bytes", "a larger partition loses its oldest records, or \"unlimited\"");
    let bytes = bytes.size_or_unlimited(MIB..=1_024 * TIB).or(None);
    section.finish();
    let checked = values::topic(name.value).map_err(|message| sink.say(&name.place, message)).ok();
    let spec = build(|| {
        let cleanup = Cleanup::Delete { retention_ms: age?.value.map(millis), retention_bytes: bytes?.value };
        Some(TopicSpec { name: checked?, num_partitions: partitions?.value, cleanup })
    });
    Topic { name: At { value: TopicName::from(name.value), place: name.place.clone() }, spec }
}

/// What each kind of stage reads besides the keys that all have.
struct Body {
    topic: Option<At<TopicName>>,
    role: Role,
    kind: Option<StageKind>,
}

fn stage(name: &At<&str>, mut section: Section<'_>, sink: &Sink, read: fn(&mut Section<'_>) -> Body) -> Stage {
    if let Err(message) = values::name(name.value) {
        sink.say(&name.place, message);
    }
    let Body { topic, role, kind } = read(&mut section);
    let replicas = section.key("replicas", "how many actors share the topic's partitions").integer(1..=1_000).or(1);
    let policies =
        [("permanent", Policy::Permanent), ("transient", Policy::Transient), ("temporary", Policy::Temporary)];
    let policy = section.key("policy", "when its actors are restarted").word(&policies).or(Policy::Permanent);
    let mailbox = section.key("mailbox", "messages that wait for an actor at most").integer(1..=1_024).or(16);
    let stall = section.key("stall", "a single attempt that makes no progress for this long is a stall");
    let stall = stall.duration(100 * MILLISECOND..=HOUR).or(120 * SECOND);
    // No handler takes a tenth of a second; a machine that swaps may make that many seconds of it.
    let blocked = section.key("blocked", "a thread that runs nothing for this long is given up for a new one");
    let blocked = blocked.duration(SECOND..=HOUR).or(30 * SECOND);
    section.finish();
    let supervision = build(|| {
        let (policy, mailbox) = (policy?.value, mailbox?.value);
        Some(StageSupervision { policy, mailbox, stall: stall?.value, blocked: blocked?.value })
    });
    let id = At { value: StageId::from(name.value), place: name.place.clone() };
    Stage { id, replicas, supervision, topic, role, kind }
}

/// The key `topic` of a stage.
fn topic_of(section: &mut Section<'_>, meaning: &'static str) -> Option<At<TopicName>> {
    // What is no name of a topic is no declared topic either: the rules say which there are.
    section.key("topic", meaning).parse(values::TOPIC, |text| Ok(TopicName::from(text))).required()
}

/// What may be absent, unless it was complained about.
fn lifted<T>(found: Option<Option<T>>) -> Option<Option<T>> {
    found.map_or(Some(None), |read| read.map(Some))
}

/// Runs a function in which `?` ends at the first value that was complained about.
fn build<T>(f: impl FnOnce() -> Option<T>) -> Option<T> {
    f()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
