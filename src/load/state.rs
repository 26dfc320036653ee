//! What a loader keeps on the bus: where each lane stands, and the keys that were won.
//!
//! Positions lie in a compacted topic ([`POSITIONS_TOPIC`]), keyed by actor's stage, topic identity and
//! partition. Won keys lie in a topic of the stage's own ([`keys_topic`]), with as many partitions as the topic
//! that is read: a key is written once for each time it is won, so age alone bounds the topic. A record may be read
//! when it is as old as the topic keeps it, and a key counts that is older by the horizon: both together, and a day.
//! A loader that reads records from the archive, long after the topic has lost them, may find keys gone that count;
//! it says so.
//!
//! Both are written in one transaction, with the dead letters. Where that is torn all the same (a broker may lose
//! the half of one), the position says which key was won last, and which letter was written: if one is not there,
//! the lane begins where that load began, and everything is sent again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keys::{Horizon, Keys, Winner};
use crate::{
    bus::{Bus, Cleanup, Outgoing, TopicInfo, TopicSpec, latest, read_range},
    failpoint::rare,
    fault::{Fault, Kind, Result},
    model::{ActorId, Millis, Offset, Partition, PipelineId, Record, StageId, TopicId, TopicName},
};

/// The compacted topic in which loaders keep where they stand.
pub const POSITIONS_TOPIC: &str = "howdah_loads";

/// The version of [`Position`].
pub const FORMAT: u32 = 1;

/// The version of a won key's value, its first byte.
const KEY_FORMAT: u8 = 1;

/// Bytes of a won key's value: format, offset, element, time.
const KEY_LEN: usize = 1 + 8 + 4 + 8;

/// Keys are kept on the bus for so much longer than they count.
const SLACK_MS: Millis = 24 * 3_600_000;

/// Where a lane stands: the value of a record in [`POSITIONS_TOPIC`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The version of this text.
    pub format: u32,
    /// The first offset that is not loaded.
    pub next: Offset,
    /// Where the last load began.
    pub from: Offset,
    /// The key that the last load won last: offset and element.
    pub won: Option<(Offset, u32)>,
    /// The coordinate of the last load's last dead letter.
    pub letter: Option<String>,
    /// The bus time of the last record that was loaded.
    #[serde(default)]
    pub time: Option<Millis>,
}

/// The topic of the keys that a stage's rows have won.
pub fn keys_topic(pipeline: &PipelineId, stage: &StageId) -> TopicName {
    format!("howdah_keys.{pipeline}.{stage}").as_str().into()
}

/// The topic of the positions, as it is wanted.
pub fn positions_spec() -> TopicSpec {
    TopicSpec { name: POSITIONS_TOPIC.into(), num_partitions: 1, cleanup: Cleanup::Compact }
}

/// The topic of the keys that a stage's rows have won, as it is wanted, beside the topic that is read.
pub fn keys_spec(pipeline: &PipelineId, stage: &StageId, read: &TopicSpec, horizon: Horizon) -> TopicSpec {
    let retention_ms = read.cleanup.age().map(|kept| kept.saturating_add(age(horizon)).saturating_add(SLACK_MS));
    let cleanup = Cleanup::Delete { retention_ms, retention_bytes: None };
    TopicSpec { name: keys_topic(pipeline, stage), num_partitions: read.num_partitions, cleanup }
}

/// Whose state it is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The actor.
    pub actor: ActorId,
    /// The topic that is read.
    pub topic: TopicInfo,
    /// The partition.
    pub partition: Partition,
}

impl Owner {
    /// The id of the producer that writes it: whoever opens it last is the owner.
    pub fn producer(&self) -> String {
        let ActorId { pipeline, stage, .. } = &self.actor;
        format!("load/{pipeline}/{stage}/{}", self.partition)
    }

    fn prefix(&self) -> String {
        let ActorId { pipeline, stage, .. } = &self.actor;
        format!("{pipeline}/{stage}/")
    }

    fn key(&self, topic: TopicId) -> String {
        format!("{}{topic}/{}", self.prefix(), self.partition)
    }

