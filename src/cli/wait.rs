//! `howdah wait`: ends when an hour of a table is final, for schedulers.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    COMPLAINTS, DONE, NOT_REACHABLE, block_on, parse_time, pipelines, table,
    terminal::{complain, say},
};
use crate::{
    config::{Pipeline, parse_duration},
    fault::{Result, Retry},
    model::Millis,
    node,
    store::StorePath,
    table::{Snapshot, grid::rfc3339},
};

/// How often the table's log is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(Args)]
#[command(
    after_help = "Example:\n  howdah wait pipelines/wikimedia.toml --table edits --until 2015-09-12T15:00:00Z --timeout 2h\n\n\
    In a task of Airflow or Dagster it holds up what needs the hour.\n\n\
    Exit codes: 0 everything before that time is final, and plain readers see it; 1 the file has complaints or no \
    such table; 3 not within the time-out, or not reachable; 4 a file of the table is missing"
)]
pub struct Arguments {
    /// The pipeline whose table is meant
    file: PathBuf,
    /// The aggregator's name in the file, or the last part of the table's path
    #[arg(long, value_name = "NAME")]
    table: String,
    /// The time before which everything is to be final, like 2015-09-12T15:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Millis,
    /// Give up after this long, like 90s, 30m or 2h; without it, never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Waits.
///
/// # Errors
/// `User` if the pipeline has no such table; those of the store that no waiting mends.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let (pipeline, settings) = table::find(&pipelines, &arguments.table, &arguments.file)?;
    let path = &settings.path;
    block_on(async {
        let mut last = "there is no table yet".to_owned();
        let waiting = wait(pipeline, path, arguments.until, &mut last);
        let Some(timeout) = arguments.timeout else { return waiting.await.map(|()| DONE) };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(done) => done.map(|()| DONE),
            Err(_) => {
                complain!("howdah: {path} is not final until {} yet: {last}", rfc3339(arguments.until));
                Ok(NOT_REACHABLE)
            }
        }
    })?
}

/// Looks again and again until everything before `until` is final; `last` says what it saw last.
async fn wait(pipeline: &Pipeline, path: &StorePath, until: Millis, last: &mut String) -> Result<()> {
    let mut snapshot: Option<Snapshot> = None;
    loop {
        // Whoever waits may be there before the pipeline has ever run.
        let looked = async {
            let store = node::open_store_to_read(&pipeline.store).await?;
            match &mut snapshot {
                Some(snapshot) => snapshot.follow(&*store).await?,
                None => snapshot = Snapshot::load(&*store, path).await?,
            }
            Ok(())
        };
        let looked: Result<()> = looked.await;
        match (looked, &snapshot) {
            (Err(fault), _) if fault.retry == Retry::Never => return Err(fault),
            (Err(fault), _) => *last = fault.to_string(),
            (Ok(()), Some(snapshot)) if snapshot.shows_until(until) => {
                return say!("{path} is final until {}", rfc3339(until));
            }
            (Ok(()), Some(snapshot)) => {
                *last = match snapshot.final_until() {
                    Some(closed) if closed >= until => {
                        "final, and not yet in the files that plain readers see (after a rebuild that takes up to `history`)".to_owned()
                    }
                    Some(closed) => format!("final until {}", rfc3339(closed)),
                    None => "no hour is final".to_owned(),
                };
            }
            (Ok(()), None) => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}
