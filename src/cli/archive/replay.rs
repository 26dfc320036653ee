//! `howdah archive replay`: an archive put back onto a topic.

use std::{num::NonZeroU64, path::PathBuf};

use clap::Args;

use crate::{
    archive::{
        self,
        replay::{Replay, Replayed, identities},
    },
    bus::{Cleanup, TopicInfo, TopicSpec},
    cli::{
        COMPLAINTS, DONE, LOSS, block_on, parse_time, pipelines,
        terminal::{complain, counted, grouped, say},
    },
    config::{Pipeline, StageKind, parse_topic},
    fault::{Fault, Result},
    model::{Millis, TopicId, TopicName},
    node,
};

/// What to put back, and where.
#[derive(Args)]
pub struct Replaying {
    /// The pipeline whose archive is meant
    file: PathBuf,
    /// The topic to write to; it is made if there is none, with as many partitions as the archive has
    #[arg(long, value_name = "TOPIC", value_parser = parse_topic)]
    onto: TopicName,
    /// The archiver's name in the file, if there are several
    #[arg(long, value_name = "NAME")]
    archive: Option<String>,
    /// Which topic's archive, if the topic was deleted and created anew
    #[arg(long, value_name = "IDENTITY")]
    identity: Option<uuid::Uuid>,
    /// From this bus time on, like 2015-09-12T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Millis>,
    /// Up to this bus time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<Millis>,
    /// Also onto the topic that the archive is of, whose archive and tables then take the records once more
    #[arg(long)]
    twice: bool,
    /// At most so many records a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
}

/// Puts it back.
///
/// # Errors
/// `User` for an archive that is not there, its own topic, or a bus that another process has open; those of store
/// and bus.
pub fn run(arguments: &Replaying) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let (pipeline, settings) = find(&pipelines, arguments)?;
    let replayed = block_on(replay(pipeline, settings, arguments))??;
    for (partition, hole) in &replayed.gaps {
        let (topic, from, to) = (&settings.topic, hole.from, hole.to);
        complain!(
            "howdah: the archive of {topic}-{partition} has no offsets [{from}, {to}): `howdah archive verify` says more"
        );
    }
    let letters = match replayed.letters {
        0 => String::new(),
        letters => format!("; without {}, which are no lines", counted(letters, "dead letter")),
    };
    let records = counted(replayed.records, "record");
    say!("{records} of {} put onto {}{letters}", settings.path, arguments.onto)?;
    Ok(if replayed.gaps.is_empty() { DONE } else { LOSS })
}

fn find<'p>(pipelines: &'p [Pipeline], arguments: &Replaying) -> Result<(&'p Pipeline, &'p archive::Settings)> {
    let archives: Vec<_> = pipelines
        .iter()
        .flat_map(|pipeline| pipeline.stages.iter().map(move |stage| (pipeline, stage)))
        .filter_map(|(pipeline, stage)| match &stage.kind {
            StageKind::Archiver(settings) => Some((pipeline, &stage.id, settings)),
            _ => None,
        })
        .collect();
    let wanted = |id: &str| arguments.archive.as_ref().is_none_or(|name| name == id);
    let found: Vec<_> = archives.iter().filter(|(_, id, _)| wanted(id.as_str())).collect();
    match found[..] {
        [&(pipeline, _, settings)] => Ok((pipeline, settings)),
        _ => {
            let names: Vec<_> = archives.iter().map(|(_, id, _)| id.as_str()).collect();
            let file = arguments.file.display();
            Err(Fault::user(format!("--archive must name one of the archivers in {file}: {}", names.join(", "))))
        }
    }
}

async fn replay(pipeline: &Pipeline, settings: &archive::Settings, arguments: &Replaying) -> Result<Replayed> {
    let store = node::open_store_to_read(&pipeline.store).await?;
    let bus = node::open_bus(&pipeline.bus)?;
    let of = identity(&identities(&*store, settings).await?, settings, arguments)?;
    let name = arguments.onto.clone();
    let onto: TopicInfo = match bus.topic(&name).await? {
        Some(onto) if onto.id == of.0 && !arguments.twice => {
            return Err(Fault::user(format!(
                "{name} is the topic that this archive is of: its archive and tables would take every record once \
                 more. Name another topic, or say --twice if that is what you want"
            )));
        }
        Some(onto) => onto,
        None => {
            let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
            bus.ensure_topic(&TopicSpec { name: name.clone(), num_partitions: of.1, cleanup }).await?
        }
    };
    let router = node::router(pipeline, &settings.topic, onto.num_partitions);
    let replay = Replay {
        range: arguments.from.unwrap_or(Millis::MIN)..arguments.to.unwrap_or(Millis::MAX),
        rate: arguments.rate,
        onto,
        route: Box::new(move |value| router.route(value)),
    };
    let mut producer = bus.producer(&format!("{}/replay/{}/{name}", pipeline.id, settings.topic)).await?;
    let mut said = 0;
    let progress = |records: u64| {
        if records >= said + 100_000 {
            said = records;
            complain!("{} records", grouped(records));
        }
    };
    replay.run(&store, settings, of, &mut *producer, progress).await
}

fn identity(found: &[(TopicId, u32)], settings: &archive::Settings, arguments: &Replaying) -> Result<(TopicId, u32)> {
    let wanted = |id: TopicId| arguments.identity.is_none_or(|wanted| TopicId(wanted) == id);
    let matching: Vec<_> = found.iter().filter(|(id, _)| wanted(*id)).collect();
    match matching[..] {
        [&one] => Ok(one),
        [] if found.is_empty() => {
            Err(Fault::user(format!("there is no archive of {} at {}", settings.topic, settings.path)))
        }
        _ => {
            let ids: Vec<_> = found.iter().map(|(id, _)| id.to_string()).collect();
            Err(Fault::user(format!("--identity must be one of those in {}: {}", settings.path, ids.join(", "))))
        }
    }
}
