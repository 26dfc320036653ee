//! The one thread that writes, with group commit.
//!
//! Whatever changes the database comes to it by a queue and is answered after `COMMIT`. Sends that
//! wait when it comes back from a commit go into the next one together: one `fdatasync` for
//! several producers. Each send stays atomic by itself: all that can be wrong with a send (fenced,
//! no such topic) is found before its first row is written, so it is refused alone; an error of
//! SQLite's undoes the whole group, and then each send is tried by itself.
//!
//! A failed `COMMIT` may have left its last frame in the WAL, where a recovery after a crash would
//! find it. The next commit overwrites that place; so one is made at once, and only if this fails
//! too the answer is *unknown*. A disk that was full never took the last frame.
//!
//! The thread ends when the queue is closed and empty, after a checkpoint.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{
    block::{self, Encoder, Piece, Place},
    database::{self, Trouble},
    read::Bells,
    rows::{self, Part, Topic},
    upkeep::{self, Upkeep},
};
use crate::{
    bus::{Cleanup, Outgoing, TopicInfo, TopicSpec},
    fault::{Effect, Fault, Kind, Result},
    model::{Clock, Millis, Offset, Partition, TopicId, TopicName},
};

/// A group is closed at so many sends …
const GROUP_SENDS: usize = 256;

/// … or bytes, so that what is in memory at a time stays small.
const GROUP_BYTES: usize = 8 << 20;

/// What comes by the queue.
pub(super) enum Command {
    /// Records, for the next commit.
    Send(Sending),
    /// Anything else, done by itself in its turn.
    Run(Box<dyn FnOnce(&mut Writer) + Send>),
}

/// One [`send`](crate::bus::Producer::send) on its way.
pub(super) struct Sending {
    /// The producer's id.
    pub(super) id: Arc<str>,
    /// Which holder of the id sends.
    pub(super) epoch: i64,
    /// What.
    pub(super) records: Vec<Outgoing>,
    /// Who waits for the offsets.
    pub(super) answer: oneshot::Sender<Result<Vec<Offset>>>,
}

/// What the thread owns.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) file: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    bells: Arc<Bells>,
    pub(super) upkeep: Upkeep,
}

