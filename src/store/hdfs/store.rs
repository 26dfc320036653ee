//! The store itself: each promise of [`Store`] by calls of HDFS.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hdfs_native::{WriteOptions, client::FileStatus, file::FileReader};

use super::{Settings, calls::Calls, faults::Failure, writer::HdfsWriter};
use crate::{
    fault::{Domain, Effect, Fault, Kind, Result, Retry},
    health::Finding,
    model::{Doubling, Pause as _},
    store::{Entry, Put, Renamed, Store, StorePath, StoreWriter},
};

/// How often a small file is written from scratch, and an unclear call repeated.
const ATTEMPTS: u32 = 10;

/// How long a whole operation goes on repeating. Its last attempt may add a deadline to that.
const PATIENCE: u32 = 2;

/// How much of a file is read in one call.
const PIECE: usize = 4 << 20;

/// A store on an HDFS cluster; see the folder's text.
#[derive(Clone)]
pub struct HdfsStore {
    calls: Arc<Calls>,
}

impl HdfsStore {
    /// Opens the store: the NameNode has to answer.
    ///
    /// # Errors
    /// `User` if the settings or the cluster's files are no good, `External` if no NameNode answers.
    pub async fn open(settings: Settings) -> Result<Self> {
        let store = Self { calls: Arc::new(Calls::new(settings)?) };
        store.stat(&StorePath::new("/")?).await?;
        Ok(store)
    }

    #[cfg(test)]
    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    fn fault(&self, failure: Failure, path: &StorePath) -> Fault {
        failure.fault(&self.calls.describe(), path)
    }

    fn refuse(&self, path: &StorePath, why: &str) -> Fault {
        Fault::user(format!("{}: {path} {why}", self.calls.describe()))
    }

    async fn begin(&self, path: &StorePath) -> Result<HdfsWriter, Failure> {
        let settings = &self.calls.settings;
        let mut options = WriteOptions::default().overwrite(false).create_parent(true).permission(settings.file_mode);
        if let Some(replication) = settings.replication {
            options = options.replication(replication);
        }
        if let Some(size) = settings.block_size {
            options = options.block_size(size);
        }
        let (client, at) = (self.calls.client(), path.as_str().to_owned());
        match self.calls.call(path, async move { client.create(&at, options).await }).await {
            Ok(file) => Ok(HdfsWriter::new(Arc::clone(&self.calls), path.clone(), file)),
            Err(failure) => {
                // It may be there all the same, and then it stays open.
                if matches!(&failure, Failure::Fault(fault) if fault.effect == Effect::Unknown) {
                    self.calls.discard(path.clone());
                }
                Err(failure)
            }
        }
    }

    async fn status(&self, path: &StorePath) -> Result<Option<FileStatus>> {
        let (client, at) = (self.calls.client(), path.as_str().to_owned());
        self.calls.find(path, async move { client.get_file_info(&at).await }).await
    }

    async fn make_folder(&self, path: &StorePath) -> Result<()> {
        let (client, at, mode) = (self.calls.client(), path.as_str().to_owned(), self.calls.settings.folder_mode);
        match self.calls.call(path, async move { client.mkdirs(&at, mode, true).await }).await {
            Ok(()) => Ok(()),
            Err(Failure::Exists) => Err(self.refuse(path, "is a file where a folder is wanted")),
            Err(failure) => Err(self.fault(failure, path)),
        }
    }

    /// Renames as HDFS does it, once.
    async fn rename(&self, from: &StorePath, to: &StorePath) -> Result<(), Failure> {
        let (client, source, target) = (self.calls.client(), from.as_str().to_owned(), to.as_str().to_owned());
        self.calls.call(to, async move { client.rename(&source, &target, false).await }).await
    }

    /// What stands at the target, if anything: the end of a rename.
    async fn stands(&self, to: &StorePath) -> Result<Option<Renamed>> {
        match self.status(to).await? {
            None => Ok(None),
            Some(status) if status.isdir => Err(self.refuse(to, "is a folder")),
            Some(_) => Ok(Some(Renamed::TargetExists)),
        }
    }

