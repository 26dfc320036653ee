//! Recorded events, served as Wikimedia serves live ones: for the demo, for `serve-events`, and
//! for tests that pull plugs and want to know afterwards what the whole truth was.
//!
//! [`Answers`] are those of an API that is polled, and much simpler. Of events, [`feed`] reads a recording, [`cursor`] is where one connection stands in it and what its ids
//! say, `wire` writes events as text, [`server`] is the rest of HTTP.

mod answers;
pub mod cursor;
pub mod feed;
pub mod server;
mod wire;

pub use answers::{Answers, Serving, serve_answers};
pub use feed::{Feed, Layout};
pub use server::{Options, Progress, Served, serve};
