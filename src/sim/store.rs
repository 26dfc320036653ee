//! The store as an owner of the simulated world reaches it.

use async_trait::async_trait;
use bytes::Bytes;

use super::{operation::Kind, world::Caller};
use crate::{
    fault::Result,
    store::{Entry, Put, Renamed, Store, StorePath, StoreWriter},
};

/// The model store in the hands of one owner; see [`Files`](crate::store::model::Files).
pub struct ModelStore(Caller);

impl ModelStore {
    pub(super) fn new(caller: Caller) -> Self {
        Self(caller)
    }
}

#[async_trait]
impl Store for ModelStore {
    fn describe(&self) -> String {
        "model store".to_owned()
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        let at = path.clone();
        let apply = move |s: &mut super::operation::Services<'_>| Some(s.files.create(s.now, at.as_str()));
        let file = self.0.call(Kind::Repeatable, || format!("create {path}"), apply).await?;
        Ok(Box::new(ModelWriter { caller: self.0.clone(), path: path.clone(), file, spent: false }))
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        let (at, len) = (path.clone(), bytes.len());
        let label = || format!("put_if_absent {path}, {len} bytes");
        self.0.call(Kind::Repeatable, label, move |s| Some(s.files.put(s.op, s.now, at.as_str(), bytes.clone()))).await
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        let (source, target) = (from.clone(), to.clone());
        let label = || format!("rename_if_absent {from} to {to}");
        self.0
            .call(Kind::Repeatable, label, move |s| Some(s.files.rename(s.op, source.as_str(), target.as_str())))
            .await
    }

    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>> {
        let at = path.clone();
        self.0.call(Kind::Read, || format!("read {path}"), move |s| Some(s.files.read(at.as_str()))).await
    }

    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        let at = path.clone();
        let label = || format!("read_range {path} from {offset}, {len} bytes");
        let whole = self.0.call(Kind::Read, label, move |s| Some(s.files.read(at.as_str()))).await?;
        Ok(whole.map(|bytes| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes.slice(from..from.saturating_add(len).min(bytes.len()))
        }))
    }

    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        let at = path.clone();
        self.0.call(Kind::Read, || format!("stat {path}"), move |s| Some(Ok(s.files.stat(at.as_str())))).await
    }

    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let at = folder.clone();
        self.0.call(Kind::Read, || format!("list {folder}"), move |s| Some(s.files.list(at.as_str()))).await
    }

    async fn delete(&self, path: &StorePath) -> Result<bool> {
        let at = path.clone();
        let label = || format!("delete {path}");
        self.0.call(Kind::Repeatable, label, move |s| Some(s.files.delete(s.op, at.as_str()))).await
    }
}

struct ModelWriter {
    caller: Caller,
    path: StorePath,
    file: usize,
    // A call failed or was given up: the contract forbids another one.
    spent: bool,
}

impl ModelWriter {
    fn begin(&mut self) {
        assert!(!self.spent, "the writer of {} was used after a call that failed or was given up", self.path);
        self.spent = true;
    }
}

#[async_trait]
impl StoreWriter for ModelWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.begin();
        let (file, len) = (self.file, bytes.len());
        let label = || format!("append {}, {len} bytes", self.path);
        self.caller.call(Kind::Write, label, move |s| Some(s.files.append(s.now, file, &bytes))).await?;
        self.spent = false;
        Ok(())
    }

    async fn sync(&mut self) -> Result<()> {
        self.begin();
        let file = self.file;
        let label = || format!("sync {}", self.path);
        self.caller.call(Kind::Write, label, move |s| Some(s.files.flush(s.op, file, false))).await?;
        self.spent = false;
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.begin();
        let file = self.file;
        let label = || format!("close {}", self.path);
        self.caller.call(Kind::Write, label, move |s| Some(s.files.flush(s.op, file, true))).await
    }
}
