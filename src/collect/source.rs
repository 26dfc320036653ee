//! What a collector wants of a source, whatever it is.
//!
//! A [`Source`] hands out what it received, with the token by which it is taken up again. It may be
//! dropped while it waits and asked again: nothing is lost by that. What time may heal it tells as
//! [`Received::Disconnected`] and heals by itself; an error is final.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{Settings, SourceSettings, folder, poll, sse};
use crate::{
    fault::{Fault, Result},
    model::{Clock, Millis},
};

/// Where a source is taken up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The token of the last event taken; empty for none.
    pub token: Bytes,
    /// Without a token: ask for events since then; `None` asks for what comes.
    pub since: Option<Millis>,
    /// An event that is repeated is surely known if no more than so many were taken after it.
    pub known_for: u64,
}

/// An event as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The resume token as of this event. Empty if the source gives none.
    pub token: Bytes,
    /// Its data, verbatim.
    pub data: Bytes,
}

/// What [`Source::next`] answers.
#[derive(Debug)]
pub enum Received {
    /// A connection is open and is the one that is read from now on. Parts of an oversized event
    /// that has not ended are void.
    Connected {
        /// Whether it was resumed by an event's token.
        resumed: bool,
    },
    /// Events in order, at least one.
    Events(Vec<RawEvent>),
    /// The next bytes of what is to be kept as a file, since it is above the bound or of no use; void unless an
    /// end follows.
    OversizedPart(Bytes),
    /// That is complete.
    OversizedEnd {
        /// As of [`RawEvent::token`].
        token: Bytes,
        /// Why it is of no use, unless it is only too large.
        unreadable: Option<String>,
    },
    /// What came of an oversized event so far is void: no end follows.
    OversizedVoid,
    /// So many times at which it should have been asked have passed: the answer before took too long, or nobody
    /// was there to ask.
    Missed(u64),
    /// The connection is over, or the next one could not be opened. The following calls go on by
    /// themselves.
    Disconnected {
        /// Why. Log it.
        fault: Fault,
        /// Whether a connection is still read (the attempt to open the next one failed).
        reading: bool,
        /// The next attempt begins after this time; zero if one is under way.
        again_in: Duration,
    },
}

/// See the module's text.
#[async_trait]
pub trait Source: Send {
    /// What is received next. Opens, reads, waits and changes connections as needed; dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// Only what time does not heal; the source is of no more use then.
    async fn next(&mut self) -> Result<Received>;

    /// Lets go of what is open. The next call opens it again, and goes on after the last event handed out, as
    /// far as the source can.
    fn hang_up(&mut self);
}

/// What a source may use besides its settings.
#[derive(Clone)]
pub struct Around {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// How many of the events handed out are durable.
    pub durable: watch::Receiver<u64>,
}

/// Opens the source of these settings; nothing is asked for before its first [`Source::next`].
///
/// # Errors
/// `User`: the settings cannot be used.
pub fn open(settings: &Settings, resume: Resume, around: Around) -> Result<Box<dyn Source>> {
    Ok(match &settings.source {
        SourceSettings::Sse(settings) => Box::new(sse::Stream::new(settings, resume)?),
        SourceSettings::Poll(settings) => Box::new(poll::Polling::new(settings, &resume, around.clock)?),
        SourceSettings::Folder(told) => Box::new(folder::Folder::new(told, &settings.spool.path, &resume, around)),
    })
}
