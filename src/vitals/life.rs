//! The part of an actor's life that its supervisor writes: what it does, and how it died before.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::model::{Incarnation, Millis};

/// What an actor does at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

impl Death {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Panic,
        Self::Fault,
        Self::Fenced,
        Self::Hopeless,
        Self::Stall,
        Self::Blocked,
        Self::Order,
        Self::Sibling,
        Self::Ended,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Fault => "fault",
            Self::Fenced => "fenced",
            Self::Hopeless => "hopeless",
            Self::Stall => "stall",
            Self::Blocked => "blocked",
            Self::Order => "order",
            Self::Sibling => "sibling",
            Self::Ended => "ended",
        }
    }
}

/// How a person wants an actor to be, other than running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Stopped or paused.
    pub hold: Hold,
    /// Who wants it.
    pub by: String,
    /// Since when, by wall time.
    pub since: Millis,
}

/// How a person holds an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// It does not run.
    Stopped,
    /// It runs and takes nothing in.
    Paused,
}

/// Why records are lost for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The bus deleted them before they were read.
    Retention,
    /// Bytes which should be there were not, or were others.
    Missing,
}

impl Reason {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Retention, Self::Missing];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Missing => "missing",
        }
    }
}

/// What an actor has lost, until a person acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Why.
    pub reason: Reason,
    /// How many records; of those that are missing, how many times some were.
    pub number: u64,
    /// When that was first noticed, by wall time.
    pub since: Millis,
    /// When last.
    pub last: Millis,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        match self.reason {
            Reason::Retention => write!(f, "{number} records that the bus had deleted"),
            Reason::Missing => write!(f, "{number} times that bytes were missing"),
        }
    }
}

/// The part of an actor's life that its supervisor writes, and people.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// What it does now.
    pub state: State,
    /// Which of its lives this is, from 1; 0 before the first.
    pub incarnation: Incarnation,
    /// Since when, by wall time.
    pub since: Millis,
    /// Restarts by how the life before ended.
    pub restarts: BTreeMap<Death, u64>,
    /// The last error, with its time.
    pub last_error: Option<(Millis, String)>,
    /// What a person wants of it, unless that it runs.
    pub wish: Option<Wish>,
    /// What was lost and is not acknowledged.
    pub losses: Vec<Loss>,
}
