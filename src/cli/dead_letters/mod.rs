//! `howdah dead-letters`: what could not be used, and why.

mod resend;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    COMPLAINTS, DONE, block_on, pipelines,
    terminal::{counted, say, write_bytes},
};
use crate::{
    bus::{
        letters::{ACTOR, DETAIL, FILE, KEY, REASON, TIME},
        read_range,
    },
    config::Pipeline,
    fault::{Fault, Result},
    model::Record,
    node,
    table::grid::rfc3339,
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

/// A letter as a person sees it.
#[derive(Serialize)]
struct Letter {
    /// When it was written to the bus.
    time: String,
    /// The topic for which it was meant.
    topic: String,
    /// Where it came from.
    coordinate: String,
    /// Why, in one word.
    reason: String,
    /// Why, in a sentence.
    detail: String,
    /// Who found it.
    actor: String,
    /// Bytes of its payload, unless a file keeps it.
    bytes: usize,
    /// The file that keeps its payload.
    file: Option<String>,
    #[serde(skip)]
    payload: bytes::Bytes,
    #[serde(skip)]
    record_time: Option<bytes::Bytes>,
    #[serde(skip)]
    record_key: Option<bytes::Bytes>,
}

impl Letter {
    fn of(topic: &str, record: &Record) -> Self {
        let header = |name| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let payload = record.value.clone().unwrap_or_default();
        Self {
            time: rfc3339(record.time),
            topic: topic.to_owned(),
            coordinate: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
            reason: header(REASON).unwrap_or_default(),
            detail: header(DETAIL).unwrap_or_default(),
            actor: header(ACTOR).unwrap_or_default(),
            bytes: payload.len(),
            file: header(FILE),
            payload,
            record_time: record.header(TIME).cloned(),
            record_key: record.header(KEY).cloned(),
        }
    }
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

/// The letters of a pipeline's topics. One that was written twice (after a crash) is one; one that was sent
/// again is none.
async fn of(pipeline: &Pipeline) -> Result<Vec<Letter>> {
    let bus = node::open_bus_read_only(&pipeline.bus)?;
    let mut letters = BTreeMap::new();
    for spec in &pipeline.topics {
        let Some(topic) = bus.topic(&spec.name.dead_letters()).await? else { continue };
        let ends = bus.watermarks(&topic, 0).await?;
        for record in read_range(&*bus, &topic, 0, ends.low, ends.high).await? {
            let letter = Letter::of(spec.name.as_str(), &record);
            if record.value.is_none() {
                letters.remove(&(letter.topic, letter.coordinate));
                continue;
            }
            letters.entry((letter.topic.clone(), letter.coordinate.clone())).or_insert((record.time, letter));
        }
    }
    let mut letters: Vec<_> = letters.into_values().collect();
    letters.sort_by_key(|(time, _)| *time);
    Ok(letters.into_iter().map(|(_, letter)| letter).collect())
}

fn list(letters: &[Letter], json: bool) -> Result<()> {
    for letter in letters {
        if json {
            let line = serde_json::to_string(letter).map_err(|error| Fault::internal(error.to_string()))?;
            say!("{line}")?;
        } else {
            let Letter { time, topic, coordinate, reason, detail, bytes, file, .. } = letter;
            let where_to = file.as_ref().map_or_else(|| format!("{bytes} bytes"), |file| format!("in {file}"));
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
        None => letter.payload.to_vec(),
        Some(file) => std::fs::read(file).map_err(|error| Fault::io(file, &error))?,
    };
    write_bytes(&payload)
}
