//! The archive: every record of a topic, byte for byte, in order, exactly once.
use crate::model::TopicName;
use std::time::Duration;

/// How the lines of a segment are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Not at all: `.jsonl`.
    #[default]
    Plain,
    /// gzip: `.jsonl.gz`.
    Gzip,
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
}
