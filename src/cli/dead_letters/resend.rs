//! `howdah dead-letters resend`: payloads back onto their topic.

use std::{collections::BTreeSet, path::PathBuf};

use bytes::Bytes;
use clap::Args;

use super::of;
use crate::{
    bus::{
        Outgoing,
        letters::{self, Letter},
    },
    cli::{
        COMPLAINTS, DONE, block_on, pipelines,
        terminal::{counted, say},
    },
    config::Pipeline,
    fault::{Fault, Result},
    model::{Header, Partition},
    node,
};

/// Header: the coordinate of the letter that a record was.
const LETTER: &str = "howdah.letter";

/// What to send again.
#[derive(Args)]
pub struct Resending {
    /// The pipeline whose letters are meant
    file: PathBuf,
    /// Where the records came from, as `list` says
    #[arg(required_unless_present = "all")]
    coordinates: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "coordinates")]
    all: bool,
    /// Only those with this reason, as `list` says: newline, oversized, refused, …
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Send this file's bytes in the place of the payload
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "one_line"])]
    payload: Option<PathBuf>,
    /// Also those of loaders, whose records archive and tables have already and then take once more
    #[arg(long)]
    twice: bool,
    /// Put a JSON document on one line: each newline between its tokens becomes a space
    #[arg(long)]
    one_line: bool,
}

/// Sends them, each with a note that it was sent, both or none.
///
/// # Errors
/// `User` for a letter that is not there or would become one again; those of the bus.
pub fn run(arguments: &Resending) -> Result<u8> {
    let Some(pipelines) = pipelines(&arguments.file) else { return Ok(COMPLAINTS) };
    let (mut named, mut reasons) = (0, BTreeSet::new());
    let mut chosen = Vec::new();
    for pipeline in &pipelines {
        let mut letters = block_on(of(pipeline))??;
        letters.retain(|letter| arguments.all || arguments.coordinates.contains(&letter.coordinate));
        named += letters.len();
        reasons.extend(letters.iter().map(|letter| letter.reason.clone()));
        letters.retain(|letter| arguments.reason.as_ref().is_none_or(|reason| *reason == letter.reason));
        if let Some(letter) = letters.iter().find(|letter| !arguments.twice && is_of_loader(letter)) {
            let topic = &letter.topic;
            let text = format!(
                "a loader could not use it: sent again, its record is on {topic} once more, and so in archive and tables; \
                 with --twice it is sent all the same, with --reason others are"
            );
            return Err(Fault::user(text).at(&letter.coordinate));
        }
        chosen.push((pipeline, letters));
    }
    let list = format!("`howdah dead-letters list {}` names them", arguments.file.display());
    if named < arguments.coordinates.len() {
        return Err(Fault::user(format!("{named} of {} letters are there; {list}", arguments.coordinates.len())));
    }
    if let Some(reason) = arguments.reason.as_ref().filter(|reason| named > 0 && !reasons.contains(*reason)) {
        let reasons: Vec<_> = reasons.into_iter().collect();
        return Err(Fault::user(format!("no letter's reason is {reason}; there are: {}; {list}", reasons.join(", "))));
    }
    let mut sent = 0;
    for (pipeline, letters) in chosen {
        sent += block_on(send(pipeline, &letters, arguments))??;
    }
    say!("{} sent again", counted(sent as u64, "dead letter"))?;
    Ok(DONE)
}

async fn send(pipeline: &Pipeline, letters: &[Letter], arguments: &Resending) -> Result<usize> {
    if letters.is_empty() {
        return Ok(0);
    }
    // All are looked at before the first is sent.
    let payloads: Vec<_> = letters.iter().map(|letter| payload(letter, arguments)).collect::<Result<_>>()?;
    let bus = node::open_bus(&pipeline.bus)?;
    let mut producer = bus.producer(&format!("{}/resend", pipeline.id)).await?;
    for (letter, payload) in letters.iter().zip(payloads) {
        let name = letter.topic.clone();
        let topic = bus.topic(&name).await?.ok_or_else(|| Fault::user(format!("topic {name} does not exist")))?;
        let (key, routed) = node::router(pipeline, &name, topic.num_partitions).route(&payload);
        let partition = partition_of(letter).filter(|&partition| partition < topic.num_partitions).unwrap_or(routed);
        let coordinate = Bytes::from(letter.coordinate.clone());
        let mut headers: Vec<Header> = vec![(LETTER.into(), coordinate.clone())];
        headers.extend(letter.record.header(letters::TIME).map(|time| (letters::TIME.into(), time.clone())));
        let key = Some(letter.record.header(letters::KEY).cloned().unwrap_or(key));
        let record = Outgoing { topic: name.clone(), partition, key, value: Some(payload), headers };
        let note = Outgoing {
            topic: name.dead_letters(),
            partition: 0,
            key: Some(coordinate),
            value: None,
            headers: Vec::new(),
        };
        producer.send(vec![record, note]).await.map_err(|fault| fault.at(&letter.coordinate))?;
    }
    Ok(letters.len())
}

/// Whether a loader has written it, also one that is off here: its coordinates end in its stage. Other readers of the
/// topic may well have used the record.
fn is_of_loader(letter: &Letter) -> bool {
    letter.coordinate.rsplit_once('@').is_some_and(|(_, place)| place.contains('/'))
}

/// The partition in which the record stood, if it was one of a topic.
fn partition_of(letter: &Letter) -> Option<Partition> {
    let place = letter.coordinate.strip_prefix(letter.topic.as_str())?.strip_prefix('/')?;
    place.split_once('/')?.1.split_once('@')?.0.parse().ok()
}

fn payload(letter: &Letter, arguments: &Resending) -> Result<Bytes> {
    let payload = match (&arguments.payload, &letter.file) {
        (Some(file), _) => std::fs::read(file).map_err(|error| Fault::io(file.display(), &error))?.into(),
        (None, Some(file)) => std::fs::read(file).map_err(|error| Fault::io(file, &error))?.into(),
        (None, None) => letter.record.value.clone().unwrap_or_default(),
    };
    let payload = if arguments.one_line { on_one_line(&payload, letter)? } else { payload };
    if payload.contains(&b'\n') {
        let text =
            "its payload has a newline, and would be a dead letter again: use --one-line if it is JSON, or --payload";
        return Err(Fault::user(text).at(&letter.coordinate));
    }
    Ok(payload)
}

/// Within a JSON text a raw line break stands only between tokens, where a space means the same.
fn on_one_line(payload: &Bytes, letter: &Letter) -> Result<Bytes> {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload)
        .map_err(|error| Fault::user(format!("is no JSON document: {error}")).at(&letter.coordinate))?;
    Ok(payload.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect::<Vec<_>>().into())
}
