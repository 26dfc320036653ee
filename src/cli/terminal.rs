//! What a person sees: answers, complaints, log lines, progress bars on a terminal and plain lines
//! elsewhere.
//!
//! Whoever closes the pipe (`howdah table show … | head`) has read what they wanted: the rest of the
//! output goes nowhere, and what the command is doing goes on to its end.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::fault::{Fault, Result};

/// `say!(…)?`: one line of the answer, on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::terminal::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// `complain!(…)`: one line for the person, on standard error.
macro_rules! complain {
    ($($text:tt)*) => { $crate::cli::terminal::write_error(format_args!($($text)*)) };
}

pub(super) use {complain, say};

/// Writes a piece of the answer as it is.
///
/// # Errors
/// Standard output takes no more, like a file on a full disk; a closed pipe is none.
pub fn write(text: impl fmt::Display) -> Result<()> {
    write_bytes(text.to_string().as_bytes())
}

/// Writes bytes of the answer; see [`write`].
///
/// # Errors
/// Those of [`write`].
pub fn write_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::io("standard output", &error)),
        _ => Ok(()),
    }
}

/// Writes a line for the person. Where standard error takes none there is nobody to tell.
pub fn write_error(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Sets up logging to standard error; once per process.
///
/// # Errors
/// What is wrong with the filter.
pub fn log(filter: &str, json: bool, quiet: bool) -> Result<(), String> {
    // The start of the web server is said once, by the node; and a client's broken request, which is answered, is
    // nobody's error here.
    let filter = match filter {
        "info" if quiet => "error",
        "info" => "info,actix_server=warn,actix_http=off",
        other => other,
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    let set = if json { lines.json().try_init() } else { lines.try_init() };
    set.map_err(|error| error.to_string())
}

/// A progress bar on a terminal; elsewhere a line each tenth of the way.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    said: u64,
}

impl Progress {
    /// Progress over `what`: `segments`.
    pub fn new(what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}") {
                bar.set_style(style);
            }
            bar.set_message(what);
            bar
        });
        Self { bar, what, said: 0 }
    }

    /// So many of so many are done.
    pub fn at(&mut self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None if done * 10 / total.max(1) > self.said || done == total => {
                self.said = done * 10 / total.max(1);
                complain!("{done}/{total} {}", self.what);
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A number with thin groups of three digits, for people.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many of these: `1 record`, `1,234 records`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let seen: Vec<_> = [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped).into();
        assert_eq!(seen, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }
}
