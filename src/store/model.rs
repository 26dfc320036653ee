//! A store as a data structure: files, and what a power cut leaves of them.
//!
//! Nothing here waits or fails by chance; the [simulation](crate::sim) decides when an operation is
//! applied and when it is answered. Only an answer makes things durable:
//!
//! - Names (created, put, renamed, deleted) form a journal. A power cut takes back its end, as far
//!   as no operation was answered that came later. With [`Durability::Scattered`] each folder has a
//!   journal of its own, of which any change that was not answered may be missing.
//! - Bytes of an open file are durable as far as `sync` or `close` was answered; behind that a
//!   power cut leaves a part, or zeros. A file that was put is whole or not there.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;

use super::{Entry, Put, Renamed};
use crate::{
    fault::{Fault, Result},
    model::Millis,
};

/// What a power cut may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of one journal of all names: HDFS, ext4, XFS.
    #[default]
    Ordered,
    /// In each folder any changes but the answered ones and those before them: the least that
    /// POSIX leaves room for.
    Scattered,
}

/// What became of a path that readers take for data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// There was nothing.
    Appeared,
    /// Other bytes are there than before.
    Changed,
    /// It was deleted or renamed.
    Vanished,
    /// A power cut took it away again: it had not been answered for.
    Lost,
    /// A power cut took bytes of it: it was never closed.
    Torn,
}

/// A change of a path that readers take for data: no part begins with `_` or `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which path.
    pub path: String,
    /// What became of it.
    pub what: What,
}

struct File {
    data: Bytes,
    // Bytes that a power cut leaves.
    durable: usize,
    open: bool,
    modified: Millis,
    // Its path while readers take it for data.
    visible_at: Option<String>,
}

struct NameChange {
    path: String,
    before: Option<usize>,
    after: Option<usize>,
    settled: bool,
    // The second half of a rename, which never happens without the first.
    half: bool,
}

// An operation that makes things durable once it is answered.
struct Pending {
    op: u64,
    // All name changes below this number, counted from the history's start, came before it.
    names_below: usize,
    folders: [String; 2],
    flushed: Option<(usize, usize)>,
}

/// All files of a store.
#[derive(Default)]
pub struct Files {
    /// What a power cut may take.
    pub durability: Durability,
    names: BTreeMap<String, usize>,
    files: Vec<File>,
    journal: Vec<NameChange>,
    num_forgotten: usize,
    pending: Vec<Pending>,
    visible_changes: Vec<Change>,
    // Of each path that was ever deleted the bytes that went first.
    deleted: BTreeMap<String, Bytes>,
}

impl Files {
    /// Begins a file; returns its number.
    pub fn create(&mut self, now: Millis, path: &str) -> Result<usize> {
        if visible(path) {
            return Err(Fault::internal(format!("create {path}: readers would take it for data")));
        }
        self.free(path)?;
        if self.names.contains_key(path) {
            return Err(Fault::internal(format!("create {path}: there is a file of this name")));
        }
        let file = self.add(Bytes::new(), 0, true, now);
        self.name(path, Some(file), false);
        Ok(file)
    }

    /// Adds bytes to an open file.
    pub fn append(&mut self, now: Millis, file: usize, bytes: &Bytes) -> Result<()> {
        let number = file;
        let file = &mut self.files[number];
        if !file.open {
            return Err(Fault::internal(format!("append to file {number}: it was closed")));
        }
        file.modified = now;
        if file.data.is_empty() {
            file.data = bytes.clone();
        } else if !bytes.is_empty() {
            file.data = [&file.data[..], bytes].concat().into();
        }
        if let Some(path) = &file.visible_at {
            self.visible_changes.push(Change { path: path.clone(), what: What::Changed });
        }
        Ok(())
    }

    /// `sync` or `close`.
    pub fn flush(&mut self, op: u64, file: usize, close: bool) -> Result<()> {
        if !self.files[file].open {
            return Err(Fault::internal(format!("flush of file {file}: it was closed")));
        }
        self.files[file].open = !close;
        let len = self.files[file].data.len();
        let path = match self.durability {
            Durability::Ordered => None,
            Durability::Scattered => {
                self.names.iter().find(|(_, number)| **number == file).map(|(path, _)| path.clone())
            }
        };
        self.expect(op, [path.as_deref().unwrap_or_default(), ""], Some((file, len)));
        Ok(())
    }

    /// See [`Store::put_if_absent`](super::Store::put_if_absent).
    pub fn put(&mut self, op: u64, now: Millis, path: &str, bytes: Bytes) -> Result<Put> {
        self.free(path)?;
        let exists = self.names.contains_key(path);
        if !exists {
            let len = bytes.len();
            let file = self.add(bytes, len, false, now);
            self.name(path, Some(file), false);
        }
        self.expect(op, [path, ""], None);
        Ok(if exists { Put::Exists } else { Put::Created })
    }

