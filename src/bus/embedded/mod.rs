//! The embedded bus: one SQLite file, for a pipeline that runs in one process.
//!
//! - One row is one *block*: a run of records of one partition, compressed, with a checksum
//!   (`block` has the format). Next offset and low watermark are columns of a row of their own
//!   (`rows`).
//! - One thread writes (`writer`): records, the comparison of the producer's epoch and the new
//!   offsets are one transaction, durable when it is answered. Several producers share a commit.
//! - Readers have connections of their own and wait for a bell (`read`).
//! - Retention, compaction and giving space back happen between commits (`upkeep`).
//! - The folder belongs to one process (`database`). Beside it, others may open it read-only.
//!
//! What was answered survives `kill -9` and a power cut. Bytes that somebody else has changed end
//! in a fault ([`Kind::Lost`](crate::fault::Kind::Lost)), not in other records. One thing no file
//! can see by itself: a copy that was put back, or a log (`bus.sqlite-wal`) that was damaged after
//! a crash, is an earlier state of the bus; who stood further on is told so by the reader, and whoever opens
//! an archive or a table on it holds what it has against it first.

mod block;
mod database;
mod read;
mod rows;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};
use tokio::{sync::oneshot, task::JoinHandle};

use self::{
    read::{Bells, Pool},
    rows::{Part, Topic},
    writer::{Command, Sending, Writer},
};
use super::{Bus, Outgoing, Producer, Reader, TopicInfo, TopicSpec, Watermarks};
use crate::{
    fault::{Fault, Result},
    model::{Clock, Millis, Offset, Partition, Record, TopicName},
};

/// What the embedded bus is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder it lies in; made if it is not there.
    pub path: PathBuf,
}

/// The bus; clones are handles of the same one. When the last handle, producer and reader is gone,
/// what was sent is written, the log is cut back and the folder is free again; until then the
/// thread that drops it waits.
#[derive(Clone)]
pub struct EmbeddedBus {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    // Before the writer: the last connection to go is then the one that can tidy up.
    pool: Arc<Pool>,
    bells: Arc<Bells>,
    writer: Option<Thread>,
}

/// The writer's thread; dropping it waits for its end.
struct Thread {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
    _lock: File,
}

impl EmbeddedBus {
    /// Opens the bus in a folder, makes it if there is none, and keeps other processes out.
    /// Blocks for some file operations.
    ///
    /// # Errors
    /// `User` when another process has it or it is of another version;
    /// [`Kind::Lost`](crate::fault::Kind::Lost) when the file is damaged where it shows at once.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let folder = settings.path;
        let lock = database::lock(&folder)?;
        let bells = Arc::new(Bells::default());
        let writer = Writer::open(&folder, clock, Arc::clone(&bells))?;
        let (commands, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("bus-writer".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| Fault::io("the bus's thread", &error))?;
        let writer = Some(Thread { commands: Some(commands), thread: Some(thread), _lock: lock });
        let pool = Arc::new(Pool::new(&folder));
        Ok(Self { inner: Arc::new(Inner { folder, pool, bells, writer }) })
    }

    /// Opens the bus in a folder for reading only, whether or not another process is writing.
    /// Takes no lock; whatever would write is refused.
    ///
    /// # Errors
    /// `User` when there is no bus, or one of another version.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Self> {
        let folder = path.into();
        let pool = Arc::new(Pool::new(&folder));
        pool.read_now(|conn| Topic::all(conn).map(drop))?;
        Ok(Self { inner: Arc::new(Inner { folder, pool, bells: Arc::default(), writer: None }) })
    }

    /// The folder it lies in.
    pub fn path(&self) -> &Path {
        &self.inner.folder
    }

    /// All topics there are, by name.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.inner.pool.read(|conn| Ok(Topic::all(conn)?.into_iter().map(|topic| topic.info).collect())).await
    }

    /// Does at once what retention would do in its turn, to the end.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn retain_now(&self) -> Result<()> {
        self.inner.write(Writer::retain_all).await
    }

    /// Compacts every compacted topic at once, whether it is worth it or not.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn compact_now(&self) -> Result<()> {
        self.inner.write(Writer::compact_all).await
    }
}

impl Inner {
    fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    fn post(&self, command: Command) -> Result<()> {
        let Some(writer) = &self.writer else {
            return Err(Fault::user(format!("{}: the bus was opened for reading only", self.folder.display())));
        };
        let gone = || Fault::internal("the bus's writer has died");
        writer.commands.as_ref().ok_or_else(gone)?.send(command).map_err(|_| gone())
    }

    /// Has the writer do something in its turn.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.post(Command::Run(Box::new(move |writer| {
            // Who asked may have stopped waiting; it is done all the same.
            let _ = answer.send(work(writer));
        })))?;
        result(expect(answered).await)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the bus's writer had died");
        }
    }
}

