//! What sections and files have to say about each other.
//!
//! Each rule looks at what could be read and is silent about what could not: that was complained
//! about where it stands. Of two things that exclude each other the later one is complained about,
//! and the message says where the earlier one stands.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    BusSettings, StoreSettings,
    complaint::{At, Place, Sink, did_you_mean, listed, quoted},
    keys::{File, Role, Stage},
    values::absolute,
};
use crate::model::{PipelineId, Pointer, StageId, TopicName};

/// Checks files that are to run in one process.
pub fn check(files: &[File], sink: &Sink) {
    for file in files {
        let here = Rules { file, sink };
        here.there_are_stages();
        here.stages_have_names_of_their_own();
        here.topics_are_declared();
        here.replicas_have_something_to_do();
        here.collectors_and_ingesters_are_pairs();
        here.keys_are_within_a_partition(files);
    }
    pipelines_have_names_of_their_own(files, sink);
    a_topic_is_declared_alike(files, sink);
    local_folders_are_apart(files, sink);
    store_folders_are_apart(files, sink);
}

/// What the ingesters of all files key a topic's records by.
pub fn keys_of<'f>(file: &File, all: &'f [File], topic: &TopicName) -> Vec<Option<&'f Pointer>> {
    let stages = all.iter().filter(|other| same_bus(file, other)).flat_map(|other| &other.stages);
    let writers = stages.filter(|stage| stage.topic.as_ref().is_some_and(|at| at.value == *topic));
    let key = |stage: &'f Stage| match &stage.role {
        Role::Ingester { key, .. } => Some(key.as_ref()),
        _ => None,
    };
    writers.filter_map(key).collect()
}

/// Whether two files mean the same bus.
pub fn same_bus(a: &File, b: &File) -> bool {
    let which = |file: &File| {
        file.bus.as_ref().map(|bus| match &bus.value {
            BusSettings::Embedded { path } => absolute(path),
            BusSettings::Kafka(settings) => PathBuf::from(&settings.brokers),
        })
    };
    std::ptr::eq(a, b) || which(a).is_some_and(|a| which(b).is_some_and(|b| a == b))
}

struct Rules<'f> {
    file: &'f File,
    sink: &'f Sink,
}

