//! What the writer does between commits: retention, compaction, and giving disk space back.
//!
//! All of it in steps that are short enough for sends to wait behind one. A step that left
//! something to do is followed by the next one as soon as the queue has been looked at.
//!
//! - *Retention* removes whole blocks, the oldest first, and moves the low watermark with them in
//!   the same transaction. By size the newest block stays.
//! - *Compaction* replaces runs of blocks by one block each that covers the same offsets: records
//!   go, offsets stay. A partition is compacted when it has taken in as many records as the last
//!   compaction had left (at least 1,000), so that its cost per record written is constant. Nulls
//!   stay for a day for readers that are behind, then they go too.
//! - *Space*: pages that deleted blocks leave are used again. What is more than a quarter of the
//!   file (and than 64 MiB) is given back to the disk.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use rusqlite::Connection;

use super::{
    block::{self, Encoder, Piece, Place},
    database::Trouble,
    rows::{BlockRow, Part, Topic},
    writer::Writer,
};
use crate::{
    bus::Cleanup,
    fault::{Fault, Kind, Result},
    model::{Millis, Offset, Record, TopicName},
};

/// Upkeep runs this often, in milliseconds of the bus's clock and, when nothing is sent, of real
/// time.
const EVERY_MS: i64 = 10_000;

/// The most blocks that one step deletes: at most 64 MiB or so.
const STEP_BLOCKS: u32 = 64;

/// The most pages that one step gives back: 16 MiB.
const STEP_PAGES: i64 = 2_048;

/// How long a null survives compaction, in milliseconds.
const NULLS_STAY_MS: i64 = 24 * 3_600_000;

/// A partition with fewer new records than this is not compacted.
const MIN_FRESH: u64 = 1_000;

/// A WAL longer than this is cut back, even if readers have to wait for it a moment.
const WAL_BYTES: u64 = 256 << 20;

/// A topic that nobody has declared since the bus was opened forgets nothing before this: who declares it may say that
/// it keeps records for longer now.
const GRACE_MS: i64 = 3_600_000;

/// When upkeep is due.
#[derive(Debug)]
pub(super) struct Upkeep {
    opened: Option<Millis>,
    declared: HashSet<TopicName>,
    last: Option<Millis>,
    more: bool,
    /// Free pages that are kept in any case.
    pub(super) spare_pages: i64,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { opened: None, declared: HashSet::new(), last: None, more: false, spare_pages: 8_192 }
    }
}

impl Upkeep {
    /// How long the writer may wait for work.
    pub(super) fn wait(&self) -> Duration {
        if self.more { Duration::ZERO } else { Duration::from_millis(EVERY_MS.unsigned_abs()) }
    }

    /// There is something to do now.
    pub(super) fn soon(&mut self) {
        self.more = true;
    }

    /// Whether to do something now. A clock that was set back is no reason to wait.
    fn is_due(&mut self, now: Millis) -> bool {
        self.opened.get_or_insert(now);
        self.more || self.last.is_none_or(|last| now < last || now - last >= EVERY_MS)
    }

    /// Somebody has said how long this topic keeps records.
    pub(super) fn declared(&mut self, topic: &TopicName) {
        self.declared.insert(topic.clone());
    }

    fn may_forget(&self, topic: &TopicName, now: Millis) -> bool {
        let is_late = self.opened.is_some_and(|opened| now - opened >= GRACE_MS);
        is_late || self.declared.contains(topic)
    }
}

impl Writer {
    /// One step of everything, if it is due. A fault is said here and nowhere else: nobody waits
    /// for upkeep, and it comes again.
    pub(super) fn upkeep(&mut self) {
        let now = self.clock.now();
        if !self.upkeep.is_due(now) {
            return;
        }
        self.upkeep.last = Some(now);
        self.upkeep.more = self.upkeep_step(now);
    }

