//! Dead letters: records that could not be used, kept on the bus with the reason and where they
//! came from. Nothing is dropped in silence.
//!
//! A topic's dead letters go to `<topic>.dead_letters`, keyed by coordinate, so that a letter sent
//! twice after a crash is recognised. The value is the record as it was (or nothing, if the
//! payload is kept as a file); the headers tell the story.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;

use super::{Bus, Outgoing, TopicInfo, read_range};
use crate::{
    fault::Result,
    model::{ActorId, Batch, Header, Millis, Offset, Partition, Record, TopicName},
};

/// Header: why, in one word.
pub const REASON: &str = "howdah.reason";
/// Header: why, in a sentence.
pub const DETAIL: &str = "howdah.detail";
/// Header: who found it.
pub const ACTOR: &str = "howdah.actor";
/// Header: the file that keeps the payload.
pub const FILE: &str = "howdah.file";

/// Header: the bus time that the record itself had, in milliseconds since 1970.
pub const TIME: &str = "howdah.time";
/// Header: the record's own key.
pub const KEY: &str = "howdah.key";

/// The reason of a record that an actor died of again and again.
pub const POISON: &str = "poison";

/// A record that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Why, in one word: `newline`, `oversized`, `poison`.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: String,
    /// Where it came from, unique: `wiki_changes/<topic id>/0@17` or `spool <uuid>@17`.
    pub coordinate: String,
    /// The payload as it was; `None` if it is kept as a file.
    #[serde(skip)]
    pub payload: Option<Bytes>,
    /// The file that keeps the payload.
    pub file: Option<String>,
    /// The bus time and the key of the record, if it was one of a topic.
    #[serde(skip)]
    pub record: Option<(Millis, Option<Bytes>)>,
}

/// A letter as it stands on the bus.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The topic for which it was meant.
    pub topic: TopicName,
    /// Where it came from.
    pub coordinate: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub detail: String,
    /// Who found it.
    pub actor: String,
    /// The file that keeps its payload.
    pub file: Option<String>,
    /// It itself: its value is the payload, unless a file keeps that.
    pub record: Record,
}

impl Letter {
    fn of(topic: &TopicName, record: Record) -> Self {
        let header = |name| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        Self {
            topic: topic.clone(),
            coordinate: String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned(),
            reason: header(REASON).unwrap_or_default(),
            detail: header(DETAIL).unwrap_or_default(),
            actor: header(ACTOR).unwrap_or_default(),
            file: header(FILE),
            record,
        }
    }
}

/// The letters of these topics, oldest first; of each only what is among its `newest` records. One that was
/// written twice (after a crash) is one; one that was sent again is none.
///
/// # Errors
/// Those of the bus.
pub async fn standing(
    bus: &dyn Bus,
    topics: impl IntoIterator<Item = &TopicName>,
    newest: Option<u64>,
) -> Result<Vec<Letter>> {
    let mut letters = BTreeMap::new();
    for name in topics {
        let Some(topic) = bus.topic(&name.dead_letters()).await? else { continue };
        let ends = bus.watermarks(&topic, 0).await?;
        let from = newest.map_or(ends.low, |newest| ends.low.max(ends.high.saturating_sub(newest)));
        for record in read_range(bus, &topic, 0, from, ends.high).await? {
            let is_gone = record.value.is_none();
            let letter = Letter::of(name, record);
            let key = (letter.topic.clone(), letter.coordinate.clone());
            if is_gone {
                letters.remove(&key);
            } else {
                letters.entry(key).or_insert(letter);
            }
        }
    }
    let mut letters: Vec<_> = letters.into_values().collect();
    letters.sort_by_key(|letter| letter.record.time);
    Ok(letters)
}

/// The letters of a topic's records, with their places; those that were sent again have a null as well.
///
/// # Errors
/// Those of the bus.
pub async fn of_records(bus: &dyn Bus, topic: &TopicInfo) -> Result<Vec<((Partition, Offset), Record)>> {
    let mut found = Vec::new();
    let Some(dead) = bus.topic(&topic.name.dead_letters()).await? else { return Ok(found) };
    let prefix = coordinate(topic, "");
    for partition in 0..dead.num_partitions {
        let ends = bus.watermarks(&dead, partition).await?;
        for letter in read_range(bus, &dead, partition, ends.low, ends.high).await? {
            let place = || {
                let key = std::str::from_utf8(letter.key.as_deref()?).ok()?;
                let (partition, offset) = key.strip_prefix(&prefix)?.split_once('@')?;
                Some((partition.parse().ok()?, offset.parse().ok()?))
            };
            found.extend(place().map(|place| (place, letter)));
        }
    }
    Ok(found)
}

/// The records of a topic that an actor died of: no actor looks into them again.
///
/// # Errors
/// Those of the bus.
pub async fn poison(bus: &dyn Bus, topic: &TopicInfo) -> Result<BTreeSet<(Partition, Offset)>> {
    let letters = of_records(bus, topic).await?.into_iter();
    Ok(letters.filter(|(_, letter)| letter.header(REASON).is_some_and(|why| why == POISON)).map(|(at, _)| at).collect())
}

/// Takes away the values of those records: they are as null as a value can be.
pub fn blind(batch: &mut Batch, partition: Partition, poison: &BTreeSet<(Partition, Offset)>) {
    if !poison.is_empty() {
        let blinded = batch.records.iter_mut().filter(|record| poison.contains(&(partition, record.offset)));
        blinded.for_each(|record| record.value = None);
    }
}

/// The coordinate of a place in this topic.
pub fn coordinate(topic: &TopicInfo, place: impl fmt::Display) -> String {
    format!("{}/{}/{place}", topic.name, topic.id)
}

/// When the record of a letter was written to the bus; else when the letter was.
pub fn time_of(letter: &Record) -> Millis {
    let text = letter.header(TIME).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(letter.time)
}

impl DeadLetter {
    /// The record to send.
    pub fn outgoing(self, topic: &TopicName, actor: &ActorId) -> Outgoing {
        let mut headers: Vec<Header> = vec![
            (REASON.into(), Bytes::from(self.reason)),
            (DETAIL.into(), Bytes::from(self.detail)),
            (ACTOR.into(), Bytes::from(actor.to_string())),
        ];
        headers.extend(self.file.map(|file| (FILE.into(), Bytes::from(file))));
        if let Some((time, key)) = self.record {
            headers.push((TIME.into(), Bytes::from(time.to_string())));
            headers.extend(key.map(|key| (KEY.into(), key)));
        }
        Outgoing {
            topic: topic.dead_letters(),
            partition: 0,
            key: Some(Bytes::from(self.coordinate)),
            // A null would be a tombstone: a letter without payload has an empty value.
            value: Some(self.payload.unwrap_or_default()),
            headers,
        }
    }
}
