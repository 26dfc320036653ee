//! Names of event files: made of a time, and so that names only move forward.
//!
//! A name is a function of a *stamp*, microseconds since 1970: the time floored to the template's
//! finest field, and, where more than one event falls into that, how many microseconds the stamp is
//! behind it. Each event's stamp is above that of the event before it, also when the clock went
//! back, so the order of the names (as bytes) is the order of the events. With `%f` the finest field
//! is the microsecond itself and nothing is added; `response_%Y%m%d_%H%M%S.json` is followed by
//! `response_…_000001.json`. Advancing the time to the next free second instead would make the names
//! of a busy source run ahead of the clock for good.

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    fault::{Fault, Result},
    model::Millis,
};

/// The name people use for events of a stream.
pub const DEFAULT: &str = "change_%Y%m%d_%H%M%S%f.json";

/// How a template is written.
pub const FORMS: &str = "a file's name with the fields %Y%m%d, %H, %M, %S, %f (microseconds) from coarse to fine, none \
                         left out in between, and behind the last one at most an extension";

/// A template's bytes at most: the longest name of most file systems is 255.
const MAX_LEN: usize = 100;

/// Microseconds.
const SECOND: i64 = 1_000_000;

/// The fields from coarse to fine, and for how many microseconds each stands still. What does not
/// say the day at least names too few files.
const FIELDS: [(char, Option<i64>); 7] = [
    ('Y', None),
    ('m', None),
    ('d', Some(86_400 * SECOND)),
    ('H', Some(3_600 * SECOND)),
    ('M', Some(60 * SECOND)),
    ('S', Some(SECOND)),
    ('f', Some(1)),
];

