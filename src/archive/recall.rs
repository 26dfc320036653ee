//! An archive read back: its segments as the batches that the bus once gave.
//!
//! Offsets come from an entry's start and holes, bus times from its sidecar. A null value was a hole
//! of the archive and is a record again. Every other hole is a batch of its own, so that whoever reads
//! can tell what never was data from what is missing. A segment whose bytes are gone or altered is
//! reported once and becomes a hole: what the archive does not have it does not make up. So a segment is
//! read twice: to its end to prove it, and then again, piece by piece, as its records are asked for.

use bytes::{Bytes, BytesMut};

use super::{
    Settings,
    entry::{Entry, Times},
    naming::{Layout, lane_name},
    pieces::Pieces,
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
        // Of a fault, and when this is dropped while it waits, a segment half walked does not remain.
        let walked = self.segment.take().filter(|segment| self.position < segment.entry.next);
        let mut segment = match walked {
            Some(segment) => segment,
            None => match self.entry().await? {
                Some(entry) => self.load(entry).await?,
                None => return Ok(None),
            },
        };
        let batch = match segment.batch(self.position).await {
            Err(fault) if fault.kind == Kind::Lost => {
                segment = self.hole(segment.entry, &fault);
                segment.batch(self.position).await?
            }
            batch => batch?,
        };
        self.position = batch.to;
        self.segment = Some(segment);
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

    async fn load(&self, entry: Entry) -> Result<Segment> {
        match self.prove(&entry).await {
            Ok((pieces, times)) => Ok(Segment { pieces, times, ..Segment::without_lines(entry) }),
            Err(fault) if fault.kind == Kind::Lost => Ok(self.hole(entry, &fault)),
            Err(fault) => Err(fault),
        }
    }

    async fn prove(&self, entry: &Entry) -> Result<(Option<Pieces>, Vec<Millis>)> {
        let base = &self.layout.base;
        if let Some(whole) = Pieces::of(&self.store, base, entry)? {
            whole.check(entry).await?;
        }
        Ok((Pieces::of(&self.store, base, entry)?, self.times(entry).await?))
    }

    /// A segment of which nothing can be read.
    fn hole(&self, mut entry: Entry, fault: &Fault) -> Segment {
        rare("archive.not_recalled");
        let (start, next) = (entry.start, entry.next);
        tracing::error!(lane = self.name, start, next, error = %fault, "a segment of the archive cannot be read");
        entry.holes = vec![Hole { from: start, to: next, why: Why::Retention }];
        Segment::without_lines(entry)
    }

    async fn times(&self, entry: &Entry) -> Result<Vec<Millis>> {
        let Some(name) = &entry.times else { return Ok(Vec::new()) };
        let path = self.chain.folder().join(name);
        let gone = || Fault::data("is not there, and holds the bus times of a segment").kind(Kind::Lost).at(&path);
        let sidecar = self.store.read(&path).await?.ok_or_else(gone)?;
        Times::decode(&sidecar, entry.count).map_err(|fault| fault.at(&path))
    }
}

/// A segment, and how far it has been walked.
struct Segment {
    entry: Entry,
    times: Vec<Millis>,
    pieces: Option<Pieces>,
    /// Lines that were read and not walked; within the last piece, so many bytes hold no newline.
    lines: BytesMut,
    searched: usize,
    walked: Walked,
}

/// A place in a segment.
#[derive(Clone, Copy, Debug)]
struct Walked {
    offset: Offset,
    /// Lines before it.
    line: usize,
    /// Holes that end before it.
    hole: usize,
}

impl Segment {
    fn without_lines(entry: Entry) -> Self {
        let walked = Walked { offset: entry.start, line: 0, hole: 0 };
        Self { entry, times: Vec::new(), pieces: None, lines: BytesMut::new(), searched: 0, walked }
    }

    /// What comes from `from` on: records, up to a hole that says more than that nothing was there.
    async fn batch(&mut self, from: Offset) -> Result<Batch> {
        while self.walked.offset < from {
            self.step().await?;
        }
        let mut batch = Batch { from, records: Vec::new(), to: from, why: Why::Marker };
        while self.walked.offset < self.entry.next && batch.records.len() < BATCH {
            match self.hole() {
                Some(Hole { why: Why::Null, .. }) => batch.records.extend(self.step().await?),
                Some(hole) if hole.why != Why::Marker => {
                    if batch.to == from {
                        self.walked.offset = hole.to;
                        (batch.to, batch.why) = (hole.to, hole.why);
                    }
                    break;
                }
                Some(hole) => self.walked.offset = hole.to,
                None => batch.records.extend(self.step().await?),
            }
            batch.to = self.walked.offset;
        }
        Ok(batch)
    }

    /// The hole in which it stands.
    fn hole(&mut self) -> Option<Hole> {
        while let Some(&hole) = self.entry.holes.get(self.walked.hole) {
            if hole.to > self.walked.offset {
                return (hole.from <= self.walked.offset).then_some(hole);
            }
            self.walked.hole += 1;
        }
        None
    }

    /// One offset on; the record that stood there, unless none did.
    async fn step(&mut self) -> Result<Option<Record>> {
        let hole = self.hole();
        let Walked { offset, line, .. } = self.walked;
        let time = self.times.get(line).or(self.times.last()).copied().unwrap_or(0);
        let record = |value| Record { offset, time, key: None, value, headers: Vec::new() };
        let record = match hole {
            // A null's own time was not kept, and nobody asks for it.
            Some(Hole { why: Why::Null, .. }) => Some(record(None)),
            Some(_) => None,
            None => {
                self.walked.line += 1;
                Some(record(Some(self.line().await?)))
            }
        };
        self.walked.offset += 1;
        Ok(record)
    }

    /// The next line, without its newline.
    async fn line(&mut self) -> Result<Bytes> {
        loop {
            if let Some(at) = self.lines[self.searched..].iter().position(|&byte| byte == b'\n') {
                let mut line = self.lines.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                return Ok(line.freeze());
            }
            self.searched = self.lines.len();
            let more = match &mut self.pieces {
                Some(pieces) => pieces.next().await?,
                None => None,
            };
            let torn = || Fault::data("the file has become shorter since it was read first").kind(Kind::Lost);
            self.lines.extend_from_slice(&more.ok_or_else(torn)?);
        }
    }
}

#[cfg(test)]
pub mod tests;
