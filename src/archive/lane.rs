//! One partition's way into the archive: what an archiver owns per partition.
//!
//! The steps of [`Lane::roll`] are the protocol: close the staging file, send dead letters, put the
//! sidecar, put the entry, adopt what stands there, rename, commit the group's offset. Each may
//! fail or stay unclear; then the lane is thrown away and opened anew, and [`Lane::open`] finds out
//! from the store what happened. Nothing is remembered that the store does not say.

use tokio::time::Instant;

use super::{
    Parts, ends,
    entry::{Entry, FORMAT, Identity, Times},
    naming::{Layout, lane_name, staging_start},
    segment::{Account, Framed, Open, Staging, frame},
};
use crate::{
    bus::{
        Producer, Start, TopicInfo,
        letters::{self, DeadLetter},
        read_range,
    },
    chain::{Chain, decide},
    failpoint::{cross, rare},
    fault::{Fault, Kind, Result, Retry},
    model::{Batch, Hole, Offset, Partition, Record, Why, fresh_uuid},
    store::{Renamed, StorePath},
    vitals::Moments,
};

/// How often a rename without a clear answer is repeated before the lane gives up.
const RENAMES: u32 = 14;

/// A segment that is in the archive now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its entry.
    pub entry: Entry,
    /// Whether this lane wrote it; else another one was first.
    pub mine: bool,
    /// The bus times of the lines that this lane wrote.
    pub moments: Moments,
}

/// See the module's text.
pub struct Lane {
    parts: Parts,
    topic: TopicInfo,
    partition: Partition,

    layout: Layout,
    chain: Chain,
    letters: Option<Box<dyn Producer>>,
    unsent: Vec<DeadLetter>,
    open: Open,
    /// The open segment's staging file, until an entry may name it.
    begun: Option<StorePath>,
    position: Offset,
}

impl Lane {
    /// Reads the chain's end, finishes the rename of its last entry, and stands there.
    ///
    /// # Errors
    /// [`Kind::Recreated`] when the archive holds chains of this topic's name but none of its
    /// identity; `User` when it belongs to another pipeline; [`Kind::Lost`] when the last segment
    /// is neither in the archive nor on the bus any more; those of bus and store.
    pub async fn open(parts: Parts, topic: TopicInfo, partition: Partition) -> Result<Self> {
        let layout = Layout::new(&parts.settings, topic.id, partition)?;
        let chain = Chain::new(layout.chain());
        let mut lane = Self {
            letters: None,
            unsent: Vec::new(),
            open: Open::at(0),
            begun: None,
            position: 0,
            parts,
            topic,
            partition,
            layout,
            chain,
        };
        lane.claim().await?;
        let last = lane.chain.last::<Entry>(&*lane.parts.store).await?;
        let next = match last {
            Some(last) => {
                // Once more, because it was only read: its author may have died before it was durable, and
                // then its file would be named by nothing after a power cut.
                lane.chain.put(&*lane.parts.store, &*lane.parts.pause, &last).await?;
                ends::same_bus(&lane.parts, &lane.topic, partition, &lane.chain, &last).await?;
                lane.finish(&last).await?;
                lane.reap(&last).await?;
                last.next
            }
            None => lane.begin().await?,
        };
        lane.open = Open::at(next);
        lane.position = next;
        Ok(lane)
    }

    /// Where it stands: the offset it wants next.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// What stands in the archive between an entry's start and where the lane was opened. What this actor wrote
    /// has its lines' times, as far as their sidecar can be read.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`] for an entry that cannot be read as one.
    pub async fn published_since(&self, start: Offset) -> Result<Vec<Published>> {
        let (mut next, mut published) = (start, Vec::new());
        while next < self.open.start {
            let Some(entry) = self.chain.read::<Entry>(&*self.parts.store, next).await? else { break };
            next = entry.next;
            let mine = entry.node == self.parts.node && entry.epoch == self.parts.epoch;
            let moments = if mine { self.moments(&entry).await? } else { Moments::default() };
            published.push(Published { entry, mine, moments });
        }
        Ok(published)
    }

