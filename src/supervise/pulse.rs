//! The pulse of one incarnation: what it is doing, by which its supervisor tells work from a stall.
//!
//! An actor says two things about itself. An *attempt* is one try at something that must come to an
//! end: a put, a transaction, a connect. Left open for longer than the stage's bound it is a stall.
//! *Waiting* is time that somebody else owes: a permit, room in the spool, a declared back-off. It is
//! never a stall, however long it lasts: an outage of an hour is many short attempts with waiting
//! between them, and restarting the patient side would only add a storm to it.
//!
//! Beside attempts only one thing can stall: messages wait in the mailbox, none is taken out, and the
//! actor does not say that it waits. An idle actor is well.
//!
//! Guards hold the pulse of the incarnation that opened them. One that is dropped late, by work that
//! outlived its actor, changes nothing for the successor.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::mailbox::Gate;
use crate::{
    fault::Fault,
    model::Clock,
    vitals::{State, Vitals},
};

/// An attempt that is under way; dropping it, however that comes about, ends it.
#[must_use = "dropping the guard ends the attempt"]
#[derive(Debug)]
pub struct AttemptGuard {
    pulse: Arc<Pulse>,
    key: u64,
}

/// Waiting for somebody else; dropping it ends the waiting.
#[must_use = "dropping the guard ends the waiting"]
#[derive(Debug)]
pub struct WaitGuard {
    pulse: Arc<Pulse>,
    key: u64,
}

/// Recovery that goes on after `started` has returned; the state is `Starting` until it is dropped.
#[must_use = "dropping the guard ends the recovery"]
#[derive(Debug)]
pub struct RecoveryGuard {
    pulse: Arc<Pulse>,
}

impl AttemptGuard {
    /// The attempt got further: its bound starts anew.
    pub fn progress(&self) {
        let mut beat = self.pulse.lock();
        let now = Instant::now();
        if let Some(attempt) = beat.attempts.iter_mut().find(|attempt| attempt.key == self.key) {
            attempt.since = now;
        }
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        let mut beat = self.pulse.lock();
        beat.attempts.retain(|attempt| attempt.key != self.key);
        beat.moved = Instant::now();
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let mut beat = self.pulse.lock();
        beat.waits.retain(|(key, _)| *key != self.key);
        beat.moved = Instant::now();
        self.pulse.publish(&beat);
    }
}

impl Drop for RecoveryGuard {
    fn drop(&mut self) {
        let mut beat = self.pulse.lock();
        beat.recoveries -= 1;
        beat.moved = Instant::now();
        self.pulse.publish(&beat);
    }
}

/// What one incarnation is doing.
pub(super) struct Pulse {
    vitals: Arc<Vitals>,
    clock: Arc<dyn Clock>,
    beat: Mutex<Beat>,
}

struct Beat {
    /// Between its start and its death; only then does it write the vitals' state.
    alive: bool,
    begun: Option<Instant>,
    ended: bool,
    /// `started` has returned.
    started: bool,
    recoveries: usize,
    attempts: Vec<Attempt>,
    waits: Vec<(u64, String)>,
    moved: Instant,
    fault: Option<Fault>,
    breaths: u32,
    next_key: u64,
}

struct Attempt {
    key: u64,
    name: &'static str,
    since: Instant,
}

impl Pulse {
    pub(super) fn new(vitals: Arc<Vitals>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let beat = Beat {
            alive: false,
            begun: None,
            ended: false,
            started: false,
            recoveries: 0,
            attempts: Vec::new(),
            waits: Vec::new(),
            moved: Instant::now(),
            fault: None,
            breaths: 0,
            next_key: 0,
        };
        Arc::new(Self { vitals, clock, beat: Mutex::new(beat) })
    }

    /// Its life begins, unless it is over already: `started` comes next.
    pub(super) fn begin(&self) {
        let mut beat = self.lock();
        if beat.ended {
            return;
        }
        beat.alive = true;
        beat.moved = Instant::now();
        beat.begun = Some(beat.moved);
        self.publish(&beat);
    }

    /// `started` has returned.
    pub(super) fn started(&self) {
        let mut beat = self.lock();
        beat.started = true;
        self.publish(&beat);
    }

    /// Its life is over; it writes nothing any more.
    pub(super) fn end(&self) {
        let mut beat = self.lock();
        (beat.alive, beat.ended) = (false, true);
    }

    /// For how long it has lived; nothing, once its life is over.
    pub(super) fn lived(&self) -> Duration {
        let beat = self.lock();
        beat.begun.filter(|_| beat.alive).map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Why it stalls, if it does: nothing moved for longer than `bound`.
    pub(super) fn stalled(&self, now: Instant, bound: Duration, gate: Option<&Gate>) -> Option<String> {
        let beat = self.lock();
        if !beat.alive {
            return None;
        }
        let over = |since: Instant| now.saturating_duration_since(since) > bound;
        if let Some(attempt) = beat.attempts.iter().find(|attempt| over(attempt.since)) {
            return Some(format!("the attempt {:?} came to no end within {bound:?}", attempt.name));
        }
        if !beat.waits.is_empty() || !beat.attempts.is_empty() {
            return None;
        }
        let waits = gate.and_then(Gate::waits_since)?;
        over(waits.max(beat.moved)).then(|| format!("messages wait and none was handled for {bound:?}"))
    }

    pub(super) fn attempt(self: &Arc<Self>, name: &'static str) -> AttemptGuard {
        let mut beat = self.lock();
        let key = beat.key();
        beat.attempts.push(Attempt { key, name, since: Instant::now() });
        AttemptGuard { pulse: Arc::clone(self), key }
    }

    pub(super) fn waiting(self: &Arc<Self>, on: String) -> WaitGuard {
        let mut beat = self.lock();
        let key = beat.key();
        beat.waits.push((key, on));
        self.publish(&beat);
        WaitGuard { pulse: Arc::clone(self), key }
    }

    pub(super) fn recovering(self: &Arc<Self>) -> RecoveryGuard {
        let mut beat = self.lock();
        beat.recoveries += 1;
        self.publish(&beat);
        RecoveryGuard { pulse: Arc::clone(self) }
    }

    pub(super) fn progress(&self) {
        let now = Instant::now();
        let mut beat = self.lock();
        beat.moved = now;
        beat.attempts.iter_mut().for_each(|attempt| attempt.since = now);
    }

    /// Counts to `every`; true when it is reached, and from 0 again.
    pub(super) fn breath_is_due(&self, every: u32) -> bool {
        let mut beat = self.lock();
        beat.breaths += 1;
        let due = beat.breaths >= every;
        if due {
            beat.breaths = 0;
        }
        due
    }

    /// Declares a fault; the first one stands.
    pub(super) fn declare(&self, fault: Fault) {
        self.lock().fault.get_or_insert(fault);
    }

    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.lock().fault.take()
    }

    /// Writes the state to the vitals; under the lock, so that the last change is the last written.
    fn publish(&self, beat: &Beat) {
        if !beat.alive {
            return;
        }
        let state = match beat.waits.last() {
            Some((_, on)) => State::Waiting(on.clone()),
            None if !beat.started || beat.recoveries > 0 => State::Starting,
            None => State::Running,
        };
        super::enter(&self.vitals, &*self.clock, state);
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pulse({})", self.vitals.id)
    }
}
