//! What an actor counts. Each figure is named once, here; metrics, status and the live view are
//! views of it, and reading them never waits for the actor.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use crate::model::{ActorId, Incarnation, Millis};

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The count since the process started.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, to: i64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// Moves it by so much (down, if negative); exact when many threads move it.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long until something happens, as far as it can be told; at first it cannot.
#[derive(Debug)]
pub struct Forecast(AtomicI64);

impl Default for Forecast {
    fn default() -> Self {
        Self(AtomicI64::new(Self::NEVER))
    }
}

impl Forecast {
    const NEVER: i64 = -1;

    /// Sets it; `None`: as things are, never.
    pub fn set(&self, after: Option<Duration>) {
        let seconds = after.map_or(Self::NEVER, |after| i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
        self.0.store(seconds, Ordering::Relaxed);
    }

    /// Seconds from when it was set; `None`: never.
    pub fn get(&self) -> Option<u64> {
        u64::try_from(self.0.load(Ordering::Relaxed)).ok()
    }
}

/// What the clients of a bus count together of their connections to its servers.
#[derive(Debug, Default, Serialize)]
pub struct Connections {
    /// Requests sent.
    pub requests: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Requests that could not be sent, and answers that could not be read.
    pub errors: Counter,
    /// Requests sent once more.
    pub retries: Counter,
    /// Requests that were not answered in time.
    pub timeouts: Counter,
    /// Connections that ended.
    pub disconnects: Counter,
    /// Servers that the client which told last is connected to.
    pub brokers_up: Gauge,
    /// Of the client which told last: how long 99 of 100 requests take at most, to the slowest server, in
    /// microseconds.
    pub round_trip_us: Gauge,
}

/// What an actor does at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum State {
    /// Not started yet, or recovering what it needs.
    #[default]
    Starting,
    /// At work, or ready for it.
    Running,
    /// Waits for this (a permit, room in the spool, a back-off); not a stall.
    Waiting(String),
    /// Died and will be started again after a back-off.
    Restarting,
    /// Ended as it was told, or because its work was done.
    Stopped,
    /// Its supervisor gave it up.
    GaveUp,
}

/// How an actor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// A panic, anywhere the actor runs code.
    Panic,
    /// A fault the actor declared.
    Fault,
    /// A newer owner has taken over what this one held: it is not started again.
    Fenced,
    /// A fault that only a person can mend: another life would meet it again.
    Hopeless,
    /// No progress within its bound.
    Stall,
    /// Its thread ran nothing within its bound, and was given up.
    Blocked,
    /// Restarted by a person.
    Order,
    /// Restarted because a sibling died (`one_for_all`, `rest_for_one`).
    Sibling,
    /// It ended by itself although it is meant to run for ever.
    Ended,
}

/// The part of an actor's life that its supervisor writes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Life {
    /// What it does now.
    #[serde(flatten)]
    pub state: State,
    /// Which of its lives this is, from 1; 0 before the first.
    pub incarnation: Incarnation,
    /// Since when, by wall time.
    pub since: Millis,
    /// Restarts by how the life before ended.
    pub restarts: BTreeMap<Death, u64>,
    /// The last error, with its time.
    pub last_error: Option<(Millis, String)>,
}

/// Everything an actor counts; shared with whoever looks.
#[derive(Debug, Serialize)]
pub struct Vitals {
    /// Whose vitals these are.
    #[serde(serialize_with = "display")]
    pub id: ActorId,
    life: Mutex<Life>,
    /// Records taken in (from the source, the spool or the bus).
    pub records_in: Counter,
    /// Bytes taken in.
    pub bytes_in: Counter,
    /// Records handed on durably (to the spool, the bus, the archive, the table).
    pub records_out: Counter,
    /// Bytes handed on durably.
    pub bytes_out: Counter,
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
    pub lost: Counter,
    /// Resumes whose overlap could not be proven.
    pub possible_gaps: Counter,
    /// Connections opened by a source.
    pub connections: Counter,
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
    /// Seconds until the spool is full, at the rate at which it filled over the last minute; none while
    /// it does not fill.
    pub spool_full_in: Forecast,
    /// The smallest committed watermark of its partitions, ms since 1970; 0 for none.
    pub watermark: Gauge,
    /// The time before which every hour of the table is final, ms since 1970; 0 for none yet.
    pub final_until: Gauge,
    /// Hours brought to where plain readers of the table see them.
    pub final_hours: Counter,
    /// Files deleted because nobody can need them any more.
    pub deleted_files: Counter,
    /// When its last durable step was done, ms since 1970; 0 for never.
    pub last_success: Gauge,
}

fn display<S: serde::Serializer>(id: &ActorId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl Serialize for Counter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

impl Serialize for Gauge {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.get())
    }
}

impl Serialize for Forecast {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl Vitals {
    /// Fresh vitals: nothing counted, not started.
    pub fn new(id: ActorId) -> Arc<Self> {
        Arc::new(Self {
            id,
            life: Mutex::default(),
            records_in: Counter::default(),
            bytes_in: Counter::default(),
            records_out: Counter::default(),
            bytes_out: Counter::default(),
            commits: Counter::default(),
            duplicates: Counter::default(),
            stale_batches: Counter::default(),
            dead_letters: Counter::default(),
            skipped: Counter::default(),
            filtered: Counter::default(),
            late: Counter::default(),
            future: Counter::default(),
            lost: Counter::default(),
            possible_gaps: Counter::default(),
            connections: Counter::default(),
            mailbox_depth: Gauge::default(),
            mailbox_capacity: Gauge::default(),
            mailbox_waited_ms: Counter::default(),
            abandoned: Gauge::default(),
            lag: Gauge::default(),
            spool_full_in: Forecast::default(),
            watermark: Gauge::default(),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happens_has_no_time() {
        let vitals = Vitals::new(ActorId { pipeline: "p".into(), stage: "collect".into(), replica: 0 });
        let shown = || serde_json::to_value(&*vitals).unwrap()["spool_full_in"].clone();
        assert_eq!((vitals.spool_full_in.get(), shown()), (None, serde_json::Value::Null));
        vitals.spool_full_in.set(Some(Duration::from_millis(2_900)));
        assert_eq!((vitals.spool_full_in.get(), shown()), (Some(2), 2.into()));
        vitals.spool_full_in.set(Some(Duration::MAX));
        assert_eq!(vitals.spool_full_in.get(), Some(i64::MAX.unsigned_abs()));
        vitals.spool_full_in.set(None);
        assert_eq!(vitals.spool_full_in.get(), None);
    }
}
