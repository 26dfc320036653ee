//! Supervision as data: what a supervisor is told, and the pure rules that follow from it.

use std::time::Duration;

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
