//! The grid of windows and hours, and the rule by which an hour is final.
//!
//! Windows are tumbling and aligned to 1970. They divide an hour or are whole hours, so that an
//! *hour* holds whole windows; it is the unit in which the table is written and becomes final. For
//! windows wider than an hour the unit is the window itself, and every "hour" below means that.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::model::Millis;

/// The widest window there may be.
pub const MAX_WINDOW: Duration = Duration::from_secs(31 * 24 * 3600);

const HOUR: Millis = 3_600_000;

// What every reader can hold: Spark refuses Parquet times before 1900 as ambiguous, and whoever
// counts nanoseconds in 64 bits ends in 2262. The widest window fits in between on both sides.
const EARLIEST: Millis = -2_177_452_800_000; // 1901-01-01
const LATEST: Millis = 9_214_646_400_000; // 2262-01-01

/// An hour of a table, by the time it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(Millis);

impl Hour {
    /// When it begins.
    pub fn start(self) -> Millis {
        self.0
    }

    /// The day it begins on, `2015-09-12`: the value of the partition column `dt`.
    pub fn date(self) -> String {
        let mut text = self.to_string();
        text.truncate(text.find('T').unwrap_or(text.len()));
        text
    }

    /// Its name within its day, `14`: two digits.
    pub fn name(self) -> String {
        let text = self.to_string();
        text.split('T').nth(1).map_or_else(|| text.clone(), |time| time.chars().take(2).collect())
    }

    /// The hour written like this, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(|time| Self(time.as_millisecond()))
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&rfc3339(self.0))
    }
}

/// A time as people and readers of tables write it: `2015-09-12T14:00:00Z`.
pub fn rfc3339(time: Millis) -> String {
    Timestamp::from_millisecond(time).map_or_else(|_| format!("{time} ms"), |time| time.to_string())
}

/// Where windows and hours begin, and when an hour is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    window: Millis,
    unit: Millis,
    lateness: Millis,
}

impl Grid {
    /// The grid of windows of this width, a divisor or a multiple of an hour.
    pub fn new(window: Millis, lateness: Millis) -> Self {
        let window = window.max(1);
        Self { window, unit: window.max(HOUR), lateness: lateness.max(0) }
    }

    /// Whether a time is one that a table can hold.
    pub fn holds(time: Millis) -> bool {
        (EARLIEST..LATEST).contains(&time)
    }

    /// When the window of this time begins.
    pub fn window_of(&self, time: Millis) -> Millis {
        time.div_euclid(self.window) * self.window
    }

    /// The hour of this time.
    pub fn hour_of(&self, time: Millis) -> Hour {
        Hour(time.div_euclid(self.unit) * self.unit)
    }

    /// When the hour after this one begins.
    pub fn end_of(&self, hour: Hour) -> Millis {
        hour.0.saturating_add(self.unit)
    }

    /// The watermark at which an hour that ends then is final.
    pub fn watermark_of_end(&self, end: Millis) -> Millis {
        end.saturating_add(self.lateness)
    }

    /// The time before which every hour is final under this watermark.
    pub fn final_until(&self, watermark: Millis) -> Millis {
        self.hour_of(watermark.saturating_sub(self.lateness)).0
    }

    /// Whether nothing is added to this hour any more by a partition with this watermark: the
    /// watermark has passed the hour's end plus the lateness. Without a watermark nothing is final.
    pub fn is_final(&self, hour: Hour, watermark: Option<Millis>) -> bool {
        watermark.is_some_and(|watermark| watermark >= self.watermark_of_end(self.end_of(hour)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;

    fn check(window: Millis, time: &str, start: &str, hour: &str) {
        let grid = Grid::new(window, 0);
        let time = Hour::parse(time).unwrap().start();
        assert_eq!((rfc3339(grid.window_of(time)), grid.hour_of(time).to_string()), (start.into(), hour.into()));
    }

    #[test]
    fn a_time_falls_into_its_window_and_its_hour() {
        check(MINUTE, "2015-09-12T14:59:59.999Z", "2015-09-12T14:59:00Z", "2015-09-12T14:00:00Z");
        check(MINUTE, "2015-09-12T15:00:00Z", "2015-09-12T15:00:00Z", "2015-09-12T15:00:00Z");
        check(MINUTE, "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:00Z", "1969-12-31T23:00:00Z");
        check(HOUR, "2015-09-12T14:59:59Z", "2015-09-12T14:00:00Z", "2015-09-12T14:00:00Z");
        check(6 * HOUR, "2015-09-12T14:59:59Z", "2015-09-12T12:00:00Z", "2015-09-12T12:00:00Z");
        check(500, "2015-09-12T14:00:00.999Z", "2015-09-12T14:00:00.5Z", "2015-09-12T14:00:00Z");
    }

    #[test]
    fn an_hour_is_final_when_the_watermark_has_passed_its_end_and_the_lateness() {
        let grid = Grid::new(MINUTE, 10 * MINUTE);
        let hour = grid.hour_of(0);
        assert!(!grid.is_final(hour, None));
        assert!(!grid.is_final(hour, Some(70 * MINUTE - 1)));
        assert!(grid.is_final(hour, Some(70 * MINUTE)));
        assert!(!Grid::new(MINUTE, Millis::MAX).is_final(hour, Some(Millis::MAX - 1)));
    }

    #[test]
    fn the_final_hours_of_a_watermark_are_those_that_end_before_it() {
        for (window, lateness) in [(MINUTE, 10 * MINUTE), (6 * HOUR, 0), (HOUR, 3 * HOUR)] {
            let grid = Grid::new(window, lateness);
            for watermark in (-30 * HOUR..30 * HOUR).step_by(700_000) {
                let until = grid.final_until(watermark);
                let (after, before) = (grid.hour_of(until), grid.hour_of(until - 1));
                assert!(grid.is_final(before, Some(watermark)) && !grid.is_final(after, Some(watermark)));
                assert!(grid.watermark_of_end(until) <= watermark && grid.end_of(before) == until);
            }
        }
    }

    #[test]
    fn the_day_of_an_hour_is_its_partition() {
        for (hour, day) in [("2015-09-12T23:00:00Z", "2015-09-12"), ("1969-12-31T23:00:00Z", "1969-12-31")] {
            assert_eq!(Hour::parse(hour).unwrap().date(), day);
        }
    }

    #[test]
    fn only_times_that_every_reader_can_hold_are_held() {
        for (time, held) in [
            ("1900-12-31T23:59:59.999Z", false),
            ("1901-01-01T00:00:00Z", true),
            ("1970-01-01T00:00:00Z", true),
            ("2261-12-31T23:59:59.999Z", true),
            ("2262-01-01T00:00:00Z", false),
        ] {
            assert_eq!(Grid::holds(Hour::parse(time).unwrap().start()), held, "{time}");
        }
        assert!(!Grid::holds(Millis::MIN) && !Grid::holds(Millis::MAX));
    }
}
