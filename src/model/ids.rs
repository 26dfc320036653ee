//! Ids as types of their own, so that a stage is never taken for an actor.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a reader stands in a partition of a topic: the number of the next record.
pub type Offset = u64;

/// A partition's number, from 0.
pub type Partition = u32;

/// The number of an event in a spool, from 0.
pub type Sequence = u64;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id with this text; what may stand in it is the configuration's business.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

name!(
    /// One process on one machine.
    NodeId
);
name!(
    /// One configuration file.
    PipelineId
);
name!(
    /// A vertex of a pipeline.
    StageId
);
name!(
    /// A topic's name, as people write it.
    TopicName
);

impl TopicName {
    /// The topic that takes what could not be used of this one's records.
    #[must_use]
    pub fn dead_letters(&self) -> Self {
        Self::new(format!("{self}.dead_letters"))
    }
}

/// A topic's identity: a topic that was deleted and created anew has the old name and another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// A number the coordinator raises each time it places an actor; on one machine it is raised with
/// each start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of an actor within one process, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A running replica of a stage, written `wikimedia/archive/0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId {
    /// The pipeline it belongs to.
    pub pipeline: PipelineId,
    /// The stage it runs.
    pub stage: StageId,
    /// Which of the stage's replicas, from 0.
    pub replica: u32,
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.pipeline, self.stage, self.replica)
    }
}

/// A uuid (version 4) for something that is new with each attempt: a staging file, a commit. Drawn
/// from `fastrand`, so that a seed decides it where histories are to be repeated.
pub fn fresh_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid()
}
