//! What a loader keeps on the bus: where each lane stands, and the keys that were won.
//!
//! Positions lie in a compacted topic ([`POSITIONS_TOPIC`]), keyed by actor's stage, topic identity and
//! partition. Won keys lie in a topic of the stage's own ([`keys_topic`]), with as many partitions as the topic
//! that is read: a key is written once for each time it is won, so age alone bounds the topic, by the horizon and
//! a day.
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

/// Keys are kept on the bus for so much longer than their horizon.
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
}

/// The topic of the keys that a stage's rows have won.
pub fn keys_topic(pipeline: &PipelineId, stage: &StageId) -> TopicName {
    format!("howdah_keys.{pipeline}.{stage}").as_str().into()
}

/// The topic of the positions, as it is wanted.
pub fn positions_spec() -> TopicSpec {
    TopicSpec { name: POSITIONS_TOPIC.into(), num_partitions: 1, cleanup: Cleanup::Compact }
}

/// The topic of the keys that a stage's rows have won, as it is wanted; `num_partitions` are those of the topic
/// that is read.
pub fn keys_spec(pipeline: &PipelineId, stage: &StageId, num_partitions: u32, horizon: Horizon) -> TopicSpec {
    let age = Millis::try_from(horizon.age.as_millis()).unwrap_or(Millis::MAX);
    let cleanup = Cleanup::Delete { retention_ms: Some(age.saturating_add(SLACK_MS)), retention_bytes: None };
    TopicSpec { name: keys_topic(pipeline, stage), num_partitions, cleanup }
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

    /// The keys that were won, and whether the one at this place is among them; `progress` is told of each step.
    ///
    /// # Errors
    /// [`Kind::Lost`] for one that cannot be read; those of the bus.
    pub async fn keys(
        &self,
        bus: &dyn Bus,
        horizon: Horizon,
        last: Option<(Offset, u32)>,
        progress: &(dyn Fn() + Send + Sync),
    ) -> Result<(Keys, bool)> {
        /// Records read in one step.
        const STEP: u64 = 20_000;
        let name = keys_topic(&self.actor.pipeline, &self.actor.stage);
        let topic = bus.topic(&name).await?.ok_or_else(|| missing(name.as_str()))?;
        let (mut keys, mut has_last) = (Keys::new(horizon), last.is_none());
        let ends = bus.watermarks(&topic, self.partition).await?;
        let mut from = ends.low;
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
        let is_whole = has_last || ends.low > 0;
        if !is_whole {
            rare("load.position_without_keys");
        }
        Ok((keys, is_whole))
    }
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
