//! Supervision: actors die, and what they are for goes on.
//!
//! actix restarts no actor that panicked and tells nobody. This folder is the half of OTP that it
//! lacks, in layers that each know only the one before:
//!
//! - [`policy`]: the settings and the pure rules (pause, intensity, strategy);
//! - [`Ref`], [`Delivery`]: the stable way to an actor, with a bound that binds;
//! - [`Life`], [`Spec`]: what an actor knows of itself, and how it is born again;
//! - `runner`: the future that owns one actor and outlives its deaths;
//! - `lineage`: one actor as its supervisor has it, over all its runners;
//! - `valve`: what a person closes so that an actor takes nothing in;
//! - `watch`: whether a thread still runs anything;
//! - `family`: the pure rules of a supervisor's children: who goes down, who comes up, in which order;
//! - [`Supervisor`], [`Tree`]: the actor that carries these rules out, and the way to build one;
//! - [`Spawner`]: which thread an actor runs on.
//!
//! # What holds
//! - There are four deaths: a panic, a declared fault, a stall, and a blocked thread.
//! - A [`Ref`] leads to its actor for as long as the tree stands, whatever dies in between.
//! - An incarnation leaves nothing behind: its state, futures, timers and permits are gone before the
//!   next one starts. What may reach it late (data, completions) names the incarnation it is for.
//! - A thread that is blocked cannot be killed, only left behind: its actor goes on on another. When the old
//!   one comes back, nothing it does counts, and it ends.
//! - Waiting is not a stall, and a stall is not an outage: only a single attempt is bounded.
//! - Children start in the order they were added, each after the one before has started, and stop in
//!   the reverse.
//! - A supervisor that gives up dies of it like any actor; its parent decides, up to the root, whose
//!   [`Parent`] ends the process.

pub mod policy;

mod family;
mod life;
mod lineage;
mod mailbox;
mod panics;
mod pulse;
mod runner;
mod spawner;
mod supervisor;
mod tree;
mod valve;
mod watch;

#[cfg(test)]
mod tests;

pub use life::{Life, Spec, linked};
pub use mailbox::{Delivery, Gone, Permit, Ref};
pub use panics::blocking;
pub use pulse::{AttemptGuard, RecoveryGuard, WaitGuard};
pub use spawner::{Here, Spawner, Threads};
pub use supervisor::{Restart, Shutdown, Stop, Supervisor};
pub use tree::{Parent, Root, Tree};

use crate::{
    model::Clock,
    vitals::{self, State, Vitals},
};

/// Writes a change of state, with its time.
fn enter(vitals: &Vitals, clock: &dyn Clock, state: State) {
    vitals.update(|life| change(life, clock, state));
}

fn change(life: &mut vitals::Life, clock: &dyn Clock, state: State) {
    if life.state != state {
        life.state = state;
        life.since = clock.now();
    }
}
