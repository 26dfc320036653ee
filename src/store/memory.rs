//! A store in memory: the contract without a disk, for fast tests.
//!
//! One lock over everything makes each call one step. Nothing is lost and no answer is late;
//! what a store may do beyond that is the model's business.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Entry, Put, Renamed, Store, StorePath, StoreWriter};
use crate::{
    fault::{Fault, Result},
    model::{Clock, Millis},
};

/// A store that ends with the process; clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    nodes: Arc<Mutex<BTreeMap<StorePath, Node>>>,
}

enum Node {
    Folder(Millis),
    /// Shared with its writer, which so follows it through a rename.
    File(Arc<Mutex<File>>),
}

struct File {
    /// As they were written, until somebody reads.
    pieces: Vec<Bytes>,
    len: u64,
    modified: Millis,
}

impl MemoryStore {
    /// An empty store; `clock` tells when a file was changed.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, nodes: Arc::default() }
    }

    /// Every file with its length.
    pub fn files(&self) -> BTreeMap<StorePath, u64> {
        let len = |node: &Node| match node {
            Node::Folder(_) => None,
            Node::File(file) => Some(lock(file).len),
        };
        self.nodes().iter().filter_map(|(path, node)| Some((path.clone(), len(node)?))).collect()
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<StorePath, Node>> {
        lock(&self.nodes)
    }

    /// Whether a file stands there; with a folder there, or a file above, none can.
    fn stands(nodes: &BTreeMap<StorePath, Node>, path: &StorePath) -> Result<bool> {
        match nodes.get(path) {
            Some(Node::File(_)) => Ok(true),
            Some(Node::Folder(_)) => Err(Fault::user(format!("{path} is a folder, where a file belongs"))),
            None if path.as_str() == "/" => Err(Fault::internal("the root is no file")),
            None => Ok(false),
        }
    }

    fn make_folders(&self, nodes: &mut BTreeMap<StorePath, Node>, path: &StorePath) -> Result<()> {
        let folder = path.parent();
        if folder.as_str() == "/" {
            return Ok(());
        }
        match nodes.get(&folder) {
            Some(Node::Folder(_)) => return Ok(()),
            Some(Node::File(_)) => {
                return Err(Fault::user(format!("{folder} is a file, where a folder belongs")));
            }
            None => {}
        }
        self.make_folders(nodes, &folder)?;
        nodes.insert(folder, Node::Folder(self.clock.now()));
        Ok(())
    }

    fn add(&self, nodes: &mut BTreeMap<StorePath, Node>, path: &StorePath, bytes: Bytes) -> Result<Arc<Mutex<File>>> {
        self.make_folders(nodes, path)?;
        let len = bytes.len() as u64;
        let file = Arc::new(Mutex::new(File { pieces: vec![bytes], len, modified: self.clock.now() }));
        nodes.insert(path.clone(), Node::File(Arc::clone(&file)));
        Ok(file)
    }
}

impl File {
    fn whole(&mut self) -> Bytes {
        if self.pieces.len() != 1 {
            let mut whole = BytesMut::with_capacity(self.pieces.iter().map(Bytes::len).sum());
            self.pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            self.pieces = vec![whole.freeze()];
        }
        self.pieces[0].clone()
    }
}

impl Node {
    fn entry(&self, name: &str) -> Entry {
        let (len, modified, folder) = match self {
            Self::Folder(made) => (0, *made, true),
            Self::File(file) => {
                let file = lock(file);
                (file.len, file.modified, false)
            }
        };
        Entry { name: name.to_owned(), len, modified, folder }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "store in memory".to_owned()
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        if !path.is_hidden() {
            return Err(Fault::internal(format!("a file begun at {path} would be taken for data")));
        }
        let mut nodes = self.nodes();
        if nodes.contains_key(path) {
            return Err(Fault::internal(format!("{path} exists already")));
        }
        let file = self.add(&mut nodes, path, Bytes::new())?;
        Ok(Box::new(MemoryWriter { clock: Arc::clone(&self.clock), file }))
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        let mut nodes = self.nodes();
        if Self::stands(&nodes, path)? {
            return Ok(Put::Exists);
        }
        self.add(&mut nodes, path, bytes).map(|_| Put::Created)
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        let mut nodes = self.nodes();
        let (source, target) = (Self::stands(&nodes, from)?, Self::stands(&nodes, to)?);
        if target {
            return Ok(Renamed::TargetExists);
        }
        if !source {
            return Ok(Renamed::SourceMissing);
        }
        self.make_folders(&mut nodes, to)?;
        if let Some(file) = nodes.remove(from) {
            nodes.insert(to.clone(), file);
        }
        Ok(Renamed::Done)
    }

    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>> {
        self.read_range(path, 0, usize::MAX).await
    }

    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        match self.nodes().get(path) {
            None => Ok(None),
            Some(Node::Folder(_)) => Err(Fault::user(format!("{path} is a folder"))),
            Some(Node::File(file)) => {
                let whole = lock(file).whole();
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
                Ok(Some(whole.slice(from..from.saturating_add(len).min(whole.len()))))
            }
        }
    }

    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        Ok(self.nodes().get(path).map(|node| node.entry(path.name())))
    }

    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let nodes = self.nodes();
        // All that begins with the folder's path lies together, its grandchildren among it.
        let below = nodes.range(folder..).take_while(|(path, _)| path.as_str().starts_with(folder.as_str()));
        let children = below.filter(|(path, _)| path.parent() == *folder);
        let mut entries = children.map(|(path, node)| node.entry(path.name())).collect::<Vec<_>>();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn delete(&self, path: &StorePath) -> Result<bool> {
        let mut nodes = self.nodes();
        Ok(Self::stands(&nodes, path)? && nodes.remove(path).is_some())
    }
}

struct MemoryWriter {
    clock: Arc<dyn Clock>,
    file: Arc<Mutex<File>>,
}

#[async_trait]
impl StoreWriter for MemoryWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let mut file = lock(&self.file);
        file.len += bytes.len() as u64;
        file.modified = self.clock.now();
        file.pieces.push(bytes);
        Ok(())
    }

    async fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ManualClock,
        store::contract::{Subject, store_contract},
    };

    async fn memory() -> Subject {
        let store = Arc::new(MemoryStore::new(Arc::new(ManualClock::at(0))));
        Subject { store, base: StorePath::new("/base").unwrap(), _keep: Box::new(()) }
    }

    store_contract!(memory);

    #[tokio::test]
    async fn a_file_was_changed_when_the_clock_said_so() {
        let clock = ManualClock::at(1_000);
        let store = MemoryStore::new(Arc::new(clock.clone()));
        let path = StorePath::new("/_staging/1").unwrap();
        let mut writer = store.create(&path).await.unwrap();
        clock.advance(500);
        writer.append(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(store.stat(&path).await.unwrap().unwrap().modified, 1_500);
    }
}
