//! Tests that look at the whole: the sources themselves, the real process, other programs as
//! readers. One binary, because linking takes longer than most of them.
// Outer processes know nothing of a paused clock: real time is right here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod alerts;
mod cluster;
mod dependencies;
mod process;
#[allow(dead_code, reason = "the library's own tests need the rest")]
#[path = "servers/client.rs"]
mod servers;
mod sinks;
mod tidy;
mod torture;
