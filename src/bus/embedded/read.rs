//! Reading: a few connections of their own, off the async threads, and a bell to wait for.
//!
//! Every read is one short transaction: it sees one state of topic, partition and blocks, and it
//! does not keep the writer from cutting back its log. It checks the topic's identity each time.
//! A reader that has read everything waits for the partition's bell, which the writer rings after
//! a commit; it asks no clock. A bus opened read-only has no writer to ring, so its readers look
//! again now and then.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::watch;

use super::{
    Inner,
    block::{self, FULL_BYTES, MAX_RECORDS},
    database::{self, Trouble},
    rows::{self, Part, Topic},
};
use crate::{
    bus::{self, TopicInfo},
    fault::{Fault, Kind, Result},
    model::{Batch, Offset, Partition, TopicId, Why},
};

/// The most connections that read at a time.
const CONNECTIONS: usize = 4;

/// How often a reader that nobody calls looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The connections for reading.
///
/// Who waits for one waits on a thread that may block, not as a future: a future has its turn even when
/// nobody polls it any more, and the actors of a blocked thread would keep all connections for ever.
pub(super) struct Pool {
    folder: PathBuf,
    idle: Mutex<Vec<Connection>>,
    reading: Mutex<usize>,
    read: Condvar,
}

impl Pool {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), idle: Mutex::default(), reading: Mutex::default(), read: Condvar::new() }
    }

    /// Does `work` within one read transaction, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let ended = |_| Fault::internal("a read of the bus was cut off by the end of the process");
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _turn = pool.turn();
            pool.read_now(work)
        });
        task.await.map_err(ended)?
    }

    /// Waits until there is a connection to read with.
    fn turn(&self) -> Turn<'_> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = self.read.wait_while(reading, |reading| *reading >= CONNECTIONS);
        *busy.unwrap_or_else(PoisonError::into_inner) += 1;
        Turn(self)
    }

    /// As [`Pool::read`], on this thread.
    pub(super) fn read_now<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let conn = match taken {
            Some(conn) => conn,
            None => database::open_reader(&self.folder)?,
        };
        let result = (|| {
            let tx = conn.unchecked_transaction()?;
            work(&tx)
        })();
        match result {
            // After an error of SQLite's a new connection is the safer one.
            Err(trouble @ Trouble::Sql(_)) => Err(trouble.at(&database::file_of(&self.folder))),
            other => {
                idle().push(conn);
                other.map_err(|trouble| trouble.at(&self.folder))
            }
        }
    }
}

/// One of the connections is in use for as long as this lives.
struct Turn<'p>(&'p Pool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.reading.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.read.notify_one();
    }
}

/// One bell per partition that somebody reads.
#[derive(Default)]
pub(super) struct Bells(Mutex<HashMap<(TopicId, Partition), watch::Sender<()>>>);

impl Bells {
    fn listen(&self, topic: TopicId, partition: Partition) -> watch::Receiver<()> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.entry((topic, partition)).or_default().subscribe()
    }

    /// Wakes who waits at these; a bell that nobody listens to goes.
    pub(super) fn ring(&self, partitions: impl IntoIterator<Item = (TopicId, Partition)>) {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            if bells.get(&partition).is_some_and(|bell| bell.send(()).is_err()) {
                bells.remove(&partition);
            }
        }
    }
}

/// A reader of one partition.
pub(super) struct Reader {
    inner: Arc<Inner>,
    topic: TopicInfo,
    partition: Partition,
    position: Offset,
    with_headers: bool,
    bell: watch::Receiver<()>,
}

impl Reader {
    pub(super) fn new(inner: Arc<Inner>, topic: TopicInfo, partition: Partition, position: Offset) -> Self {
        let bell = inner.bells.listen(topic.id, partition);
        Self { inner, topic, partition, position, with_headers: true, bell }
    }

    async fn wait(&mut self) -> Result<()> {
        if self.inner.is_read_only() {
            tokio::time::sleep(LOOK_AGAIN).await;
            return Ok(());
        }
        self.bell.changed().await.map_err(|_| Fault::internal("the bell of a partition is gone while it is read"))
    }
}

#[async_trait]
impl bus::Reader for Reader {
    async fn next(&mut self) -> Result<Batch> {
        loop {
            // Before the look: what is written after it rings again.
            self.bell.mark_unchanged();
            let (topic, partition) = (self.topic.clone(), self.partition);
            let (from, with_headers) = (self.position, self.with_headers);
            let fetching = move |conn: &Connection| fetch(conn, &topic, partition, from, with_headers);
            if let Some(batch) = self.inner.pool.read(fetching).await? {
                self.position = batch.to;
                return Ok(batch);
            }
            self.wait().await?;
        }
    }

    fn position(&self) -> Offset {
        self.position
    }

    fn leave_out_headers(&mut self) {
        self.with_headers = false;
    }
}

/// The batch from `from` on; `None` at the partition's end.
fn fetch(
    conn: &Connection,
    info: &TopicInfo,
    partition: Partition,
    from: Offset,
    with_headers: bool,
) -> Result<Option<Batch>, Trouble> {
    let topic = Topic::identified(conn, info)?;
    let part = Part::find(conn, &topic, partition)?;
    if from > part.next {
        return Err(Fault::data(format!(
            "{}: {}-{partition}@{from} is behind the end at {}: the bus has lost records or was replaced",
            rows::file(conn),
            info.name,
            part.next
        ))
        .kind(Kind::Lost)
        .into());
    }
    if from < part.low {
        return Ok(Some(Batch { from, records: Vec::new(), to: part.low, why: Why::Retention }));
    }
    if from == part.next {
        return Ok(None);
    }
    let mut batch = Batch { from, records: Vec::new(), to: from, why: Why::Marker };
    let (mut num_records, mut bytes) = (0, 0);
    part.scan(conn, from, |place, block| {
        num_records += place.num_records as usize;
        bytes += block::raw_len(block);
        if batch.to > from && (num_records > MAX_RECORDS || bytes > FULL_BYTES) {
            return Ok(false);
        }
        block::open(place, block, from, with_headers, &mut batch.records)?;
        batch.to = place.next;
        Ok(num_records < MAX_RECORDS && bytes < FULL_BYTES)
    })?;
    Ok(Some(batch))
}
