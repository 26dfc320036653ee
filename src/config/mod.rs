//! Configuration: what a person wrote, checked once, as what the parts want to be told.
//!
//! A file goes through three stages:
//!
//! 1. *As written* (`tree`): TOML with the line and column of each value; then `${NAME}` and
//!    `${NAME:-default}` are filled in, in string values only (`variables`).
//! 2. *Section by section* (`keys`): each key is read by a typed reader (`section`, `values`,
//!    `quantity`) that knows its bounds, its default and its meaning. Unknown keys are refused.
//! 3. *As meant* (`rules`): what several sections or files have to say about each other. What is
//!    right but has a consequence that a person should know of is a notice (`notices`).
//!
//! The same readers, asked without a file, say what may be in one: the schema for editors ([`schema()`]).
//!
//! Nothing ends at the first mistake: [`load`](load()) answers with pipelines, or with every
//! [`Complaint`] about every file. The settings are structs of the parts that use them
//! ([`collect::Settings`] and so on); nothing outside this folder sees TOML or the environment.
//! No path is looked at on the disk, so that a file can be checked on another machine than the one
//! it is for. Relative paths begin where the process was started.

mod clusters;
mod complaint;
mod form;
mod keys;
mod node;
mod notices;
mod outline;
mod quantity;
mod rules;
mod schema;
mod section;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod variables;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use complaint::Complaint;
use complaint::{Place, Sink};
pub use node::{NodeSettings, node};
pub use quantity::{parse_duration, show_duration, show_size};
pub use schema::schema;
pub use values::topic as parse_topic;

use crate::{
    archive,
    bus::{Cleanup, TopicSpec, kafka},
    collect, load,
    model::{PipelineId, StageId, TopicName},
    store::{StorePath, hdfs},
    supervise::policy::{StageSupervision, Supervision},
    table,
};

/// One file, as meant.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name.
    pub id: PipelineId,
    /// The file it comes from.
    pub file: PathBuf,
    /// What carries its records.
    pub bus: BusSettings,
    /// Where its archives and tables lie.
    pub store: StoreSettings,
    /// How its stages are supervised.
    pub supervision: Supervision,
    /// Its topics: those declared, in the order of the file; for each of them the topic of its
    /// dead letters; and the one of the ingesters' positions.
    pub topics: Vec<TopicSpec>,
    /// Its stages, in the order of the file, at least one.
    pub stages: Vec<Stage>,
    /// What a person should know though nothing is wrong: whole sentences without a stop.
    pub notices: Vec<String>,
}

impl Pipeline {
    /// The topics that have one for their dead letters.
    pub fn topics_with_letters(&self) -> impl Iterator<Item = &TopicName> {
        let is_there = |name: &TopicName| self.topics.iter().any(|spec| spec.name == *name);
        self.topics.iter().map(|spec| &spec.name).filter(move |name| is_there(&name.dead_letters()))
    }

    /// How many partitions a topic of this pipeline has.
    pub fn num_partitions(&self, topic: &TopicName) -> Option<u32> {
        self.topics.iter().find(|spec| spec.name == *topic).map(|spec| spec.num_partitions)
    }

    /// How long, in ms, the bus keeps what a stage reads from it; `None` if it reads nothing, or that is kept for as
    /// long as there is room.
    pub fn retention_of(&self, stage: &Stage) -> Option<i64> {
        let topic = match &stage.kind {
            StageKind::Archiver(settings) => &settings.topic,
            StageKind::Aggregator(settings) => &settings.topic,
            StageKind::Loader(settings) => &settings.topic,
            StageKind::Collector(_) | StageKind::Ingester { .. } => return None,
        };
        match self.topics.iter().find(|spec| spec.name == *topic)?.cleanup {
            Cleanup::Delete { retention_ms, .. } => retention_ms,
            Cleanup::Compact => None,
        }
    }

    /// The folders of the store that it writes to: of an archive the part before the first time field.
    pub fn store_folders(&self) -> Vec<StorePath> {
        let folder = |stage: &Stage| match &stage.kind {
            StageKind::Archiver(settings) => values::template(&settings.path).ok().map(|template| template.folder),
            StageKind::Aggregator(settings) => Some(settings.path.clone()),
            StageKind::Collector(_) | StageKind::Ingester { .. } | StageKind::Loader(_) => None,
        };
        self.stages.iter().filter_map(folder).collect()
    }
}

/// Which bus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BusSettings {
    /// The one within this process.
    Embedded {
        /// Its folder.
        path: PathBuf,
    },
    /// A Kafka cluster.
    Kafka(kafka::Settings),
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreSettings {
    /// The local file system.
    Local {
        /// Where the store's paths begin.
        root: PathBuf,
    },
    /// An HDFS cluster.
    Hdfs(hdfs::Settings),
}

/// A stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub id: StageId,
    /// How many actors: 1 for collectors and ingesters, at most the topic's partitions for others.
    pub replicas: u32,
    /// How they are supervised.
    pub supervision: StageSupervision,
    /// What it does.
    pub kind: StageKind,
}

/// What a stage does, and what it is told.
#[derive(Clone, Debug)]
pub enum StageKind {
    /// Takes events from outside into a spool.
    Collector(collect::Settings),
    /// Brings a spool's events onto a topic.
    Ingester {
        /// The collector whose spool it is; that one has no other ingester.
        collector: StageId,
        /// What it is told.
        settings: collect::IngestSettings,
    },
    /// Archives a topic.
    Archiver(archive::Settings),
    /// Keeps a table of a topic.
    Aggregator(table::Settings),
    /// Brings a topic into InfluxDB or Elasticsearch.
    Loader(Box<load::Settings>),
}

