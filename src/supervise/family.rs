//! The children of one supervisor as a state machine: who goes down, who comes up, in which order.
//!
//! It is told what happened and the time, and says what to do; it does nothing itself, so every rule
//! can be tested without an actor. After each event the supervisor asks [`Family::advance`] for the
//! next steps until there are none.
//!
//! A restart is an *episode*: a range of children (by the strategy) and the moment before which none
//! of them comes up again. First the range is felled from its end, one after the other; when all are
//! down and the moment has come, it is raised from its beginning, each after the one before has
//! started. A death while an episode is under way joins it, with the later of the two moments: the
//! range is felled and raised once, not twice.

use std::{collections::VecDeque, ops::Range, time::Duration};

use tokio::time::Instant;

use super::policy::{Decision, Policy, Restarts, Strategy, Supervision, affected};
use crate::vitals::{Death, State};

/// What the supervisor has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Let this child die, of this.
    Fell(usize, Death),
    /// Start this child's next incarnation.
    Raise(usize),
    /// Let this child stop, for good.
    End(usize, State),
    /// Nobody runs any more, because the bound was passed: die of it.
    GivenUp,
    /// Nobody runs any more, as was asked.
    Closed,
}

/// What followed from a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It comes up again, not before this pause is over.
    Restart(Duration),
    /// It does not come up again, and need not.
    Left,
    /// The bound is passed: the whole family goes.
    GaveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not running, and nobody wants it to.
    Idle,
    /// Dead or not yet started; its turn will come.
    Down,
    /// Told to start.
    Raising,
    Up,
    /// Told to die.
    Felling,
    /// Told to stop for good.
    Ending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Episode {
    range: Range<usize>,
    due: Instant,
    rising: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// This child's deaths were too many.
    Hopeless(usize),
    Asked,
    Said,
}

/// The children of one supervisor, by their place in the order of start.
#[derive(Debug)]
pub(super) struct Family {
    strategy: Strategy,
    policies: Vec<Policy>,
    phases: Vec<Phase>,
    restarts: Restarts,
    /// The first start: who has not had its turn.
    opening: VecDeque<usize>,
    episodes: Vec<Episode>,
    /// Steps that follow from an event at once.
    ready: Vec<Step>,
    farewell: Option<Farewell>,
}

impl Family {
    /// A family of which those of `wanted` are to be started.
    pub(super) fn new(supervision: &Supervision, policies: Vec<Policy>, wanted: &[bool]) -> Self {
        let phase = |wanted: &bool| if *wanted { Phase::Down } else { Phase::Idle };
        Self {
            strategy: supervision.strategy,
            phases: wanted.iter().map(phase).collect(),
            restarts: Restarts::new(supervision),
            opening: (0..policies.len()).collect(),
            policies,
            episodes: Vec::new(),
            ready: Vec::new(),
            farewell: None,
        }
    }

    /// Nobody runs, and nobody is about to.
    pub(super) fn is_idle(&self) -> bool {
        self.phases.iter().all(|phase| *phase == Phase::Idle)
    }

    /// A child that runs at present.
    pub(super) fn is_up(&self, child: usize) -> bool {
        self.phases[child] == Phase::Up
    }

    /// A child of which the next word is awaited: that it came up or that it died.
    pub(super) fn is_lively(&self, child: usize) -> bool {
        matches!(self.phases[child], Phase::Raising | Phase::Up | Phase::Felling)
    }

    /// A child that does not run, and that nobody wants to.
    pub(super) fn is_idle_child(&self, child: usize) -> bool {
        self.phases[child] == Phase::Idle
    }

    /// A child that was told to stop for good.
    pub(super) fn is_ending(&self, child: usize) -> bool {
        matches!(self.phases[child], Phase::Ending | Phase::Idle)
    }

    /// It has started. False: it is to go down again already.
    pub(super) fn up(&mut self, child: usize) -> bool {
        let expected = self.phases[child] == Phase::Raising;
        if expected {
            self.phases[child] = Phase::Up;
        }
        expected
    }

    /// It was told to die (for a stall).
    pub(super) fn felling(&mut self, child: usize) {
        if matches!(self.phases[child], Phase::Up | Phase::Raising) {
            self.phases[child] = Phase::Felling;
        }
    }

    /// It died. `luck` as in [`super::policy::Backoff::pause`].
    pub(super) fn died(&mut self, child: usize, death: Death, now: Instant, lived: Duration, luck: f64) -> Outcome {
        if self.is_ending(child) {
            return Outcome::Left;
        }
        self.phases[child] = Phase::Down;
        if self.farewell.is_some() {
            return Outcome::Left;
        }
        if !self.policies[child].restarts(death) {
            let step = self.stop(child);
            self.ready.extend(step);
            return Outcome::Left;
        }
        if matches!(death, Death::Order | Death::Sibling) {
            return Outcome::Restart(Duration::ZERO);
        }
        if death == Death::Hopeless {
            self.farewell = Some(Farewell::Hopeless(child));
            return Outcome::GaveUp;
        }
        match self.restarts.on_death(child, now, lived, luck) {
            Decision::GiveUp => {
                self.farewell = Some(Farewell::Hopeless(child));
                Outcome::GaveUp
            }
            Decision::RestartAfter(pause) => {
                self.begin(affected(self.strategy, child, self.phases.len()), now + pause);
                Outcome::Restart(pause)
            }
        }
    }