    /// See [`Store::rename_if_absent`](super::Store::rename_if_absent).
    pub fn rename(&mut self, op: u64, from: &str, to: &str) -> Result<Renamed> {
        self.free(to)?;
        let renamed = if self.names.contains_key(to) {
            Renamed::TargetExists
        } else if let Some(&file) = self.names.get(from) {
            self.name(to, Some(file), false);
            self.name(from, None, true);
            Renamed::Done
        } else if self.is_folder(from) {
            return Err(Fault::internal(format!("rename {from}: it is a folder")));
        } else {
            Renamed::SourceMissing
        };
        self.expect(op, [from, to], None);
        Ok(renamed)
    }

    /// See [`Store::delete`](super::Store::delete).
    pub fn delete(&mut self, op: u64, path: &str) -> Result<bool> {
        let there = self.names.contains_key(path);
        if there {
            let bytes = &self.files[self.names[path]].data;
            self.deleted.entry(path.to_owned()).or_insert_with(|| bytes.clone());
            self.name(path, None, false);
        } else if self.is_folder(path) {
            return Err(Fault::internal(format!("delete {path}: it is a folder")));
        }
        self.expect(op, [path, ""], None);
        Ok(there)
    }

    /// A file's bytes.
    pub fn read(&self, path: &str) -> Result<Option<Bytes>> {
        match self.names.get(path) {
            Some(&file) => Ok(Some(self.files[file].data.clone())),
            None if self.is_folder(path) => Err(Fault::internal(format!("read {path}: it is a folder"))),
            None => Ok(None),
        }
    }

    /// A file or folder.
    pub fn stat(&self, path: &str) -> Option<Entry> {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(&file) = self.names.get(path) {
            let file = &self.files[file];
            return Some(Entry { name, len: file.data.len() as u64, modified: file.modified, folder: false });
        }
        self.is_folder(path).then_some(Entry { name, len: 0, modified: 0, folder: true })
    }

