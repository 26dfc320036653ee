//! What a loader wants of a sink, whatever it is.

use std::io::Write;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::transform::Row;
use crate::{
    fault::{Fault, Result},
    model::{Millis, Offset, Partition, TopicId},
};

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The topic's identity.
    pub topic: TopicId,
    /// The partition.
    pub partition: Partition,
    /// Whether the topic has others.
    pub has_others: bool,
    /// The record.
    pub offset: Offset,
    /// Which of its elements.
    pub element: u32,
    /// Whether records have several.
    pub is_exploded: bool,
    /// The record's bus time.
    pub time: Millis,
}

/// A row as the sink wants it written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its bytes.
    pub text: Bytes,
    /// What another row would overwrite it by, if there is such a thing: two rows with the same one are one in
    /// the sink.
    pub identity: Option<Vec<u8>>,
}

/// What a sink answers to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A verdict on each row.
    Each(Verdicts),
    /// Something in it cannot be taken, and nobody knows what; some of it may have been. Its words.
    Bad(String),
    /// It is too large. Its words.
    TooLarge(String),
    /// Everything is refused for now, whatever it is: the same again, later.
    Later(Fault),
    /// Nothing is known of it, and its rows may be why: an error of the server's own, or no answer in time.
    Unclear(Fault),
}

/// The sink has taken all rows of a request but these, which are given by their places in it.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    /// Those that it will never take, and its words.
    pub refused: Vec<(usize, String)>,
    /// Those that it may take later.
    pub later: Vec<usize>,
    /// Those that it failed on, and its words; perhaps they are why.
    pub unclear: Vec<(usize, String)>,
    /// Why later, or in what it failed.
    pub fault: Option<Fault>,
}

impl Verdicts {
    /// Whether there are no others.
    pub fn is_all_taken(&self) -> bool {
        self.refused.is_empty() && self.later.is_empty() && self.unclear.is_empty()
    }
}

impl Answer {
    /// All rows were taken.
    pub fn all_taken() -> Self {
        Self::Each(Verdicts::default())
    }

    /// What comes of a request that has no answer: a server that is not reached says nothing of the rows.
    pub(super) fn none((fault, is_reached): (Fault, bool)) -> Self {
        if is_reached { Self::Unclear(fault) } else { Self::Later(fault) }
    }

    /// It comes from this sink.
    pub(super) fn of(self, sink: &str) -> Self {
        match self {
            Self::Later(fault) => Self::Later(fault.at(sink)),
            Self::Unclear(fault) => Self::Unclear(fault.at(sink)),
            verdict => verdict,
        }
    }
}

/// A sink: what is written to it twice is there once.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What to call it in messages: its kind and address, without secrets.
    fn describe(&self) -> String;

    /// Writes a row the way the sink wants it.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn write(&self, row: &Row<'_>, place: &Place) -> std::result::Result<Written, String>;

    /// Asks the sink for something that changes nothing in it: is it there, and does it know who asks?
    ///
    /// # Errors
    /// What keeps rows from being taken, with what to mend.
    async fn probe(&self) -> Result<()>;

    /// Brings rows into the sink, in one request.
    async fn send(&self, rows: &[Bytes]) -> Answer;
}

/// What goes on around a delivery.
#[async_trait]
pub trait Around: Send + Sync {
    /// A request was answered: something gets on.
    fn answered(&self);

    /// The sink does not take what it was sent for now, for the `attempt`-th time in a row: waits.
    async fn wait(&self, fault: &Fault, attempt: u32);
}

/// These rows, each on a line of its own, as a request's body; made where it may take its time.
///
/// # Errors
/// `Internal`: a helper thread died.
pub(super) async fn body(rows: Vec<Bytes>, gzip: bool) -> Result<Vec<u8>> {
    let making = move || {
        let mut plain = Vec::with_capacity(rows.iter().map(|row| row.len() + 1).sum());
        for row in rows {
            plain.extend_from_slice(&row);
            plain.push(b'\n');
        }
        if !gzip {
            return Ok(plain);
        }
        let mut packed = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
        packed.write_all(&plain).and_then(|()| packed.finish())
    };
    let made = tokio::task::spawn_blocking(making).await;
    let made = made.map_err(|error| Fault::internal(format!("a helper thread died: {error}")))?;
    made.map_err(|error| Fault::internal(format!("compression: {error}")))
}
