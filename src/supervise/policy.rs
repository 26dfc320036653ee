//! Supervision as data: what a supervisor is told, and the pure rules that follow from it.
//!
//! Two counts are kept of the same deaths. The *row* is a child's own: how often it died without a
//! healthy stretch between; it makes the pause before the next restart longer. The *window* is the
//! supervisor's: how many deaths it bore lately; past the bound it gives up. A healthy stretch of a
//! child, and nothing else, forgets that child's part of both. A successful start forgets nothing:
//! what dies a second after each start would otherwise be restarted for ever.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::Duration,
};

use tokio::time::Instant;

use crate::vitals::Death;

/// Who is restarted when one child dies (the terms are OTP's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The one that died.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that died and those started after it.
    RestForOne,
}

/// When a child is restarted (the terms are OTP's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Always, however it ended.
    #[default]
    Permanent,
    /// When it died; not when it ended by itself.
    Transient,
    /// Never.
    Temporary,
}

/// How many restarts are borne before the supervisor itself gives up and tells its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// So many restarts are borne …
    pub restarts: u32,
    /// … within this time.
    pub within: Duration,
}

/// The pause before a restart: `base`, doubled with each death in a row, at most `cap`, then
/// varied by up to a quarter in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub base: Duration,
    /// The longest pause (before the variation).
    pub cap: Duration,
    /// A child that lived this long starts again at `base`.
    pub healthy: Duration,
}

/// What a pipeline's supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// Who is restarted.
    pub strategy: Strategy,
    /// How often, before giving up.
    pub intensity: Intensity,
    /// After which pause.
    pub backoff: Backoff,
}

/// What every stage is told, whatever it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageSupervision {
    /// When its actors are restarted.
    pub policy: Policy,
    /// Messages its mailbox holds at most, at least 1.
    pub mailbox: usize,
    /// A single attempt that makes no progress for this long is a stall.
    pub stall: Duration,
}

impl Policy {
    /// Whether a child that died so is started again. A person's order and a sibling's death
    /// restart whatever may be restarted at all.
    pub fn restarts(self, death: Death) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => death != Death::Ended,
            Self::Temporary => death == Death::Order,
        }
    }
}

impl Backoff {
    /// The pause before the restart after the `nth` death in a row (from 1), varied by up to a
    /// quarter in either direction. `luck` is a random fraction of `0.0..1.0`; 0.5 varies nothing.
    pub fn pause(&self, nth: u32, luck: f64) -> Duration {
        let plain = self.base.saturating_mul(1 << nth.saturating_sub(1).min(30)).min(self.cap);
        plain.mul_f64(0.75 + luck.clamp(0.0, 1.0) / 2.0)
    }
}

/// Which of `len` children, in the order they were started, go down when the one at `index` dies.
pub fn affected(strategy: Strategy, index: usize, len: usize) -> Range<usize> {
    match strategy {
        Strategy::OneForOne => index..index + 1,
        Strategy::OneForAll => 0..len,
        Strategy::RestForOne => index..len,
    }
}

/// What follows from a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this pause.
    RestartAfter(Duration),
    /// Too many in too short a time.
    GiveUp,
}

/// The counts of one supervisor.
#[derive(Debug)]
pub struct Restarts {
    intensity: Intensity,
    backoff: Backoff,
    window: VecDeque<(Instant, usize)>,
    rows: BTreeMap<usize, u32>,
}

impl Restarts {
    /// Nothing counted yet.
    pub fn new(supervision: &Supervision) -> Self {
        Self {
            intensity: supervision.intensity,
            backoff: supervision.backoff,
            window: VecDeque::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Counts the death of `child` at `now`, which had lived for `lived` (from its start), and
    /// decides. `luck` as in [`Backoff::pause`].
    pub fn on_death(&mut self, child: usize, now: Instant, lived: Duration, luck: f64) -> Decision {
        if lived >= self.backoff.healthy {
            self.rows.remove(&child);
            self.window.retain(|(_, of)| *of != child);
        }
        let within = self.intensity.within;
        self.window.retain(|(at, _)| now.saturating_duration_since(*at) <= within);
        self.window.push_back((now, child));
        if self.window.len() > self.intensity.restarts as usize {
            return Decision::GiveUp;
        }
        let row = self.rows.entry(child).or_default();
        *row = row.saturating_add(1);
        Decision::RestartAfter(self.backoff.pause(*row, luck))
    }
}