impl Rules<'_> {
    fn there_are_stages(&self) {
        if self.file.stages.is_empty() {
            let kinds = "[collector.<name>], [ingester.<name>], [archiver.<name>], [aggregator.<name>] or \
                         [loader.<name>]";
            self.sink.say(&self.file.place, format!("the pipeline has no stage, allowed: at least one {kinds}"));
        }
    }

    fn stages_have_names_of_their_own(&self) {
        let mut taken: BTreeMap<&StageId, &Stage> = BTreeMap::new();
        for stage in &self.file.stages {
            let id = &stage.id.value;
            if let Some(first) = taken.get(id) {
                let (first, line) = (header(first), first.id.place.line());
                self.sink.say(&stage.id.place, format!("there is a stage of this name already: {first} ({line})"));
            }
            taken.entry(id).or_insert(stage);
        }
    }

    fn topics_are_declared(&self) {
        let declared = || self.file.topics.iter().map(|topic| topic.name.value.as_str());
        for topic in self.file.stages.iter().filter_map(|stage| stage.topic.as_ref()) {
            let name = topic.value.as_str();
            if declared().any(|known| known == name) {
                continue;
            }
            let (meant, allowed) = (did_you_mean(name, declared()), listed(declared()));
            let name = quoted(name);
            let declare = "or declare it: [topics.<name>]";
            self.sink.say(&topic.place, format!("topic {name} is not declared; {meant}allowed: {allowed}, {declare}"));
        }
    }

    fn replicas_have_something_to_do(&self) {
        for stage in &self.file.stages {
            let Some(replicas) = &stage.replicas else { continue };
            if matches!(stage.role, Role::Collector { .. } | Role::Ingester { .. }) {
                if replicas.value != 1 {
                    self.sink.say(
                        &replicas.place,
                        format!("a stage of kind {} has one actor, allowed: 1", stage.role.word()),
                    );
                }
                continue;
            }
            let Some((topic, partitions)) = stage.topic.as_ref().and_then(|topic| self.partitions(&topic.value)) else {
                continue;
            };
            if replicas.value > partitions {
                let has = format!("topic {} has {}", quoted(topic.as_str()), counted(partitions, "partition"));
                self.sink.say(&replicas.place, format!("{has}: more actors would be idle, allowed: 1 to {partitions}"));
            }
        }
    }

    /// Of several partitions nothing says which element with a key is the first.
    fn keys_are_within_a_partition(&self, files: &[File]) {
        for stage in &self.file.stages {
            let Role::Loader { key: Some(key), has_explode, .. } = &stage.role else { continue };
            let Some((topic, partitions)) = stage.topic.as_ref().and_then(|topic| self.partitions(&topic.value)) else {
                continue;
            };
            let all_by_it = || keys_of(self.file, files, topic).iter().all(|by| *by == Some(&key.value));
            if partitions > 1 && (*has_explode || !all_by_it()) {
                let has = format!("topic {} has {}", quoted(topic.as_str()), counted(partitions, "partition"));
                let pointer = quoted(&key.value.to_string());
                self.sink.say(
                    &key.place,
                    format!(
                        "{has}, and which element is the first is known within each only: let it have one, or be keyed by \
                         it (key = {pointer} in its ingester, without explode here)"
                    ),
                );
            }
        }
    }

    fn partitions(&self, topic: &TopicName) -> Option<(&TopicName, u32)> {
        let declared = self.file.topics.iter().find(|declared| declared.name.value == *topic)?;
        Some((&declared.name.value, declared.spec.as_ref()?.num_partitions))
    }

    fn collectors_and_ingesters_are_pairs(&self) {
        let stages = &self.file.stages;
        let is_collector = |stage: &&Stage| matches!(stage.role, Role::Collector { .. });
        let collectors: Vec<&Stage> = stages.iter().filter(is_collector).collect();
        let names = || collectors.iter().map(|stage| stage.id.value.as_str());
        let mut emptied: BTreeMap<&StageId, &Stage> = BTreeMap::new();
        let mut all_understood = true;
        for ingester in stages {
            let Role::Ingester { collector, .. } = &ingester.role else { continue };
            let Some(At { value: collector, place }) = collector else {
                all_understood = false;
                continue;
            };
            if !names().any(|name| name == collector.as_str()) {
                let (meant, allowed) = (did_you_mean(collector.as_str(), names()), listed(names()));
                let collector = quoted(collector.as_str());
                self.sink.say(place, format!("there is no [collector] {collector}; {meant}allowed: {allowed}"));
                // It was meant to be somebody's: then that one is not alone.
                all_understood = false;
            } else if let Some(first) = emptied.get(collector) {
                let (first, line) = (header(first), first.id.place.line());
                self.sink.say(
                    place,
                    format!("{first} ({line}) empties this collector's spool already, allowed: one ingester"),
                );
            } else {
                emptied.insert(collector, ingester);
            }
        }
        for collector in collectors.iter().filter(|stage| all_understood && !emptied.contains_key(&stage.id.value)) {
            let name = quoted(collector.id.value.as_str());
            let message =
                format!("no ingester empties its spool, allowed: one [ingester.<name>] with collector = {name}");
            self.sink.say(&collector.id.place, message);
        }
    }
}

fn pipelines_have_names_of_their_own(files: &[File], sink: &Sink) {
    let mut taken: BTreeMap<&PipelineId, &Place> = BTreeMap::new();
    for id in files.iter().filter_map(|file| file.id.as_ref()) {
        if let Some(first) = taken.get(&id.value) {
            let (name, line) = (quoted(id.value.as_str()), first.line());
            sink.say(&id.place, format!("there is a pipeline {name} already ({line})"));
        }
        taken.entry(&id.value).or_insert(&id.place);
    }
}

fn a_topic_is_declared_alike(files: &[File], sink: &Sink) {
    for (index, file) in files.iter().enumerate() {
        for topic in &file.topics {
            let mut earlier =
                files[..index].iter().filter(|other| same_bus(file, other)).flat_map(|other| &other.topics);
            let first = earlier.find(|other| other.name.value == topic.name.value);
            let differs =
                |other: &&super::keys::Topic| other.spec.is_some() && topic.spec.is_some() && other.spec != topic.spec;
            if let Some(first) = first.filter(differs) {
                let line = first.name.place.line();
                sink.say(&topic.name.place, format!("the same topic of the same bus is declared otherwise at {line}"));
            }
        }
    }
}