    /// Every kind of work by itself: what one of them meets must not stop the others. Says whether there
    /// is more.
    fn upkeep_step(&mut self, now: Millis) -> bool {
        let (mut more, met) = self.expire(now);
        let others = [self.sweep(), self.compact(now, false).map(|()| false), self.give_back()];
        for done in others.into_iter().chain(met.map(Err)) {
            match done {
                Ok(this) => more |= this,
                Err(fault) if fault.kind == Kind::Lost => {
                    tracing::error!(%fault, "upkeep of the bus met damage: the disk may fill");
                }
                Err(fault) => tracing::warn!(%fault, "upkeep of the bus failed and will be tried again"),
            }
        }
        if fs::metadata(self.file.with_extension("sqlite-wal")).is_ok_and(|wal| wal.len() > WAL_BYTES) {
            checkpoint(&self.conn);
        }
        more
    }

    /// Everything that retention has to do, to the end.
    pub(super) fn retain_all(&mut self) -> Result<()> {
        let now = self.clock.now();
        loop {
            let (more, met) = self.expire(now);
            if let Some(fault) = met {
                return Err(fault);
            }
            if !more && !self.sweep()? && !self.give_back()? {
                return Ok(());
            }
        }
    }

    /// Compacts every compacted topic, whether it is worth it or not.
    pub(super) fn compact_all(&mut self) -> Result<()> {
        self.compact(self.clock.now(), true)
    }

    /// Deletes some of what deleted topics left; says whether there is more.
    fn sweep(&mut self) -> Result<bool> {
        const SOME: &str = "DELETE FROM blocks WHERE row IN
            (SELECT row FROM blocks WHERE part = (SELECT min(part) FROM dropped) LIMIT ?1)";
        self.transaction(|tx| {
            if tx.prepare_cached(SOME)?.execute([STEP_BLOCKS])? > 0 {
                return Ok(true);
            }
            Ok(tx.execute("DELETE FROM dropped WHERE part = (SELECT min(part) FROM dropped)", [])? > 0)
        })
    }

    /// Deletes some of what is too old or too much; says whether there is more, and the last fault it
    /// met. Each partition by itself: a damaged one must not let the others grow.
    fn expire(&mut self, now: Millis) -> (bool, Option<Fault>) {
        let (mut more, mut met) = (false, None);
        let topics = self.transaction(Topic::all).unwrap_or_else(|fault| {
            met = Some(fault);
            Vec::new()
        });
        for topic in topics {
            let Cleanup::Delete { retention_ms, retention_bytes } = topic.cleanup else { continue };
            let is_endless = retention_ms.is_none() && retention_bytes.is_none();
            if is_endless || !self.upkeep.may_forget(&topic.info.name, now) {
                continue;
            }
            let before = retention_ms.map(|ms| now.saturating_sub(ms));
            for partition in 0..topic.info.num_partitions {
                let name = &topic.info.name;
                let expired = self.transaction(|tx| {
                    let mut part = Part::find(tx, &topic, partition)?;
                    let low = part.low;
                    let more = expire_blocks(tx, &mut part, before, retention_bytes)?;
                    if part.low > low {
                        part.save(tx)?;
                        tracing::debug!(topic = %name, partition, low = part.low, "retention");
                    }
                    Ok(more)
                });
                match expired {
                    Ok(this) => more |= this,
                    Err(fault) => met = Some(fault.at(format!("retention of {name}-{partition}"))),
                }
            }
        }
        (more, met)
    }

