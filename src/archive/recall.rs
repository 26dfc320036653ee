//! An archive read back: its segments as the batches that the bus once gave.
//!
//! Offsets come from an entry's start and holes, bus times from its sidecar. A null value was a hole
//! of the archive and is a record again. Every other hole is a batch of its own, so that whoever reads
//! can tell what never was data from what is missing. A segment whose bytes are gone or altered is
//! reported once and becomes a hole: what the archive does not have it does not make up.

use bytes::Bytes;

use super::{
    Settings,
    entry::{Entry, Times},
    naming::{Layout, lane_name},
    segment::offload,
};
use crate::{
    chain::Chain,
    failpoint::rare,
    fault::{Fault, Kind, Result},
    model::{Batch, Hole, Millis, Offset, Partition, Record, TopicId, Why},
    store::SharedStore,
};

/// Records of a batch at most.
const BATCH: usize = 1_000;

/// One partition's archive, read from some offset on.
pub struct Recall {
    store: SharedStore,
    layout: Layout,
    chain: Chain,
    name: String,
    starts: Vec<Offset>,
    position: Offset,
    segment: Option<Segment>,
}

impl Recall {
    /// The archive of these settings, from `from` on. What is archived after this is not seen.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(
        store: SharedStore,
        settings: &Settings,
        topic: TopicId,
        partition: Partition,
        from: Offset,
    ) -> Result<Self> {
        let layout = Layout::new(settings, topic, partition)?;
        let chain = Chain::new(layout.chain());
        let starts = chain.starts(&*store).await?;
        let name = lane_name(&settings.topic, partition);
        Ok(Self { store, layout, chain, name, starts, position: from, segment: None })
    }

    /// The offset that it gives next.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Where the archive begins, if it has begun.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin(&self) -> Result<Option<Offset>> {
        let Some(&start) = self.starts.first() else { return Ok(None) };
        let first = self.chain.read::<Entry>(&*self.store, start).await?;
        Ok(first.map(|first| match first.holes.first() {
            Some(hole) if hole.why == Why::Start => hole.to,
            _ => first.start,
        }))
    }

    /// Goes on at the first segment whose last line has at least this bus time, or at the end.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seek(&mut self, time: Millis) -> Result<()> {
        // Bus times do not go back.
        let (mut low, mut high) = (0, self.starts.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.last_time(self.starts[middle]).await? {
                Some(last) if last < time => low = middle + 1,
                _ => high = middle,
            }
        }
        let sought = self.starts.get(low.min(self.starts.len().saturating_sub(1)));
        self.position = self.position.max(sought.copied().unwrap_or(0));
        self.segment = None;
        Ok(())
    }

    /// The next batch, of at most a thousand records; `None` at the archive's end.
    ///
    /// # Errors
    /// Those of the store, and then nothing has moved.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        if self.segment.as_ref().is_none_or(|segment| self.position >= segment.next) {
            self.segment = None;
            let Some(entry) = self.entry().await? else { return Ok(None) };
            self.segment = Some(self.load(&entry).await?);
        }
        let Some(segment) = &mut self.segment else { return Ok(None) };
        let batch = segment.batch(self.position);
        self.position = batch.to;
        Ok(Some(batch))
    }

    /// The entry that covers the position.
    async fn entry(&self) -> Result<Option<Entry>> {
        let after = self.starts.partition_point(|&start| start <= self.position);
        let Some(&start) = after.checked_sub(1).and_then(|at| self.starts.get(at)) else { return Ok(None) };
        let entry: Option<Entry> = self.chain.read(&*self.store, start).await?;
        Ok(entry.filter(|entry| entry.next > self.position))
    }

    /// The bus time of a segment's last line; that of the ones after it where it has none.
    async fn last_time(&self, start: Offset) -> Result<Option<Millis>> {
        let from = self.starts.partition_point(|&other| other < start);
        for &start in &self.starts[from..] {
            let Some(entry) = self.chain.read::<Entry>(&*self.store, start).await? else { return Ok(None) };
            if entry.count > 0 {
                return match self.times(&entry).await {
                    // Without it nothing is known: it is to be read, and then it will be said.
                    Err(fault) if fault.kind == Kind::Lost => Ok(None),
                    times => times.map(|times| times.last().copied()),
                };
            }
        }
        Ok(None)
    }

    async fn load(&self, entry: &Entry) -> Result<Segment> {
        match self.read(entry).await {
            Ok(segment) => Ok(segment),
            Err(fault) if fault.kind == Kind::Lost => {
                rare("archive.not_recalled");
                let (start, next) = (entry.start, entry.next);
                tracing::error!(lane = self.name, start, next, error = %fault, "a segment of the archive cannot be read");
                let hole = Hole { from: start, to: next, why: Why::Retention };
                Ok(Segment::without_lines(entry, vec![hole]))
            }
            Err(fault) => Err(fault),
        }
    }

    async fn read(&self, entry: &Entry) -> Result<Segment> {
        let Some(target) = &entry.target else {
            return Ok(Segment::without_lines(entry, entry.holes.clone()));
        };
        let path = self.layout.base.join(target);
        let lost = |text: String| Fault::data(text).kind(Kind::Lost).at(&path);
        let mut raw = None;
        // The last segment may be on its way to its place just now.
        for path in [Some(target), entry.staging.as_ref(), Some(target)].into_iter().flatten() {
            raw = self.store.read(&self.layout.base.join(path)).await?;
            if raw.is_some() {
                break;
            }
        }
        let raw = raw.ok_or_else(|| lost(format!("is not there, and {} lines should be", entry.count)))?;
        let promised = entry.clone();
        let unpacked = offload(move || match promised.codec.unpack(&raw) {
            // Most of an archive is read as it lies, and in one piece in memory.
            Ok(None) => promised.mismatch(&raw).map_or(Ok(raw), Err),
            Ok(Some(lines)) => promised.mismatch(&lines).map_or(Ok(lines.into()), Err),
            Err(error) => Err(error.to_string()),
        });
        let lines: Bytes = unpacked.await?.map_err(lost)?;
        let times = self.times(entry).await?;
        Ok(Segment { lines, times, ..Segment::without_lines(entry, entry.holes.clone()) })
    }

    async fn times(&self, entry: &Entry) -> Result<Vec<Millis>> {
        let Some(name) = &entry.times else { return Ok(Vec::new()) };
        let path = self.chain.folder().join(name);
        let gone = || Fault::data("is not there, and holds the bus times of a segment").kind(Kind::Lost).at(&path);
        let sidecar = self.store.read(&path).await?.ok_or_else(gone)?;
        Times::decode(&sidecar, entry.count).map_err(|fault| fault.at(&path))
    }
}

