//! `howdah archive`: proves an archive, and puts it back onto a topic.

mod replay;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    COMPLAINTS, DONE, LOSS, block_on, pipelines,
    terminal::{Progress, complain, counted, say},
};
use crate::{
    archive::{
        Layout, group,
        verify::{Finding, Report, Verify, What},
    },
    config::{Pipeline, StageKind},
    fault::{Domain, Fault, Kind, Result},
    model::TopicId,
    node,
};

/// Commands on archives.
#[derive(Subcommand)]
pub enum Command {
    /// Prove that an archive is whole: every record once, nothing missing, nothing else
    ///
    /// Without --deep the chain is checked and that each segment lies in its place; with --deep
    /// each byte is read, checked against its checksum and compared with what the bus still holds.
    /// May run beside a running pipeline.
    #[command(after_help = "Example:\n  howdah archive verify --deep pipelines/wikimedia.toml\n\n\
        Exit codes: 0 the archive is whole, 1 the file has complaints, 3 not reachable, 4 loss found")]
    Verify(Verification),
    /// Put the records of an archive onto a topic
    ///
    /// In order within each partition. Each record bears the bus time it had as the header howdah.time,
    /// and where it stood as howdah.origin; dead letters and nulls are no lines, and stay away. With the
    /// embedded bus, while no pipeline runs.
    #[command(after_help = "Example:\n  howdah archive replay pipelines/wikimedia.toml --onto wiki_again \\\n    \
        --from 2026-11-25T14:00:00Z --to 2026-11-25T16:00:00Z --rate 5000\n\n\
        Exit codes: 0 done, 1 there is no such archive, 3 not reachable, 4 the archive has gaps (the rest was put back)")]
    Replay(replay::Replaying),
}

/// What to verify.
#[derive(Args)]
pub struct Verification {
    /// The pipeline whose archives are meant
    file: PathBuf,
    /// Read and compare every byte
    #[arg(long)]
    deep: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs a command on archives.
///
/// # Errors
/// Those of bus and store.
pub fn run(command: &Command) -> Result<u8> {
    let arguments = match command {
        Command::Verify(arguments) => arguments,
        Command::Replay(arguments) => return replay::run(arguments),
    };
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let mut reports = Vec::new();
    for pipeline in &pipelines {
        reports.extend(block_on(verify(pipeline, arguments.deep))??);
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&reports).map_err(|error| Fault::internal(error.to_string()))?;
        say!("{text}")?;
    } else {
        for (name, report) in &reports {
            print(name, report, arguments.deep)?;
        }
    }
    Ok(if reports.iter().all(|(_, report)| report.findings.is_empty()) { DONE } else { LOSS })
}

/// The reports on all archives of a pipeline.
///
/// # Errors
/// Those of bus and store.
pub async fn verify(pipeline: &Pipeline, deep: bool) -> Result<Vec<(String, Report)>> {
    let store = node::open_store_to_read(&pipeline.store).await?;
    let (bus, damage) = match node::open_bus_read_only(&pipeline.bus) {
        Ok(bus) => (Some(bus), None),
        // Then above all one has to know of the archive.
        Err(fault) => {
            complain!("howdah: without the bus nothing is compared with it: {fault}");
            (None, Some(fault).filter(|fault| fault.kind == Kind::Lost))
        }
    };
    let mut reports = Vec::new();
    for stage in &pipeline.stages {
        let StageKind::Archiver(settings) = &stage.kind else { continue };
        let topic = match &bus {
            Some(bus) => match bus.topic(&settings.topic).await {
                Ok(topic) => topic.map(|topic| (&**bus, topic, group(&pipeline.id, &stage.id))),
                Err(fault) if fault.domain == Domain::External => {
                    complain!("howdah: without the bus nothing is compared with it: {fault}");
                    None
                }
                Err(fault) => return Err(fault),
            },
            None => None,
        };
        let id = topic.as_ref().map_or(TopicId(uuid::Uuid::nil()), |(_, topic, _)| topic.id);
        let verify = Verify {
            store: &*store,
            base: Layout::new(settings, id, 0)?.base,
            topic: settings.topic.as_str(),
            deep,
            bus: topic,
        };
        let mut progress = Progress::new("segments");
        let mut report = verify.run(|done, total| progress.at(done, total)).await?;
        let damage = damage.as_ref().map(|fault| fault.message.clone());
        let finding = |detail| Finding { what: What::Altered, place: "the bus".to_owned(), detail };
        report.findings.extend(damage.map(finding));
        reports.push((format!("{}/{}", pipeline.id, stage.id), report));
    }
    Ok(reports)
}

/// Prints a report for a person.
///
/// # Errors
/// Those of standard output.
pub fn print(name: &str, report: &Report, deep: bool) -> Result<()> {
    for finding in &report.findings {
        let what = match finding.what {
            What::Lost => "LOST",
            What::Missing => "MISSING",
            What::Unknown => "UNKNOWN FILE",
            What::Broken => "BROKEN CHAIN",
            What::Altered => "ALTERED",
        };
        say!("{what} {}: {}", finding.place, finding.detail)?;
    }
    let depth = if deep {
        format!("every byte read, {} compared with the bus", counted(report.compared, "line"))
    } else {
        "chain and places checked; --deep reads every byte".to_owned()
    };
    let verdict = if report.findings.is_empty() { "whole" } else { "NOT whole" };
    say!(
        "{name}: {verdict}: {}, {}, {} ({depth})",
        counted(report.segments, "segment"),
        counted(report.lines, "line"),
        counted(report.bytes, "byte")
    )
}
