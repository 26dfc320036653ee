//! Collectors: events from the outside, onto disk before they count, onto the bus exactly once.
//!
//! A [`source`] ([`sse`], [`poll`], [`folder`]) gives events with a token to resume by. A resume repeats, so what is known
//! ([`seen`]) is dropped by the event's own id. What is new goes into the [`spool`], synced to disk
//! within a moment, and from there onto the bus ([`ingest`]): one transaction holds events and the
//! [`position`], and after anything unclear the topic's [`tail`] decides what is still to be sent.
//! [`route`] says which partition an event goes to.

pub mod folder;
#[cfg(test)]
mod histories;
pub mod ingest;
pub mod marks;
mod one_line;
pub mod origin;
pub mod poll;
pub mod position;
pub mod route;
pub mod seen;
pub mod source;
pub mod spool;
pub mod sse;
pub mod tail;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

pub use folder::FolderSettings;
pub use origin::FileHeaders;
pub use poll::PollSettings;

use crate::model::{Pointer, TopicName, without_secrets};

/// The compacted topic in which ingesters keep where they stand in their spools.
pub const POSITIONS_TOPIC: &str = "howdah_positions";

/// A server of events (SSE, the `EventSource` protocol).
#[derive(Clone, Debug)]
pub struct SseSettings {
    /// Where the stream is.
    pub url: String,
    /// Sent in the User-Agent, so that the operators of the source can reach a person; `None`
    /// where the source does not ask for one.
    pub contact: Option<String>,
    /// Open the next connection this long after the last one began: before the server cuts.
    pub reconnect_after: Duration,
    /// A connection without a byte for this long is given up.
    pub silence: Duration,
    /// An event with more bytes of data than this is kept as a file and reported as a dead letter.
    pub max_event: u64,
}

/// Where a collector's events come from.
#[derive(Clone, Debug)]
pub enum SourceSettings {
    /// Server-sent events.
    Sse(SseSettings),
    /// An HTTP API that is asked again and again.
    Poll(Box<PollSettings>),
    /// A folder that other programs put files into.
    Folder(Box<FolderSettings>),
}

impl SourceSettings {
    /// Its address, as it may be shown.
    pub fn shown(&self) -> String {
        match self {
            Self::Sse(settings) => without_secrets(&settings.url),
            Self::Poll(settings) => without_secrets(&settings.url),
            Self::Folder(settings) => format!("folder {}", settings.path.display()),
        }
    }

    /// Bytes of an event at most, and the setting that says so; a larger one becomes a dead letter.
    pub fn bound(&self) -> (&'static str, u64) {
        match self {
            Self::Sse(settings) => ("max_event", settings.max_event),
            Self::Poll(settings) => ("max_answer", settings.max_answer),
            Self::Folder(settings) => ("max_event", settings.max_event),
        }
    }
}

/// How a spool keeps its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In the spool's data files.
    Packed,
    /// Each as a file of its own, named by the template, in the spool's folder `events`.
    FilePerEvent(spool::naming::Template),
}

/// A spool's layout and bounds.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// Its folder, on a local disk, for it alone.
    pub path: PathBuf,
    /// How events lie in it. What an earlier run has left in the other layout is read to its end.
    pub layout: Layout,
    /// It never holds more bytes than this; a full spool makes the source wait.
    pub max_bytes: u64,
    /// A data file of at least this many bytes, with its events, is ended and the next begun.
    pub roll_bytes: u64,
    /// What was received is synced to disk within this time.
    pub sync_within: Duration,
}

/// What a collector is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where from.
    pub source: SourceSettings,
    /// Where the event's own id stands; without it the source's event id is taken.
    pub id: Option<Pointer>,
    /// An event whose id was seen within this time (bus time, spool time) is known and dropped …
    pub dedupe_window: Duration,
    /// … and so is one among at least this many last ids.
    pub dedupe_ids: usize,
    /// The spool.
    pub spool: SpoolSettings,
    /// The headers by which a record tells its event's file.
    pub file_headers: FileHeaders,
}

/// What an ingester is told.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// The topic it writes.
    pub topic: TopicName,
    /// Where the record's key stands in the event; without it the source's id is the key.
    pub key: Option<Pointer>,
    /// Records in one transaction at most.
    pub batch_records: usize,
    /// Bytes in one transaction at most (a single larger event goes alone).
    pub batch_bytes: usize,
}