    /// What lies in a folder, sorted by name.
    pub fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        if self.names.contains_key(folder) {
            return Err(Fault::internal(format!("list {folder}: it is a file")));
        }
        let prefix = if folder == "/" { "/".to_owned() } else { format!("{folder}/") };
        let mut entries: Vec<Entry> = Vec::new();
        for (path, &file) in self.names.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            let file = &self.files[file];
            match path[prefix.len()..].split_once('/') {
                Some((name, _)) => {
                    if !entries.last().is_some_and(|last| last.folder && last.name == name) {
                        entries.push(Entry { name: name.to_owned(), len: 0, modified: 0, folder: true });
                    }
                }
                None => entries.push(Entry {
                    name: path[prefix.len()..].to_owned(),
                    len: file.data.len() as u64,
                    modified: file.modified,
                    folder: false,
                }),
            }
        }
        // The names of folders are shorter than the paths by which they were found.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The operation was answered: what it did or found is durable.
    pub fn settle(&mut self, op: u64) {
        // A repeated operation stands there twice.
        while let Some(at) = self.pending.iter().position(|pending| pending.op == op) {
            let pending = self.pending.swap_remove(at);
            if let Some((file, len)) = pending.flushed {
                let durable = &mut self.files[file].durable;
                *durable = (*durable).max(len);
            }
            let below = pending.names_below.saturating_sub(self.num_forgotten);
            match self.durability {
                Durability::Ordered => self.forget(below),
                Durability::Scattered => {
                    for change in &mut self.journal[..below] {
                        change.settled |= pending.folders.iter().any(|folder| folder == parent(&change.path));
                    }
                    let settled = self.journal.iter().take_while(|change| change.settled).count();
                    self.forget(settled);
                }
            }
        }
    }

    /// Loses what was not durable, or a part of it.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        let before = self.visible();
        let cut = rng.usize(..=self.journal.len());
        let mut kept: Vec<bool> = self.journal.iter().enumerate().map(|(at, _)| at < cut).collect();
        if self.durability == Durability::Scattered {
            kept = self.journal.iter().map(|change| change.settled || rng.bool()).collect();
        }
        for at in (0..self.journal.len()).filter(|&at| self.journal[at].half) {
            match self.durability {
                // One entry of the journal.
                Durability::Ordered => kept[at] = kept[at - 1],
                // Both names may stand, but never none.
                Durability::Scattered => kept[at] &= kept[at - 1],
            }
        }
        for change in self.journal.iter().rev() {
            set(&mut self.names, &change.path, change.before);
        }
        for (change, _) in self.journal.iter().zip(kept).filter(|(_, kept)| *kept) {
            set(&mut self.names, &change.path, change.after);
        }
        for (file, len) in self.pending.drain(..).filter_map(|pending| pending.flushed) {
            if rng.bool() {
                let durable = &mut self.files[file].durable;
                *durable = (*durable).max(len);
            }
        }
        self.forget(self.journal.len());
        for file in &mut self.files {
            file.visible_at = None;
        }
        for (path, &number) in &self.names {
            let file = &mut self.files[number];
            if file.durable < file.data.len() {
                let len = rng.usize(file.durable..=file.data.len());
                let mut data = file.data[..len].to_vec();
                if rng.u8(..4) == 0 {
                    data[file.durable..].fill(0);
                }
                file.data = data.into();
            }
            file.durable = file.data.len();
            file.open = false;
            if visible(path) {
                file.visible_at = Some(path.clone());
            }
        }
        let after = self.visible();
        let back = after.keys().filter(|path| !before.contains_key(*path)).cloned();
        self.visible_changes.extend(back.map(|path| Change { path, what: What::Appeared }));
        for (path, data) in before {
            match after.get(&path) {
                None => self.visible_changes.push(Change { path, what: What::Lost }),
                Some(left) if *left != data => self.visible_changes.push(Change { path, what: What::Torn }),
                Some(_) => {}
            }
        }
    }

    /// Every file with its bytes.
    pub fn all(&self) -> BTreeMap<String, Bytes> {
        self.names.iter().map(|(path, &file)| (path.clone(), self.files[file].data.clone())).collect()
    }

    /// Every change of what readers take for data, in order.
    pub fn visible_changes(&self) -> &[Change] {
        &self.visible_changes
    }

    /// Of each path that was ever deleted the bytes that were deleted first.
    pub fn deleted(&self) -> &BTreeMap<String, Bytes> {
        &self.deleted
    }

    fn visible(&self) -> BTreeMap<String, Bytes> {
        let data = |(path, &file): (&String, &usize)| (path.clone(), self.files[file].data.clone());
        self.names.iter().filter(|(path, _)| visible(path)).map(data).collect()
    }

    fn add(&mut self, data: Bytes, durable: usize, open: bool, modified: Millis) -> usize {
        self.files.push(File { data, durable, open, modified, visible_at: None });
        self.files.len() - 1
    }

    fn name(&mut self, path: &str, after: Option<usize>, half: bool) {
        let before = self.names.get(path).copied();
        let visible_at = visible(path).then(|| path.to_owned());
        if let Some(path) = &visible_at {
            let what = match (before, after) {
                (None, _) => What::Appeared,
                (Some(_), Some(_)) => What::Changed,
                (Some(_), None) => What::Vanished,
            };
            self.visible_changes.push(Change { path: path.clone(), what });
        }
        if let Some(file) = before
            && self.files[file].visible_at.as_deref() == Some(path)
        {
            self.files[file].visible_at = None;
        }
        if let Some(file) = after {
            self.files[file].visible_at = visible_at;
        }
        set(&mut self.names, path, after);
        self.journal.push(NameChange { path: path.to_owned(), before, after, settled: false, half });
    }

    fn expect(&mut self, op: u64, paths: [&str; 2], flushed: Option<(usize, usize)>) {
        let folders = match self.durability {
            Durability::Ordered => Default::default(),
            Durability::Scattered => paths.map(|path| parent(path).to_owned()),
        };
        let names_below = self.num_forgotten + self.journal.len();
        self.pending.push(Pending { op, names_below, folders, flushed });
    }

    fn forget(&mut self, num_changes: usize) {
        self.journal.drain(..num_changes);
        self.num_forgotten += num_changes;
    }

    // Neither a folder of this path nor a file where one of its folders should be.
    fn free(&self, path: &str) -> Result<()> {
        if self.is_folder(path) {
            return Err(Fault::internal(format!("{path} is a folder")));
        }
        let mut folder = parent(path);
        while folder.len() > 1 {
            if self.names.contains_key(folder) {
                return Err(Fault::internal(format!("{path}: {folder} is a file")));
            }
            folder = parent(folder);
        }
        Ok(())
    }

    fn is_folder(&self, path: &str) -> bool {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        path == "/" || self.names.range(prefix.clone()..).next().is_some_and(|(path, _)| path.starts_with(&prefix))
    }
}

fn set(names: &mut BTreeMap<String, usize>, path: &str, file: Option<usize>) {
    match file {
        Some(file) => drop(names.insert(path.to_owned(), file)),
        None => drop(names.remove(path)),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn visible(path: &str) -> bool {
    !path.contains("/_") && !path.contains("/.")
}