/// A segment in memory, and how far it has been walked.
struct Segment {
    next: Offset,
    lines: Bytes,
    times: Vec<Millis>,
    holes: Vec<Hole>,
    walked: Walked,
}

/// A place in a segment.
#[derive(Clone, Copy, Debug)]
struct Walked {
    offset: Offset,
    /// Lines before it.
    line: usize,
    /// Bytes before it.
    byte: usize,
    /// Holes that end before it.
    hole: usize,
}

impl Segment {
    fn without_lines(entry: &Entry, holes: Vec<Hole>) -> Self {
        let walked = Walked { offset: entry.start, line: 0, byte: 0, hole: 0 };
        Self { next: entry.next, lines: Bytes::new(), times: Vec::new(), holes, walked }
    }

    /// What comes from `from` on: records, up to a hole that says more than that nothing was there.
    fn batch(&mut self, from: Offset) -> Batch {
        while self.walked.offset < from {
            self.step();
        }
        let mut batch = Batch { from, records: Vec::new(), to: from, why: Why::Marker };
        while self.walked.offset < self.next && batch.records.len() < BATCH {
            match self.hole() {
                Some(Hole { why: Why::Null, .. }) => batch.records.extend(self.step()),
                Some(hole) if hole.why != Why::Marker => {
                    if batch.to == from {
                        self.walked.offset = hole.to;
                        (batch.to, batch.why) = (hole.to, hole.why);
                    }
                    break;
                }
                Some(hole) => self.walked.offset = hole.to,
                None => batch.records.extend(self.step()),
            }
            batch.to = self.walked.offset;
        }
        batch
    }

    /// The hole in which it stands.
    fn hole(&mut self) -> Option<Hole> {
        while let Some(&hole) = self.holes.get(self.walked.hole) {
            if hole.to > self.walked.offset {
                return (hole.from <= self.walked.offset).then_some(hole);
            }
            self.walked.hole += 1;
        }
        None
    }

    /// One offset on; the record that stood there, unless none did.
    fn step(&mut self) -> Option<Record> {
        let hole = self.hole();
        let Walked { offset, line, byte, .. } = self.walked;
        self.walked.offset += 1;
        let time = |line: usize| self.times.get(line).or(self.times.last()).copied().unwrap_or(0);
        if let Some(hole) = hole {
            // A null's own time was not kept, and nobody asks for it.
            let record = Record { offset, time: time(line), key: None, value: None, headers: Vec::new() };
            return (hole.why == Why::Null).then_some(record);
        }
        let end = self.lines[byte..].iter().position(|&byte| byte == b'\n').map_or(self.lines.len(), |at| byte + at);
        let value = Some(self.lines.slice(byte..end));
        let record = Record { offset, time: time(line), key: None, value, headers: Vec::new() };
        (self.walked.line, self.walked.byte) = (line + 1, (end + 1).min(self.lines.len()));
        Some(record)
    }
}

#[cfg(test)]
pub mod tests;
