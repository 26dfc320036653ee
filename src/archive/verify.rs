//! Proves an archive: the chain is whole, each segment lies where its entry says, nothing else
//! lies there; *deep*: each file's bytes are what the entry promised, and equal what the bus still
//! holds.

use std::collections::{BTreeMap, BTreeSet};

use flate2::read::MultiGzDecoder;

use super::{
    Codec,
    entry::{Entry, Times},
    segment::{Framed, frame},
};
use crate::{
    bus::{Bus, TopicInfo, read_range},
    chain::Chain,
    fault::{Kind, Result},
    model::{Offset, Partition, Why},
    store::{Store, StorePath},
};

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The kind of finding.
    pub what: What,
    /// Where: a path in the store, or a range of a partition.
    pub place: String,
    /// What was expected and what is there.
    pub detail: String,
}

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Records that the bus had deleted before they were archived.
    Lost,
    /// A segment that an entry names is not there.
    Missing,
    /// A file that no entry names: a doubled or a foreign one.
    Unknown,
    /// The chain has a gap, an overlap or an entry that contradicts itself.
    Broken,
    /// Bytes are not what the entry (or the bus) says.
    Altered,
}

/// The result over a whole archive.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Segments looked at.
    pub segments: u64,
    /// Lines the entries promise.
    pub lines: u64,
    /// Bytes the entries promise, uncompressed.
    pub bytes: u64,
    /// Lines compared with the bus, one by one.
    pub compared: u64,
    /// Where each partition's chain ends.
    pub ends: BTreeMap<String, Offset>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    fn find(&mut self, what: What, place: impl ToString, detail: impl Into<String>) {
        self.findings.push(Finding { what, place: place.to_string(), detail: detail.into() });
    }
}

/// Where to look, and how hard.
pub struct Verify<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The archive's folder: the path's part before the first field.
    pub base: StorePath,
    /// The topic's name.
    pub topic: &'a str,
    /// Read every byte.
    pub deep: bool,
    /// The bus, for comparing what it still holds.
    pub bus: Option<(&'a dyn Bus, TopicInfo)>,
}

