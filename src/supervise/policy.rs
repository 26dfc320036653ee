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
    /// A thread that runs nothing at all for this long, although it is asked to, is blocked.
    pub blocked: Duration,
}

impl Policy {
    /// Whether a child that died so is started again. A person's order and a sibling's death
    /// restart whatever may be restarted at all. Who is fenced stays down: opening anew would fence
    /// the rightful owner back.
    pub fn restarts(self, death: Death) -> bool {
        match self {
            _ if death == Death::Fenced => false,
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn bears(restarts: u32, within: u64) -> Restarts {
        Restarts::new(&Supervision {
            strategy: Strategy::OneForOne,
            intensity: Intensity { restarts, within: Duration::from_secs(within) },
            backoff: Backoff { base: SECOND, cap: 10 * SECOND, healthy: 60 * SECOND },
        })
    }

    #[test]
    fn each_strategy_names_who_goes_down() {
        let of = |strategy| [0, 1, 2].map(|index| affected(strategy, index, 3));
        assert_eq!(of(Strategy::OneForOne), [0..1, 1..2, 2..3]);
        assert_eq!(of(Strategy::OneForAll), [0..3, 0..3, 0..3]);
        assert_eq!(of(Strategy::RestForOne), [0..3, 1..3, 2..3]);
    }

    #[test]
    fn each_policy_names_who_comes_back() {
        let deaths = [Death::Panic, Death::Fault, Death::Stall, Death::Ended, Death::Order, Death::Sibling];
        let of = |policy: Policy| deaths.map(|death| policy.restarts(death));
        assert_eq!(of(Policy::Permanent), [true; 6]);
        assert_eq!(of(Policy::Transient), [true, true, true, false, true, true]);
        assert_eq!(of(Policy::Temporary), [false, false, false, false, true, false]);
        for policy in [Policy::Permanent, Policy::Transient, Policy::Temporary] {
            assert!(!policy.restarts(Death::Fenced), "{policy:?} would fence the rightful owner back");
        }
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_vary_by_a_quarter() {
        let backoff = Backoff { base: SECOND, cap: 10 * SECOND, healthy: 60 * SECOND };
        let at = |luck: f64| [1, 2, 3, 4, 5, u32::MAX].map(|nth| backoff.pause(nth, luck).as_millis());
        assert_eq!(at(0.5), [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(at(0.0), [750, 1_500, 3_000, 6_000, 7_500, 7_500]);
        assert_eq!(at(1.0), [1_250, 2_500, 5_000, 10_000, 12_500, 12_500]);
    }

    /// Deaths of (child, seconds since the start, seconds lived) and what each must lead to: the
    /// pause in ms, or none for giving up.
    fn check(mut restarts: Restarts, deaths: &[(usize, u64, u64, Option<u64>)]) {
        let start = Instant::now();
        for (child, at, lived, expected) in deaths {
            let decision = restarts.on_death(*child, start + *at as u32 * SECOND, *lived as u32 * SECOND, 0.5);
            let pause = expected.map(Duration::from_millis);
            assert_eq!(decision, pause.map_or(Decision::GiveUp, Decision::RestartAfter), "child {child} at {at} s");
        }
    }

    #[test]
    fn the_row_grows_over_successful_starts_and_ends_with_a_healthy_stretch() {
        check(
            bears(100, 1),
            &[
                (0, 0, 0, Some(1_000)),
                (0, 10, 9, Some(2_000)),
                (0, 80, 59, Some(4_000)),
                (0, 150, 60, Some(1_000)),
                (0, 151, 0, Some(2_000)),
            ],
        );
    }

    #[test]
    fn a_childs_row_is_its_own_and_the_window_is_everybodys() {
        check(bears(2, 100), &[(0, 0, 0, Some(1_000)), (1, 1, 1, Some(1_000)), (2, 2, 2, None)]);
    }

    #[test]
    fn deaths_leave_the_window_with_time() {
        check(
            bears(2, 100),
            &[(0, 0, 0, Some(1_000)), (0, 50, 0, Some(2_000)), (0, 101, 0, Some(4_000)), (0, 150, 0, None)],
        );
    }

    #[test]
    fn a_healthy_stretch_takes_a_childs_deaths_out_of_the_window_and_nobody_elses() {
        check(
            bears(2, 1_000),
            &[
                (0, 0, 0, Some(1_000)),
                (0, 10, 0, Some(2_000)),
                (0, 100, 80, Some(1_000)),
                (1, 101, 0, Some(1_000)),
                (0, 200, 99, Some(1_000)),
                (0, 201, 0, None),
            ],
        );
    }
}
