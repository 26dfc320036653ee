//! The rows for topics, partitions and blocks, read and written in one place.
//!
//! Next offset and low watermark are columns of the partition's own row and not worked out from
//! the blocks: a partition that retention has emptied must not begin again at 0. Blocks of a
//! partition tile `[low, next)` without a gap, after retention and compaction too; whoever reads
//! them demands it, so that a row which a damaged index cannot find is noticed.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{
    block::{self, Place},
    database::{DAMAGED, Trouble},
};
use crate::{
    bus::{Cleanup, TopicInfo, TopicSpec},
    fault::{Fault, Kind},
    model::{Millis, Offset, Partition, Record, TopicId, TopicName},
};

/// A topic's row.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) info: TopicInfo,
    pub(super) cleanup: Cleanup,
}

/// A partition's row.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its number in this database, never used again.
    pub(super) part: i64,
    pub(super) topic: TopicId,
    pub(super) partition: Partition,
    pub(super) low: Offset,
    pub(super) next: Offset,
    /// The time of its last record; `Millis::MIN` if it never had one.
    pub(super) time: Millis,
    /// The sum of its blocks' lengths.
    pub(super) bytes: u64,
    /// Records written since it was last compacted.
    pub(super) fresh: u64,
    /// Records that the last compaction kept.
    pub(super) kept: u64,
}

/// A block's row without the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockRow {
    pub(super) row: i64,
    pub(super) place: Place,
    pub(super) bytes: u64,
}

impl Topic {
    /// The topic of this name.
    pub(super) fn find(conn: &Connection, name: &TopicName) -> Result<Option<Self>, Trouble> {
        const SQL: &str = "SELECT id, num_partitions, compact, retention_ms, retention_bytes, checksum, name
            FROM topics WHERE name = ?1";
        let row = conn.prepare_cached(SQL)?.query_row([name.as_str()], Self::read).optional()?;
        row.map(|(topic, checksum)| topic.checked(conn, checksum)).transpose()
    }

    /// All topics.
    pub(super) fn all(conn: &Connection) -> Result<Vec<Self>, Trouble> {
        const SQL: &str =
            "SELECT id, num_partitions, compact, retention_ms, retention_bytes, checksum, name FROM topics";
        let mut statement = conn.prepare_cached(SQL)?;
        let rows = statement.query_map([], Self::read)?;
        rows.map(|row| row.map_err(Trouble::from).and_then(|(topic, checksum)| topic.checked(conn, checksum))).collect()
    }

    /// The topic that `info` means.
    ///
    /// # Errors
    /// [`Kind::Recreated`] when it is gone or another has its name.
    pub(super) fn identified(conn: &Connection, info: &TopicInfo) -> Result<Self, Trouble> {
        let found = Self::find(conn, &info.name)?;
        let is = match &found {
            Some(topic) if topic.info.id == info.id => return Ok(topic.clone()),
            Some(topic) => format!("topic {} of identity {}", info.name, topic.info.id),
            None => "no topic of this name".to_owned(),
        };
        Err(Fault::user(format!(
            "{}: topic {} of identity {} was deleted, now there is {is}",
            file(conn),
            info.name,
            info.id
        ))
        .kind(Kind::Recreated)
        .into())
    }

