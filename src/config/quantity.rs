//! Sizes and durations, written with their unit: `128MiB`, `10s`.
//!
//! A quantity is one whole number and one unit without a space, so that each has few spellings and
//! a search finds it. The unit is part of the value and never of the key.

use std::time::Duration;

use super::{complaint::quoted, form::Text};

/// How a size is written.
pub const SIZE: Text = Text {
    words: "a size: a whole number and B, KB, MB, GB, TB (powers of 1000) \
            or KiB, MiB, GiB, TiB (powers of 1024), like \"128MiB\"",
    pattern: "[0-9]+(?:B|[KMGT]i?B)",
};

/// How a duration is written.
pub const DURATION: Text =
    Text { words: "a duration: a whole number and ms, s, m, h or d, like \"10s\"", pattern: "[0-9]+(?:ms|[smhd])" };

/// 1024 bytes.
pub const KIB: u64 = 1 << 10;
/// 1024 KiB.
pub const MIB: u64 = 1 << 20;
/// 1024 MiB.
pub const GIB: u64 = 1 << 30;
/// 1024 GiB.
pub const TIB: u64 = 1 << 40;

/// A thousandth of a second.
pub const MILLISECOND: Duration = Duration::from_millis(1);
/// A second.
pub const SECOND: Duration = Duration::from_secs(1);
/// 60 seconds.
pub const MINUTE: Duration = Duration::from_secs(60);
/// 60 minutes.
pub const HOUR: Duration = Duration::from_secs(60 * 60);
/// 24 hours.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Units of size in bytes. Of two that fit, the first is the one to show.
const SIZES: [(&str, u64); 9] = [
    ("TiB", TIB),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", KIB),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of time in milliseconds, the largest first.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size in bytes.
///
/// # Errors
/// What is wrong and how a size is written.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZES, SIZE)
}

/// Reads a duration.
///
/// # Errors
/// What is wrong and how a duration is written.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS, DURATION).map(Duration::from_millis)
}

/// A size as it would be written.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES, "B")
}

/// A duration as it would be written; what is below a millisecond is left out.
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "s")
}

fn parse(text: &str, units: &[(&str, u64)], forms: Text) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let Some(factor) = factor.filter(|_| !number.is_empty()) else {
        return Err(format!("{} is not {forms}", quoted(text)));
    };
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    total.ok_or_else(|| format!("{} is too large", quoted(text)))
}

fn show(total: u64, units: &[(&str, u64)], zero: &str) -> String {
    let whole = units.iter().find(|(_, factor)| total > 0 && total.is_multiple_of(*factor));
    match whole {
        Some((unit, factor)) => format!("{}{unit}", total / factor),
        None => format!("0{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [
            ("0B", 0),
            ("100B", 100),
            ("512KiB", 524_288),
            ("128MiB", 134_217_728),
            ("8GiB", 8_589_934_592),
            ("3TiB", 3_298_534_883_328),
            ("7KB", 7_000),
            ("10MB", 10_000_000),
            ("2GB", 2_000_000_000),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_size(134_217_728), "128MiB");
        assert_eq!(show_size(10_000_000), "10MB");
        assert_eq!(show_size(100), "100B");
        assert_eq!(show_size(0), "0B");
    }

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in [
            ("0s", 0),
            ("200ms", 200),
            ("10s", 10_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1500ms", 1_500),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(show_duration(Duration::from_secs(120)), "2m");
    }

    #[test]
    fn what_is_neither_is_refused_with_the_allowed_forms() {
        for bad in ["", "10", "MiB", "10 MiB", "1.5MiB", "-1B", "10mib", "10Mib", "10MiB ", "1_000B", "１B", "10s"] {
            assert_eq!(parse_size(bad), Err(format!("{bad:?} is not {SIZE}")));
        }
        for bad in ["", "10", "s", "10 s", "1.5s", "-1s", "10S", "1h30m", "10sec", "1w", "+1s", "10MiB"] {
            assert_eq!(parse_duration(bad), Err(format!("{bad:?} is not {DURATION}")));
        }
        assert_eq!(parse_size("99999999999999999999B"), Err("\"99999999999999999999B\" is too large".to_owned()));
        assert_eq!(parse_size("99999999TiB"), Err("\"99999999TiB\" is too large".to_owned()));
        assert_eq!(parse_duration("18446744073709551615d"), Err("\"18446744073709551615d\" is too large".to_owned()));
    }
}
