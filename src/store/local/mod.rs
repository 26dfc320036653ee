//! The store on a local disk: what stands in for HDFS on one machine, with the same promises.
//!
//! `Ok` means that a power cut changes nothing any more. On a local disk this takes more than
//! one call, and each of these is one that a program may leave out for years without noticing:
//!
//! - A file's bytes are durable after its own fsync, its *name* only after the fsync of the
//!   folder it stands in, and that folder's name only after the fsync of the folder above.
//!   A folder that this store meets for the first time has its whole line synced, whoever made
//!   it: another may have made it a moment ago and not have come to the sync.
//! - A file that was already there may be one whose maker was killed before the sync of the
//!   folder. So *exists* is answered, and a folder is first listed, after such a sync too:
//!   nobody builds on what a power cut takes back.
//! - A writer whose sync failed is not asked again: the kernel may answer `Ok` to the second
//!   sync without having written anything.
//!
//! A file appears at its name by a rename that refuses to replace, whole or not at all. What a
//! killed process leaves is a hidden `.tmp-…` file, which no reader takes for data.
//!
//! All of a store lies on one mount: across two there is no rename. A folder on another one is
//! refused when it is first written to, which also catches a disk that was unmounted meanwhile.

mod disk;
mod steps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod witness;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use self::{disk::Disk, steps::Steps};
use super::{Entry, Put, Renamed, Store, StorePath, StoreWriter};
use crate::fault::{Fault, Result};

/// A store in a folder of the local file system; see the module's text.
///
/// Every call runs on tokio's blocking threads and runs to its end there, even when the caller
/// stops waiting for it.
#[derive(Clone)]
pub struct LocalStore {
    steps: Arc<Steps>,
}

impl LocalStore {
    /// Opens the store in `root`, making the folder if there is none, after a test that files can
    /// be written in it.
    ///
    /// # Errors
    /// `User` if the folder cannot be made or written (naming it and the uid that tried), kind
    /// `Full` if there is no room for the smallest file.
    pub async fn open(root: PathBuf) -> Result<Self> {
        Self::open_on(Disk::default(), root).await
    }

    /// Opens the store in `root` to read only: nothing is made or tested, every write is refused.
    /// For commands that look at a store that another process may be writing, perhaps as another
    /// user.
    ///
    /// # Errors
    /// `User` if there is no such folder.
    pub async fn open_to_read(root: PathBuf) -> Result<Self> {
        let steps = on_blocking_thread(move || Steps::open_to_read(Disk::default(), &root)).await?;
        Ok(Self { steps: Arc::new(steps) })
    }

    async fn open_on(disk: Disk, root: PathBuf) -> Result<Self> {
        let opening = move || {
            let steps = Steps::open(disk, &root)?;
            // Folders above it may be as new, made by somebody else.
            crate::disk::make_folder(steps.root())?;
            Ok(steps)
        };
        let steps = on_blocking_thread(opening).await?;
        Ok(Self { steps: Arc::new(steps) })
    }

    /// The folder of the local file system.
    pub fn root(&self) -> &Path {
        self.steps.root()
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Steps) -> Result<T> + Send + 'static) -> Result<T> {
        let steps = Arc::clone(&self.steps);
        on_blocking_thread(move || work(&steps)).await
    }
}

/// A closure that was begun runs to its end; one that was not, or that panicked, leaves open what
/// it did.
async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Fault::internal(format!("local store: {error}")).unknown_effect()),
    }
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        format!("local store {}", self.root().display())
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        let path = path.clone();
        let (at, file) = self.run(move |steps| steps.create(&path)).await?;
        Ok(Box::new(LocalWriter { steps: Arc::clone(&self.steps), at, file: Some(file) }))
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        let path = path.clone();
        self.run(move |steps| steps.put_if_absent(&path, &bytes)).await
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |steps| steps.rename_if_absent(&from, &to)).await
    }

    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>> {
        let path = path.clone();
        self.run(move |steps| steps.read_range(&path, 0, usize::MAX)).await
    }

    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        let path = path.clone();
        self.run(move |steps| steps.read_range(&path, offset, len)).await
    }

    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        let path = path.clone();
        self.run(move |steps| steps.stat(&path)).await
    }

    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let folder = folder.clone();
        self.run(move |steps| steps.list(&folder)).await
    }

    async fn delete(&self, path: &StorePath) -> Result<bool> {
        let path = path.clone();
        self.run(move |steps| steps.delete(&path)).await
    }
}

/// The file is lent to the blocking thread and comes back only from a call that went well and was
/// waited for. So no call ever meets the remains of an earlier one, be it failed or cancelled.
struct LocalWriter {
    steps: Arc<Steps>,
    at: PathBuf,
    file: Option<File>,
}

impl LocalWriter {
    async fn lend(&mut self, work: impl FnOnce(&Steps, &File, &Path) -> Result<()> + Send + 'static) -> Result<()> {
        let place = self.at.display();
        let file = self.file.take().ok_or_else(|| {
            Fault::internal(format!("local store: {place}: this writer failed or was left in the middle of a call"))
        })?;
        let (steps, at) = (Arc::clone(&self.steps), self.at.clone());
        let file = on_blocking_thread(move || work(&steps, &file, &at).map(|()| file)).await?;
        self.file = Some(file);
        Ok(())
    }
}

#[async_trait]
impl StoreWriter for LocalWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.lend(move |steps, file, at| steps.append(file, at, &bytes)).await
    }

    async fn sync(&mut self) -> Result<()> {
        self.lend(|steps, file, at| steps.sync(file, at)).await
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.lend(|steps, file, at| steps.sync(file, at)).await
    }
}
