//! Tests that look at the whole: the sources themselves, the real process, other programs as
//! readers. One binary, because linking takes longer than most of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dependencies;
mod process;
mod tidy;
