//! Proves an archive: the chain is whole, each segment lies where its entry says, nothing else
//! lies there; *deep*: each file's bytes are what the entry promised, and equal what the bus still
//! holds.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Codec,
    entry::{Entry, Tally, Times},
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
    /// The bus, for comparing what it still holds, and the group whose offsets the archiver commits.
    pub bus: Option<(&'a dyn Bus, TopicInfo, String)>,
}

impl Verify<'_> {
    /// Looks at everything; `progress` is told of each segment done and how many there are.
    ///
    /// # Errors
    /// Those of store and bus. What is wrong with the archive is no error but a finding.
    pub async fn run(&self, mut progress: impl FnMut(u64, u64)) -> Result<Report> {
        let mut report = Report::default();
        // Before the chains: an archiver at work adds a file only when its entry stands.
        let files = self.files().await?;
        let mut known = BTreeSet::new();
        let mut todo: Vec<(String, String, Entry, bool)> = Vec::new();
        let root = self.base.join("_chain").join(self.topic);
        for identity in self.folders(&root).await? {
            for partition in self.folders(&root.join(&identity)).await? {
                let chain = Chain::new(root.join(&identity).join(&partition));
                let entries = self.chain(&chain, &mut report).await?;
                let num_entries = entries.len();
                report.ends.insert(format!("{identity}/{partition}"), entries.last().map_or(0, |entry| entry.next));
                let placed = |(at, entry)| (identity.clone(), partition.clone(), entry, at + 1 == num_entries);
                todo.extend(entries.into_iter().enumerate().map(placed));
            }
        }
        self.ends(&mut report).await?;
        let total = todo.len() as u64;
        for (done, (identity, partition, entry, is_last)) in todo.into_iter().enumerate() {
            report.segments += 1;
            report.lines += entry.count;
            report.bytes += entry.bytes;
            for hole in entry.holes.iter().filter(|hole| hole.why == Why::Retention) {
                let place = format!("{}-{partition}@[{}, {})", self.topic, hole.from, hole.to);
                report.find(What::Lost, place, "the bus had deleted these records before they were archived");
            }
            if let Some(target) = &entry.target {
                let path = self.base.join(target);
                match self.place(&entry, &path, is_last).await? {
                    None => {
                        let detail = format!("entry {} promises {} lines there", entry.start, entry.count);
                        report.find(What::Missing, &path, detail);
                    }
                    Some((_, len)) if entry.codec == Codec::Plain && len != entry.bytes => {
                        report.find(What::Altered, &path, format!("{len} bytes, the entry says {}", entry.bytes));
                    }
                    Some((at, _)) if self.deep => self.deep(&identity, &partition, &entry, &at, &mut report).await?,
                    Some(_) => {}
                }
                known.insert(path);
            }
            progress(done as u64 + 1, total);
        }
        for path in files.into_iter().filter(|path| !known.contains(path)) {
            let detail = "no entry of the chain names this file: it doubles a segment, or is not the archive's";
            report.find(What::Unknown, path, detail);
        }
        Ok(report)
    }

    /// Where the entry's file lies, and its length. Only the last entry's may still be staged: its
    /// rename is the archiver's next step.
    async fn place(&self, entry: &Entry, target: &StorePath, is_last: bool) -> Result<Option<(StorePath, u64)>> {
        let staged = entry.staging.as_ref().filter(|_| is_last).map(|staging| self.base.join(staging));
        // The target once more: the rename may come between two looks.
        for path in [Some(target), staged.as_ref(), Some(target)].into_iter().flatten() {
            if let Some(file) = self.store.stat(path).await? {
                return Ok(Some((path.clone(), file.len)));
            }
        }
        Ok(None)
    }

    /// Where each chain ends, held against the bus: nothing between them may be gone, and neither may
    /// have been put back to an earlier state.
    async fn ends(&self, report: &mut Report) -> Result<()> {
        let Some((bus, topic, group)) = &self.bus else { return Ok(()) };
        for partition in 0..topic.num_partitions {
            let key = format!("{}/{partition}", topic.id);
            let known = report.ends.get(&key).copied();
            let end = known.unwrap_or(0);
            let place = format!("{}-{partition}", self.topic);
            let reached = bus.committed_offset(group, topic, partition).await?.unwrap_or(0);
            // After the chain was read: the archiver goes on meanwhile.
            let ends = bus.watermarks(topic, partition).await?;
            // A chain that has begun and has no entry yet says nothing.
            if known == Some(0) || (end < ends.high && self.has_entry_at(&key, end).await?) {
                continue;
            }
            if end > ends.high {
                let detail = format!("the archive ends at {end}, the bus at {}: it was put back", ends.high);
                report.find(What::Broken, place, detail);
            } else if reached > end {
                let detail = format!(
                    "the archive ends at {end}, its archiver had reached {reached}: it was put back, or its path was another"
                );
                report.find(What::Broken, place, detail);
            } else if known.is_some() && end < ends.low {
                let place = format!("{place}@[{end}, {})", ends.low);
                report.find(What::Lost, place, "neither archived nor on the bus any more");
            }
        }
        Ok(())
    }

    /// Whether the chain has gone on from there since it was read.
    async fn has_entry_at(&self, lane: &str, end: Offset) -> Result<bool> {
        let folder = self.base.join("_chain").join(self.topic).join(lane);
        Ok(Chain::new(folder).starts(self.store).await?.contains(&end))
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
            let holes: Offset = entry.holes.iter().map(|hole| hole.to.saturating_sub(hole.from)).sum();
            let has_file = entry.target.is_some() == (entry.count > 0);
            if entry.count + holes != entry.next - entry.start || !has_file {
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
        let raw = match (self.store.read(path).await?, &entry.target) {
            (Some(raw), _) => raw,
            // It was staged when its place was looked for, and has its final name by now.
            (None, Some(target)) => self.store.read(&self.base.join(target)).await?.unwrap_or_default(),
            (None, None) => bytes::Bytes::new(),
        };
        let text = match entry.codec.unpack(raw) {
            Ok(text) => text,
            Err(error) => {
                report.find(What::Altered, path, format!("cannot be unpacked: {error}"));
                return Ok(());
            }
        };
        let mut tally = Tally::default();
        tally.add(&text);
        if let Some(mismatch) = entry.mismatch(&tally) {
            report.find(What::Altered, path, mismatch);
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
        let (Some((bus, topic, _)), Ok(partition)) = (&self.bus, partition.parse::<Partition>()) else { return Ok(()) };
        if topic.id.to_string() != identity || partition >= topic.num_partitions {
            return Ok(());
        }
        let low = bus.watermarks(topic, partition).await?.low;
        if low >= entry.next {
            return Ok(());
        }
        let records = match read_range(*bus, topic, partition, entry.start.max(low), entry.next).await {
            Ok(records) => records,
            // The bus is damaged, which says nothing of the archive; the rest is to be known all the same.
            Err(fault) if fault.kind == Kind::Lost => {
                report.find(What::Altered, bus.describe(), fault.message);
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
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

    /// All files among the data.
    async fn files(&self) -> Result<Vec<StorePath>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.base.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in self.store.list(&folder).await? {
                if !entry.name.starts_with(['_', '.']) {
                    let path = folder.join(&entry.name);
                    if entry.folder { folders.push(path) } else { files.push(path) }
                }
            }
        }
        Ok(files)
    }
}