    async fn moments(&self, entry: &Entry) -> Result<Moments> {
        let mut moments = Moments::default();
        let Some(name) = &entry.times else { return Ok(moments) };
        let times = self.parts.store.read(&self.chain.folder().join(name)).await?;
        let times = times.and_then(|bytes| Times::decode(&bytes, entry.count).ok());
        times.into_iter().flatten().for_each(|time| moments.push(time));
        Ok(moments)
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// When the open segment becomes as old as it may, if it holds anything.
    pub fn due(&self) -> Option<Instant> {
        self.open.since.map(|since| since + self.parts.settings.roll_age)
    }

    /// Takes a batch that begins where the lane stands (any other is a mistake of the caller), and
    /// publishes what is full. Where another writer was first the lane then stands elsewhere than
    /// at the batch's end ([`position`](Self::position)), and the reader has to be re-assigned.
    ///
    /// # Errors
    /// As [`roll`](Self::roll).
    pub async fn take(&mut self, batch: &Batch, now: Instant) -> Result<Vec<Published>> {
        if batch.from != self.position {
            let text = format!("batch from {} at a lane that stands at {}", batch.from, self.position);
            return Err(Fault::internal(text).at(self.name()));
        }
        let mut published = Vec::new();
        let mut holes = batch.holes().into_iter().peekable();
        for record in &batch.records {
            while let Some(hole) = holes.next_if(|hole| hole.to <= record.offset) {
                self.hole(hole, now);
            }
            if self.is_above(record) {
                published.extend(self.roll().await?);
                if self.position != record.offset {
                    return Ok(published);
                }
            }
            self.record(record, now).await?;
            if self.open.account.bytes >= self.parts.settings.roll_bytes {
                published.extend(self.roll().await?);
                if self.position != record.offset + 1 {
                    return Ok(published);
                }
            }
        }
        holes.for_each(|hole| self.hole(hole, now));
        if let Some(staging) = &mut self.open.staging {
            staging.flush(false).await?;
        }
        Ok(published)
    }

    /// Publishes the open segment, if it covers anything.
    ///
    /// # Errors
    /// Those of bus and store. The lane is of no more use then: open it anew.
    pub async fn roll(&mut self) -> Result<Option<Published>> {
        let (start, next) = (self.open.start, self.position);
        if next == start {
            return Ok(None);
        }
        let mut open = std::mem::replace(&mut self.open, Open::at(next));
        let moments = std::mem::take(&mut open.account.moments);
        let entry = self.close(open, next).await?;
        // From here on an entry may name the file.
        self.begun = None;
        let (standing, mine) = self.chain.put(&*self.parts.store, &*self.parts.pause, &entry).await?;
        cross("archive.entry_put");
        self.parts.pause.stepped();
        if !mine {
            rare("archive.adopted");
        }
        self.finish(&standing).await?;
        cross("archive.renamed");
        self.reap(&standing).await?;
        self.open = Open::at(standing.next);
        self.position = standing.next;
        let group = super::group(&self.parts.actor.pipeline, &self.parts.actor.stage);
        // For lag tools only: nothing here depends on it.
        match self.parts.bus.commit_offset(&group, &self.topic, self.partition, standing.next).await {
            Err(fault) if fault.kind == Kind::Recreated => return Err(fault),
            Err(fault) => tracing::warn!(lane = self.name(), error = %fault, "the group's offset was not committed"),
            Ok(()) => {}
        }
        cross("archive.offset_committed");
        self.parts.pause.stepped();
        Ok(Some(Published { entry: standing, mine, moments }))
    }

    /// Ends a lane that has failed: a staging file that no entry can name any more goes, or each attempt
    /// on a full disk would leave one. What cannot be deleted now is left to a later lane.
    pub async fn abandon(self) {
        if let Some(path) = &self.begun {
            drop(self.open);
            if let Err(fault) = self.parts.store.delete(path).await {
                tracing::debug!(%path, error = %fault, "a staging file was left over");
            }
        }
    }

    fn name(&self) -> String {
        lane_name(&self.topic.name, self.partition)
    }

    fn path(&self, from_base: &str) -> StorePath {
        self.layout.base.join(from_base)
    }

    /// Whether the record's time bucket is above the open segment's: time that goes back does not
    /// roll, or a clock that jitters around a boundary would make a file a record.
    fn is_above(&self, record: &Record) -> bool {
        let first = self.open.staging.as_ref().map(|staging| staging.first_time);
        first.is_some_and(|first| self.layout.bucket(record.time) > self.layout.bucket(first))
    }

    fn hole(&mut self, hole: Hole, now: Instant) {
        self.open.since.get_or_insert(now);
        self.open.account.hole(hole);
        self.position = hole.to;
    }

    async fn record(&mut self, record: &Record, now: Instant) -> Result<()> {
        let here = |why| Hole { from: record.offset, to: record.offset + 1, why };
        match frame(record) {
            Framed::Null => self.hole(here(Why::Null), now),
            Framed::Unframable(reason) => {
                self.unsent.push(self.letter(record, reason));
                self.hole(here(Why::DeadLetter), now);
            }
            Framed::Line(value) => {
                self.open.since.get_or_insert(now);
                let staging = match &mut self.open.staging {
                    Some(staging) => staging,
                    none => {
                        let uuid = fresh_uuid();
                        let path = self.layout.base.join(&self.layout.staging_name(self.open.start, uuid));
                        let codec = self.parts.settings.codec;
                        self.begun = Some(path.clone());
                        none.insert(Staging::create(&*self.parts.store, &path, uuid, codec, record.time).await?)
                    }
                };
                self.open.account.line(value, record.time, staging.buffer());
                staging.flush(false).await?;
                self.position = record.offset + 1;
            }
        }
        Ok(())
    }

    fn letter(&self, record: &Record, reason: &str) -> DeadLetter {
        DeadLetter {
            reason: reason.to_owned(),
            detail: format!("{}@{}: a line of the archive may hold no newline", self.name(), record.offset),
            coordinate: letters::coordinate(&self.topic, format_args!("{}@{}", self.partition, record.offset)),
            payload: record.value.clone(),
            file: None,
            record: Some((record.time, record.key.clone())),
        }
    }

    /// Closes the staging file and makes durable all that the entry will refer to.
    async fn close(&mut self, open: Open, next: Offset) -> Result<Entry> {
        let Open { start, account, staging, .. } = open;
        cross("archive.staged");
        let mut names = None;
        if let Some(staging) = staging {
            let (uuid, first_time) = (staging.uuid, staging.first_time);
            staging.close().await?;
            let target = self.layout.target_name(first_time, start, next, uuid)?;
            names = Some((self.layout.staging_name(start, uuid), target, Layout::times_name(start, uuid)));
        }
        cross("archive.closed");
        self.parts.pause.stepped();
        self.send_letters().await?;
        cross("archive.letters_sent");
        if let Some((.., times)) = &names {
            let path = self.chain.folder().join(times);
            decide(&*self.parts.store, &*self.parts.pause, &path, account.times.encode().into()).await?;
        }
        cross("archive.times_put");
        self.parts.pause.stepped();
        let (staging, target, times) = names.map_or((None, None, None), |(s, f, t)| (Some(s), Some(f), Some(t)));
        let Account { count, bytes, crc32c, holes, .. } = account;
        Ok(Entry {
            format: FORMAT,
            start,
            next,
            count,
            bytes,
            crc32c,
            codec: self.parts.settings.codec,
            holes,
            staging,
            target,
            times,
            epoch: self.parts.epoch,
            node: self.parts.node.clone(),
            incarnation: self.parts.incarnation,
        })
    }

    async fn send_letters(&mut self) -> Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let producer = match &mut self.letters {
            Some(producer) => producer,
            none => {
                let id = format!("{}/letters/{}", self.parts.actor, self.partition);
                none.insert(self.parts.bus.producer(&id).await?)
            }
        };
        let letters = self.unsent.drain(..).map(|letter| letter.outgoing(&self.topic.name, &self.parts.actor));
        producer.send(letters.collect()).await.map(drop)
    }

