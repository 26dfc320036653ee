//! The table's log: Delta Lake's format, with our own rule for who may commit.
//!
//! A version of the table is a small file `_delta_log/<version, 20 digits>.json`; putting it if
//! absent is the compare-and-swap that all commits go through. Readers (Spark, DuckDB, the Python
//! package, [`Snapshot`]) replay the versions in order and see a consistent table at each. The
//! protocol asked of them is the oldest: reader 1, writer 2.
//!
//! What a commit stores per lane (a partition of a topic of one identity) are `txn` entries, whose
//! application id is `howdah/<table's id>/<topic identity>/<partition>/<what>`:
//!
//! | what        | the entry's version |
//! |-------------|---------------------|
//! | `seq`       | number of commits of this lane; raised by one with each |
//! | `next`      | the offset before which all records are in the table |
//! | `rewind`    | the first offset that feeds an hour that is not final |
//! | `watermark` | milliseconds since 1970; **no entry at all** before there is a watermark |
//!
//! Live files are `_live/<topic identity>-<partition>-<seq>-<uuid>.parquet`; each is tagged with
//! its hour and holds that hour of that lane completely. Names hold no character that the format
//! would have escaped. Plain readers skip the folder because of its name.
//!
//! The table's definition lies in the metadata's configuration as `howdah.fingerprint`, the number
//! of this layout as `howdah.format`.

mod actions;
mod commit;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;

use uuid::Uuid;

pub use actions::FileFacts;
pub use commit::{Change, LaneChange, NewFile, Outcome, commit, create};
pub use snapshot::{File, Positions, Snapshot};

use crate::{
    model::{Partition, TopicId, fresh_uuid},
    store::StorePath,
};

/// The folder of the log, within the table's.
pub const LOG: &str = "_delta_log";

/// The folder of the live files, within the table's.
pub const LIVE: &str = "_live";

/// The layout that this code reads and writes.
pub const FORMAT: u32 = 2;

/// A partition of a topic, as a table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// The topic's identity.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl LaneId {
    /// A name for a live file of this lane, never used before.
    pub fn live_path(self, seq: u64) -> String {
        format!("{LIVE}/{self}-{seq}-{}.parquet", fresh_uuid().simple())
    }

    /// The lane whose live file this is, and the `seq` it was written for; `None` for other files.
    pub fn of_live_path(path: &str) -> Option<(Self, u64)> {
        let mut parts = path.strip_prefix(LIVE)?.strip_prefix('/')?.splitn(4, '-');
        let topic = TopicId(Uuid::try_parse(parts.next()?).ok()?);
        let partition = parts.next()?.parse().ok()?;
        Some((Self { topic, partition }, parts.next()?.parse().ok()?))
    }
}

/// Where a version of the table at `table` stands.
pub fn version_path(table: &StorePath, version: u64) -> StorePath {
    table.join(LOG).join(&format!("{version:020}.json"))
}
