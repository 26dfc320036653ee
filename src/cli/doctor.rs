//! `howdah doctor`: everything a pipeline needs, looked at before it starts or when it does not go on.
//!
//! Nothing is changed by it but for what is taken back at once: a hidden file in each folder of the store,
//! and on Kafka one null record, which compaction removes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;

use super::{COMPLAINTS, DONE, block_on, pipelines, terminal::say};
use crate::{
    bus::{Bus, Outgoing, read_range},
    collect::{POSITIONS_TOPIC, SourceSettings},
    config::{self, BusSettings, Pipeline, StageKind, StoreSettings, show_size},
    disk,
    fault::{Fault, Result},
    health::{Finding, Verdict},
    load,
    model::{Clock, Millis, SystemClock, TopicName},
    node,
    store::{self, Store, StorePath},
};

/// Clocks further apart than this make times of bus, store and events hard to compare.
const CLOCKS_MS: i64 = 5_000;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The key of the record that is sent to see whether it can be.
const PROBE: &str = "howdah/doctor";

/// What to look at.
#[derive(Args)]
#[command(
    after_help = "Example:\n  KAFKA_BROKERS=kafka1:9092 HDFS_URL=hdfs://prod howdah doctor pipelines/wikimedia.toml\n\n\
    Exit codes: 0 nothing is wrong (a NOTE is something to know), 1 something is wrong"
)]
pub struct Arguments {
    /// The pipeline that is to run
    file: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Looks at everything.
///
/// # Errors
/// Those of standard output: what fails is a finding.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let mut findings = vec![Finding::fine("howdah", format!("version {}", env!("CARGO_PKG_VERSION")))];
    // What only a source has to be told keeps no look from being taken, and a start all the same.
    let complaints =
        config::load(std::slice::from_ref(&arguments.file), &config::environment).err().unwrap_or_default();
    findings.extend(complaints.iter().map(|complaint| Finding::wrong("pipeline", complaint.to_string())));
    for pipeline in &pipelines {
        findings.extend(block_on(of_bus(pipeline))?);
        findings.extend(block_on(of_store(pipeline))?);
        findings.extend(of_disk(pipeline));
        findings.extend(block_on(of_sinks(pipeline))?);
    }
    told(&findings, arguments.json)
}

/// Prints findings, and answers with the exit code that they mean.
///
/// # Errors
/// Those of standard output.
pub fn told(findings: &[Finding], json: bool) -> Result<u8> {
    if json {
        let text = serde_json::to_string_pretty(findings).map_err(|error| Fault::internal(error.to_string()))?;
        say!("{text}")?;
    } else {
        for finding in findings {
            say!("{finding}")?;
        }
    }
    let wrong = findings.iter().any(|finding| finding.verdict == Verdict::Wrong);
    Ok(if wrong { COMPLAINTS } else { DONE })
}

async fn of_bus(pipeline: &Pipeline) -> Vec<Finding> {
    let bus = match node::open_bus_read_only(&pipeline.bus) {
        Ok(bus) => bus,
        Err(fault) if matches!(pipeline.bus, BusSettings::Embedded { .. }) => {
            return vec![Finding::doubtful("embedded bus", format!("{fault} (the first start makes it)"))];
        }
        Err(fault) => return vec![Finding::failed("bus", &fault)],
    };
    let mut findings = bus.diagnose().await;
    // What does not answer is not asked once more for each topic.
    if findings.iter().any(|finding| finding.verdict == Verdict::Wrong) {
        return findings;
    }
    for spec in &pipeline.topics {
        match bus.compare(spec).await {
            Ok(found) => findings.extend(found),
            Err(fault) => findings.push(Finding::failed(format!("topic {}", spec.name), &fault)),
        }
    }
    if let BusSettings::Kafka(_) = &pipeline.bus {
        findings.push(match write_to(&*bus).await {
            Ok(Some(time)) => clock("clock of the brokers", time),
            Ok(None) => Finding::doubtful("writing to kafka", "not tried: the topic of positions is not there yet"),
            Err(fault) => Finding::failed("writing to kafka", &fault),
        });
    }
    findings
}

