//! The real process, looked at from outside: what it prints, how it ends, what it leaves behind.
//! What went in comes from a server of the test's own; what came out is judged by `tests/judge`,
//! which shares no code with howdah.

mod again;
mod archive_verify;
mod bad_input;
mod damage;
mod disk;
mod folder;
mod fuzz;
pub mod harness;
mod help;
mod main_job;
pub mod memory;
pub mod prometheus;
mod restarts;
mod secrets;
mod service;
pub mod steer;
mod traces;