    fn compact(&mut self, now: Millis, even_if_not_worth_it: bool) -> Result<()> {
        let topics = self.transaction(Topic::all)?;
        for topic in topics.iter().filter(|topic| topic.cleanup == Cleanup::Compact) {
            for partition in 0..topic.info.num_partitions {
                let part = self.transaction(|tx| Part::find(tx, topic, partition))?;
                if even_if_not_worth_it || part.fresh >= part.kept.max(MIN_FRESH) {
                    self.compact_partition(part, now)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody else writes meanwhile, so the last offsets of the first pass hold for the second.
    fn compact_partition(&mut self, mut part: Part, now: Millis) -> Result<()> {
        let file = self.file.clone();
        let mut last: HashMap<Bytes, Offset> = HashMap::new();
        let blocks = part.blocks(&self.conn, u32::MAX).map_err(|trouble| trouble.at(&file))?;
        for block in &blocks {
            for record in part.read_block(&self.conn, block).map_err(|trouble| trouble.at(&file))? {
                if let Some(key) = record.key {
                    // A copy: the slice would hold its whole block in memory.
                    last.insert(Bytes::copy_from_slice(&key), record.offset);
                }
            }
        }
        let stays = |record: &Record| {
            let is_last = record.key.as_ref().is_none_or(|key| last.get(key) == Some(&record.offset));
            is_last && (record.value.is_some() || record.time > now.saturating_sub(NULLS_STAY_MS))
        };
        let mut kept = 0;
        let mut run = Run::default();
        for block in &blocks {
            let mut records = part.read_block(&self.conn, block).map_err(|trouble| trouble.at(&file))?;
            records.retain(stays);
            kept += records.len() as u64;
            if !run.has_room_for(&records) {
                self.transaction(|tx| std::mem::take(&mut run).replace(tx, &mut part))?;
            }
            run.add(*block, records);
        }
        self.transaction(|tx| {
            run.replace(tx, &mut part)?;
            part.fresh = 0;
            part.kept = kept;
            part.save(tx)
        })?;
        tracing::debug!(part = part.part, kept, "compacted");
        Ok(())
    }

    /// Gives some free pages back to the disk; says whether there are more to give.
    fn give_back(&mut self) -> Result<bool> {
        let spare_pages = self.upkeep.spare_pages;
        let give = |conn: &Connection| -> rusqlite::Result<bool> {
            let free: i64 = conn.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
            let all: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let over = free - spare_pages.max(all / 4);
            if over <= 0 {
                return Ok(false);
            }
            // Each step of this statement frees one page: it must be taken to its end.
            let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({})", over.min(STEP_PAGES)))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            // The file is shorter now, and so is the quarter of it that may be free.
            Ok(true)
        };
        give(&self.conn).map_err(|error| Trouble::from(error).at(&self.file))
    }
}

/// Moves what the WAL holds into the database and empties it. Nothing depends on it but the WAL's
/// length, so a reader that is in the way, or a full disk, only puts it off.
pub(super) fn checkpoint(conn: &Connection) {
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)) {
        tracing::warn!(file = conn.path().map(Path::new).map(|p| p.display().to_string()), %error, "no checkpoint now");
    }
}

fn expire_blocks(tx: &Connection, part: &mut Part, oldest: Option<Millis>, most: Option<u64>) -> Result<bool, Trouble> {
    let blocks = part.blocks(tx, STEP_BLOCKS)?;
    for block in &blocks {
        let too_old = oldest.is_some_and(|oldest| block.place.last_time < oldest);
        let too_much = most.is_some_and(|most| part.bytes > most) && block.place.next < part.next;
        if !too_old && !too_much {
            return Ok(false);
        }
        part.remove_block(tx, block)?;
        part.low = block.place.next;
    }
    Ok(blocks.len() == STEP_BLOCKS as usize)
}

/// Neighbouring blocks on their way to becoming one.
#[derive(Default)]
struct Run {
    blocks: Vec<BlockRow>,
    records: Vec<Record>,
    bytes: usize,
}

impl Run {
    fn has_room_for(&self, records: &[Record]) -> bool {
        let bytes = records.iter().map(Record::weight).sum::<usize>();
        self.records.len() + records.len() <= block::MAX_RECORDS && self.bytes + bytes <= block::FULL_BYTES
    }

    fn add(&mut self, block: BlockRow, records: Vec<Record>) {
        self.blocks.push(block);
        self.bytes += records.iter().map(Record::weight).sum::<usize>();
        self.records.extend(records);
    }

    /// Puts one block where these were. A single block from which nothing went stays.
    fn replace(self, tx: &Connection, part: &mut Part) -> Result<(), Trouble> {
        let (Some(first), Some(last)) = (self.blocks.first(), self.blocks.last()) else { return Ok(()) };
        let num_records = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        if self.blocks.len() == 1 && first.place.num_records == num_records {
            return Ok(());
        }
        let place = Place { next: last.place.next, last_time: last.place.last_time, num_records, ..first.place };
        let mut encoder = Encoder::default();
        for record in &self.records {
            encoder.push(Piece {
                offset: record.offset - place.base,
                time: record.time.abs_diff(place.first_time),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            });
        }
        for block in &self.blocks {
            part.remove_block(tx, block)?;
        }
        part.add_block(tx, &place, &encoder.seal(&place))?;
        part.save(tx)
    }
}
