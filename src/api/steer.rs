//! What a person may ask of a node: the one way in for HTTP, the command line and the console.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;

use super::views::PipelineView;
use crate::{
    bus::letters::Letter,
    fault::Result,
    model::{ActorId, Incarnation, NodeId},
    vitals::{Connections, Vitals},
};

/// An order for one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Begin a new life, at once; one that is stopped starts.
    Restart,
    /// Run no more, until it is started or restarted; also over a restart of the process.
    Stop,
    /// Run again after a stop.
    Start,
    /// Take nothing in, until it is resumed; also over a restart of the process.
    Pause,
    /// Take in again after a pause.
    Resume,
    /// Bring what is open to where readers see it: publish the open segment, commit the open windows.
    Roll,
    /// Say that a person knows of its losses: they are shown no more.
    Acknowledge,
}

impl Order {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Restart, Self::Stop, Self::Start, Self::Pause, Self::Resume, Self::Roll, Self::Acknowledge];

    /// The word for it, on the command line and in addresses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Roll => "roll",
            Self::Acknowledge => "acknowledge",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::word).join(", ");
        Self::ALL.into_iter().find(|order| order.word() == word).ok_or(format!("no order {word:?}, there are: {known}"))
    }
}

/// Who gives an order: for the log, and for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// What they call themselves.
    pub who: String,
    /// The address that they come from.
    pub from: String,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.who, self.from)
    }
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The actor's life after it; the last one, if it is stopped.
    pub incarnation: Incarnation,
    /// What happened, for people.
    pub text: String,
}

/// What the clients of one bus count.
pub struct BusFigures {
    /// Which bus this is.
    pub bus: String,
    /// What they count.
    pub connections: Arc<Connections>,
}

/// A node, as whoever looks at it and steers it has it.
#[async_trait]
pub trait Steer: Send + Sync + 'static {
    /// Its name.
    fn node(&self) -> NodeId;

    /// What it runs.
    fn pipelines(&self) -> &[PipelineView];

    /// What its actors count, in the order of a record's life.
    fn actors(&self) -> &[Arc<Vitals>];

    /// The dead letters of a pipeline's topics, oldest first: those among the `newest` records of each.
    ///
    /// # Errors
    /// `User`: there is no such pipeline. Those of the bus, which may take its time.
    async fn dead_letters(&self, pipeline: &str, newest: u64) -> Result<Vec<Letter>>;

    /// What the clients of its buses count.
    fn buses(&self) -> Vec<BusFigures>;

    /// Carries an order out and waits until it has taken effect.
    ///
    /// # Errors
    /// `User`: there is no such actor, or the order means nothing to its kind. Else what kept it from being done.
    async fn order(&self, actor: &ActorId, order: Order, by: &By) -> Result<Done>;
}
