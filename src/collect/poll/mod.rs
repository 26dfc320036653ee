//! An HTTP API that is asked again and again.
//!
//! Time is cut into *slots* of one period, counted from 1970, and each is asked for once ([`slots`]): a
//! restart asks for none that was answered, and what a slow answer makes pass is counted. [`answer`]
//! says what a body is: one event, or the elements of a list in it, an error that the service dresses
//! as a success, or something nobody can read. `asking` is the request, `polling` the loop.
//!
//! What an API said a moment ago it does not say again, so there is nothing to resume: an event's token
//! is the slot and its place in the answer, which makes events of equal text different ones. Lost by a
//! crash is an answer that was not yet durable; the next slot is asked for as if it had not been. A slot of which
//! pages were still to come counts as missed then.

pub mod answer;
mod asking;
mod polling;
pub mod slots;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use answer::{Next, Reading};
pub use polling::Polling;

use crate::web::Header;

/// Some answers never end: of the first one in a row so many bytes are kept.
pub const MAX_KEPT: u64 = 256 << 20;

/// How a service is asked.
#[derive(Clone, Debug)]
pub struct PollSettings {
    /// Where.
    pub url: String,
    /// How: `GET`, `POST`, …
    pub method: String,
    /// Headers that go along.
    pub headers: Vec<Header>,
    /// A body that goes along.
    pub body: Option<String>,
    /// Sent in the User-Agent, so that the operators of the service can reach a person.
    pub contact: Option<String>,
    /// A slot's length.
    pub period: Duration,
    /// A request begins up to so much later than its slot, by chance: not all of a cluster at once.
    pub jitter: Duration,
    /// An answer is complete within this time, or it is none.
    pub timeout: Duration,
    /// The longest pause after failures in a row.
    pub max_pause: Duration,
    /// An answer with more bytes than this is kept as a file and reported as a dead letter.
    pub max_answer: u64,
    /// Of such an answer so much is kept, if it does not end, and nothing of the next ones.
    pub max_kept: u64,
    /// Pages of one slot at most.
    pub max_pages: u32,
    /// How an answer is read.
    pub reading: Reading,
}