    /// Puts `archive.json`, or proves that the one that stands there is this pipeline's.
    async fn claim(&self) -> Result<()> {
        let (store, path) = (&*self.parts.store, self.layout.identity());
        let mine = Identity {
            format: FORMAT,
            pipeline: self.parts.actor.pipeline.clone(),
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            framing: "line".to_owned(),
        };
        let bytes = match store.read(&path).await? {
            Some(bytes) => bytes,
            None => {
                self.refuse_recreated().await?;
                let text = serde_json::to_vec(&mine).map_err(|error| Fault::internal(error.to_string()))?;
                decide(store, &*self.parts.pause, &path, text.into()).await?.bytes
            }
        };
        let found: Identity = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::data(format!("is no archive identity: {error}")).kind(Kind::Lost).at(&path))?;
        if found != mine {
            let text = format!(
                "this archive belongs to pipeline {}, topic {} ({} framing, format {}): give the archiver another path",
                found.pipeline, found.topic, found.framing, found.format
            );
            return Err(Fault::user(text).at(&path));
        }
        Ok(())
    }

    /// A topic that was deleted and created anew has a new identity: going on in the old archive
    /// would join two histories.
    async fn refuse_recreated(&self) -> Result<()> {
        match self.replaced().await? {
            Some(other) if !self.parts.settings.follows_recreated => Err(Fault::user(format!(
                "topic {} is {} now, the archive was begun with {}: the topic was deleted and created anew; \
                 say recreated = \"new-chain\" to archive it beside the old one, or give the archiver another path",
                self.topic.name, self.topic.id, other
            ))
            .kind(Kind::Recreated)
            .at(self.layout.identities())),
            _ => Ok(()),
        }
    }

    /// An identity that the topic had before, if something of that is archived here.
    async fn replaced(&self) -> Result<Option<String>> {
        let all = self.parts.store.list(&self.layout.identities()).await?;
        let mut folders = all.into_iter().filter(|entry| entry.folder).map(|entry| entry.name);
        Ok(folders.find(|name| *name != self.topic.id.to_string()))
    }

    /// The beginning of an empty list: where the topic begins today is put as an entry without a
    /// line, so that a writer with an older view of it cannot begin elsewhere.
    async fn begin(&mut self) -> Result<Offset> {
        // What took the place of a topic that was archived here is archived from its first record on.
        let start = match self.replaced().await? {
            Some(_) => Start::Earliest,
            None => self.parts.settings.start.clone(),
        };
        let low = ends::begin(&self.parts, &self.topic, self.partition, &self.chain, &start).await?;
        if low == 0 {
            return Ok(0);
        }
        let mut open = Open::at(0);
        open.account.hole(Hole { from: 0, to: low, why: Why::Start });
        let entry = self.close(open, low).await?;
        let (standing, _) = self.chain.put(&*self.parts.store, &*self.parts.pause, &entry).await?;
        self.finish(&standing).await?;
        Ok(standing.next)
    }

    /// Brings the entry's file to its final name and proves it; whoever comes by may do it.
    async fn finish(&self, entry: &Entry) -> Result<()> {
        let (Some(staging), Some(target)) = (&entry.staging, &entry.target) else { return Ok(()) };
        let (from, to) = (self.path(staging), self.path(target));
        let store = &*self.parts.store;
        let mut attempt = 0;
        loop {
            let fault = match store.rename_if_absent(&from, &to).await {
                Ok(Renamed::Done) => return Ok(()),
                Ok(Renamed::TargetExists) => {
                    // A crash between link and unlink leaves both names of one file.
                    store.delete(&from).await?;
                    return Ok(());
                }
                Ok(Renamed::SourceMissing) => {
                    // Done by an earlier try or by somebody else, or else the bytes are gone.
                    return match store.stat(&to).await? {
                        Some(_) => Ok(()),
                        None => self.rewrite(entry, &to).await,
                    };
                }
                Err(fault) => fault,
            };
            attempt += 1;
            if attempt > RENAMES || fault.retry == Retry::Never {
                return Err(fault.unknown_effect().at(&to));
            }
            rare("archive.rename_again");
            self.parts.pause.pause(attempt).await;
        }
    }

    /// The entry stands, its file is nowhere: writes it again from the bus, within the entry's
    /// bounds, and only if the bytes are the same.
    async fn rewrite(&self, entry: &Entry, to: &StorePath) -> Result<()> {
        rare("archive.rewritten");
        tracing::error!(entry = entry.start, target = %to, "the segment's file is missing, writing it again from the bus");
        let lost = |text: String| Fault::data(text).kind(Kind::Lost).at(to);
        let (from, next) = (entry.start, entry.next);
        let records = read_range(&*self.parts.bus, &self.topic, self.partition, from, next).await?;
        let uuid = fresh_uuid();
        let path = self.path(&self.layout.staging_name(entry.start, uuid));
        let mut account = Account::default();
        let first_time = records.first().map_or(0, |record| record.time);
        let mut staging = Staging::create(&*self.parts.store, &path, uuid, entry.codec, first_time).await?;
        for record in &records {
            let dead = entry.holes.iter().any(|hole| (hole.from..hole.to).contains(&record.offset));
            if let (Framed::Line(value), false) = (frame(record), dead) {
                account.line(value, record.time, staging.buffer());
                staging.flush(false).await?;
            }
        }
        staging.close().await?;
        if (account.count, account.bytes, account.crc32c) != (entry.count, entry.bytes, entry.crc32c) {
            self.parts.store.delete(&path).await?;
            return Err(lost(format!(
                "segment [{from}, {next}) of {} is missing, and the bus holds {} of its {} lines: restore the file from a \
                 copy, or accept the loss",
                self.name(),
                account.count,
                entry.count
            )));
        }
        match self.parts.store.rename_if_absent(&path, to).await? {
            Renamed::Done => Ok(()),
            Renamed::TargetExists => self.parts.store.delete(&path).await.map(drop),
            Renamed::SourceMissing => Err(Fault::external("the new staging file vanished").unknown_effect().at(to)),
        }
    }

    /// Deletes staging files that can never be published: those that start below the last entry,
    /// and those at its start that it does not name.
    async fn reap(&self, last: &Entry) -> Result<()> {
        let folder = self.layout.staging();
        for file in self.parts.store.list(&folder).await? {
            let named = last.staging.as_deref().is_some_and(|staging| staging.ends_with(&file.name));
            if staging_start(&file.name).is_some_and(|start| start < last.start || (start == last.start && !named)) {
                self.parts.store.delete(&folder.join(&file.name)).await?;
            }
        }
        Ok(())
    }
}