    /// Makes the topic with its partitions, all empty.
    pub(super) fn create(conn: &Connection, spec: &TopicSpec) -> Result<Self, Trouble> {
        let info =
            TopicInfo { name: spec.name.clone(), id: TopicId(Uuid::new_v4()), num_partitions: spec.num_partitions };
        let topic = Self { info, cleanup: spec.cleanup };
        let (compact, retention_ms, retention_bytes) = columns(&topic.cleanup);
        conn.execute(
            "INSERT INTO topics VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                topic.info.name.as_str(),
                topic.info.id.0.as_bytes(),
                topic.info.num_partitions,
                compact,
                retention_ms,
                retention_bytes,
                topic.checksum()
            ],
        )?;
        for partition in 0..topic.info.num_partitions {
            // The checksum is of the row's own number too, which is known only now.
            conn.execute(
                "INSERT INTO partitions (topic, partition, low, next, time, bytes, fresh, kept, checksum)
                 VALUES (?1, ?2, 0, 0, 0, 0, 0, 0, 0)",
                params![topic.info.name.as_str(), partition],
            )?;
            let part = conn.last_insert_rowid();
            let topic = topic.info.id;
            Part { part, topic, partition, low: 0, next: 0, time: Millis::MIN, bytes: 0, fresh: 0, kept: 0 }
                .save(conn)?;
        }
        Ok(topic)
    }

    /// Has it forget in another way from now on.
    pub(super) fn keep(self, conn: &Connection, cleanup: Cleanup) -> Result<Self, Trouble> {
        let topic = Self { cleanup, ..self };
        let (compact, retention_ms, retention_bytes) = columns(&cleanup);
        conn.execute(
            "UPDATE topics SET compact = ?2, retention_ms = ?3, retention_bytes = ?4, checksum = ?5 WHERE name = ?1",
            params![topic.info.name.as_str(), compact, retention_ms, retention_bytes, topic.checksum()],
        )?;
        Ok(topic)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<(Self, u32)> {
        let id = TopicId(Uuid::from_bytes(row.get(0)?));
        let info = TopicInfo { name: TopicName::new(row.get::<_, String>(6)?), id, num_partitions: row.get(1)? };
        let cleanup = if row.get(2)? {
            Cleanup::Compact
        } else {
            let bytes: Option<i64> = row.get(4)?;
            Cleanup::Delete { retention_ms: row.get(3)?, retention_bytes: bytes.map(i64::cast_unsigned) }
        };
        Ok((Self { info, cleanup }, row.get(5)?))
    }

    fn checksum(&self) -> u32 {
        let name = self.info.name.as_str();
        let (compact, retention_ms, retention_bytes) = columns(&self.cleanup);
        let numbers = [
            name.len().cast_signed() as i64,
            i64::from(self.info.num_partitions),
            i64::from(compact),
            retention_ms.unwrap_or(-1),
            retention_bytes.unwrap_or(-1),
        ];
        sum(crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), self.info.id.0.as_bytes()), &numbers)
    }

    fn checked(self, conn: &Connection, checksum: u32) -> Result<Self, Trouble> {
        if self.checksum() == checksum {
            return Ok(self);
        }
        Err(lost(conn, format!("the row of topic {} is damaged", self.info.name)))
    }
}

