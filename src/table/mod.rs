//! The live table: event-time windows over a topic, readable at any moment.
//!
//! The table is a pure function of the topic's records and of where the commits were cut; no
//! crash, zombie or late record counts anything twice or loses it. From the inside out:
//!
//! - [`grid`]: windows and hours on the time line, and when an hour is final.
//! - [`window`]: the windows of one partition. Records in, complete hours out; no I/O, no clock.
//! - [`Lane`]: one partition on its way into the table: replays what its open hours need, takes
//!   what is new, seals what a commit stores.
//! - [`Committer`]: one commit for all lanes of a replica: a Parquet file for each changed hour
//!   and lane, then one version of the log.
//! - [`delta`]: the log, Delta Lake's format on `put_if_absent`, with our own rule for who may
//!   commit: a lane's commit needs the `seq` it was built on.
//! - [`Keeper`]: final hours for plain readers, and a table that does not grow for ever; by one replica,
//!   safe beside any others.
//! - [`Keeper::rebuild`] and [`replace`]: corrections, from the records that bus and archive have.
//! - [`show`](show()): the table as a person reads it; the lanes' rows of a key merged into one.
//!
//! No state is checkpointed: what a commit stores (`next`, `rewind`, `watermark`) and the records
//! of `[rewind, next)` give it back.
//!
//! A commit goes like this; the owner of the lanes brings the batches and the timers:
//!
//! ```text
//! lane.take(batch) … lane.seal(idle) ─► Proposal ─► committer.commit ─► Committed
//!        ▲                                                  └─► Superseded: open the lane anew
//!        └── goes on meanwhile, judged by the sealed watermark
//! ```

mod committer;
mod definition;
pub mod delta;
mod files;
mod finalise;
pub mod grid;
#[cfg(test)]
mod histories;
mod keeper;
mod lane;
mod opened;
mod parquet;
mod rebuild;
mod show;
mod upkeep;
pub mod window;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use committer::{Committer, Proposal};
pub use definition::{Column, Columns, Definition, Op, complaints};
pub use delta::{LaneId, Outcome, Positions, Snapshot, check_definition};
pub use keeper::{Keeper, Kept};
pub use lane::{Lane, Sealed, Taken};
pub use rebuild::{Rebuilt, Source, replace};
pub use show::{View, show};

use crate::{
    bus::Start,
    model::{Filter, Pointer, TopicName},
    store::StorePath,
};

/// The unit of an event's time when it is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds since 1970 (a fraction is allowed).
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// A string in RFC 3339: `2015-09-12T00:46:58.771Z`.
    Rfc3339,
}

/// What is measured in each window and key.
#[derive(Clone, Debug, PartialEq)]
pub enum MeasureKind {
    /// How many records.
    Count,
    /// The sum of these numbers; records without one add nothing.
    Sum(Number),
    /// The smallest of them.
    Min(Number),
    /// The largest of them.
    Max(Number),
    /// Their mean, kept as `<name>_sum` and `<name>_count` so that rows can be merged.
    Avg(Number),
}

/// A number of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Where it stands. A record without a number there has none.
    pub pointer: Pointer,
    /// Where the number stands that is taken away from it; where none stands, nothing is.
    pub minus: Option<Pointer>,
}

/// A measure and its column.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// The column's name.
    pub name: String,
    /// What it measures.
    pub kind: MeasureKind,
}

/// A key column: the text at a pointer (numbers and booleans as they are written in JSON).
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The column's name.
    pub name: String,
    /// Where it stands in the event. A record without a text, number or boolean there is skipped.
    pub pointer: Pointer,
}

/// What an aggregator is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topic it reads.
    pub topic: TopicName,
    /// The table's folder.
    pub path: StorePath,
    /// Width of the tumbling windows; divides an hour or is whole hours.
    pub window: Duration,
    /// Where the event's time stands.
    pub time: Pointer,
    /// What kind of time stands there.
    pub time_unit: TimeUnit,
    /// Key columns, in order.
    pub keys: Vec<Key>,
    /// Measures, in order, at least one.
    pub measures: Vec<Measure>,
    /// All must hold; a record that does not meet them is filtered, not skipped.
    pub filters: Vec<Filter>,
    /// The watermark is the largest event time minus this.
    pub watermark_delay: Duration,
    /// An hour is final for a partition once its watermark is past the hour's end plus this.
    pub lateness: Duration,
    /// A record further ahead of its bus time than this moves nothing and is only counted as future.
    pub future_bound: Duration,
    /// A partition read to its end and without a record for this long follows the others.
    pub idle: Duration,
    /// A commit is made this often, if there is anything to commit.
    pub commit_interval: Duration,
    /// … and after this many records of one partition, so that catching up stays bounded.
    pub commit_records: u64,
    /// How long an older version stays readable; what only versions older than that name is deleted.
    pub history: Duration,
    /// A checkpoint of the log is made after so many versions, and so many of the newest always stay.
    pub checkpoint_every: u64,
    /// Whether a day whose hours are all final gets a `_SUCCESS` file.
    pub success_files: bool,
    /// Where it begins on a partition that it never read.
    pub start: Start,
}