impl Verify<'_> {
    /// Looks at everything; `progress` is told of each segment done and how many there are.
    ///
    /// # Errors
    /// Those of store and bus. What is wrong with the archive is no error but a finding.
    pub async fn run(&self, mut progress: impl FnMut(u64, u64)) -> Result<Report> {
        let mut report = Report::default();
        let mut known = BTreeSet::new();
        let mut todo = Vec::new();
        let root = self.base.join("_chain").join(self.topic);
        for identity in self.folders(&root).await? {
            for partition in self.folders(&root.join(&identity)).await? {
                let chain = Chain::new(root.join(&identity).join(&partition));
                let entries = self.chain(&chain, &mut report).await?;
                report.ends.insert(format!("{identity}/{partition}"), entries.last().map_or(0, |entry| entry.next));
                todo.extend(entries.into_iter().map(|entry| (identity.clone(), partition.clone(), entry)));
            }
        }
        let total = todo.len() as u64;
        for (done, (identity, partition, entry)) in todo.into_iter().enumerate() {
            report.segments += 1;
            report.lines += entry.count;
            report.bytes += entry.bytes;
            for hole in entry.holes.iter().filter(|hole| hole.why == Why::Retention) {
                let place = format!("{}-{partition}@[{}, {})", self.topic, hole.from, hole.to);
                report.find(What::Lost, place, "the bus had deleted these records before they were archived");
            }
            if let Some(target) = &entry.target {
                let path = self.base.join(target);
                if self.store.stat(&path).await?.is_none() {
                    let staged = entry.staging.as_ref().map(|staging| self.base.join(staging));
                    let staged = match staged {
                        Some(staging) => self.store.stat(&staging).await?.is_some(),
                        None => false,
                    };
                    // The last entry's rename is the next archiver's first step: not a loss.
                    if !staged {
                        let range = format!("entry {} promises {} lines there", entry.start, entry.count);
                        report.find(What::Missing, &path, range);
                    }
                } else if self.deep {
                    self.deep(&identity, &partition, &entry, &path, &mut report).await?;
                }
                known.insert(path);
            }
            progress(done as u64 + 1, total);
        }
        self.strangers(&self.base, &known, &mut report).await?;
        Ok(report)
    }

    async fn folders(&self, at: &StorePath) -> Result<Vec<String>> {
        let list = self.store.list(at).await?;
        Ok(list.into_iter().filter(|entry| entry.folder).map(|entry| entry.name).collect())
    }

    /// The entries of one chain, each checked against itself and the one before.
    async fn chain(&self, chain: &Chain, report: &mut Report) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut end = 0;
        for start in chain.starts(self.store).await? {
            let place = format!("{}/{start:020}.json", chain.folder());
            let entry: Entry = match chain.read(self.store, start).await {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(fault) if fault.kind == Kind::Lost => {
                    report.find(What::Broken, place, fault.message);
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            if start != end {
                let what = if start > end { "no entry covers" } else { "two entries cover" };
                let (a, b) = (start.min(end), start.max(end));
                report.find(What::Broken, &place, format!("{what} offsets [{a}, {b})"));
            }
            let holes: Offset = entry.holes.iter().map(|hole| hole.to - hole.from).sum();
            if entry.count + holes != entry.next - entry.start {
                let sum = format!("{} lines and {holes} holes in [{}, {})", entry.count, entry.start, entry.next);
                report.find(What::Broken, &place, sum);
            }
            end = entry.next;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Every byte of one segment.
    async fn deep(
        &self,
        identity: &str,
        partition: &str,
        entry: &Entry,
        path: &StorePath,
        report: &mut Report,
    ) -> Result<()> {
        let raw = self.store.read(path).await?.unwrap_or_default();
        let text = match entry.codec {
            Codec::Plain => raw.to_vec(),
            Codec::Gzip => {
                let mut text = Vec::new();
                if let Err(error) = std::io::Read::read_to_end(&mut MultiGzDecoder::new(&raw[..]), &mut text) {
                    report.find(What::Altered, path, format!("cannot be unpacked: {error}"));
                    return Ok(());
                }
                text
            }
        };
        let sum = crc32c::crc32c(&text);
        let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u64;
        if (lines, text.len() as u64, sum) != (entry.count, entry.bytes, entry.crc32c) {
            let detail = format!(
                "{lines} lines, {} bytes, crc32c {sum:08x}; the entry says {}, {}, {:08x}",
                text.len(),
                entry.count,
                entry.bytes,
                entry.crc32c
            );
            report.find(What::Altered, path, detail);
        }
        if let Some(times) = &entry.times {
            let folder = self.base.join("_chain").join(self.topic).join(identity).join(partition);
            let sidecar = folder.join(times);
            match self.store.read(&sidecar).await? {
                None => report.find(What::Missing, &sidecar, "the bus times of a segment"),
                Some(bytes) => {
                    if let Err(fault) = Times::decode(&bytes, entry.count) {
                        report.find(What::Altered, &sidecar, fault.message);
                    }
                }
            }
        }
        self.compare(identity, partition, entry, &text, path, report).await
    }

    /// The lines of one segment against the records that the bus still has.
    async fn compare(
        &self,
        identity: &str,
        partition: &str,
        entry: &Entry,
        text: &[u8],
        path: &StorePath,
        report: &mut Report,
    ) -> Result<()> {
        let (Some((bus, topic)), Ok(partition)) = (&self.bus, partition.parse::<Partition>()) else { return Ok(()) };
        if topic.id.to_string() != identity || partition >= topic.num_partitions {
            return Ok(());
        }
        let low = bus.watermarks(topic, partition).await?.low;
        if low >= entry.next {
            return Ok(());
        }
        let records = read_range(*bus, topic, partition, entry.start.max(low), entry.next).await?;
        let values: Vec<_> = records
            .iter()
            .filter_map(|record| match frame(record) {
                Framed::Line(value) => Some((record.offset, value)),
                _ => None,
            })
            .collect();
        let lines: Vec<_> =
            text.split(|&byte| byte == b'\n').take(text.iter().filter(|&&b| b == b'\n').count()).collect();
        let skipped = lines.len().saturating_sub(values.len());
        if entry.start >= low && lines.len() != values.len() {
            report.find(What::Altered, path, format!("{} lines, the bus has {} records", lines.len(), values.len()));
        }
        for ((offset, value), line) in values.iter().zip(&lines[skipped..]) {
            report.compared += 1;
            if value != line {
                report.find(What::Altered, path, format!("the line of offset {offset} is not the record on the bus"));
                break;
            }
        }
        Ok(())
    }

    /// Files among the data that no entry names.
    async fn strangers(&self, at: &StorePath, known: &BTreeSet<StorePath>, report: &mut Report) -> Result<()> {
        let mut folders = vec![at.clone()];
        while let Some(folder) = folders.pop() {
            for entry in self.store.list(&folder).await? {
                if entry.name.starts_with(['_', '.']) {
                    continue;
                }
                let path = folder.join(&entry.name);
                if entry.folder {
                    folders.push(path);
                } else if !known.contains(&path) {
                    let detail = "no entry of the chain names this file: it doubles a segment, or is not the archive's";
                    report.find(What::Unknown, path, detail);
                }
            }
        }
        Ok(())
    }
}
