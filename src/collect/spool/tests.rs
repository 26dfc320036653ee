//! A spool under the hands of writers that are killed, replaced and full: one suite, once for each
//! layout, and what only event files can meet.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    collect::{Layout, SpoolSettings, spool::files::EventFolder},
    fault::{Domain, Effect},
    model::{ManualClock, NodeId},
};

mod changes;
mod file_per_event;
mod packed;

const START: Millis = 1_442_000_000_000;

/// A folder with a spool in it, and what writers and readers need.
struct Spool {
    _folder: Option<TempDir>,
    settings: SpoolSettings,
    link: Link,
    clock: ManualClock,
}

impl Spool {
    /// The bounds are those of a packed spool: an event as a file takes more, and the bounds grow with it.
    fn new(layout: Layout, roll_bytes: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let mut spool = Self::at(layout, folder.path());
        spool.settings.roll_bytes = spool.scaled(roll_bytes);
        Self { _folder: Some(folder), ..spool }
    }

    /// As another process finds it: nothing was said over the link yet.
    fn at(layout: Layout, path: &Path) -> Self {
        let sync_within = std::time::Duration::from_millis(200);
        let settings = SpoolSettings { path: path.to_owned(), layout, max_bytes: 0, roll_bytes: u64::MAX, sync_within };
        let mut spool = Self { _folder: None, settings, link: Link::new(), clock: ManualClock::at(START) };
        spool.settings.max_bytes = spool.scaled(1_000_000);
        spool
    }

    fn scaled(&self, bytes: u64) -> u64 {
        let per_event = if self.settings.layout == Layout::Packed { 1 } else { 12 };
        bytes.saturating_mul(per_event)
    }

    /// What lies on the disk, but for what a replaced writer has begun and nobody will read.
    fn used(&self) -> u64 {
        let own = chain::list(self.path()).unwrap().pop().unwrap_or(0);
        let own = EventFolder::of(self.path()).path().join(format!(".{own}-"));
        let is_own = |file: &&PathBuf| file.to_str().unwrap().starts_with(own.to_str().unwrap());
        let events = [self.events(false), self.events(true)];
        let files = events[0].iter().chain(events[1].iter().filter(is_own));
        let taken = files.map(|file| files::room(fs::metadata(file).unwrap().len()));
        chain::used(self.path()).unwrap() + taken.sum::<u64>()
    }

    /// The files of events, in the order of their names: those hidden, or the others.
    fn events(&self, hidden: bool) -> Vec<PathBuf> {
        let Ok(found) = fs::read_dir(EventFolder::of(self.path()).path()) else { return Vec::new() };
        let is_hidden = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes()[0] == b'.';
        let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| is_hidden(path) == hidden);
        paths.sort();
        paths
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }

    fn try_open(&self) -> Result<(Writer, Recovered)> {
        self.try_open_as(Incarnation(1))
    }

    fn try_open_as(&self, life: Incarnation) -> Result<(Writer, Recovered)> {
        let (source, node) = ("wikimedia".to_owned(), NodeId::new("alpha"));
        let owner = Owner { source, node, incarnation: Uuid::new_v4(), life };
        Writer::open(&self.settings, &owner, &self.link, Arc::new(self.clock.clone()))
    }

    fn open(&self) -> (Writer, Recovered) {
        self.try_open().unwrap()
    }

    /// All entries from `from` to the durable end, a few at a time.
    fn read_from(&self, from: Sequence) -> Result<Vec<Frame>> {
        let end = self.link.durable().borrow().unwrap().next;
        let mut reader = Reader::open(self.path(), from, &self.link)?;
        let mut frames = Vec::new();
        while reader.next() < end {
            frames.extend(reader.read(3, 1_000_000, end)?);
        }
        Ok(frames)
    }

    fn payloads(&self, from: Sequence) -> Vec<String> {
        let frames = self.read_from(from).unwrap();
        let sequences: Vec<_> = frames.iter().map(|frame| frame.sequence).collect();
        assert_eq!(sequences, (from..from + frames.len() as u64).collect::<Vec<_>>());
        frames.iter().map(|frame| String::from_utf8(frame.entry.payload.to_vec()).unwrap()).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        chain::list(self.path()).unwrap().into_iter().map(|number| chain::file_path(self.path(), number)).collect()
    }
}

fn entry(payload: &str) -> Entry {
    Entry {
        kind: Kind::Event,
        received: START,
        token: Bytes::from(format!("token of {payload}")),
        id: Bytes::from(format!("id of {payload}")),
        payload: Bytes::from(payload.to_owned()),
    }
}

fn append(writer: &mut Writer, payloads: &[&str]) -> std::ops::Range<Sequence> {
    writer.append(&payloads.iter().map(|payload| entry(payload)).collect::<Vec<_>>()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to),
            false => drop(fs::copy(file.path(), to).unwrap()),
        }
    }
}

fn check_fault<T>(result: Result<T>, fate: Fate, named: &str) -> Fault {
    let Err(fault) = result else { panic!("no fault of kind {fate:?}") };
    assert_eq!(fault.kind, fate, "{fault}");
    assert!(fault.message.contains(named), "{fault}");
    fault
}
