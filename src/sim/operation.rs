//! Operations: what a call of a service is between its submission and its answer.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use fastrand::Rng;

use super::{Owner, weather::Weather, world::World};
use crate::{
    bus::model::Topics,
    fault::{Fault, Result},
    model::Millis,
    store::model::Files,
};

/// The services at the moment at which an operation is applied.
pub struct Services<'a> {
    /// The store's files.
    pub files: &'a mut Files,
    /// The bus's topics.
    pub topics: &'a mut Topics,
    /// The history's generator.
    pub rng: &'a mut Rng,
    /// Wall time.
    pub now: Millis,
    /// Which operation this is.
    pub op: u64,
    /// How often a send of which the sender learns nothing lands in part (0 for all others).
    pub torn: f64,
    /// How often a send finds an aborted transaction before it.
    pub aborted: f64,
    /// How often a batch is cut.
    pub short: f64,
}

/// What a call may do, and so what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing: its faults never leave anything unknown.
    Read,
    /// Changes something, and the service notices a repetition of it.
    Write,
    /// Changes something; a repetition is applied again and meets the first one's effect.
    Repeatable,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The service, after this many applications.
    Service(u8),
    /// A refusal, before anything was done.
    Refusal,
    /// Nobody: the caller's clock.
    TimeOut,
}

/// What is to become of an operation, drawn when it is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How often it is applied: 0, 1 or 2.
    pub applications: u8,
    /// Who answers.
    pub answer: Answer,
    /// For how many steps nothing happens to it (a time-out does).
    pub hold: u64,
}

impl Fate {
    /// Applied once and answered.
    pub const CLEAN: Self = Self { applications: 1, answer: Answer::Service(1), hold: 0 };

    /// Draws one.
    pub fn draw(rng: &mut Rng, weather: &Weather, kind: Kind) -> Self {
        let applied = |rng: &mut Rng| if kind == Kind::Repeatable && chance(rng, weather.repeat) { 2 } else { 1 };
        let (applications, answer) = if chance(rng, weather.refuse) {
            (0, Answer::Refusal)
        } else if chance(rng, weather.lose_request) {
            (0, Answer::TimeOut)
        } else if chance(rng, weather.lose_answer) {
            (if kind == Kind::Read { 0 } else { applied(rng) }, Answer::TimeOut)
        } else {
            match applied(rng) {
                // Mostly it is the second attempt that is answered; now and then the first one
                // is, and the other stays under way.
                2 => (2, Answer::Service(if rng.u8(..4) == 0 { 1 } else { 2 })),
                once => (once, Answer::Service(1)),
            }
        };
        let hold = if chance(rng, weather.delay) {
            let magnitude = rng.u32(..8);
            rng.u64(1..=2 << magnitude)
        } else {
            0
        };
        Self { applications, answer, hold }
    }
}

/// True with probability `p`; draws nothing for 0.
pub fn chance(rng: &mut Rng, p: f64) -> bool {
    p > 0.0 && rng.f64() < p
}

/// An operation under way.
pub struct Op {
    /// Its number.
    pub id: u64,
    /// Whose it is; `None` for the test's own, which are instant.
    pub owner: Option<Owner>,
    /// What it may do.
    pub kind: Kind,
    /// What is to become of it.
    pub fate: Fate,
    /// The step before which nothing happens to it.
    pub held_until: u64,
    /// How often it was applied.
    pub applied: u8,
    /// How often it is still to be.
    pub left: u8,
    /// It found nothing to read while the bus was at this version.
    pub waits_since: Option<u64>,
    /// Nobody waits for an answer any more.
    pub answered: bool,
    /// For the trace; empty when there is none.
    pub label: String,
    /// The call itself.
    pub action: Box<dyn Action>,
}

impl Op {
    /// Whether it may be applied now.
    pub fn can_land(&self, step: u64, version: u64) -> bool {
        self.left > 0 && self.held_until <= step && self.waits_since != Some(version)
    }

    /// Whether its answer may be delivered now.
    pub fn can_answer(&self, step: u64) -> bool {
        !self.answered
            && match self.fate.answer {
                Answer::Service(after) => self.applied >= after && self.held_until <= step,
                Answer::Refusal | Answer::TimeOut => true,
            }
    }

    /// Whether nothing will happen to it any more.
    pub fn is_over(&self) -> bool {
        self.answered && self.left == 0
    }
}

/// A call whose types are forgotten.
pub trait Action: Send {
    /// Applies it; false if it has to wait for something.
    fn apply(&mut self, services: &mut Services<'_>) -> bool;
    /// Hands the caller what the last application came to, or the fault; true if it was a success
    /// of the service, which now answers for it.
    fn answer(&mut self, fault: Option<Fault>) -> bool;
    /// What the last application came to, for the trace.
    fn outcome(&self) -> String;
}

/// Where an answer is put for the caller.
pub type Slot<T> = Mutex<(Option<Result<T>>, Option<Waker>)>;

/// An [`Action`] with its types.
pub struct Typed<T, F> {
    /// What it does; `None` if it has to wait.
    pub apply: F,
    /// What the last application came to.
    pub result: Option<Result<T>>,
    /// Where the caller looks.
    pub slot: Arc<Slot<T>>,
}

impl<T: Send + Debug, F: FnMut(&mut Services<'_>) -> Option<Result<T>> + Send> Action for Typed<T, F> {
    fn apply(&mut self, services: &mut Services<'_>) -> bool {
        let Some(result) = (self.apply)(services) else { return false };
        self.result = Some(result);
        true
    }

    fn answer(&mut self, fault: Option<Fault>) -> bool {
        let result = match fault {
            Some(fault) => Err(fault),
            None => self.result.take().expect("an operation is answered after it was applied"),
        };
        let success = result.is_ok();
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.0 = Some(result);
        if let Some(waker) = slot.1.take() {
            waker.wake();
        }
        success
    }

    fn outcome(&self) -> String {
        format!("{:?}", self.result)
    }
}

/// A call that waits for its answer. Dropped before, it leaves the operation to its fate.
pub struct Call<T> {
    pub(super) slot: Arc<Slot<T>>,
    pub(super) world: World,
    pub(super) op: u64,
    pub(super) done: bool,
}

impl<T> Future for Call<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = slot.0.take() {
            drop(slot);
            self.done = true;
            return Poll::Ready(result);
        }
        slot.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if !self.done {
            self.world.lock().abandon(self.op);
        }
    }
}