    /// The lane's position, if it ever stored one.
    ///
    /// # Errors
    /// [`Kind::Lost`] for one that cannot be read; [`Kind::Recreated`] if there is one of an earlier topic of this
    /// name only, unless that is followed; those of the bus.
    pub async fn position(&self, bus: &dyn Bus, follows_recreated: bool) -> Result<Option<Position>> {
        let topic = bus.topic(&POSITIONS_TOPIC.into()).await?;
        let topic = topic.ok_or_else(|| missing(POSITIONS_TOPIC))?;
        let all = latest(bus, &topic).await?;
        if let Some(record) = all.get(self.key(self.topic.id).as_bytes()) {
            let place = || format!("{POSITIONS_TOPIC}-0@{}", record.offset);
            let position: Position = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
                .map_err(|error| Fault::data(format!("is no position: {error}")).kind(Kind::Lost).at(place()))?;
            if position.format != FORMAT {
                let text = format!("position of format {}, this version reads {FORMAT}", position.format);
                return Err(Fault::user(text).at(place()));
            }
            return Ok(Some(position));
        }
        let suffix = format!("/{}", self.partition);
        let of_others = |key: &&Bytes| {
            key.strip_prefix(self.prefix().as_bytes()).is_some_and(|rest| rest.ends_with(suffix.as_bytes()))
        };
        if !follows_recreated && all.keys().any(|key| of_others(&key)) {
            let (name, stage) = (&self.topic.name, &self.actor.stage);
            let text = format!(
                "topic {name} was deleted and created anew, and {stage} has loaded the one before: recreated = \
                 \"begin-anew\" lets it begin with the new one"
            );
            return Err(Fault::user(text).kind(Kind::Recreated));
        }
        Ok(None)
    }

    /// Whether the letter of this coordinate is on the bus, as far as that can be told: among the last few thousand
    /// of its topic, or of an age that retention took.
    ///
    /// # Errors
    /// Those of the bus.
    pub async fn has_letter(&self, bus: &dyn Bus, coordinate: &str) -> Result<bool> {
        /// Letters looked through: more than a load has, and what others wrote since.
        const MOST: u64 = 50_000;
        let name = self.topic.name.dead_letters();
        let Some(topic) = bus.topic(&name).await? else { return Ok(true) };
        let ends = bus.watermarks(&topic, 0).await?;
        let from = ends.low.max(ends.high.saturating_sub(MOST));
        let letters = read_range(bus, &topic, 0, from, ends.high).await?;
        let is_there = letters.iter().any(|letter| letter.key.as_deref() == Some(coordinate.as_bytes()));
        if !is_there && from == 0 {
            rare("load.position_without_letters");
        }
        Ok(is_there || from > 0)
    }

    /// The record that stores a position.
    ///
    /// # Errors
    /// `Internal`, which would be a mistake in this file.
    pub fn store(&self, position: &Position) -> Result<Outgoing> {
        let text = serde_json::to_vec(position).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(Outgoing {
            topic: POSITIONS_TOPIC.into(),
            partition: 0,
            key: Some(self.key(self.topic.id).into()),
            value: Some(text.into()),
            headers: Vec::new(),
        })
    }

