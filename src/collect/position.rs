//! Where an ingester stands in a spool, as the bus keeps it, and who may say so.
//!
//! Positions lie in a compacted topic ([`POSITIONS_TOPIC`]), keyed by source and spool uuid. Each
//! bears the epoch of the ingester that wrote it, one higher with each opening, and its owner: so one
//! that was replaced is told from one that only does not know whether its own last write was done.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::POSITIONS_TOPIC;
use crate::{
    bus::{Bus, Outgoing, TopicInfo, latest},
    failpoint::rare,
    fault::{Fault, Kind, Result, Retry},
    model::{Epoch, Incarnation, Millis, Partition, Sequence, fresh_uuid},
};

/// The version of [`Position`].
pub const FORMAT: u32 = 1;

/// Where the ingester stands in a spool: the value of a record in [`POSITIONS_TOPIC`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The version of this text.
    pub format: u32,
    /// Of the ingester that wrote it.
    pub epoch: Epoch,
    /// Who that was: all lives of an ingester in one process.
    #[serde(default)]
    pub owner: Uuid,
    /// The spool.
    pub spool: Uuid,
    /// The first sequence not sent.
    pub next: Sequence,
    /// The source's resume token after the last event sent; absent before the first.
    pub token: Option<String>,
    /// Where the source was begun: the wall time of the first start, ms since 1970.
    pub since: Millis,
    /// The last sequence sent to each place.
    pub last: BTreeMap<Target, Sequence>,
}

impl Position {
    /// The record that stores it for this source.
    ///
    /// # Errors
    /// `Internal`, which would be a mistake in this file.
    pub fn record(&self, source: &str) -> Result<Outgoing> {
        let text = serde_json::to_vec(self).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(Outgoing {
            topic: POSITIONS_TOPIC.into(),
            partition: 0,
            key: Some(format!("{source}/{}", self.spool.simple()).into()),
            value: Some(text.into()),
            headers: Vec::new(),
        })
    }
}

/// Where an event goes to: a partition of the topic, or the topic of its dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Target {
    /// A partition of the topic.
    Partition(Partition),
    /// The dead letters.
    Letters,
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        match target {
            Target::Partition(partition) => partition.to_string(),
            Target::Letters => "letters".to_owned(),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        if text == "letters" { Ok(Self::Letters) } else { text.parse().map(Self::Partition) }
    }
}

/// What the lives of one ingester hold of a source, over their restarts: who they are, the youngest of
/// them, and the highest epoch that one of them may have written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who they are.
    pub owner: Uuid,
    life: Incarnation,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    youngest: Incarnation,
    epoch: Option<Epoch>,
}

impl Default for Claim {
    fn default() -> Self {
        Self { owner: fresh_uuid(), life: Incarnation::default(), held: Arc::default() }
    }
}

impl Claim {
    /// The claim as this life has it, until a younger one asks for it.
    #[must_use]
    pub fn of(&self, life: Incarnation) -> Self {
        let mut held = self.held();
        held.youngest = held.youngest.max(life);
        Self { life, ..self.clone() }
    }

    /// To be called before the write, whose answer may be lost.
    pub fn raise(&self, epoch: Epoch) {
        let mut held = self.held();
        // A life whose thread was blocked may come late.
        held.epoch = held.epoch.max(Some(epoch));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The positions of all the source's spools.
///
/// # Errors
/// [`Kind::Lost`] for one that cannot be read, `User` for one of another format; those of the bus.
pub async fn read_positions(bus: &dyn Bus, source: &str, topic: &TopicInfo) -> Result<BTreeMap<Uuid, Position>> {
    let prefix = format!("{source}/");
    let mut positions = BTreeMap::new();
    for (key, record) in latest(bus, topic).await? {
        if key.strip_prefix(prefix.as_bytes()).is_none_or(|rest| rest.contains(&b'/')) {
            continue;
        }
        let place = || format!("{POSITIONS_TOPIC}-0@{}", record.offset);
        let position: Position = serde_json::from_slice(&record.value.clone().unwrap_or_default())
            .map_err(|error| Fault::data(format!("is no position: {error}")).kind(Kind::Lost).at(place()))?;
        if position.format != FORMAT {
            let text = format!("position of format {}, this version reads {FORMAT}", position.format);
            return Err(Fault::user(text).at(place()));
        }
        positions.insert(position.spool, position);
    }
    Ok(positions)
}

/// Another ingester has written this claim's epoch or a higher one, or a younger life has the claim: one
/// whose thread was blocked must not open the producer that its successor uses.
///
/// # Errors
/// [`Kind::Fenced`].
pub fn refuse_if_newer(source: &str, claim: &Claim, all: &BTreeMap<Uuid, Position>) -> Result<()> {
    let highest = all.values().filter(|position| position.owner != claim.owner).map(|position| position.epoch).max();
    let (youngest, epoch) = {
        let held = claim.held();
        (held.youngest, held.epoch)
    };
    if youngest > claim.life {
        let text =
            format!("source {source} belongs to life {} of this ingester, this one is {}", youngest.0, claim.life.0);
        return Err(Fault::external(text).kind(Kind::Fenced));
    }
    match (epoch, highest) {
        (Some(held), Some(highest)) if highest >= held => {
            rare("ingest.fenced_by_position");
            let text = format!("source {source} is owned by epoch {highest} of another, this one was {held}");
            Err(Fault::external(text).kind(Kind::Fenced).retry(Retry::Never))
        }
        _ => Ok(()),
    }
}