impl Part {
    /// The partition of this number.
    ///
    /// # Errors
    /// `User` if the topic has no such partition.
    pub(super) fn find(conn: &Connection, topic: &Topic, partition: Partition) -> Result<Self, Trouble> {
        const SQL: &str = "SELECT part, low, next, time, bytes, fresh, kept, checksum FROM partitions
            WHERE topic = ?1 AND partition = ?2";
        let info = &topic.info;
        if partition >= info.num_partitions {
            let message = format!("there is no partition {partition}: topic {} has {}", info.name, info.num_partitions);
            return Err(Fault::user(format!("{}: {message}", file(conn))).into());
        }
        let read = |row: &Row<'_>| {
            let number = |column| row.get(column).map(i64::cast_unsigned);
            let part = Self {
                part: row.get(0)?,
                topic: info.id,
                partition,
                low: number(1)?,
                next: number(2)?,
                time: row.get(3)?,
                bytes: number(4)?,
                fresh: number(5)?,
                kept: number(6)?,
            };
            Ok((part, row.get::<_, u32>(7)?))
        };
        match conn.prepare_cached(SQL)?.query_row(params![info.name.as_str(), partition], read).optional()? {
            Some((part, checksum)) if part.checksum() == checksum => Ok(part),
            _ => Err(lost(conn, format!("the row of partition {}-{partition} is damaged", info.name))),
        }
    }

    /// Writes the row as it is here.
    pub(super) fn save(&self, conn: &Connection) -> Result<(), Trouble> {
        const SQL: &str = "UPDATE partitions
            SET low = ?2, next = ?3, time = ?4, bytes = ?5, fresh = ?6, kept = ?7, checksum = ?8 WHERE part = ?1";
        let changed = conn.prepare_cached(SQL)?.execute(params![
            self.part,
            self.low.cast_signed(),
            self.next.cast_signed(),
            self.time,
            self.bytes.cast_signed(),
            self.fresh.cast_signed(),
            self.kept.cast_signed(),
            self.checksum()
        ])?;
        if changed == 1 { Ok(()) } else { Err(lost(conn, format!("the row of partition {} is gone", self.part))) }
    }

    /// Adds a block; the partition's row is the caller's to save.
    pub(super) fn add_block(&mut self, conn: &Connection, place: &Place, block: &[u8]) -> Result<(), Trouble> {
        const SQL: &str = "INSERT INTO blocks
            (part, base, next, first_time, last_time, num_records, bytes, block) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        conn.prepare_cached(SQL)?.execute(params![
            self.part,
            place.base.cast_signed(),
            place.next.cast_signed(),
            place.first_time,
            place.last_time,
            place.num_records,
            block.len().cast_signed() as i64,
            block
        ])?;
        self.bytes += block.len() as u64;
        Ok(())
    }

    /// Deletes a block; the partition's row is the caller's to save.
    pub(super) fn remove_block(&mut self, conn: &Connection, block: &BlockRow) -> Result<(), Trouble> {
        conn.prepare_cached("DELETE FROM blocks WHERE row = ?1")?.execute([block.row])?;
        self.bytes = self.bytes.saturating_sub(block.bytes);
        Ok(())
    }

    /// The rows of up to `limit` blocks from the low watermark on.
    pub(super) fn blocks(&self, conn: &Connection, limit: u32) -> Result<Vec<BlockRow>, Trouble> {
        const SQL: &str = "SELECT row, base, next, first_time, last_time, num_records, bytes FROM blocks
            WHERE part = ?1 ORDER BY base LIMIT ?2";
        let mut statement = conn.prepare_cached(SQL)?;
        let mut rows = statement.query(params![self.part, limit])?;
        let mut blocks = Vec::new();
        let mut at = self.low;
        while let Some(row) = rows.next()? {
            let block =
                BlockRow { row: row.get(0)?, place: self.place(row)?, bytes: row.get(6).map(i64::cast_unsigned)? };
            at = self.tile(conn, at, &block.place)?;
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The first block with a record of this time or later.
    pub(super) fn block_at(&self, conn: &Connection, time: Millis) -> Result<Option<BlockRow>, Trouble> {
        const SQL: &str = "SELECT row, base, next, first_time, last_time, num_records, bytes FROM blocks
            WHERE part = ?1 AND last_time >= ?2 ORDER BY base LIMIT 1";
        let mut statement = conn.prepare_cached(SQL)?;
        let mut rows = statement.query(params![self.part, time])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(BlockRow { row: row.get(0)?, place: self.place(row)?, bytes: row.get(6).map(i64::cast_unsigned)? }))
    }

    /// The records of one block.
    pub(super) fn read_block(&self, conn: &Connection, block: &BlockRow) -> Result<Vec<Record>, Trouble> {
        let mut records = Vec::new();
        let read = |row: &Row<'_>| Ok(block::open(&block.place, row.get_ref(0)?.as_blob()?, 0, true, &mut records));
        let opened = conn.prepare_cached("SELECT block FROM blocks WHERE row = ?1")?.query_row([block.row], read)?;
        opened.map_err(|why| self.lost_block(conn, block.place.base, why))?;
        Ok(records)
    }

    /// The statement for [`Part::scan`].
    pub(super) fn scanner(conn: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        conn.prepare_cached(
            "SELECT row, base, next, first_time, last_time, num_records, block FROM blocks
             WHERE part = ?1
               AND base >= coalesce((SELECT max(base) FROM blocks WHERE part = ?1 AND base <= ?2), 0)
             ORDER BY base",
        )
    }

    /// Gives `take` the blocks in order, from the one that holds offset `from` on, until it says
    /// that this is enough.
    ///
    /// # Errors
    /// [`Kind::Lost`] if the blocks do not tile the partition or `take` cannot use one.
    pub(super) fn scan(
        &self,
        conn: &Connection,
        from: Offset,
        mut take: impl FnMut(&Place, &[u8]) -> Result<bool, &'static str>,
    ) -> Result<(), Trouble> {
        let mut statement = Self::scanner(conn)?;
        let mut rows = statement.query(params![self.part, from.cast_signed()])?;
        let mut at = None;
        while let Some(row) = rows.next()? {
            let place = self.place(row)?;
            match at {
                None if place.base <= from && from < place.next => {}
                None => return Err(self.lost_block(conn, from, "no block holds it")),
                Some(at) if at == place.base => {}
                Some(at) => return Err(self.lost_block(conn, at, "no block begins with it")),
            }
            at = Some(self.tile(conn, place.base, &place)?);
            let block = row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?;
            if !take(&place, block).map_err(|why| self.lost_block(conn, place.base, why))? {
                return Ok(());
            }
        }
        match at {
            Some(at) if at == self.next => Ok(()),
            at => Err(self.lost_block(conn, at.unwrap_or(from), "the block is missing")),
        }
    }

    fn place(&self, row: &Row<'_>) -> rusqlite::Result<Place> {
        Ok(Place {
            topic: self.topic,
            partition: self.partition,
            base: row.get(1).map(i64::cast_unsigned)?,
            next: row.get(2).map(i64::cast_unsigned)?,
            first_time: row.get(3)?,
            last_time: row.get(4)?,
            num_records: row.get(5)?,
        })
    }

    fn tile(&self, conn: &Connection, at: Offset, place: &Place) -> Result<Offset, Trouble> {
        if place.base == at && place.base < place.next && place.next <= self.next {
            return Ok(place.next);
        }
        Err(self.lost_block(conn, at, "the blocks do not follow each other"))
    }

    fn checksum(&self) -> u32 {
        let numbers = [
            self.part,
            i64::from(self.partition),
            self.low.cast_signed(),
            self.next.cast_signed(),
            self.time,
            self.bytes.cast_signed(),
        ];
        sum(crc32c::crc32c(self.topic.0.as_bytes()), &numbers)
    }

    fn lost_block(&self, conn: &Connection, offset: Offset, why: &str) -> Trouble {
        // The name is asked for here only, where there is time for it.
        let name: String = conn
            .query_row("SELECT topic FROM partitions WHERE part = ?1", [self.part], |row| row.get(0))
            .unwrap_or_else(|_| self.topic.to_string());
        lost(conn, format!("{name}-{}@{offset}: {why}", self.partition))
    }
}

/// The path of a connection's file, for messages.
pub(super) fn file(conn: &Connection) -> &str {
    conn.path().unwrap_or("bus.sqlite")
}

/// Bytes that are not what was written.
pub(super) fn lost(conn: &Connection, what: String) -> Trouble {
    let message = format!("{}: {what}; {DAMAGED}", file(conn));
    Fault::data(message).kind(Kind::Lost).into()
}

fn columns(cleanup: &Cleanup) -> (bool, Option<i64>, Option<i64>) {
    match cleanup {
        Cleanup::Compact => (true, None, None),
        Cleanup::Delete { retention_ms, retention_bytes } => {
            (false, *retention_ms, retention_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)))
        }
    }
}

fn sum(start: u32, numbers: &[i64]) -> u32 {
    numbers.iter().fold(start, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes()))
}
