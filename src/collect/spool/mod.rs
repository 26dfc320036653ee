//! The spool: a collector's events on disk, from their receipt until the bus has them.
//!
//! A spool is a folder with `spool.json`, which says whose it is, and data files named by a number
//! (`00000000000000000007.spool`). A file is a header of [`HEADER_LEN`] bytes and frames; a frame
//! is an event, or the letter about one that could not be taken, with a checksum and a *sequence*.
//! Sequences count from 0 for as long as the spool exists and never repeat: the newest file stays,
//! even when all that was in it is gone from the spool.
//!
//! **A file has one writer, and each life of a writer has files of its own.** A new writer creates
//! the next file, then looks where the last valid frame of the file before ends, makes that
//! durable, and writes both into the header of its own file. So the files are a chain, read
//! backwards from the newest header, and *what a file holds behind the length its successor names
//! is not spool*: a writer that was thought dead may go on appending there, nobody reads it. It
//! learns so with its next sync, which fails as fenced once a file with a higher number exists;
//! and because the successor creates its file *before* it looks, whatever a sync has confirmed lies
//! within the recorded length. Nor does it come back: of the lives that share a [`Link`] an older one
//! begins no file after a younger.
//!
//! **Nothing that was confirmed is lost in silence.** The end of the newest file may be torn; what
//! does not check out there ends it. But each frame says up to where the file was durable when it
//! was written: a bad frame below that is damage and a fault of kind
//! [`Lost`](crate::fault::Kind::Lost), and so is one below a recorded length. A newer file without
//! a header never held anything and is ignored.
//!
//! A disk that comes back without its last bytes does not look damaged: the newest file just ends
//! earlier. What the bus bears of them it has, so the writer goes on behind the bus's position
//! ([`Writer::skip_to`]), in a file that names none before it.
//!
//! **Layouts.** *Packed*, a frame holds its event. With a *file per event*, the event is a file in the
//! folder `events`, for other programs to read, and the frame says its name, length and checksum; all
//! else is as it is packed. `files.rs` says in which order file, frame and name become durable.
//! Each frame stands for itself, so what one run has left in a layout the next one reads whatever its
//! own is. Event files go with the data file that names them.
//!
//! Writer and reader live in two actors of one process and tell each other through a [`Link`] how
//! far the spool is durable and how far it is no more needed. Everything here but
//! [`Writer::room`] blocks: call it off the async threads.

mod chain;
mod cursor;
mod files;
pub mod filling;
mod frame;
mod fresh;
mod header;
pub mod naming;
mod reader;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

pub use files::{Foreign, event_folder};
pub use header::HEADER_LEN;
pub use reader::{Reader, recent};
pub use writer::{Owner, Recovered, Writer};

use crate::{
    fault::{Fault, Kind as Fate, Result},
    model::{Incarnation, Millis, Sequence},
};

/// What an entry of a spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An event: its payload is the record.
    Event,
    /// A dead letter of the collector: its payload says, as JSON, what could not be taken and why.
    Letter,
}

/// What a writer is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// When it was received.
    pub received: Millis,
    /// The source's resume token as of this entry; empty: as of the entry before.
    pub token: Bytes,
    /// The event's own id, for de-duplication; empty if it has none.
    pub id: Bytes,
    /// The event, verbatim.
    pub payload: Bytes,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number in the spool.
    pub sequence: Sequence,
    /// What was given to the writer.
    pub entry: Entry,
    /// The name of the event's own file, in the [folder of these](event_folder); `None` if it has none.
    pub file: Option<String>,
}

/// A place in a spool: before the entry `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which spool's place it is.
    pub spool: Uuid,
    /// All entries with a lower sequence lie before it.
    pub next: Sequence,
}

/// What the writer and the reader of one spool tell each other. It outlives both: a restarted
/// writer gets the same link, and the reader goes on.
#[derive(Clone, Debug)]
pub struct Link(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    made: AtomicI64,
    first: AtomicU64,
    youngest: Mutex<Incarnation>,
    durable: watch::Sender<Option<Place>>,
    released: watch::Sender<Option<Place>>,
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// A link over which nothing was said yet.
    pub fn new() -> Self {
        let (durable, released) = (watch::Sender::new(None), watch::Sender::new(None));
        let (made, first, youngest) = (AtomicI64::new(0), AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Ends { made, first, youngest, durable, released }))
    }

    /// How far the spool is durable; `None` until a writer has opened it.
    pub fn durable(&self) -> watch::Receiver<Option<Place>> {
        self.0.durable.subscribe()
    }

    /// How far the spool is no more needed; `None` until a reader has said so.
    pub fn released(&self) -> watch::Receiver<Option<Place>> {
        self.0.released.subscribe()
    }

    /// The first entry that the spool still had when it was opened.
    pub fn first(&self) -> Sequence {
        self.0.first.load(Ordering::Acquire)
    }

    /// When the spool was made, ms since 1970; 0 until a writer has opened it.
    pub fn made(&self) -> Millis {
        self.0.made.load(Ordering::Acquire)
    }

    // Lets a life begin a file, unless a younger one has begun one before. Under one lock: a thread that was
    // given up may wake at any step, and its file would fence the one that counts.
    fn take_turn<T>(&self, life: Incarnation, begin: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut youngest = self.0.youngest.lock().unwrap_or_else(PoisonError::into_inner);
        if life < *youngest {
            let message = format!("life {life} of the collector would open the spool of life {youngest}");
            return Err(Fault::internal(message).kind(Fate::Fenced));
        }
        *youngest = life;
        begin()
    }

    // A writer has found this spool, which was made then and begins with `first`: it can be read.
    fn opened(&self, made: Millis, first: Sequence, at: Place) {
        self.0.made.store(made, Ordering::Release);
        self.0.first.store(first, Ordering::Release);
        self.0.durable.send_modify(|durable| *durable = Some(further(*durable, at)));
    }

    // A writer that was replaced meanwhile is late with its news, or speaks of a spool that is no
    // more: neither moves the end back.
    fn synced(&self, at: Place) {
        self.0.durable.send_if_modified(|durable| {
            let moves = durable.is_some_and(|d| d.spool == at.spool && d.next < at.next);
            if moves {
                *durable = Some(at);
            }
            moves
        });
    }

    fn release(&self, at: Place) {
        self.0.released.send_modify(|released| *released = Some(further(*released, at)));
    }
}

fn further(old: Option<Place>, new: Place) -> Place {
    match old {
        Some(old) if old.spool == new.spool && old.next > new.next => old,
        _ => new,
    }
}