    /// Writes a small file under a temporary name in the folder it is meant for.
    async fn write_aside(&self, path: &StorePath, bytes: &Bytes) -> Result<StorePath> {
        let aside = path.parent().join(&format!(".tmp-{}", uuid::Uuid::new_v4().simple()));
        let mut writer = self.begin(&aside).await.map_err(|failure| self.fault(failure, &aside))?;
        writer.append(bytes.clone()).await?;
        Box::new(writer).close().await?;
        Ok(aside)
    }

    async fn remove(&self, path: &StorePath) -> Result<bool> {
        let (client, at) = (self.calls.client(), path.as_str().to_owned());
        let removed = self.calls.find(path, async move { client.delete(&at, false).await }).await?;
        Ok(removed.unwrap_or(false))
    }

    /// Repeats an operation while it may help: as long as its faults pass and there is patience. If any
    /// attempt was unclear, so is the failure of all: a later refusal says nothing of an earlier attempt.
    pub(super) async fn persist<T, F: Future<Output = Result<T>>>(&self, mut attempt: impl FnMut() -> F) -> Result<T> {
        let pause = Doubling::default();
        let end = tokio::time::Instant::now() + self.calls.settings.deadline * PATIENCE;
        let (mut failures, mut effect) = (0, Effect::NotDone);
        loop {
            let mut fault = match attempt().await {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            if fault.effect == Effect::Unknown {
                effect = Effect::Unknown;
            }
            fault.effect = effect;
            failures += 1;
            let over = failures > ATTEMPTS || tokio::time::Instant::now() >= end;
            if over || fault.retry == Retry::Never || !passes(&fault) {
                return Err(fault);
            }
            tracing::debug!(error = %fault, failures, "a call of HDFS is made again");
            pause.pause(failures).await;
        }
    }

    async fn open_file(&self, path: &StorePath) -> Result<Option<FileReader>> {
        let (client, at) = (self.calls.client(), path.as_str().to_owned());
        self.calls.find(path, async move { client.read(&at).await }).await
    }

    /// Reads `[offset, end)` piece by piece, each under the deadline.
    async fn pieces(&self, path: &StorePath, file: FileReader, offset: usize, end: usize) -> Result<Bytes> {
        let file = Arc::new(file);
        let mut read = BytesMut::new();
        let mut at = offset;
        while at < end {
            let (file, len) = (Arc::clone(&file), PIECE.min(end - at));
            let piece = self.calls.call(path, async move { file.read_range(at, len).await }).await;
            let piece = piece.map_err(|failure| self.fault(failure, path))?;
            if piece.is_empty() {
                let text = format!("{}: {path}: ends at {at} where {end} was said", self.calls.describe());
                return Err(Fault::external(text));
            }
            at += piece.len();
            if read.is_empty() && at >= end {
                return Ok(piece);
            }
            read.extend_from_slice(&piece);
        }
        Ok(read.freeze())
    }
}

/// Whether a fault is of the kind that another attempt may not meet: not a right that is lacking.
fn passes(fault: &Fault) -> bool {
    fault.domain == Domain::External && fault.kind == Kind::Other
}

#[async_trait]
impl Store for HdfsStore {
    fn describe(&self) -> String {
        self.calls.describe()
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        if !path.is_hidden() {
            let text = format!("{}: a file begun at {path} would be taken for data", self.calls.describe());
            return Err(Fault::internal(text));
        }
        match self.begin(path).await {
            Ok(writer) => Ok(Box::new(writer)),
            Err(Failure::Exists) => Err(Fault::internal(format!("{}: {path} exists already", self.calls.describe()))),
            Err(failure) => Err(self.fault(failure, path)),
        }
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        // Most often nothing is there; where something is, nothing has to be written.
        if self.persist(|| self.stands(path)).await?.is_some() {
            return Ok(Put::Exists);
        }
        // Nothing is at its place before the rename, so a failed attempt has done nothing.
        let aside = self.persist(|| self.write_aside(path, &bytes)).await.map_err(|mut fault| {
            fault.effect = Effect::NotDone;
            fault
        })?;
        match self.rename_if_absent(&aside, path).await {
            Ok(Renamed::Done) => Ok(Put::Created),
            // Only we know the temporary name: that it is gone means that an unclear rename was done.
            Ok(Renamed::TargetExists) => match self.persist(|| self.remove(&aside)).await {
                Ok(true) => Ok(Put::Exists),
                Ok(false) => Ok(Put::Created),
                Err(fault) => Err(fault.unknown_effect()),
            },
            Ok(Renamed::SourceMissing) => {
                let text = format!("{}: {aside} was deleted by somebody else", self.calls.describe());
                Err(Fault::external(text).unknown_effect())
            }
            Err(fault) => {
                if fault.effect == Effect::NotDone {
                    let _ = self.remove(&aside).await;
                }
                Err(fault)
            }
        }
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        match self.persist(|| self.status(from)).await? {
            Some(status) if status.isdir => return Err(self.refuse(from, "is a folder")),
            Some(_) if from == to => return Ok(Renamed::TargetExists),
            Some(_) => {}
            None => return Ok(self.persist(|| self.stands(to)).await?.unwrap_or(Renamed::SourceMissing)),
        }
        self.persist(|| async move {
            let failure = match self.rename(from, to).await {
                Ok(()) => return Ok(Renamed::Done),
                Err(failure) => failure,
            };
            match failure {
                Failure::Exists => self.stands(to).await?.map_or_else(
                    // It stood there a moment ago.
                    || Err(Fault::external(format!("{}: {to} comes and goes", self.calls.describe()))),
                    Ok,
                ),
                Failure::Missing => {
                    if self.status(from).await?.is_none() {
                        // Renamed by an attempt of ours whose answer was lost, or by somebody else.
                        return Ok(self.stands(to).await?.unwrap_or(Renamed::SourceMissing));
                    }
                    self.make_folder(&to.parent()).await?;
                    match self.rename(from, to).await {
                        Ok(()) => Ok(Renamed::Done),
                        Err(failure) => Err(self.fault(failure, to)),
                    }
                }
                Failure::Fault(fault) => Err(fault),
            }
        })
        .await
    }

    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>> {
        self.read_range(path, 0, usize::MAX).await
    }

    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.persist(|| async move {
            let Some(file) = self.open_file(path).await? else { return Ok(None) };
            let size = file.file_length();
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(size);
            let end = from.saturating_add(len).min(size);
            Ok(Some(self.pieces(path, file, from, end).await?))
        })
        .await
    }

    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        Ok(self.persist(|| self.status(path)).await?.map(|status| entry(&status)))
    }

    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let listed = self.persist(|| async move {
            let (client, at) = (self.calls.client(), folder.as_str().to_owned());
            self.calls.find(folder, async move { client.list_status(&at, false).await }).await
        });
        let mut entries: Vec<Entry> = listed.await?.unwrap_or_default().iter().map(entry).collect();
        // Asked for a file, HDFS lists that file.
        entries.retain(|entry| !entry.name.is_empty());
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn diagnose(&self) -> Vec<Finding> {
        let (subject, begun) = (self.describe(), tokio::time::Instant::now());
        let root = match StorePath::new("/") {
            Ok(root) => root,
            Err(fault) => return vec![Finding::failed(subject, &fault)],
        };
        match self.status(&root).await {
            Ok(_) => {
                vec![Finding::fine(subject, format!("the NameNode answers in {} ms", begun.elapsed().as_millis()))]
            }
            Err(fault) => vec![Finding::wrong(subject, format!("{fault}: is it running, and is this its address?"))],
        }
    }

    async fn delete(&self, path: &StorePath) -> Result<bool> {
        match self.persist(|| self.status(path)).await? {
            None => return Ok(false),
            Some(status) if status.isdir => return Err(self.refuse(path, "is a folder")),
            Some(_) => {}
        }
        // Gone without having been deleted by a clear answer: by an unclear one, or by somebody else.
        let attempts = AtomicU32::new(0);
        let removed = self.persist(|| async {
            attempts.fetch_add(1, Ordering::Relaxed);
            self.remove(path).await
        });
        Ok(removed.await? || attempts.load(Ordering::Relaxed) > 1)
    }
}

fn entry(status: &FileStatus) -> Entry {
    Entry {
        name: status.path.rsplit('/').next().unwrap_or_default().to_owned(),
        len: if status.isdir { 0 } else { status.length as u64 },
        modified: i64::try_from(status.modification_time).unwrap_or(i64::MAX),
        folder: status.isdir,
    }
}
