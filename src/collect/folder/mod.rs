//! A folder that other programs put files into, by the contract of Flume's spooling directory.
//!
//! *A file is whole when it is there, and never changes.* Files are taken one after another in a stable order
//! (`listing`), each line (or each file) is an event, and when all events of a file are durable it is *done*:
//! deleted, renamed or moved (`journal`). Files whose names begin with a dot, or end as done ones do, are
//! passed over. So a folder that a Flume agent was reading is taken over as it stands, also in the middle of a file
//! (`flume`).
//!
//! A file is known by what it *is*, not by its name: device, inode, size and times ([`Identity`]). An
//! event's token is the identity of its file and the place behind it, so a restart goes on in the middle of a
//! file; a name that comes again is another file. Files before the one of the token may be read and not done:
//! those that the journal names are done then, and all others have so few events together
//! ([`AHEAD_EVENTS`]) that the collector knows each by its id. Where an earlier life stood is in the journal too,
//! since files that came meanwhile may be read before the one of its token.
//!
//! *A file that changes after it was taken* is an error that names it. What was taken of it is taken, what is on
//! disk stays there, and it is left alone from then on, whatever becomes of it: a person puts the rest into a file
//! of its own. *A file that can be neither renamed nor moved nor deleted* is named too, and tried again each minute; it
//! stays in the journal, and is not read again. All others go on.

mod flume;
mod journal;
mod listing;
mod reading;
mod watching;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use regex::Regex;
use serde::{Deserialize, Serialize};

pub use watching::Folder;

/// So many events may be handed out of files that are not done before the first of these files is waited for.
pub const AHEAD_EVENTS: u64 = 10_000;

/// So many files may be read and not done.
const AHEAD_FILES: usize = 256;

/// What Flume calls its own folder, with where it stands.
pub const TRACKER: &str = ".flumespool";

/// What becomes of a file whose events are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is deleted.
    Delete,
    /// This is put behind its name.
    Rename(String),
    /// It is moved into this folder, under the same name within it.
    Move(PathBuf),
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOf {
    /// A line, without its line feed.
    Line,
    /// A whole file; if it is JSON and the flag says so, on one line.
    File {
        /// Whether line breaks of JSON become spaces.
        one_line: bool,
    },
}

/// Which file comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that was changed first; of the same time, by name.
    Oldest,
    /// The one that was changed last; of the same time, by name.
    Youngest,
    /// By name, as bytes.
    Name,
}

/// How a folder is read.
#[derive(Clone, Debug)]
pub struct FolderSettings {
    /// The folder.
    pub path: PathBuf,
    /// Whether folders in it are read too.
    pub sub_folders: bool,
    /// Only files whose name this matches; it is anchored at both ends.
    pub include: Option<Regex>,
    /// No files whose name this matches; it is anchored at both ends.
    pub ignore: Option<Regex>,
    /// Which file comes first.
    pub order: Order,
    /// What an event is.
    pub record: RecordOf,
    /// What becomes of files.
    pub done: Done,
    /// A file is taken once it has not been changed for so long.
    pub settle: Duration,
    /// How often the folder is looked at when there was nothing.
    pub look: Duration,
    /// A larger event is kept as a file and reported as a dead letter.
    pub max_event: u64,
}

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The device.
    #[serde(rename = "d")]
    pub device: u64,
    /// The inode.
    #[serde(rename = "i")]
    pub inode: u64,
    /// Bytes.
    #[serde(rename = "s")]
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    #[serde(rename = "m")]
    pub changed: i64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not know.
    #[serde(rename = "b")]
    pub made: i64,
}

impl Identity {
    fn of(found: &Metadata) -> Self {
        let changed = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
        let made = found.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        let made = made.and_then(|made| i64::try_from(made.as_nanos()).ok()).unwrap_or(0);
        Self { device: found.dev(), inode: found.ino(), size: found.len(), changed, made }
    }

    /// Whether it is the same file, perhaps changed since. An inode is given to another file once its own is gone:
    /// they differ in when they were made, or, where nobody knows that, in their names.
    fn is_file_of(&self, file: &Path, other: &Self, others: &Path) -> bool {
        let is_same = (self.device, self.inode, self.made) == (other.device, other.inode, other.made);
        is_same && (self.made != 0 || file == others)
    }
}

/// Where an event ends: its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stand {
    /// The file's path within the folder.
    #[serde(rename = "f", default)]
    file: PathBuf,
    #[serde(flatten)]
    identity: Identity,
    /// Bytes of the file, unpacked, up to the event's end.
    #[serde(rename = "a", default)]
    at: u64,
}

impl Stand {
    fn token(&self) -> Bytes {
        // Paths that are no text are passed over by the listing.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn parse(token: &[u8]) -> Option<Self> {
        serde_json::from_slice(token).ok()
    }
}

/// The path of the file that an event with this token was in.
pub fn file_of(folder: &Path, token: &[u8]) -> Option<PathBuf> {
    Stand::parse(token).map(|stand| folder.join(stand.file))
}