/// The template of event files' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    // Up to the last field, as the formatter has it.
    fields: String,
    // Behind it: empty, or a dot and more.
    extension: String,
    // Microseconds in which the finest field stands still.
    step: i64,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text:?}: {what}, allowed: {FORMS}"));
        if text.len() > MAX_LEN || text.chars().any(|c| c == '/' || c.is_control()) {
            return wrong("no name of a file");
        }
        if text.starts_with(['.', '_']) {
            return wrong("readers pass over names that begin with \".\" or \"_\"");
        }
        let mut pieces = text.split('%');
        let mut fields = pieces.next().unwrap_or_default().to_owned();
        let (mut step, mut extension) = (None, String::new());
        for (number, piece) in pieces.enumerate() {
            let Some((letter, this)) = FIELDS.get(number).filter(|(letter, _)| piece.starts_with(*letter)) else {
                return wrong(&format!("%{} does not belong there", piece.chars().next().unwrap_or('%')));
            };
            fields.push_str(&extension);
            fields.push('%');
            // Without a width the formatter leaves zeros out.
            if *letter == 'f' {
                fields.push('6');
            }
            fields.push(*letter);
            extension = piece[letter.len_utf8()..].to_owned();
            step = *this;
        }
        let Some(step) = step else { return wrong("the fields must say the day at least") };
        // What is added to a name stands before the extension and must not sort before it.
        if !(extension.is_empty() || extension.starts_with('.')) {
            return wrong(&format!("{extension:?} stands behind the last field"));
        }
        Ok(Self { fields, extension, step })
    }

    /// The stamp of an event that was received then, behind that of the event before it.
    pub fn stamp(&self, last: Option<i64>, received: Millis) -> i64 {
        let floor = self.floor(received.saturating_mul(1_000));
        last.map_or(floor, |last| floor.max(last.saturating_add(1)))
    }

    /// The name of the event with this stamp; of another one for another stamp.
    ///
    /// # Errors
    /// `Data`: a time that no calendar has.
    pub fn name(&self, stamp: i64) -> Result<String> {
        let fault = |error: jiff::Error| Fault::data(format!("event file of time {stamp} µs: {error}"));
        let time = Timestamp::from_microsecond(self.floor(stamp)).map_err(fault)?.to_zoned(TimeZone::UTC);
        let mut name = jiff::fmt::strtime::format(&self.fields, &time).map_err(fault)?;
        let (behind, width) = (stamp - self.floor(stamp), self.digits());
        if behind > 0 {
            name.push_str(&format!("_{behind:0width$}"));
        }
        Ok(name + &self.extension)
    }

    /// No name is longer than this, in bytes.
    pub fn longest(&self) -> usize {
        // Of the fields only the year (with a sign) and the microseconds are longer than in the template.
        self.fields.len() + 3 + 3 + 1 + self.digits() + self.extension.len()
    }

    fn floor(&self, stamp: i64) -> i64 {
        stamp.div_euclid(self.step).saturating_mul(self.step)
    }

    fn digits(&self) -> usize {
        (self.step - 1).checked_ilog10().map_or(0, |log| log as usize + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-09-12T00:00:00.123Z.
    const TIME: Millis = 1_442_016_000_123;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    /// The names of events received at these times.
    fn names(text: &str, received: &[Millis]) -> Vec<String> {
        let (template, mut last) = (template(text), None);
        let mut name = |received| {
            last = Some(template.stamp(last, received));
            let name = template.name(last.unwrap()).unwrap();
            assert!(name.len() <= template.longest(), "{name}");
            name
        };
        received.iter().map(|&received| name(received)).collect()
    }

    #[test]
    fn names_are_those_that_people_use() {
        assert_eq!(names(DEFAULT, &[TIME]), ["change_20150912_000000123000.json"]);
        assert_eq!(names("response_%Y%m%d_%H%M%S.json", &[TIME]), ["response_20150912_000000.json"]);
        assert_eq!(names("%Y-%m-%d", &[TIME]), ["2015-09-12"]);
        assert_eq!(names(DEFAULT, &[-1]), ["change_19691231_235959999000.json"]);
    }

    #[test]
    fn many_events_of_one_moment_have_names_of_their_own() {
        let expected = ["change_20150912_000000123000.json", "change_20150912_000000123001.json"];
        assert_eq!(names(DEFAULT, &[TIME; 2]), expected);
        let expected = ["r_20150912_000000.json", "r_20150912_000000_000001.json", "r_20150912_000000_000002.json"];
        assert_eq!(names("r_%Y%m%d_%H%M%S.json", &[TIME; 3]), expected);
        assert_eq!(names("%Y%m%d%H%M", &[TIME, TIME])[1], "201509120000_00000001");
    }

    #[test]
    fn names_move_forward_whatever_the_clock_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        for text in [DEFAULT, "r_%Y%m%d_%H%M%S.json", "r-%Y.%m.%d", "%Y%m%dT%H.txt", "%Y%m%d%H%M"] {
            let mut time = TIME;
            let mut times: Vec<Millis> = vec![TIME, TIME + 1_000, TIME - 5_000, TIME + 2_000, TIME + 86_400_000];
            times.extend((0..500).map(|_| {
                time += rng.i64(-1_500..2_000) * rng.i64(0..100);
                time
            }));
            let names = names(text, &times);
            assert!(names.is_sorted_by(|a, b| a < b), "{text}: {names:?}");
        }
    }

    #[test]
    fn a_full_second_goes_on_in_the_next_one() {
        let template = template("%Y%m%d_%H%M%S.json");
        let second = template.stamp(None, TIME);
        let last = second + SECOND - 1;
        assert_eq!(template.name(last).unwrap(), "20150912_000000_999999.json");
        let next = template.stamp(Some(last), TIME);
        assert_eq!(template.name(next).unwrap(), "20150912_000001.json");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let check = |text: &str, says: &str| {
            let wrong = Template::parse(text).unwrap_err();
            assert!(wrong.contains(says) && wrong.ends_with(FORMS), "{text}: {wrong}");
        };
        for none in ["", "change.json", "change_%Y.json", "change_%Y%m.json"] {
            check(none, "the fields must say the day at least");
        }
        for (text, letter) in [("%d%m%Y", 'd'), ("%Y%m%d%S", 'S'), ("%Y%m%d%d", 'd'), ("%Y%m%d%%", '%'), ("%Y%j", 'j')]
        {
            check(text, &format!("%{letter} does not belong there"));
        }
        check("%Y%m%d%H%M%S%f%f", "%f does not belong there");
        check("%Y%m%d_a.json", "\"_a.json\" stands behind the last field");
        for hidden in [".%Y%m%d", "_%Y%m%d"] {
            check(hidden, "readers pass over names");
        }
        for bad in ["a/%Y%m%d", "a\0%Y%m%d", "\n%Y%m%d", &format!("{}%Y%m%d", "x".repeat(100))] {
            check(bad, "no name of a file");
        }
    }
}