/// Sends one record that means nothing, and answers with the time that the bus gave it.
async fn write_to(bus: &dyn Bus) -> Result<Option<Millis>> {
    let name = TopicName::from(POSITIONS_TOPIC);
    let Some(topic) = bus.topic(&name).await? else { return Ok(None) };
    let key = Some(Bytes::from_static(PROBE.as_bytes()));
    let record = Outgoing { topic: name, partition: 0, key, value: None, headers: Vec::new() };
    let offsets = bus.producer(PROBE).await?.send(vec![record]).await?;
    let offset = offsets.first().copied().unwrap_or_default();
    let read = read_range(bus, &topic, 0, offset, offset + 1).await?;
    Ok(read.first().map(|record| record.time))
}

async fn of_store(pipeline: &Pipeline) -> Vec<Finding> {
    let store = match node::open_store(&pipeline.store).await {
        Ok(store) => store,
        Err(fault) => return vec![Finding::failed("store", &fault)],
    };
    let mut findings = store.diagnose().await;
    for folder in pipeline.store_folders() {
        findings.extend(of_folder(&*store, &folder, matches!(pipeline.store, StoreSettings::Hdfs(_))).await);
    }
    findings
}

async fn of_folder(store: &dyn Store, folder: &StorePath, remote: bool) -> Vec<Finding> {
    let subject = format!("folder {folder}");
    match store::probe(store, folder).await {
        Ok(time) => {
            let mut findings = vec![Finding::fine(subject, "may be written: made, renamed and deleted a file")];
            if remote {
                findings.push(clock("clock of the store", time));
            }
            findings
        }
        Err(fault) => vec![Finding::failed(subject, &fault)],
    }
}

fn clock(subject: &str, time: Millis) -> Finding {
    let apart = SystemClock.now() - time;
    let text = format!("{apart} ms behind this machine's");
    if apart.abs() <= CLOCKS_MS {
        return Finding::fine(subject, text);
    }
    Finding::doubtful(subject, format!("{text}: buckets and late events go by these times; run NTP on both"))
}

fn of_disk(pipeline: &Pipeline) -> Vec<Finding> {
    let mut findings = Vec::new();
    for stage in &pipeline.stages {
        let StageKind::Collector(settings) = &stage.kind else { continue };
        if let SourceSettings::Folder(folder) = &settings.source {
            findings.push(of_source(&folder.path));
        }
        findings.push(of_spool(&settings.spool.path, settings.spool.max_bytes));
    }
    findings
}

/// A folder that is read; files in it are renamed, moved or deleted.
fn of_source(path: &Path) -> Finding {
    let subject = format!("source {}", path.display());
    if let Err(error) = std::fs::read_dir(path) {
        return Finding::failed(subject, &Fault::io(path.display(), &error));
    }
    match disk::check_writable(path) {
        Ok(()) => Finding::fine(subject, "may be read and written"),
        Err(fault) => Finding::failed(subject, &fault),
    }
}

async fn of_sinks(pipeline: &Pipeline) -> Vec<Finding> {
    let mut findings = Vec::new();
    for stage in &pipeline.stages {
        let StageKind::Loader(settings) = &stage.kind else { continue };
        findings.push(match load::open(&settings.sink) {
            Ok(sink) => match sink.probe().await {
                Ok(()) => Finding::fine(sink.describe(), "answers, and knows who asks"),
                Err(fault) => Finding::failed(sink.describe(), &fault),
            },
            Err(fault) => Finding::failed(settings.sink.shown(), &fault),
        });
    }
    findings
}

fn of_spool(path: &Path, max: u64) -> Finding {
    let subject = format!("spool {}", path.display());
    if let Err(fault) = disk::check_writable(path) {
        return Finding::failed(subject, &fault);
    }
    // To a person the last digits say nothing.
    let round = |bytes: u64| if bytes >= GIB { bytes / GIB * GIB } else { bytes / MIB * MIB };
    match disk::free(path).map(round) {
        Ok(free) if free < max => {
            let text = format!("{} are free where the spool may take {}", show_size(free), show_size(max));
            Finding::doubtful(subject, format!("{text}: make room, or lower max_bytes"))
        }
        Ok(free) => Finding::fine(subject, format!("may be written, {} are free", show_size(free))),
        Err(fault) => Finding::failed(subject, &fault),
    }
}
