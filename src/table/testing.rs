//! What the table's tests share: settings, records, and a store that can be told to misbehave.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Key, Measure, MeasureKind, Number, Settings, TimeUnit};
use crate::{
    bus::Start,
    fault::{Fault, Result},
    model::{Filter, Millis, Offset, Pause, Pointer, Record},
    store::{Entry, Put, Renamed, Store, StorePath, StoreWriter},
};

pub fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

pub fn number(text: &str) -> Number {
    Number { pointer: pointer(text), minus: None }
}

/// Edits a minute by wiki, as the shipped pipeline has them, and the mean of `/len`.
pub fn settings() -> Settings {
    Settings {
        topic: "wiki_changes".into(),
        path: StorePath::new("/aggregates/wiki_edits_minute").unwrap(),
        window: Duration::from_secs(60),
        time: pointer("/timestamp"),
        time_unit: TimeUnit::Seconds,
        keys: vec![Key { name: "wiki".into(), pointer: pointer("/wiki") }],
        measures: vec![
            Measure { name: "edits".into(), kind: MeasureKind::Count },
            Measure { name: "size".into(), kind: MeasureKind::Avg(number("/len")) },
        ],
        filters: vec![Filter { pointer: pointer("/meta/domain"), include: false, values: vec!["canary".into()] }],
        watermark_delay: Duration::from_secs(10),
        lateness: Duration::from_secs(600),
        future_bound: Duration::from_secs(300),
        idle: Duration::from_secs(30),
        commit_interval: Duration::from_secs(10),
        commit_records: 10_000,
        history: Duration::from_secs(24 * 3600),
        checkpoint_every: 100,
        success_files: false,
        start: Start::Earliest,
    }
}

/// An edit at `time` (milliseconds) that reached the bus at once.
pub fn edit(offset: Offset, time: Millis, wiki: &str) -> Record {
    let seconds = time.div_euclid(1000);
    let millis = time.rem_euclid(1000);
    let value = format!(r#"{{"wiki":"{wiki}","timestamp":{seconds}.{millis:03},"len":{}}}"#, offset % 7);
    record(offset, time, &value)
}

pub fn record(offset: Offset, bus_time: Millis, value: &str) -> Record {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Record { offset, time: bus_time, key: None, value, headers: Vec::new() }
}

/// A pause that does not wait.
pub struct NoPause;

#[async_trait]
impl Pause for NoPause {
    async fn pause(&self, _attempt: u32) {}
}

/// What the store does with the next `put_if_absent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// What it should.
    None,
    /// Nothing, and says that it is unclear.
    Lost,
    /// What it should, but says that it is unclear.
    Unanswered,
    /// What it should, and then every call fails for this many more.
    DoneThenAway(u32),
    /// Lets the rival's bytes take the place first.
    Beaten,
}

/// A store in memory that misbehaves as told.
#[derive(Default)]
pub struct Scripted {
    pub files: Arc<Mutex<BTreeMap<StorePath, Bytes>>>,
    pub puts: Mutex<VecDeque<Mishap>>,
    pub closes_fail: Mutex<u32>,
    /// What takes the place in [`Mishap::Beaten`].
    pub rival: Mutex<Bytes>,
    away: Mutex<u32>,
}

impl Scripted {
    pub fn next_puts(&self, mishaps: &[Mishap]) {
        *self.puts.lock().unwrap() = mishaps.to_vec().into();
    }

    pub fn names(&self, folder: &StorePath) -> Vec<String> {
        let prefix = format!("{}/", folder.as_str());
        let files = self.files.lock().unwrap();
        files.keys().filter_map(|path| path.as_str().strip_prefix(&prefix).map(str::to_owned)).collect()
    }

    /// Another store with the same files, which goes its own way.
    pub fn fork(&self) -> Self {
        let files = self.files.lock().unwrap().clone();
        Self { files: Arc::new(Mutex::new(files)), ..Self::default() }
    }

    /// Ends what [`Mishap::DoneThenAway`] began.
    pub fn come_back(&self) {
        *self.away.lock().unwrap() = 0;
    }

    fn here(&self) -> Result<()> {
        let mut away = self.away.lock().unwrap();
        if *away > 0 {
            *away -= 1;
            return Err(Fault::external("scripted: away").unknown_effect());
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Scripted {
    fn describe(&self) -> String {
        "scripted store".to_owned()
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn StoreWriter>> {
        self.here()?;
        let mut fail = self.closes_fail.lock().unwrap();
        let fails = *fail > 0;
        *fail = fail.saturating_sub(1);
        let files = Arc::clone(&self.files);
        assert!(!files.lock().unwrap().contains_key(path), "{path:?} is there already");
        Ok(Box::new(Writer { files, path: path.clone(), bytes: BytesMut::new(), fails }))
    }

    async fn put_if_absent(&self, path: &StorePath, bytes: Bytes) -> Result<Put> {
        self.here()?;
        let mishap = self.puts.lock().unwrap().pop_front().unwrap_or(Mishap::None);
        let mut files = self.files.lock().unwrap();
        if mishap == Mishap::Beaten {
            files.insert(path.clone(), self.rival.lock().unwrap().clone());
            return Ok(Put::Exists);
        }
        if mishap != Mishap::Lost && !files.contains_key(path) {
            files.insert(path.clone(), bytes);
        } else if mishap == Mishap::None {
            return Ok(Put::Exists);
        }
        match mishap {
            Mishap::None | Mishap::Beaten => Ok(Put::Created),
            Mishap::Lost | Mishap::Unanswered => Err(Fault::external("scripted: no answer").unknown_effect()),
            Mishap::DoneThenAway(calls) => {
                *self.away.lock().unwrap() = calls;
                Err(Fault::external("scripted: no answer").unknown_effect())
            }
        }
    }

    async fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        self.here()?;
        let mut files = self.files.lock().unwrap();
        if files.contains_key(to) {
            return Ok(Renamed::TargetExists);
        }
        let Some(bytes) = files.remove(from) else { return Ok(Renamed::SourceMissing) };
        files.insert(to.clone(), bytes);
        Ok(Renamed::Done)
    }

    async fn read(&self, path: &StorePath) -> Result<Option<Bytes>> {
        self.here()?;
        Ok(self.files.lock().unwrap().get(path).cloned())
    }

    async fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        let at = usize::try_from(offset).unwrap();
        Ok(self.read(path).await?.map(|bytes| bytes.slice(at.min(bytes.len())..(at + len).min(bytes.len()))))
    }

    async fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        let entry =
            |bytes: Bytes| Entry { name: path.name().to_owned(), len: bytes.len() as u64, modified: 0, folder: false };
        Ok(self.read(path).await?.map(entry))
    }

    async fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.here()?;
        let entry = |name: String| Entry { name, len: 0, modified: 0, folder: false };
        Ok(self.names(folder).into_iter().filter(|name| !name.contains('/')).map(entry).collect())
    }

    async fn delete(&self, path: &StorePath) -> Result<bool> {
        self.here()?;
        Ok(self.files.lock().unwrap().remove(path).is_some())
    }
}

struct Writer {
    files: Arc<Mutex<BTreeMap<StorePath, Bytes>>>,
    path: StorePath,
    bytes: BytesMut,
    fails: bool,
}

#[async_trait]
impl StoreWriter for Writer {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        if self.fails {
            // Half of it is there.
            let half = self.bytes.freeze();
            self.files.lock().unwrap().insert(self.path, half.slice(..half.len() / 2));
            return Err(Fault::external("scripted: close failed").unknown_effect());
        }
        self.files.lock().unwrap().insert(self.path, self.bytes.freeze());
        Ok(())
    }
}