/// Waits for an answer of the writer's on a blocking thread and not at the channel itself: a
/// paused clock then knows that something is going on, and does not run ahead.
fn expect<T: Send + 'static>(answered: oneshot::Receiver<Result<T>>) -> JoinHandle<Result<T>> {
    tokio::task::spawn_blocking(move || {
        let died = |_| Err(Fault::internal("the bus's writer has died").unknown_effect());
        answered.blocking_recv().unwrap_or_else(died)
    })
}

fn result<T>(joined: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    joined.unwrap_or_else(|_| {
        Err(Fault::internal("waiting for the bus was cut off by the end of the process").unknown_effect())
    })
}

#[async_trait]
impl Bus for EmbeddedBus {
    fn describe(&self) -> String {
        format!("embedded bus {}", self.inner.folder.display())
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo> {
        if spec.num_partitions == 0 {
            return Err(Fault::user(format!("topic {}: a topic has one partition at least", spec.name)));
        }
        let spec = spec.clone();
        self.inner.write(move |writer| writer.ensure_topic(&spec)).await
    }

    async fn topic(&self, name: &TopicName) -> Result<Option<TopicInfo>> {
        let name = name.clone();
        self.inner.pool.read(move |conn| Ok(Topic::find(conn, &name)?.map(|topic| topic.info))).await
    }

    async fn producer(&self, id: &str) -> Result<Box<dyn Producer>> {
        let id: Arc<str> = id.into();
        let epoch = {
            let id = Arc::clone(&id);
            self.inner.write(move |writer| writer.open_producer(&id)).await?
        };
        Ok(Box::new(Sender { inner: Arc::clone(&self.inner), id, epoch, pending: None }))
    }

    async fn reader(&self, topic: &TopicInfo, partition: Partition, from: Offset) -> Result<Box<dyn Reader>> {
        Ok(Box::new(read::Reader::new(Arc::clone(&self.inner), topic.clone(), partition, from)))
    }

    async fn watermarks(&self, topic: &TopicInfo, partition: Partition) -> Result<Watermarks> {
        let topic = topic.clone();
        let work = move |conn: &rusqlite::Connection| {
            let part = Part::find(conn, &Topic::identified(conn, &topic)?, partition)?;
            Ok(Watermarks { low: part.low, high: part.next })
        };
        self.inner.pool.read(work).await
    }

    async fn offset_before(&self, topic: &TopicInfo, partition: Partition, time: Millis) -> Result<Offset> {
        let topic = topic.clone();
        let work = move |conn: &rusqlite::Connection| {
            let part = Part::find(conn, &Topic::identified(conn, &topic)?, partition)?;
            let Some(block) = part.block_at(conn, time)? else {
                return Ok(if part.low < part.next { part.next } else { 0 });
            };
            let records = part.read_block(conn, &block)?;
            let is_earlier = |record: &Record| record.time < time;
            if block.place.base == part.low && !records.first().is_some_and(is_earlier) {
                // Nothing tells of those that are gone.
                return Ok(0);
            }
            Ok(records.iter().find(|record| !is_earlier(record)).map_or(block.place.next, |record| record.offset))
        };
        self.inner.pool.read(work).await
    }

    async fn commit_offset(&self, group: &str, topic: &TopicInfo, partition: Partition, next: Offset) -> Result<()> {
        let (group, topic) = (group.to_owned(), topic.clone());
        self.inner.write(move |writer| writer.commit_offset(&group, &topic, partition, next)).await
    }

    async fn committed_offset(&self, group: &str, topic: &TopicInfo, partition: Partition) -> Result<Option<Offset>> {
        const SQL: &str = "SELECT next FROM group_offsets WHERE name = ?1 AND part = ?2";
        let (group, topic) = (group.to_owned(), topic.clone());
        let work = move |conn: &rusqlite::Connection| {
            let part = Part::find(conn, &Topic::identified(conn, &topic)?, partition)?;
            let next = conn.query_row(SQL, params![group, part.part], |row| row.get(0)).optional()?;
            Ok(next.map(i64::cast_unsigned))
        };
        self.inner.pool.read(work).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<()> {
        let name = name.clone();
        self.inner.write(move |writer| writer.delete_topic(&name)).await
    }
}

/// The producer.
struct Sender {
    inner: Arc<Inner>,
    id: Arc<str>,
    epoch: i64,
    /// A send whose future was dropped. It still happens; the next one waits for it, so that a
    /// caller which gives up again and again does not pile up work.
    pending: Option<JoinHandle<Result<Vec<Offset>>>>,
}

#[async_trait]
impl Producer for Sender {
    async fn send(&mut self, records: Vec<Outgoing>) -> Result<Vec<Offset>> {
        if let Some(before) = &mut self.pending {
            let _ = before.await;
            self.pending = None;
        }
        let (answer, answered) = oneshot::channel();
        self.inner.post(Command::Send(Sending { id: Arc::clone(&self.id), epoch: self.epoch, records, answer }))?;
        let answer = result(self.pending.insert(expect(answered)).await);
        self.pending = None;
        answer
    }
}
