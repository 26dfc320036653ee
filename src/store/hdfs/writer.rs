//! A file on its way.

use std::{mem, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use hdfs_native::file::FileWriter;

use super::{Durability, calls::Calls, faults::Failure};
use crate::{
    fault::{Fault, Result},
    store::{StorePath, StoreWriter},
};

/// Small pieces are gathered up to this before they go to the DataNodes: each write costs hdfs-native
/// a turn of its pipeline.
const GATHER: usize = 256 << 10;

/// hdfs-native's writer is lent to each call, and comes back only from one that went well and was
/// waited for: after anything else the file is of no more use (its length is not known, and a close may
/// fail or not), and its writer begins another one.
pub(super) struct HdfsWriter {
    calls: Arc<Calls>,
    path: StorePath,
    file: Option<FileWriter>,
    gathered: Vec<u8>,
}

impl HdfsWriter {
    pub(super) fn new(calls: Arc<Calls>, path: StorePath, file: FileWriter) -> Self {
        Self { calls, path, file: Some(file), gathered: Vec::new() }
    }

    fn lent(&mut self) -> Result<FileWriter> {
        self.file.take().ok_or_else(|| {
            let place = format!("{}: {}", self.calls.describe(), self.path);
            Fault::internal(format!("{place}: this writer failed or was left in the middle of a call"))
        })
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut file = self.lent()?;
        let writing = async move { file.write_bytes(bytes).await.map(|_| file) };
        self.file = Some(self.settle(self.calls.clone().call(&self.path, writing).await)?);
        Ok(())
    }

    /// A file that failed on the way would stay open until its lease ends, twenty minutes by default, and
    /// nobody will ever name it: it goes.
    fn settle<T>(&self, result: Result<T, Failure>) -> Result<T> {
        result.map_err(|failure| {
            self.calls.discard(self.path.clone());
            failure.fault(&self.calls.describe(), &self.path)
        })
    }

    async fn flush(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = mem::take(&mut self.gathered);
        self.write(bytes.into()).await
    }
}

#[async_trait]
impl StoreWriter for HdfsWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        if self.gathered.len() + bytes.len() < GATHER {
            self.gathered.extend_from_slice(&bytes);
            return Ok(());
        }
        self.flush().await?;
        if bytes.len() < GATHER {
            self.gathered.extend_from_slice(&bytes);
            return Ok(());
        }
        self.write(bytes).await
    }

    async fn sync(&mut self) -> Result<()> {
        self.flush().await?;
        let mut file = self.lent()?;
        let syncing = async move { file.hsync().await.map(|()| file) };
        self.file = Some(self.settle(self.calls.clone().call(&self.path, syncing).await)?);
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        match self.calls.settings.durability {
            Durability::Hsync => self.sync().await?,
            Durability::Close => self.flush().await?,
        }
        let mut file = self.lent()?;
        let closing = async move { file.close().await };
        self.settle(self.calls.clone().call(&self.path, closing).await)
    }
}