impl StageKind {
    /// The kind's name, as it stands in a file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Collector(_) => "collector",
            Self::Ingester { .. } => "ingester",
            Self::Archiver(_) => "archiver",
            Self::Aggregator(_) => "aggregator",
            Self::Loader(_) => "loader",
        }
    }
}

/// Reads and checks files that are to run in one process.
///
/// # Errors
/// Everything that is wrong, in the order of `paths` and then of lines. A file that cannot be read
/// is one of the things that can be wrong.
pub fn load(paths: &[PathBuf], env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Pipeline>, Vec<Complaint>> {
    let read = |path: &PathBuf| (path.clone(), read(path).map_err(|error| format!("cannot be read: {error}")));
    check(paths.iter().map(read).collect(), env)
}

/// As [`load`](load()), of one file whose text is at hand.
///
/// # Errors
/// As [`load`](load()).
pub fn parse(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Pipeline>, Vec<Complaint>> {
    check(vec![(path.to_owned(), Ok(text.as_bytes().to_vec()))], env)
}

/// A variable of this process's environment. The one place where it is read.
pub fn environment(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "this is the place that the lint points to")]
    let value = std::env::var_os(name)?;
    // Bytes that are no UTF-8 become a character that the reader of variables refuses.
    Some(value.to_string_lossy().into_owned())
}

/// As [`environment`], for commands that look at what lies on disk and connect to nothing: no source
/// has to be told who asks.
pub fn looking(name: &str) -> Option<String> {
    let nobody = || (name == "HOWDAH_CONTACT").then(|| "nobody@localhost".to_owned());
    environment(name).filter(|value| name != "HOWDAH_CONTACT" || !value.trim().is_empty()).or_else(nobody)
}

/// A file's bytes, or why there are none.
type Bytes = Result<Vec<u8>, String>;

fn check(files: Vec<(PathBuf, Bytes)>, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Pipeline>, Vec<Complaint>> {
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let sink = Sink::default();
    let mut read = Vec::new();
    for (index, (path, bytes)) in files.into_iter().enumerate() {
        let place = Place::whole(&Arc::from(path.as_path()));
        if paths[..index].contains(&path) {
            sink.say(&place, "the file is given twice");
            continue;
        }
        match bytes {
            Ok(bytes) => {
                let root = tree::parse(&place.file, &bytes, env, &sink);
                read.extend(root.and_then(|root| keys::file(&root, &sink)));
            }
            Err(message) => sink.say(&place, message),
        }
    }
    rules::check(&read, &sink);
    let notices: Vec<_> = read.iter().map(|file| notices::of(file, &read)).collect();
    let pipelines: Vec<_> = read.into_iter().zip(notices).filter_map(|(file, notices)| meant(file, notices)).collect();
    let complaints = sink.sorted(&paths);
    if !complaints.is_empty() {
        return Err(complaints);
    }
    debug_assert_eq!(pipelines.len(), paths.len(), "a value was left out without a complaint");
    Ok(pipelines)
}

/// The pipeline of a file; `None` if something of it was complained about.
fn meant(file: keys::File, notices: Vec<String>) -> Option<Pipeline> {
    const DEAD_LETTERS_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

    let declared: Option<Vec<TopicSpec>> = file.topics.into_iter().map(|topic| topic.spec).collect();
    let mut topics = declared?;
    let dead_letters = |spec: &TopicSpec| TopicSpec {
        name: spec.name.dead_letters(),
        num_partitions: 1,
        cleanup: Cleanup::Delete { retention_ms: Some(DEAD_LETTERS_MS), retention_bytes: None },
    };
    let dead_letters: Vec<_> = topics.iter().map(dead_letters).collect();
    topics.extend(dead_letters);
    let positions = TopicName::from(collect::POSITIONS_TOPIC);
    topics.push(TopicSpec { name: positions, num_partitions: 1, cleanup: Cleanup::Compact });
    let id = file.id?.value;

    let stage = |stage: keys::Stage| {
        Some(Stage {
            id: stage.id.value,
            replicas: stage.replicas?.value,
            supervision: stage.supervision?,
            kind: stage.kind?,
        })
    };
    let is_on = |stage: &keys::Stage| !matches!(stage.role, keys::Role::Loader { is_off: true, .. });
    let mut stages: Vec<_> = file.stages.into_iter().filter(is_on).map(stage).collect::<Option<_>>()?;
    for stage in &mut stages {
        if let StageKind::Loader(settings) = &mut stage.kind
            && let Some(horizon) = settings.horizon
            && let Some(read) = topics.iter().find(|spec| spec.name == settings.topic)
        {
            let keys = load::state::keys_spec(&id, &stage.id, read, horizon);
            settings.keys_kept = keys.cleanup.age();
            topics.push(keys);
        }
    }
    if stages.iter().any(|stage| matches!(stage.kind, StageKind::Loader(_))) {
        topics.push(load::state::positions_spec());
    }
    Some(Pipeline {
        id,
        file: file.place.file.to_path_buf(),
        bus: file.bus?.value,
        store: file.store?.value,
        supervision: file.supervision?,
        topics,
        stages,
        notices,
    })
}

/// Reads a whole file of a bounded size.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const LARGEST: u64 = 1 << 20;
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("larger than {}", show_size(LARGEST))));
    }
    Ok(bytes)
}
