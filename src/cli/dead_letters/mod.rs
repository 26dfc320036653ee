//! `howdah dead-letters`: what could not be used, and why.

mod resend;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{
    COMPLAINTS, DONE, block_on, pipelines,
    terminal::{counted, say, write_bytes},
};
use crate::{
    api::views::LetterView,
    bus::letters::{Letter, standing},
    config::Pipeline,
    fault::{Fault, Result},
    node,
};

/// Commands on dead letters.
#[derive(Subcommand)]
pub enum Command {
    /// List the dead letters of a pipeline's topics, oldest first
    ///
    /// May run beside a running pipeline.
    #[command(after_help = "Example:\n  howdah dead-letters list pipelines/wikimedia.toml\n\n\
        Exit codes: 0 done, 1 the file has complaints, 3 not reachable, 4 the bus is damaged")]
    List(Listing),
    /// Write a letter's payload to standard output, byte for byte
    #[command(after_help = "Example:\n  howdah dead-letters show pipelines/wikimedia.toml COORDINATE > payload\n\n\
        Exit codes: 0 done, 1 there is no such letter, 3 not reachable, 4 the bus is damaged")]
    Show(Showing),
    /// Send letters to their topics again, once what was wrong is mended
    ///
    /// Each is sent together with a note that it was, after which it is listed no more. With the embedded
    /// bus, while no pipeline runs.
    #[command(
        after_help = "Examples:\n  howdah dead-letters resend pipelines/wikimedia.toml --all --reason newline --one-line\n  \
        howdah dead-letters resend pipelines/wikimedia.toml COORDINATE --payload mended.json\n\n\
        Exit codes: 0 done, 1 there is no such letter, or it would become one again, 3 not reachable, 4 the bus is damaged"
    )]
    Resend(resend::Resending),
}

/// What to list.
#[derive(Args)]
pub struct Listing {
    /// The pipeline whose letters are meant
    file: PathBuf,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// What to show.
#[derive(Args)]
pub struct Showing {
    /// The pipeline whose letters are meant
    file: PathBuf,
    /// Where the record came from, as `list` says
    coordinate: String,
}

/// Runs a command on dead letters.
///
/// # Errors
/// Those of the bus; `User` for a letter that is not there.
pub fn run(command: &Command) -> Result<u8> {
    let file = match command {
        Command::List(arguments) => &arguments.file,
        Command::Show(arguments) => &arguments.file,
        Command::Resend(arguments) => return resend::run(arguments),
    };
    let Some(pipelines) = pipelines(file) else { return Ok(COMPLAINTS) };
    let mut letters = Vec::new();
    for pipeline in &pipelines {
        letters.extend(block_on(of(pipeline))??);
    }
    match command {
        Command::List(arguments) => list(&letters, arguments.json)?,
        Command::Show(arguments) => show(&letters, &arguments.coordinate, file)?,
        Command::Resend(_) => {}
    }
    Ok(DONE)
}

/// The letters of a pipeline's topics.
async fn of(pipeline: &Pipeline) -> Result<Vec<Letter>> {
    let bus = node::open_bus_read_only(&pipeline.bus)?;
    standing(&*bus, pipeline.topics_with_letters(), None).await
}

fn list(letters: &[Letter], json: bool) -> Result<()> {
    for letter in letters {
        if json {
            let shown = LetterView::of(letter);
            let line = serde_json::to_string(&shown).map_err(|error| Fault::internal(error.to_string()))?;
            say!("{line}")?;
        } else {
            let LetterView { time, topic, coordinate, reason, detail, bytes, file, .. } = LetterView::of(letter);
            let time = time.unwrap_or_default();
            let where_to = file.map_or_else(|| format!("{bytes} bytes"), |file| format!("in {file}"));
            say!("{time} {topic} {coordinate} {reason} ({where_to}): {detail}")?;
        }
    }
    if !json {
        say!("{}", counted(letters.len() as u64, "dead letter"))?;
    }
    Ok(())
}

fn show(letters: &[Letter], coordinate: &str, pipeline: &Path) -> Result<()> {
    let Some(letter) = letters.iter().find(|letter| letter.coordinate == coordinate) else {
        let text = format!("no dead letter {coordinate}; `howdah dead-letters list {}` names them", pipeline.display());
        return Err(Fault::user(text));
    };
    let payload = match &letter.file {
        None => letter.record.value.clone().unwrap_or_default().to_vec(),
        Some(file) => std::fs::read(file).map_err(|error| Fault::io(file, &error))?,
    };
    write_bytes(&payload)
}
