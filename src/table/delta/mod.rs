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
//! and, for the table, `howdah/<table's id>/final`: the time before which every hour is final on all
//! lanes (milliseconds since 1970), no entry before the first is. Once it stands there such an hour is
//! closed for ever, for partitions and writers still to come as well; its live files are merged into
//! `dt=<day>/<hour>.parquet`, which plain readers see too.
//!
//! Live files are `_live/<topic identity>-<partition>-<seq>-<uuid>.parquet`; each is tagged with
//! its hour and holds that hour of that lane completely. Names hold no character that the format
//! would have escaped. Plain readers skip the folder because of its name.
//!
//! A rebuilt hour is `_rebuilt/<day>-<hour>-<generation>-<uuid>.parquet` until plain readers see it, too.
//!
//! The table's definition lies in the metadata's configuration as `howdah.fingerprint`, the number
//! of this layout as `howdah.format`, and how often the table was replaced as `howdah.generation`.
//!
//! The log does not grow for ever: every so often a [`checkpoint`] holds a version whole, and versions
//! that are old enough are deleted. Before that a marker `_cleaned/<version, 20 digits>` says up to where.

mod actions;
pub mod checkpoint;
mod closing;
mod commit;
mod hourfile;
mod lanes;
mod rebuilding;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;

use uuid::Uuid;

pub use actions::FileFacts;
pub use closing::{Close, Swap};
pub use commit::{Change, Outcome, Verdict, check_definition, commit, create};
pub use hourfile::HourFile;
pub use lanes::{LaneChange, Lanes, NewFile};
pub use rebuilding::{Rebuild, Replace};
pub use snapshot::{File, Positions, Snapshot};

use crate::{
    fault::Result,
    model::{Partition, TopicId, fresh_uuid},
    store::{Store, StorePath},
};

/// The folder of the log, within the table's.
pub const LOG: &str = "_delta_log";

/// The folder of the live files, within the table's.
pub const LIVE: &str = "_live";

/// The folder of whole hours on their way to plain readers, within the table's.
pub const STAGING: &str = "_final";

/// The folder of rebuilt hours that plain readers do not see yet, within the table's.
pub const REBUILT: &str = "_rebuilt";

/// The folder of the markers that say which versions are gone, within the table's.
pub const CLEANED: &str = "_cleaned";

/// The layout that this code reads and writes.
pub const FORMAT: u32 = 3;

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

/// Where a checkpoint of that version stands.
pub fn checkpoint_path(table: &StorePath, version: u64) -> StorePath {
    table.join(LOG).join(&format!("{version:020}.checkpoint.parquet"))
}

/// The version of a checkpoint, by its name in the log's folder.
pub fn checkpoint_version(name: &str) -> Option<u64> {
    digits(name.strip_suffix(".checkpoint.parquet")?)
}

/// The version of a commit, by its name in the log's folder.
pub fn commit_version(name: &str) -> Option<u64> {
    digits(name.strip_suffix(".json")?)
}

/// The marker that says that versions below this one may be gone.
pub fn marker_path(table: &StorePath, version: u64) -> StorePath {
    table.join(CLEANED).join(&format!("{version:020}"))
}

/// The versions for which there is a marker, in order.
///
/// # Errors
/// Those of the store.
pub async fn markers(store: &dyn Store, table: &StorePath) -> Result<Vec<u64>> {
    Ok(store.list(&table.join(CLEANED)).await?.iter().filter_map(|entry| digits(&entry.name)).collect())
}

/// The first version that is sure to stand: those below may be gone, or be left-overs.
///
/// # Errors
/// Those of the store.
pub async fn horizon(store: &dyn Store, table: &StorePath) -> Result<u64> {
    Ok(markers(store, table).await?.last().copied().unwrap_or(0))
}

fn digits(name: &str) -> Option<u64> {
    name.parse().ok().filter(|_| name.len() == 20)
}
