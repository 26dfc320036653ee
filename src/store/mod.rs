//! The store: where the archive and the tables lie, in the world of other programs.
//!
//! Paths are absolute within the store's root, with `/` between their parts. Folders and files
//! whose name begins with `_` or `.` are not data, as Hadoop's readers have it.
//!
//! A write answers *done*, *not done* or *unknown*: `Ok`, or a fault whose
//! [`effect`](crate::fault::Fault::effect) tells the other two apart. `Ok` means durable: after a
//! power cut it is still there. An unknown write may still happen later. What every store must
//! keep is written as one contract suite, run against each of them:
//!
//! - [`put_if_absent`](Store::put_if_absent): of any number of callers at one path, one gets
//!   [`Put::Created`], the others [`Put::Exists`]; readers see nothing or all of it.
//! - [`rename_if_absent`](Store::rename_if_absent): never replaces; says whether the target stood
//!   there already or the source was missing.
//! - A file under [`create`](Store::create) becomes readable data only by a rename after
//!   [`close`](StoreWriter::close) answered `Ok`; after any error the writer is of no more use.

pub mod hdfs;
pub mod local;
pub mod memory;

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub mod model;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    fault::{Fault, Result},
    health::Finding,
    model::Millis,
};

/// A path within a store: `/user/bigdata/raw/file.jsonl`. Always absolute, without `.` and `..`
/// parts, without a final slash (but for the root, `/`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(String);

impl StorePath {
    /// The path with this text; repeated and final slashes go, a missing first one is added.
    ///
    /// # Errors
    /// `User` if a part is `.` or `..` or holds a NUL.
    pub fn new(text: &str) -> Result<Self> {
        let mut path = String::with_capacity(text.len() + 1);
        for part in text.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." || part.contains('\0') {
                return Err(Fault::user(format!("path {text:?}: a part may not be {part:?}")));
            }
            path.push('/');
            path.push_str(part);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self(path))
    }

    /// This path and one more part (or several, with `/` between).
    #[must_use]
    pub fn join(&self, part: &str) -> Self {
        debug_assert!(!part.is_empty() && !part.split('/').any(|p| p.is_empty() || p == "." || p == ".."), "{part:?}");
        if self.0 == "/" { Self(format!("/{part}")) } else { Self(format!("{}/{part}", self.0)) }
    }

    /// The text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part (empty for the root).
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether Hadoop's readers pass it by: one of its parts begins with `_` or `.`.
    pub fn is_hidden(&self) -> bool {
        self.0.split('/').any(|part| part.starts_with(['_', '.']))
    }

    /// The folder it lies in (the root's is the root).
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.rfind('/') {
            Some(0) | None => Self("/".to_owned()),
            Some(at) => Self(self.0[..at].to_owned()),
        }
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What [`Store::put_if_absent`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Nothing; now the bytes stand there.
    Created,
    /// A file: it is as it was.
    Exists,
}

/// What [`Store::rename_if_absent`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// The source, and nothing at the target; now it is the other way round.
    Done,
    /// A file at the target: both are as they were.
    TargetExists,
    /// No source (and nothing at the target).
    SourceMissing,
}

/// A file or folder of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name within the folder listed.
    pub name: String,
    /// Length in bytes (0 for a folder).
    pub len: u64,
    /// When it was last changed, by the store's clock.
    pub modified: Millis,
    /// Whether it is a folder.
    pub folder: bool,
}

/// A store; see the module's text for what it promises.
#[async_trait]
pub trait Store: Send + Sync {
    /// What to call it in messages: `local store /data/store`.
    fn describe(&self) -> String;

    /// Begins a new file that nobody takes for data (its folder or name begins with `_` or `.`),
    /// making missing folders.
    ///
    /// # Errors
    /// `Internal` if there is a file of this name.
    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>>;

    /// Puts a small file, whole and durable, if there is none of this name; makes missing folders.
    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put>;

    /// Renames a closed file, durably, if there is none at the target; makes missing folders.
    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed>;

    /// A whole file; `None` if there is none.
    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>>;

    /// Up to `len` bytes from `offset` on (fewer only at the file's end); `None` if there is no
    /// such file.
    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>>;

    /// The file or folder at this path; `None` if there is none.
    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>>;

    /// What lies in a folder, sorted by name; empty if there is no such folder.
    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>>;

    /// Deletes a file, durably; says whether there was one.
    async fn delete(&self, path: &StorePath) -> Result<bool>;

    /// Everything about the store itself that a person may want to know before a start.
    async fn diagnose(&self) -> Vec<Finding> {
        vec![Finding::fine("store", self.describe())]
    }
}

/// A file on its way; see [`Store::create`]. Dropping it leaves what was written to the reaper.
#[async_trait]
pub trait StoreWriter: Send {
    /// Adds bytes at the end. Durable only after [`sync`](Self::sync) or [`close`](Self::close).
    async fn append(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes durable what was appended.
    async fn sync(&mut self) -> Result<()>;

    /// Makes durable what was appended, and ends the file. Only `Ok` makes it fit for a rename.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Does once in a folder what archives and tables do in it all the time: begins a file, closes it, renames
/// it, and deletes it. Answers with the store's time of the file.
///
/// # Errors
/// Those of the store; `User` where a right is lacking.
pub async fn probe(store: &dyn Store, folder: &StorePath) -> Result<Millis> {
    let uuid = crate::model::fresh_uuid().simple().to_string();
    let (begun, renamed) = (folder.join(&format!(".probe-{uuid}")), folder.join(&format!(".probed-{uuid}")));
    let mut writer = store.create(&begun).await?;
    writer.append(Bytes::from_static(b"howdah was here\n")).await?;
    writer.close().await?;
    let outcome = match store.rename_if_absent(&begun, &renamed).await? {
        Renamed::Done => store.stat(&renamed).await?,
        Renamed::TargetExists | Renamed::SourceMissing => None,
    };
    store.delete(&begun).await?;
    store.delete(&renamed).await?;
    let lost = || Fault::external(format!("{}: {folder}: a file that was just made is not there", store.describe()));
    outcome.map(|entry| entry.modified).ok_or_else(lost)
}

/// A store that is shared.
pub type SharedStore = Arc<dyn Store>;
