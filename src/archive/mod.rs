//! The archive: every record of a topic, byte for byte, in order, exactly once.
//!
//! Each partition's archive is a list of immutable *segments* (files of lines), and its
//! [chain](crate::chain) says which: one [`Entry`] a segment. A [`Lane`] writes records into a
//! staging file; when it is time, it closes the file, puts an entry that
//! says what the file holds and where it will lie, and renames it there. The entry decides; a
//! crash at any point leaves a staging file that nobody reads, or a rename that the next lane
//! finishes.
//!
//! ```text
//! <path>/                              flat, or with time buckets: <path>/20150912/0040/
//!   0-00000000000000000000-00000000000000000220-abcd0123.jsonl      segments
//!   _chain/<topic>/<topic identity>/archive.json                    whose archive this is
//!   _chain/<topic>/<topic identity>/0/begin.json                    where the chain begins
//!   _chain/<topic>/<topic identity>/0/00000000000000000000.json     entries
//!   _chain/<topic>/<topic identity>/0/…-<uuid>.times                bus times of the lines
//!   _staging/<topic>/<topic identity>/0/…-<uuid>                    files on their way
//! ```
//!
//! What it holds can be had back: a [`Recall`] gives a partition's segments as the batches that the bus
//! once gave, and a [`BackedBus`] puts the two together for readers.
//!
//! Invariants: segments of a partition are disjoint and contiguous up to the holes that entries
//! record; nothing visible ever changes; an entry is put only after the rename of the one before
//! is proven; dead letters and sidecar are durable before the entry that refers to them.

mod backed;
mod ends;
mod entry;
#[cfg(test)]
mod histories;
mod lane;
mod naming;
mod pack;
mod pieces;
mod recall;
pub mod replay;
mod segment;
pub mod verify;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use backed::BackedBus;
pub use entry::{Entry, FORMAT, Identity, Times};
pub use lane::{Lane, Published};
pub use naming::{Layout, lane_name, staging_start};
pub use pack::Codec;
pub use recall::Recall;

use crate::{
    bus::{SharedBus, Start},
    model::{ActorId, Epoch, Incarnation, NodeId, Pause, PipelineId, StageId, TopicName},
    store::SharedStore,
};

/// The group under which an archiver commits how far it is, for lag tools.
pub fn group(pipeline: &PipelineId, stage: &StageId) -> String {
    format!("{pipeline}/{stage}")
}

/// What an archiver is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topic it archives.
    pub topic: TopicName,
    /// The folder's template: `strftime` fields (of the first record's bus time, UTC) make time
    /// buckets; without any the folder is flat.
    pub path: String,
    /// What each file's name begins with.
    pub prefix: String,
    /// Compression.
    pub codec: Codec,
    /// A segment of at least this many bytes (uncompressed) is published.
    pub roll_bytes: u64,
    /// A segment this old (since its first record arrived) is published.
    pub roll_age: Duration,
    /// Time buckets are rounded down to this; it divides a day. Of no meaning for a flat path.
    pub bucket: Duration,
    /// Where it begins on a topic that it never archived.
    pub start: Start,
    /// Whether it begins a new chain beside the old one where the topic was deleted and created anew;
    /// otherwise it stops there.
    pub follows_recreated: bool,
}

/// What a lane is made of.
#[derive(Clone)]
pub struct Parts {
    /// Whose lane it is.
    pub actor: ActorId,
    /// Where the actor runs.
    pub node: NodeId,
    /// The actor's epoch: reported, never needed.
    pub epoch: Epoch,
    /// The actor's incarnation: reported, never needed.
    pub incarnation: Incarnation,
    /// Where records come from and dead letters go.
    pub bus: SharedBus,
    /// Where the archive lies.
    pub store: SharedStore,
    /// How to wait between attempts.
    pub pause: Arc<dyn Pause>,
    /// What the archiver was told.
    pub settings: Arc<Settings>,
}

#[cfg(test)]
impl Settings {
    /// A flat, plain archive at `/raw` of topic `t`.
    pub fn for_test() -> Self {
        Self {
            topic: "t".into(),
            path: "/raw".into(),
            prefix: String::new(),
            codec: Codec::Plain,
            roll_bytes: 1 << 20,
            roll_age: Duration::from_secs(600),
            bucket: Duration::from_secs(600),
            start: Start::Earliest,
            follows_recreated: false,
        }
    }
}
