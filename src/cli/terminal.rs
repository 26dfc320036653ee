//! What a person sees: log lines, progress bars on a terminal and plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

/// Sets up logging to standard error; once per process.
///
/// # Errors
/// What is wrong with the filter.
pub fn log(filter: &str, json: bool, quiet: bool) -> Result<(), String> {
    let filter = if quiet && filter == "info" { "error" } else { filter };
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
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
        let bar = std::io::stderr().is_terminal().then(|| {
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
                eprintln!("{done}/{total} {}", self.what);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let seen: Vec<_> = [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped).into();
        assert_eq!(seen, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }
}
