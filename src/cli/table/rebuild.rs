//! `howdah table rebuild`: hours of a table, or all of it, counted again from the records.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};

use super::{super::parse_time, find};
use crate::{
    archive::BackedBus,
    bus::{SharedBus, TopicInfo},
    cli::{
        COMPLAINTS, DONE, block_on, pipelines,
        terminal::{complain, counted, grouped, say},
    },
    config::{Pipeline, show_duration},
    fault::{Fault, Result},
    model::{Clock, Doubling, Millis, SystemClock},
    node,
    store::SharedStore,
    table::{Keeper, LaneId, Settings, Source, grid::rfc3339, replace},
};

/// What to count again.
#[derive(Args)]
pub struct Rebuilding {
    /// The pipeline whose table is meant
    file: PathBuf,
    /// The aggregator's name in the file, or the last part of the table's path
    #[arg(long, value_name = "NAME")]
    table: String,
    /// The beginning of the first hour, like 2015-09-12T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time, required_unless_present = "all", requires = "to")]
    from: Option<Millis>,
    /// The end of the last hour
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "from")]
    to: Option<Millis>,
    /// Empty the table; the aggregator counts all there is again, by the settings in the file
    #[arg(long, conflicts_with_all = ["from", "to"])]
    all: bool,
    /// Where the records come from
    #[arg(long, value_enum, default_value_t = Records::Auto, conflicts_with = "all")]
    source: Records,
    /// Go on where neither bus nor archive has records that may belong to the hours
    #[arg(long, conflicts_with = "all")]
    despite_gaps: bool,
}

/// Where records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Records {
    /// From the bus, and from the archive what it no longer has
    Auto,
    /// From the bus alone
    Bus,
    /// From the archive alone
    Archive,
}

/// Counts again.
///
/// # Errors
/// `User` for a table that is not there or hours that are not final; [`Kind::Lost`](crate::fault::Kind::Lost)
/// for records that are gone; those of bus and store.
pub fn run(arguments: &Rebuilding) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let (pipeline, settings) = find(&pipelines, &arguments.table, &arguments.file)?;
    block_on(async {
        // The bus first: where there is none, no folder is made for a store either.
        let bus = node::open_bus_read_only(&pipeline.bus)?;
        let store = node::open_store(&pipeline.store).await?;
        let topic = bus.topic(&settings.topic).await?;
        let topic = topic.ok_or_else(|| Fault::user(format!("topic {} does not exist", settings.topic)))?;
        let archive = node::archive_of(pipeline, &settings.topic);
        let backed = archive.map(|archive| BackedBus::new(bus.clone(), store.clone(), Arc::new(archive.clone())));
        match (arguments.from, arguments.to) {
            (Some(from), Some(to)) => {
                let records = records(arguments.source, bus, backed, pipeline)?;
                hours(settings, store, &topic, &records, from..to, arguments.despite_gaps).await
            }
            _ => all(settings, store, &topic, &bus, backed.as_ref()).await,
        }
    })??;
    Ok(DONE)
}

fn records(from: Records, bus: SharedBus, backed: Option<BackedBus>, pipeline: &Pipeline) -> Result<SharedBus> {
    match (from, backed) {
        (Records::Bus, _) | (Records::Auto, None) => Ok(bus),
        (Records::Auto, Some(backed)) => Ok(Arc::new(backed)),
        (Records::Archive, Some(backed)) => Ok(Arc::new(backed.archive_only())),
        (Records::Archive, None) => Err(Fault::user(format!("pipeline {} archives no such topic", pipeline.id))),
    }
}

async fn hours(
    settings: &Settings,
    store: SharedStore,
    topic: &TopicInfo,
    bus: &SharedBus,
    range: std::ops::Range<Millis>,
    despite_gaps: bool,
) -> Result<()> {
    let (pause, clock) = (Arc::new(Doubling::default()), Arc::new(SystemClock));
    let mut keeper = Keeper::open(settings, store, pause, clock).await?;
    let grid = keeper.snapshot().definition().grid();
    if let Some(odd) = [range.start, range.end].into_iter().find(|&time| grid.hour_of(time).start() != time) {
        let text = format!("{} is in the middle of an hour; the one it lies in begins", rfc3339(odd));
        return Err(Fault::user(format!("{text} at {}", grid.hour_of(odd))));
    }
    let source = Source { bus: &**bus, despite_gaps };
    let (mut changed, mut same, mut from) = (0, 0, range.start);
    while from < range.end {
        let rebuilt = keeper.rebuild(topic, &(from..range.end), &source).await?;
        for hour in &rebuilt.changed {
            say!("{hour}: other rows than before")?;
        }
        for (lane, hole) in &rebuilt.gaps {
            let (name, partition) = (&topic.name, lane.partition);
            complain!(
                "howdah: offsets [{}, {}) of {name}-{partition} are gone, and may have belonged to it",
                hole.from,
                hole.to
            );
        }
        (changed, same) = (changed + rebuilt.changed.len() as u64, same + rebuilt.same);
        let read = counted(rebuilt.records, "record");
        say!("{} to {}: {read} read", rfc3339(from), rfc3339(rebuilt.until))?;
        from = rebuilt.until;
    }
    say!("{}: {} corrected, {same} right", settings.path, counted(changed, "hour"))?;
    if changed > 0 {
        let history = show_duration(settings.history);
        say!("Readers of its log see the correction now; readers of plain files once history ({history}) is over.")?;
    }
    Ok(())
}

async fn all(
    settings: &Settings,
    store: SharedStore,
    topic: &TopicInfo,
    bus: &SharedBus,
    backed: Option<&BackedBus>,
) -> Result<()> {
    let mut begin = Vec::new();
    for partition in 0..topic.num_partitions {
        let offset = match backed {
            Some(backed) => backed.begin(topic, partition).await?,
            None => bus.watermarks(topic, partition).await?.low,
        };
        say!("partition {partition} is counted from offset {} on", grouped(offset))?;
        begin.push((LaneId { topic: topic.id, partition }, offset));
    }
    replace(settings, &*store, &Doubling::default(), &begin, SystemClock.now()).await?;
    say!("{} is empty now; `howdah run` with this file counts it again", settings.path)
}
