//! `howdah run`: pipelines in this process, until told to stop.

use std::path::PathBuf;

use clap::Args;

use super::{
    COMPLAINTS, DONE, GAVE_UP,
    terminal::{complain, counted},
};
use crate::{
    config,
    fault::Result,
    node::{self, End},
};

/// What to run.
#[derive(Args)]
#[command(after_help = "Example:\n  HOWDAH_CONTACT=you@example.org howdah run pipelines/wikimedia.toml\n\n\
    On SIGTERM or Ctrl-C the collectors stop first, then each stage takes what the one before it left; archive and\n\
    table hold everything collected when the process ends, within 30 seconds.")]
pub struct Arguments {
    /// Pipeline files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Kill this process at a fail point, for tests: NAME=N at its N-th crossing
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, value_name = "NAME=N")]
    fail: Option<String>,
}

/// Runs until a signal, or until supervision gives up.
///
/// # Errors
/// What kept the pipelines from starting.
pub fn run(arguments: &Arguments) -> Result<u8> {
    #[cfg(debug_assertions)]
    if let Some(plan) = &arguments.fail {
        crate::failpoint::arm(plan).map_err(crate::fault::Fault::user)?;
    }
    let pipelines = match config::load(&arguments.files, &config::environment) {
        Ok(pipelines) => pipelines,
        Err(complaints) => {
            complaints.iter().for_each(|complaint| complain!("{complaint}"));
            complain!("{}; `howdah check` lists them too", counted(complaints.len() as u64, "complaint"));
            return Ok(COMPLAINTS);
        }
    };
    for notice in pipelines.iter().flat_map(|pipeline| &pipeline.notices) {
        tracing::info!("{notice}");
    }
    let settings = config::node(&config::environment)?;
    Ok(match node::run(pipelines, &settings)? {
        End::GaveUp => GAVE_UP,
        End::Drained | End::Unfinished => DONE,
    })
}
