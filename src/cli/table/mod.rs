//! `howdah table`: commands on the live tables of a pipeline.

mod ddl;
mod rebuild;
mod show;
mod totals;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

pub use totals::totals;

use super::{
    COMPLAINTS, DONE, block_on, pipelines,
    terminal::{say, write},
};
use crate::{
    config::{Pipeline, StageKind, StoreSettings},
    fault::{Fault, Result},
    table::{Definition, Settings},
};

/// Commands on tables.
#[derive(Subcommand)]
pub enum Command {
    /// Print the newest rows of a pipeline's tables and how far each partition stands
    #[command(after_help = "Example:\n  howdah table show pipelines/wikimedia.toml --last 20\n\n\
        Exit codes: 0 done, 1 the file has complaints, 3 not reachable, 4 a file of the table is missing")]
    Show(Showing),
    /// Print the statements that make the tables known to Spark, Hive or Trino
    #[command(after_help = "Example:\n  howdah table ddl pipelines/wikimedia.toml --for hive\n\n\
        Exit codes: 0 done, 1 the file has complaints")]
    Ddl(Statements),
    /// Count final hours again, late records too, or the whole table
    ///
    /// Each hour is counted from all the records that bus and archive have of it; where its rows come out
    /// other than they are, one commit corrects them. May run beside a running pipeline.
    #[command(after_help = "Examples:\n  \
        howdah table rebuild pipelines/wikimedia.toml --table edits --from 2015-09-12T14:00:00Z --to 2015-09-12T16:00:00Z\n  \
        howdah table rebuild pipelines/wikimedia.toml --table edits --all\n\n\
        Exit codes: 0 done, 1 the file has complaints or the hours are not final, 3 not reachable, 4 records are gone")]
    Rebuild(rebuild::Rebuilding),
}

/// What to show.
#[derive(Args)]
pub struct Showing {
    /// The pipeline whose tables are meant
    file: PathBuf,
    /// Only the last so many windows
    #[arg(long, default_value_t = 3, value_name = "N")]
    last: usize,
    /// Everything as JSON, one object a table
    #[arg(long)]
    json: bool,
}

/// Which statements.
#[derive(Args)]
pub struct Statements {
    /// The pipeline whose tables are meant
    file: PathBuf,
    /// For whom
    #[arg(long = "for", value_name = "PROGRAM")]
    dialect: ddl::Dialect,
    /// Where that program finds the store, if elsewhere than in this machine's files
    #[arg(long, value_name = "URL")]
    store_url: Option<String>,
}

/// Runs a command on tables.
///
/// # Errors
/// Those of the store.
pub fn run(command: &Command) -> Result<u8> {
    match command {
        Command::Show(arguments) => show(arguments),
        Command::Ddl(arguments) => ddl(arguments),
        Command::Rebuild(arguments) => rebuild::run(arguments),
    }
}

/// The table of this name, which is its aggregator's or the last part of its path.
///
/// # Errors
/// `User` if there is none, with the names that there are.
pub(super) fn find<'p>(pipelines: &'p [Pipeline], name: &str, file: &Path) -> Result<(&'p Pipeline, &'p Settings)> {
    let mut names = Vec::new();
    for pipeline in pipelines {
        for stage in &pipeline.stages {
            if let StageKind::Aggregator(settings) = &stage.kind {
                if stage.id.as_str() == name || settings.path.name() == name {
                    return Ok((pipeline, settings));
                }
                names.push(stage.id.to_string());
            }
        }
    }
    Err(Fault::user(format!("no table {name:?} in {}; there are: {}", file.display(), names.join(", "))))
}

fn show(arguments: &Showing) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    for pipeline in &pipelines {
        for (name, view) in block_on(show::views(pipeline))?? {
            match view {
                None => say!("{name}: there is no table yet")?,
                Some(view) if arguments.json => say!("{}", show::json(&name, &view)?)?,
                Some(view) => show::print(&name, &view, arguments.last)?,
            }
        }
    }
    Ok(DONE)
}

fn ddl(arguments: &Statements) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    for pipeline in &pipelines {
        let base = match (&arguments.store_url, &pipeline.store) {
            (Some(url), _) => url.clone(),
            (None, StoreSettings::Hdfs(settings)) => settings.url.clone(),
            (None, StoreSettings::Local { root }) => {
                let here = std::path::absolute(root).map_err(|error| Fault::io(root.display(), &error))?;
                format!("file://{}", here.display())
            }
        };
        for stage in &pipeline.stages {
            if let StageKind::Aggregator(settings) = &stage.kind {
                let url = format!("{}{}", base.trim_end_matches('/'), settings.path);
                let columns = Definition::of(settings).columns();
                write(ddl::statements(arguments.dialect, settings, &columns, &url))?;
            }
        }
    }
    Ok(DONE)
}