    /// Its runner ended.
    pub(super) fn gone(&mut self, child: usize) {
        self.phases[child] = Phase::Idle;
    }

    /// A person wants it started anew: alone, at once, whatever it does at present. False: not now,
    /// because it is about to stop.
    pub(super) fn restart(&mut self, child: usize, now: Instant) -> bool {
        if self.farewell.is_some() || self.phases[child] == Phase::Ending {
            return false;
        }
        match self.phases[child] {
            Phase::Idle => self.phases[child] = Phase::Down,
            Phase::Up | Phase::Raising => {
                self.phases[child] = Phase::Felling;
                self.ready.push(Step::Fell(child, Death::Order));
            }
            Phase::Down | Phase::Felling | Phase::Ending => {}
        }
        match self.episodes.iter_mut().find(|episode| episode.range.contains(&child)) {
            Some(episode) => episode.due = now,
            None => self.begin(child..child + 1, now),
        }
        true
    }

    /// It is to stop for good; nothing if it has stopped or is about to.
    pub(super) fn stop(&mut self, child: usize) -> Option<Step> {
        match self.phases[child] {
            Phase::Idle | Phase::Ending => None,
            _ => {
                self.phases[child] = Phase::Ending;
                Some(Step::End(child, State::Stopped))
            }
        }
    }

    /// Everybody is to stop.
    pub(super) fn close(&mut self) {
        self.farewell.get_or_insert(Farewell::Asked);
    }

    /// The next steps, given the time.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.ready);
        if self.farewell.is_some() {
            self.leave(&mut steps);
            return steps;
        }
        self.open(&mut steps);
        let mut episodes = std::mem::take(&mut self.episodes);
        episodes.retain_mut(|episode| !self.act(episode, now, &mut steps));
        self.episodes = episodes;
        steps
    }

    /// When to ask again although nothing happened.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.episodes.iter().map(|episode| episode.due).filter(|due| *due > now).min()
    }

    /// Opens an episode, together with those it touches.
    fn begin(&mut self, range: Range<usize>, due: Instant) {
        let mut whole = Episode { range, due, rising: false };
        self.episodes.retain(|other| {
            let touches = other.range.start < whole.range.end && whole.range.start < other.range.end;
            if touches {
                whole.range = whole.range.start.min(other.range.start)..whole.range.end.max(other.range.end);
                whole.due = whole.due.max(other.due);
            }
            !touches
        });
        self.opening.retain(|child| !whole.range.contains(child));
        self.episodes.push(whole);
    }

    /// The first start: one after the other, whatever becomes of the one before.
    fn open(&mut self, steps: &mut Vec<Step>) {
        while let Some(&child) = self.opening.front() {
            match self.phases[child] {
                Phase::Down => {
                    self.phases[child] = Phase::Raising;
                    steps.push(Step::Raise(child));
                    return;
                }
                Phase::Raising => return,
                _ => self.opening.pop_front(),
            };
        }
    }

    /// Carries an episode on; true when it is over.
    fn act(&mut self, episode: &mut Episode, now: Instant, steps: &mut Vec<Step>) -> bool {
        if !episode.rising {
            for child in episode.range.clone().rev() {
                match self.phases[child] {
                    Phase::Up | Phase::Raising => {
                        self.phases[child] = Phase::Felling;
                        steps.push(Step::Fell(child, Death::Sibling));
                        return false;
                    }
                    Phase::Felling => return false,
                    Phase::Down | Phase::Idle | Phase::Ending => {}
                }
            }
            if now < episode.due {
                return false;
            }
            episode.rising = true;
        }
        for child in episode.range.clone() {
            match self.phases[child] {
                Phase::Down => {
                    self.phases[child] = Phase::Raising;
                    steps.push(Step::Raise(child));
                    return false;
                }
                Phase::Raising | Phase::Felling => return false,
                Phase::Up | Phase::Idle | Phase::Ending => {}
            }
        }
        true
    }

    /// Everybody stops, from the end, one after the other.
    fn leave(&mut self, steps: &mut Vec<Step>) {
        let running = (0..self.phases.len()).rev().find(|child| self.phases[*child] != Phase::Idle);
        match (running, self.farewell) {
            (Some(child), _) if self.phases[child] == Phase::Ending => {}
            (Some(child), farewell) => {
                let hopeless = farewell == Some(Farewell::Hopeless(child));
                self.phases[child] = Phase::Ending;
                steps.push(Step::End(child, if hopeless { State::GaveUp } else { State::Stopped }));
            }
            (None, Some(Farewell::Hopeless(_))) => steps.push(Step::GivenUp),
            (None, Some(Farewell::Asked)) => steps.push(Step::Closed),
            (None, _) => return,
        }
        if running.is_none() {
            self.farewell = Some(Farewell::Said);
        }
    }
}

#[cfg(test)]
mod tests;