    /// The record that stores a won key.
    pub fn store_key(&self, key: &Bytes, winner: Winner) -> Outgoing {
        let mut value = Vec::with_capacity(KEY_LEN + 16);
        value.push(KEY_FORMAT);
        value.extend_from_slice(&winner.offset.to_be_bytes());
        value.extend_from_slice(&winner.element.to_be_bytes());
        value.extend_from_slice(&winner.time.to_be_bytes());
        // Keys of an earlier topic of this name are none of this one's.
        value.extend_from_slice(self.topic.id.0.as_bytes());
        Outgoing {
            topic: keys_topic(&self.actor.pipeline, &self.actor.stage),
            partition: self.partition,
            key: Some(key.clone()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// The keys that were won and count for who goes on at this position, whether the one that it names is among them,
    /// and whether old ones are gone; `progress` is told of each step.
    ///
    /// # Errors
    /// [`Kind::Lost`] for one that cannot be read; those of the bus.
    pub async fn keys(
        &self,
        bus: &dyn Bus,
        horizon: Horizon,
        position: Option<&Position>,
        progress: &(dyn Fn() + Send + Sync),
    ) -> Result<Restored> {
        /// Records read in one step.
        const STEP: u64 = 20_000;
        let name = keys_topic(&self.actor.pipeline, &self.actor.stage);
        let topic = bus.topic(&name).await?.ok_or_else(|| missing(name.as_str()))?;
        let last = position.and_then(|position| position.won);
        let (mut keys, mut has_last) = (Keys::new(horizon), last.is_none());
        let ends = bus.watermarks(&topic, self.partition).await?;
        let mut from = ends.low;
        if let Some(time) = position.and_then(|position| position.time) {
            // A key comes onto the bus behind its winner: what is older by then counts no more.
            let counts = time.saturating_sub(age(horizon)).saturating_sub(SLACK_MS);
            from = from.max(bus.offset_before(&topic, self.partition, counts).await?);
        }
        while from < ends.high {
            let to = (from + STEP).min(ends.high);
            for record in read_range(bus, &topic, self.partition, from, to).await? {
                let place = || format!("{name}-{}@{}", self.partition, record.offset);
                let unreadable = || Fault::data("is no won key").kind(Kind::Lost).at(place());
                let (winner, of) = winner(&record).ok_or_else(unreadable)?;
                if of == self.topic.id {
                    has_last |= last == Some((winner.offset, winner.element));
                    keys.restore(record.key.as_deref().unwrap_or_default(), winner);
                }
            }
            from = to;
            progress();
        }
        // What retention took is older than any key that counts.
        let has_forgotten = ends.low > 0;
        let is_whole = has_last || has_forgotten;
        if !is_whole {
            rare("load.position_without_keys");
        }
        Ok(Restored { keys, is_whole, has_forgotten })
    }
}

/// By how many milliseconds who reads a record of this bus time is too late for keys that count then, which are kept
/// for so long.
pub fn late(at: Millis, horizon: Horizon, kept: Millis, now: Millis) -> Option<Millis> {
    let late = now.saturating_sub(kept).saturating_sub(at.saturating_sub(age(horizon)));
    (late > 0).then_some(late)
}

fn age(horizon: Horizon) -> Millis {
    Millis::try_from(horizon.age.as_millis()).unwrap_or(Millis::MAX)
}

/// What of the keys is on the bus.
pub struct Restored {
    /// They.
    pub keys: Keys,
    /// Whether the one that was won last is there.
    pub is_whole: bool,
    /// Whether old ones are gone.
    pub has_forgotten: bool,
}

fn winner(record: &Record) -> Option<(Winner, TopicId)> {
    let value = record.value.as_deref()?;
    if value.len() != KEY_LEN + 16 || value[0] != KEY_FORMAT {
        return None;
    }
    let winner = Winner {
        offset: u64::from_be_bytes(value[1..9].try_into().ok()?),
        element: u32::from_be_bytes(value[9..13].try_into().ok()?),
        time: i64::from_be_bytes(value[13..21].try_into().ok()?),
    };
    Some((winner, TopicId(uuid::Uuid::from_slice(&value[21..]).ok()?)))
}

fn missing(topic: &str) -> Fault {
    Fault::internal(format!("topic {topic} was not created at the start"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_are_there_for_whatever_the_topic_has_and_who_is_later_is_told() {
        const HOUR: Millis = 3_600_000;
        let horizon = Horizon { age: Duration::from_secs(2 * 3_600), most: 10 };
        let read = |retention_ms| TopicSpec {
            name: "t".into(),
            num_partitions: 3,
            cleanup: Cleanup::Delete { retention_ms, retention_bytes: Some(1 << 30) },
        };
        let spec = |read| keys_spec(&"p".into(), &"s".into(), &read, horizon);
        assert_eq!((spec(read(None)).num_partitions, spec(read(None)).cleanup.age()), (3, None));
        let kept = spec(read(Some(100 * HOUR))).cleanup.age().unwrap();
        assert_eq!(kept, 126 * HOUR);
        // The oldest record that the topic has, and one that only an archive has.
        let now = 1_000_000 * HOUR;
        assert_eq!(late(now - 100 * HOUR, horizon, kept, now), None);
        assert_eq!(late(now - 124 * HOUR, horizon, kept, now), None);
        assert_eq!(late(now - 125 * HOUR, horizon, kept, now), Some(HOUR));
    }
}