/// A folder of this machine and what it is for.
struct Local<'f> {
    path: PathBuf,
    place: &'f Place,
    what: &'static str,
}

fn local_folders_are_apart(files: &[File], sink: &Sink) {
    let mut taken: Vec<Local<'_>> = Vec::new();
    for file in files {
        for folder in local_folders(file) {
            let shared = |other: &Local<'_>| {
                other.path == folder.path && other.what == folder.what && !matches!(folder.what, "spool" | "source")
            };
            let near =
                |other: &&Local<'_>| other.path.starts_with(&folder.path) || folder.path.starts_with(&other.path);
            if let Some(other) = taken.iter().find(|other| near(other) && !shared(other)) {
                let (what, line) = (other.what, other.place.line());
                let (path, others) = (folder.path.display().to_string(), other.path.display().to_string());
                let (path, others) = (quoted(&path), quoted(&others));
                let relation = if folder.path == other.path {
                    format!("{path} is the {what}'s folder too ({line})")
                } else if folder.path.starts_with(&other.path) {
                    format!("{path} lies within {others}, the {what}'s folder ({line})")
                } else {
                    format!("{others}, the {what}'s folder ({line}), lies within {path}")
                };
                sink.say(
                    folder.place,
                    format!("{relation}: each bus, store, spool and source needs a folder for it alone"),
                );
            }
            taken.push(folder);
        }
    }
}

/// The folders of a file, in its order.
fn local_folders(file: &File) -> Vec<Local<'_>> {
    let bus = file.bus.as_ref().and_then(|bus| match &bus.value {
        BusSettings::Embedded { path } => Some((path, &bus.place, "bus")),
        BusSettings::Kafka(_) => None,
    });
    let store = file.store.as_ref().and_then(|store| match &store.value {
        StoreSettings::Local { root } => Some((root, &store.place, "store")),
        StoreSettings::Hdfs(_) => None,
    });
    let spools = file.stages.iter().filter_map(|stage| match &stage.role {
        Role::Collector { spool, .. } => spool.as_ref().map(|spool| (&spool.value, &spool.place, "spool")),
        _ => None,
    });
    let watched = file.stages.iter().filter_map(|stage| match &stage.role {
        Role::Collector { watched, .. } => watched.as_ref().map(|at| (&at.value, &at.place, "source")),
        _ => None,
    });
    let all = bus.into_iter().chain(store).chain(spools).chain(watched);
    let mut folders: Vec<_> = all.map(|(path, place, what)| Local { path: absolute(path), place, what }).collect();
    folders.sort_by_key(|folder| (folder.place.line, folder.place.column));
    folders
}

fn store_folders_are_apart(files: &[File], sink: &Sink) {
    let mut taken: Vec<(PathBuf, &Stage, &str)> = Vec::new();
    for file in files {
        let Some(store) = &file.store else { continue };
        let root = match &store.value {
            StoreSettings::Local { root } => absolute(root),
            StoreSettings::Hdfs(settings) => PathBuf::from(&settings.url),
        };
        for stage in &file.stages {
            let (Role::Archiver { folder: Some(folder) } | Role::Aggregator { folder: Some(folder) }) = &stage.role
            else {
                continue;
            };
            let path = folder.value.as_str();
            // Compared where they lie, so that two stores' paths are compared rightly too.
            let lies = root.join(path.trim_start_matches('/'));
            let near = |other: &PathBuf| other.starts_with(&lies) || lies.starts_with(other);
            if let Some((other_lies, other, other_path)) = taken.iter().find(|(other, ..)| near(other)) {
                let whose = format!("the folder of {} ({})", header(other), other.id.place.line());
                let (path, other_path) = (quoted(path), quoted(other_path));
                let relation = if lies == *other_lies {
                    format!("{path} is {whose} too")
                } else if lies.starts_with(other_lies) {
                    format!("{path} lies within {other_path}, {whose}")
                } else {
                    format!("{other_path}, {whose}, lies within {path}")
                };
                sink.say(&folder.place, format!("{relation}: each archive and table needs a folder for it alone"));
            }
            taken.push((lies, stage, path));
        }
    }
}

/// A stage's section as it is written: `[archiver.archive]`.
fn header(stage: &Stage) -> String {
    format!("[{}]", stage.id.place.key)
}

/// `1 partition`, `3 partitions`.
pub fn counted(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
