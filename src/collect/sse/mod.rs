//! Server-sent events: the grammar, the connection, and how one connection follows another.
//!
//! [`grammar`] turns bytes into events and knows nothing else. [`session`] decides when the next
//! connection is due and whether a resume can be trusted; it does no I/O. [`connection`] is the
//! thin part between them and the network.
//!
//! **One connection feeds the spool at a time.** Servers cut a connection after a while
//! (Wikimedia's after 15 minutes), so the next one is opened before: its head is awaited while the
//! present one is still read, then the present one is dropped and the new one is read from its
//! first byte. Taking the union of both would be wrong: they interleave the same topics in
//! different orders, and the id of an event from one says nothing about what the other has yet to
//! send. The resume token follows the id of the last event taken from the connection that is read,
//! known ones included ([`token`] says how); what it repeats is dropped by the collector, by event id.

pub mod connection;
pub mod grammar;
pub mod session;
pub mod token;

pub use connection::{Connector, Stream};
pub use session::Overlap;
