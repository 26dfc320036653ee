//! What an actor counts. Each figure is named once, here; metrics, status and the live view are
//! views of it, and reading them never waits for the actor.

mod connections;
mod figures;
mod life;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use connections::Connections;
pub use figures::{Counter, Distribution, Forecast, Gauge, Histogram, Moments};
pub use life::{Death, Hold, Life, Loss, Reason, State, Wish};

use crate::model::{ActorId, Millis, Offset, Partition};

/// What an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Takes events from the outside into its spool.
    Collector,
    /// Brings a spool onto the bus.
    Ingester,
    /// Writes a topic to the store as it is.
    Archiver,
    /// Counts a topic into a table.
    Aggregator,
    /// Brings a topic into a sink.
    Loader,
    /// Keeps others running.
    Supervisor,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Ingester => "ingester",
            Self::Archiver => "archiver",
            Self::Aggregator => "aggregator",
            Self::Loader => "loader",
            Self::Supervisor => "supervisor",
        }
    }
}

/// How far an actor is with one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneFigures {
    /// The offset of the next record that it reads.
    pub next: Offset,
    /// Where the partition ended when that was last looked at.
    pub end: Offset,
    /// The bus time of the last record that was read, ms since 1970; 0 for none.
    pub time: Millis,
}

impl LaneFigures {
    /// Records that it has not read yet.
    pub fn lag(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }
}

/// Records that are lost for good, by reason.
#[derive(Debug, Default)]
pub struct Lost {
    /// The bus deleted them before they were read.
    pub retention: Counter,
    /// Times that bytes which should be there were not, or were others; how many records that is, nobody knows.
    pub missing: Counter,
}

impl Lost {
    /// How many by this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Retention => self.retention.get(),
            Reason::Missing => self.missing.get(),
        }
    }
}

/// Everything an actor counts; shared with whoever looks.
#[derive(Debug)]
pub struct Vitals {
    /// Whose vitals these are.
    pub id: ActorId,
    /// What it is.
    pub kind: Kind,
    life: Mutex<Life>,
    lanes: Mutex<BTreeMap<Partition, LaneFigures>>,
    /// Records taken in (from the source, the spool or the bus).
    pub records_in: Counter,
    /// Bytes taken in.
    pub bytes_in: Counter,
    /// Records handed on durably (to the spool, the bus, the archive, the table).
    pub records_out: Counter,
    /// Bytes handed on durably.
    pub bytes_out: Counter,
    /// How long records took from where they are counted from (ingester: their receipt; archiver: the bus;
    /// aggregator: their own time) until they were handed on durably.
    pub latency: Histogram,
    /// Durable steps done: spool syncs, bus transactions, segments, table commits.
    pub commits: Counter,
    /// Records known already and dropped (a resume repeats).
    pub duplicates: Counter,
    /// Batches dropped because they were meant for an earlier incarnation or place.
    pub stale_batches: Counter,
    /// Records kept as dead letters.
    pub dead_letters: Counter,
    /// Records that the table leaves out because they have no key or time.
    pub skipped: Counter,
    /// Records that the filter left out.
    pub filtered: Counter,
    /// Records whose hour was final already.
    pub late: Counter,
    /// Records too far ahead of their bus time.
    pub future: Counter,
    /// Records that are lost for good.
    pub lost: Lost,
    /// Resumes whose overlap could not be proven.
    pub possible_gaps: Counter,
    /// Connections opened by a source.
    pub connections: Counter,
    /// Requests to a sink.
    pub sink_requests: Counter,
    /// Requests to a sink that are to be made again.
    pub sink_failures: Counter,
    /// Times that a source's connection ended, or that it gave no answer.
    pub source_failures: Counter,
    /// Times at which a source should have been asked and was not.
    pub missed_polls: Counter,
    /// Messages in the mailbox.
    pub mailbox_depth: Gauge,
    /// Messages the mailbox holds at most.
    pub mailbox_capacity: Gauge,
    /// Milliseconds that senders waited for room in the mailbox.
    pub mailbox_waited_ms: Counter,
    /// Mailboxes whose blocked thread was given up and has not come back: each keeps what it holds.
    pub abandoned: Gauge,
    /// Records on the bus (or in the spool) that it has not taken yet.
    pub lag: Gauge,
    /// How long the bus keeps a record of the topic that it reads, in ms; 0 for as long as there is room.
    pub retention_ms: Gauge,
    /// Partitions that stand still before a record of which the actor died, until a person restarts it.
    pub parked: Gauge,
    /// Seconds until the spool is full, at the rate at which it filled over the last minute; none while
    /// it does not fill.
    pub spool_full_in: Forecast,
    /// The smallest committed watermark of its partitions, ms since 1970; 0 for none.
    pub watermark: Gauge,
    /// Windows that are not final, those of each partition by themselves.
    pub open_windows: Gauge,
    /// The time before which every hour of the table is final, ms since 1970; 0 for none yet.
    pub final_until: Gauge,
    /// Hours brought to where plain readers of the table see them.
    pub final_hours: Counter,
    /// Files deleted because nobody can need them any more.
    pub deleted_files: Counter,
    /// When its last durable step was done, ms since 1970; 0 for never.
    pub last_success: Gauge,
}

impl Vitals {
    /// Fresh vitals: nothing counted, not started.
    pub fn new(id: ActorId, kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            id,
            kind,
            life: Mutex::default(),
            lanes: Mutex::default(),
            records_in: Counter::default(),
            bytes_in: Counter::default(),
            records_out: Counter::default(),
            bytes_out: Counter::default(),
            latency: Histogram::default(),
            commits: Counter::default(),
            duplicates: Counter::default(),
            stale_batches: Counter::default(),
            dead_letters: Counter::default(),
            skipped: Counter::default(),
            filtered: Counter::default(),
            late: Counter::default(),
            future: Counter::default(),
            lost: Lost::default(),
            possible_gaps: Counter::default(),
            connections: Counter::default(),
            sink_requests: Counter::default(),
            sink_failures: Counter::default(),
            source_failures: Counter::default(),
            missed_polls: Counter::default(),
            mailbox_depth: Gauge::default(),
            mailbox_capacity: Gauge::default(),
            mailbox_waited_ms: Counter::default(),
            abandoned: Gauge::default(),
            lag: Gauge::default(),
            retention_ms: Gauge::default(),
            parked: Gauge::default(),
            spool_full_in: Forecast::default(),
            watermark: Gauge::default(),
            open_windows: Gauge::default(),
            final_until: Gauge::default(),
            final_hours: Counter::default(),
            deleted_files: Counter::default(),
            last_success: Gauge::default(),
        })
    }

    /// A copy of the supervisor's part.
    pub fn life(&self) -> Life {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the supervisor's part.
    pub fn update(&self, change: impl FnOnce(&mut Life)) {
        change(&mut self.life.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets the state.
    pub fn enter(&self, state: State) {
        self.update(|life| life.state = state);
    }

    /// How far it is with each partition.
    pub fn lanes(&self) -> BTreeMap<Partition, LaneFigures> {
        self.lock_lanes().clone()
    }

    /// Notes how far it is with a partition; the lag follows from that.
    pub fn lane(&self, partition: Partition, change: impl FnOnce(&mut LaneFigures)) {
        let mut lanes = self.lock_lanes();
        change(lanes.entry(partition).or_default());
        let lag: u64 = lanes.values().map(LaneFigures::lag).sum();
        self.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    }

    fn lock_lanes(&self) -> MutexGuard<'_, BTreeMap<Partition, LaneFigures>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
