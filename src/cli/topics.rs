//! `howdah topics`: whether the bus has the topics as the pipeline wants them, and making them so.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{COMPLAINTS, DONE, block_on, doctor::told, pipelines, terminal::say};
use crate::{
    bus::SharedBus,
    config::BusSettings,
    fault::{Fault, Result},
    node,
};

/// What to do with topics.
#[derive(Subcommand)]
pub enum Command {
    /// Compare the topics on the bus with what the pipeline wants
    #[command(after_help = "Example:\n  howdah topics check pipelines/wikimedia.toml\n\n\
        Exit codes: 0 all are as they are wanted, 1 something is wrong, 3 the bus is not reachable")]
    Check(Checking),
    /// Make the topics that are missing
    #[command(after_help = "Example:\n  howdah topics create pipelines/wikimedia.toml\n\n\
        A topic that is there is left as it is. `howdah run` does the same when it starts.")]
    Create(Creating),
}

/// What to compare.
#[derive(Args)]
pub struct Checking {
    /// The pipeline whose topics are meant
    file: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// What to make.
#[derive(Args)]
pub struct Creating {
    /// The pipeline whose topics are meant
    file: PathBuf,
}

/// Runs a command on topics.
///
/// # Errors
/// Those of the bus.
pub fn run(command: &Command) -> Result<u8> {
    match command {
        Command::Check(arguments) => check(arguments),
        Command::Create(arguments) => create(arguments),
    }
}

fn check(arguments: &Checking) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let mut findings = Vec::new();
    for pipeline in &pipelines {
        let bus = node::open_bus_read_only(&pipeline.bus)?;
        for spec in &pipeline.topics {
            findings.extend(block_on(bus.compare(spec))??);
        }
    }
    told(&findings, arguments.json)
}

fn create(arguments: &Creating) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    for pipeline in &pipelines {
        if let BusSettings::Embedded { .. } = pipeline.bus {
            return Err(Fault::user("the embedded bus makes its topics by itself: there is nothing to do"));
        }
        let bus: SharedBus = node::open_bus(&pipeline.bus)?;
        for spec in &pipeline.topics {
            let topic = block_on(bus.ensure_topic(spec))??;
            say!("{}: {} partitions, identity {}", topic.name, topic.num_partitions, topic.id)?;
        }
    }
    Ok(DONE)
}