impl Writer {
    /// Opens the database for writing; the folder's lock is the caller's.
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>, bells: Arc<Bells>) -> Result<Self> {
        let conn = database::open_writer(folder)?;
        let mut writer = Self { conn, file: database::file_of(folder), clock, bells, upkeep: Upkeep::default() };
        writer.transaction(check_ends)?;
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut held = None;
        loop {
            let next = held.take().map_or_else(|| commands.recv_timeout(self.upkeep.wait()), Ok);
            match next {
                Ok(Command::Run(work)) => work(&mut self),
                Ok(Command::Send(first)) => {
                    let group;
                    (group, held) = gather(first, commands);
                    self.commit(group);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.upkeep();
        }
        upkeep::checkpoint(&self.conn);
    }

    /// One transaction, durable when this answers `Ok`.
    pub(super) fn transaction<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T> {
        let file = &self.file;
        let sql = |error| database::classify(&error, file);
        if !self.conn.is_autocommit() {
            // A rollback that failed, for want of memory or of a disk.
            self.conn.execute_batch("ROLLBACK").map_err(sql)?;
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let result = work(&tx).map_err(|trouble| trouble.at(file))?;
        match tx.commit() {
            Ok(()) => Ok(result),
            Err(error) => Err(self.settle(&error)),
        }
    }

    pub(super) fn ensure_topic(&mut self, spec: &TopicSpec) -> Result<TopicInfo> {
        let made = self.transaction(|tx| {
            let Some(topic) = Topic::find(tx, &spec.name)? else {
                return Ok(Topic::create(tx, spec)?.info);
            };
            let refuse = |is: String, wanted: String| {
                let message = format!("topic {} exists with {is}, not with {wanted}", spec.name);
                Err(Fault::user(format!("{}: {message}: write it so, or take another name", rows::file(tx))).into())
            };
            if topic.info.num_partitions != spec.num_partitions {
                let words = |n| format!("{n} partitions");
                return refuse(words(topic.info.num_partitions), words(spec.num_partitions));
            }
            match (topic.cleanup, spec.cleanup) {
                (before, now) if before == now => Ok(topic.info),
                // Whoever declares the topic says how long it keeps records.
                (Cleanup::Delete { .. }, Cleanup::Delete { .. }) => {
                    tracing::warn!(topic = %spec.name, before = %topic.cleanup, now = %spec.cleanup, "keeps records for another time");
                    Ok(topic.keep(tx, spec.cleanup)?.info)
                }
                (before, now) => refuse(before.to_string(), now.to_string()),
            }
        })?;
        self.upkeep.declared(&spec.name);
        Ok(made)
    }

    pub(super) fn delete_topic(&mut self, name: &TopicName) -> Result<()> {
        let gone = self.transaction(|tx| {
            let Some(topic) = Topic::find(tx, name)? else { return Ok(None) };
            tx.execute("INSERT INTO dropped SELECT part FROM partitions WHERE topic = ?1", [name.as_str()])?;
            tx.execute(
                "DELETE FROM group_offsets WHERE part IN (SELECT part FROM partitions WHERE topic = ?1)",
                [name.as_str()],
            )?;
            tx.execute("DELETE FROM partitions WHERE topic = ?1", [name.as_str()])?;
            tx.execute("DELETE FROM topics WHERE name = ?1", [name.as_str()])?;
            Ok(Some(topic.info))
        })?;
        if let Some(info) = gone {
            self.bells.ring((0..info.num_partitions).map(|partition| (info.id, partition)));
            self.upkeep.soon();
        }
        Ok(())
    }

    /// Makes the caller the holder of the id and answers with its epoch.
    pub(super) fn open_producer(&mut self, id: &str) -> Result<i64> {
        const SQL: &str = "INSERT INTO producers VALUES (?1, 1)
            ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch";
        self.transaction(|tx| Ok(tx.query_row(SQL, [id], |row| row.get(0))?))
    }

    pub(super) fn commit_offset(
        &mut self,
        group: &str,
        topic: &TopicInfo,
        partition: Partition,
        next: Offset,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO group_offsets VALUES (?1, ?2, ?3)
            ON CONFLICT (name, part) DO UPDATE SET next = excluded.next";
        self.transaction(|tx| {
            let part = Part::find(tx, &Topic::identified(tx, topic)?, partition)?;
            tx.execute(SQL, params![group, part.part, next.cast_signed()])?;
            Ok(())
        })
    }

    fn commit(&mut self, group: Vec<Sending>) {
        let now = self.clock.now();
        let mut touched = Vec::new();
        let written = self.transaction(|tx| {
            let mut answers = Vec::with_capacity(group.len());
            for sending in &group {
                answers.push(match append(tx, sending, now, &mut touched) {
                    Ok(offsets) => Ok(offsets),
                    Err(Trouble::Fault(fault)) => Err(fault),
                    Err(Trouble::Sql(error)) => return Err(error.into()),
                });
            }
            Ok(answers)
        });
        match written {
            Ok(answers) => {
                self.bells.ring(touched);
                for (sending, answer) in group.into_iter().zip(answers) {
                    // Whoever has stopped waiting reads back or does not care.
                    let _ = sending.answer.send(answer);
                }
            }
            Err(fault) if group.len() > 1 && fault.effect == Effect::NotDone => {
                for sending in group {
                    self.commit(vec![sending]);
                }
            }
            Err(fault) => {
                for sending in group {
                    let _ = sending.answer.send(Err(fault.clone()));
                }
            }
        }
    }

    /// What a failed `COMMIT` means; see the module's text.
    pub(super) fn settle(&mut self, error: &rusqlite::Error) -> Fault {
        let fault = database::classify(error, &self.file);
        let surely_not = error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            || matches!(self.conn.execute("UPDATE meta SET value = value + 1 WHERE name = 'settled'", []), Ok(1));
        if surely_not { fault } else { fault.unknown_effect() }
    }
}

/// The send and those that wait behind it, up to the bounds of a group, and the first command that
/// does not belong to it.
fn gather(first: Sending, commands: &Receiver<Command>) -> (Vec<Sending>, Option<Command>) {
    let mut bytes = weight(&first.records);
    let mut group = vec![first];
    while group.len() < GROUP_SENDS && bytes < GROUP_BYTES {
        match commands.try_recv() {
            Ok(Command::Send(sending)) => {
                bytes += weight(&sending.records);
                group.push(sending);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}

/// What one send adds to one partition.
struct Lane {
    topic: Topic,
    part: Part,
    records: Vec<usize>,
}

/// Writes one send. Every `Fault` comes before the first row is written.
fn append(
    tx: &Connection,
    sending: &Sending,
    now: Millis,
    touched: &mut Vec<(TopicId, Partition)>,
) -> Result<Vec<Offset>, Trouble> {
    check_epoch(tx, sending)?;
    let records = &sending.records;
    let mut lanes = sort_into_lanes(tx, records)?;
    let mut offsets = vec![0; records.len()];
    let mut encoder = Encoder::default();
    for lane in &mut lanes {
        let part = &mut lane.part;
        part.time = part.time.max(now);
        let mut base = part.next;
        for &index in &lane.records {
            let record = &records[index];
            if encoder.is_full_for(record_weight(record)) {
                base = close_block(tx, part, &mut encoder, base)?;
            }
            encoder.push(Piece {
                offset: part.next - base,
                time: 0,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            });
            offsets[index] = part.next;
            part.next += 1;
        }
        close_block(tx, part, &mut encoder, base)?;
        part.fresh += lane.records.len() as u64;
        part.save(tx)?;
        touched.push((part.topic, part.partition));
    }
    Ok(offsets)
}

fn close_block(tx: &Connection, part: &mut Part, encoder: &mut Encoder, base: Offset) -> Result<Offset, Trouble> {
    let place = Place {
        topic: part.topic,
        partition: part.partition,
        base,
        next: part.next,
        first_time: part.time,
        last_time: part.time,
        num_records: encoder.num_records(),
    };
    part.add_block(tx, &place, &encoder.seal(&place))?;
    Ok(part.next)
}

fn check_epoch(tx: &Connection, sending: &Sending) -> Result<(), Trouble> {
    let epoch: Option<i64> = tx
        .prepare_cached("SELECT epoch FROM producers WHERE id = ?1")?
        .query_row([&*sending.id], |row| row.get(0))
        .optional()?;
    if epoch == Some(sending.epoch) {
        return Ok(());
    }
    let (id, epoch) = (&sending.id, epoch.unwrap_or(0));
    let message = format!("producer {id:?}: fenced, epoch {} is the past and {epoch} the present", sending.epoch);
    Err(Fault::user(message).kind(Kind::Fenced).into())
}

fn sort_into_lanes(tx: &Connection, records: &[Outgoing]) -> Result<Vec<Lane>, Trouble> {
    let mut lanes: Vec<Lane> = Vec::new();
    let mut known: HashMap<(&TopicName, Partition), usize> = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        let at = match known.get(&(&record.topic, record.partition)) {
            Some(at) => *at,
            None => {
                let Some(topic) = Topic::find(tx, &record.topic)? else {
                    return Err(Fault::user(format!("{}: there is no topic {}", rows::file(tx), record.topic)).into());
                };
                let part = Part::find(tx, &topic, record.partition)?;
                known.insert((&record.topic, record.partition), lanes.len());
                lanes.push(Lane { topic, part, records: Vec::new() });
                lanes.len() - 1
            }
        };
        let lane = &mut lanes[at];
        check_record(lane, record)
            .map_err(|why| Fault::data(format!("record {index} for {}-{}: {why}", record.topic, record.partition)))?;
        lane.records.push(index);
    }
    Ok(lanes)
}

fn check_record(lane: &Lane, record: &Outgoing) -> Result<(), String> {
    let weight = record_weight(record);
    if weight > block::MAX_RECORD_BYTES {
        return Err(format!("{weight} bytes are too many, {} are allowed", block::MAX_RECORD_BYTES));
    }
    if record.key.is_none() && lane.topic.cleanup == Cleanup::Compact {
        return Err("it has no key, and the topic is compacted by key".to_owned());
    }
    Ok(())
}

fn record_weight(record: &Outgoing) -> usize {
    let field = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    field(&record.key) + field(&record.value) + headers
}

fn weight(records: &[Outgoing]) -> usize {
    records.iter().map(record_weight).sum()
}

/// The blocks of each partition end where its row says; else pages of different times were put
/// together.
fn check_ends(tx: &Connection) -> Result<(), Trouble> {
    const SQL: &str = "SELECT min(base), (SELECT next FROM blocks WHERE part = ?1 ORDER BY base DESC LIMIT 1)
        FROM blocks WHERE part = ?1";
    for topic in Topic::all(tx)? {
        for partition in 0..topic.info.num_partitions {
            let part = Part::find(tx, &topic, partition)?;
            let (first, end): (Option<i64>, Option<i64>) =
                tx.prepare_cached(SQL)?.query_row([part.part], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let is = (first.map(i64::cast_unsigned), end.map(i64::cast_unsigned));
            let should = if part.low == part.next { (None, None) } else { (Some(part.low), Some(part.next)) };
            if is != should {
                let name = &topic.info.name;
                let message = format!("{name}-{partition}: the blocks are {is:?}, the partition {should:?}");
                return Err(rows::lost(tx, message));
            }
        }
    }
    Ok(())
}
