//! Reading an event: which filters it meets, when it happened, its keys and its numbers.
//!
//! All pointers are compiled into one [`Extractor`], so that an event is parsed once and no tree
//! is built. What stands at a pointer may be of any type; an odd one makes the event unusable for
//! the table, never an error.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::row::push_text;
use crate::{
    model::{Extractor, Millis, Scalar},
    table::{
        Number, Settings, TimeUnit,
        definition::{Columns, Definition, Op, measure_columns, millis},
        grid::Grid,
    },
};

/// Settings, compiled.
#[derive(Debug)]
pub struct Plan {
    pub(super) grid: Grid,
    pub(super) columns: Columns,
    pub(super) delay: Millis,
    pub(super) future_bound: Millis,
    extractor: Extractor,
    // The slots of the extractor's answer: filters first, then the time, the keys, the measures.
    filters: Vec<(bool, BTreeSet<String>)>,
    time_unit: TimeUnit,
    measures: Vec<(Op, Option<Slots>)>,
}

// Of a number, and of what is taken away from it.
#[derive(Clone, Copy, Debug)]
struct Slots {
    number: usize,
    minus: Option<usize>,
}

/// What the table makes of an event, lateness apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is no JSON, or its time or one of its keys cannot be used (the time it has, if any).
    Unusable(Option<Millis>),
    /// A filter keeps it out (the time it has, if any).
    Filtered(Option<Millis>),
    /// It happened then; its keys are in the scratch.
    Usable(Millis),
}

/// Where a reading puts its keys and numbers; kept from one event to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub key: Vec<u8>,
    pub numbers: Vec<Option<f64>>,
    text: String,
}

impl Plan {
    /// Compiles settings.
    pub fn new(settings: &Settings) -> Self {
        let mut pointers: Vec<_> = settings.filters.iter().map(|filter| &filter.pointer).collect();
        pointers.push(&settings.time);
        pointers.extend(settings.keys.iter().map(|key| &key.pointer));
        let mut measures = Vec::new();
        for (column, number) in settings.measures.iter().flat_map(measure_columns) {
            let slots = number.map(|Number { pointer, minus }| {
                pointers.push(pointer);
                let number = pointers.len() - 1;
                pointers.extend(minus);
                Slots { number, minus: minus.as_ref().map(|_| number + 1) }
            });
            measures.push((column.op, slots));
        }
        let definition = Definition::of(settings);
        Self {
            grid: definition.grid(),
            columns: definition.columns(),
            delay: millis(settings.watermark_delay),
            future_bound: millis(settings.future_bound),
            extractor: Extractor::new(pointers),
            filters: settings.filters.iter().map(|f| (f.include, f.values.iter().cloned().collect())).collect(),
            time_unit: settings.time_unit,
            measures,
        }
    }

    /// The table's columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Where its windows and hours begin.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Reads an event. Filters come first, so that a canary event without keys is one kept out
    /// and not one that is broken.
    pub(super) fn read<'a>(
        &self,
        event: &'a [u8],
        found: &mut Vec<Option<Scalar<'a>>>,
        scratch: &mut Scratch,
    ) -> Reading {
        if self.extractor.extract(event, found).is_err() {
            return Reading::Unusable(None);
        }
        let num_filters = self.filters.len();
        let time = found[num_filters].as_ref().and_then(|scalar| time_of(scalar, self.time_unit));
        for ((include, values), scalar) in self.filters.iter().zip(&*found) {
            let listed =
                scalar.as_ref().and_then(|s| s.text(&mut scratch.text)).is_some_and(|text| values.contains(text));
            if listed != *include {
                return Reading::Filtered(time);
            }
        }
        scratch.key.clear();
        for scalar in &found[num_filters + 1..num_filters + 1 + self.columns.keys.len()] {
            match scalar.as_ref().and_then(|s| s.text(&mut scratch.text)) {
                Some(text) => push_text(&mut scratch.key, text),
                None => return Reading::Unusable(time),
            }
        }
        scratch.numbers.clear();
        let at = |slot: usize| found[slot].as_ref().and_then(number_of);
        scratch.numbers.extend(self.measures.iter().map(|(_, slots)| {
            let Slots { number, minus } = (*slots)?;
            Some(at(number)? - minus.and_then(at).unwrap_or(0.0))
        }));
        time.map_or(Reading::Unusable(None), Reading::Usable)
    }
}

#[allow(clippy::cast_precision_loss)] // exact up to 2⁵³, as `Op::Sum` says
fn number_of(scalar: &Scalar<'_>) -> Option<f64> {
    match scalar {
        Scalar::Int(number) => Some(*number as f64),
        Scalar::Float(number) => Some(*number),
        _ => None,
    }
}

/// When it happened, if what stands there is a time that a table can hold. Fractions of a
/// millisecond are cut off towards the past, so that no event moves into the next window.
fn time_of(scalar: &Scalar<'_>, unit: TimeUnit) -> Option<Millis> {
    let time = match (scalar, unit) {
        (Scalar::Int(seconds), TimeUnit::Seconds) => seconds.checked_mul(1000)?,
        (Scalar::Int(millis), TimeUnit::Millis) => *millis,
        (Scalar::Float(seconds), TimeUnit::Seconds) => whole(seconds * 1000.0),
        (Scalar::Float(millis), TimeUnit::Millis) => whole(*millis),
        (Scalar::Text(text), TimeUnit::Rfc3339) => {
            Millis::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond().div_euclid(1_000_000)).ok()?
        }
        _ => return None,
    };
    Grid::holds(time).then_some(time)
}

#[allow(clippy::cast_possible_truncation)] // `as` stops at the ends, which no table can hold
fn whole(number: f64) -> Millis {
    number.floor() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Filter,
        table::{Measure, MeasureKind, testing},
    };

    fn check(settings: &Settings, event: &str, expected: Reading, keys: &[&str]) {
        let mut scratch = Scratch::default();
        let found = Plan::new(settings).read(event.as_bytes(), &mut Vec::new(), &mut scratch);
        assert_eq!(found, expected, "{event}");
        if matches!(found, Reading::Usable(_)) {
            assert_eq!(super::super::row::texts(&scratch.key), keys, "{event}");
        }
    }

    #[test]
    fn odd_times_and_keys_make_an_event_unusable_and_nothing_else() {
        let settings = testing::settings();
        let good = Reading::Usable(1_442_018_818_000);
        check(&settings, r#"{"timestamp":1442018818,"wiki":"enwiki"}"#, good, &["enwiki"]);
        check(&settings, r#"{"timestamp":1442018818.9999,"wiki":7}"#, Reading::Usable(1_442_018_818_999), &["7"]);
        check(&settings, r#"{"timestamp":1442018818,"wiki":7.50}"#, good, &["7.5"]);
        check(&settings, r#"{"timestamp":1442018818,"wiki":false}"#, good, &["false"]);
        check(&settings, r#"{"timestamp":1442018818,"wiki":""}"#, good, &[""]);
        check(&settings, r#"{"timestamp":-0.001,"wiki":"x"}"#, Reading::Usable(-1), &["x"]);
        for wiki in ["null", "{}", "[\"enwiki\"]"] {
            let event = format!(r#"{{"timestamp":1442018818,"wiki":{wiki}}}"#);
            check(&settings, &event, Reading::Unusable(Some(1_442_018_818_000)), &[]);
        }
        check(&settings, r#"{"timestamp":1442018818}"#, Reading::Unusable(Some(1_442_018_818_000)), &[]);
        for time in ["null", "{}", "true", "\"1442018818\"", "9223372036854775807", "-1e300", "1e18", "-9999999999"] {
            check(&settings, &format!(r#"{{"timestamp":{time},"wiki":"x"}}"#), Reading::Unusable(None), &[]);
        }
        for broken in ["", "{", "{\"timestamp\":1e999,\"wiki\":\"x\"}", "\u{0}"] {
            check(&settings, broken, Reading::Unusable(None), &[]);
        }
    }

    #[test]
    fn a_text_is_a_time_where_texts_are_asked_for() {
        let mut settings = testing::settings();
        settings.time_unit = TimeUnit::Rfc3339;
        let time = |text: &str| format!(r#"{{"timestamp":{text},"wiki":"x"}}"#);
        check(&settings, &time("\"2015-09-12T00:46:58.771Z\""), Reading::Usable(1_442_018_818_771), &["x"]);
        check(&settings, &time("\"2015-09-12T02:46:58.771+02:00\""), Reading::Usable(1_442_018_818_771), &["x"]);
        check(&settings, &time("\"1969-12-31T23:59:59.9995Z\""), Reading::Usable(-1), &["x"]);
        for odd in ["1442018818", "\"yesterday\"", "\"2015-09-12\"", "\"2015-09-12T00:46:58\""] {
            check(&settings, &time(odd), Reading::Unusable(None), &[]);
        }
    }

    #[test]
    fn what_is_taken_away_from_a_number_may_be_missing_and_the_number_may_not() {
        let mut settings = testing::settings();
        let number = Number { pointer: testing::pointer("/length/new"), minus: Some(testing::pointer("/length/old")) };
        settings.measures = vec![
            Measure { name: "edits".into(), kind: MeasureKind::Count },
            Measure { name: "size".into(), kind: MeasureKind::Avg(number.clone()) },
            Measure { name: "bytes".into(), kind: MeasureKind::Sum(number) },
        ];
        let plan = Plan::new(&settings);
        let check = |length: &str, expected: Option<f64>| {
            let mut scratch = Scratch::default();
            let event = format!(r#"{{"timestamp":1,"wiki":"x","length":{length}}}"#);
            plan.read(event.as_bytes(), &mut Vec::new(), &mut scratch);
            assert_eq!(scratch.numbers, [None, expected, expected, expected], "{length}");
        };
        check(r#"{"new":5,"old":7}"#, Some(-2.0));
        check(r#"{"new":5,"old":null}"#, Some(5.0));
        check(r#"{"new":5}"#, Some(5.0));
        check(r#"{"old":7}"#, None);
        check("null", None);
    }

    #[test]
    fn filters_come_before_all_else() {
        let mut settings = testing::settings();
        check(&settings, r#"{"meta":{"domain":"canary"}}"#, Reading::Filtered(None), &[]);
        check(&settings, r#"{"meta":{"domain":"canary"},"timestamp":1}"#, Reading::Filtered(Some(1000)), &[]);
        let pointer = testing::pointer("/bot");
        settings.filters = vec![Filter { pointer, include: true, values: vec!["true".into(), "1".into()] }];
        let event = |bot: &str| format!(r#"{{"timestamp":1,"wiki":"x","bot":{bot}}}"#);
        check(&settings, &event("true"), Reading::Usable(1000), &["x"]);
        check(&settings, &event("1"), Reading::Usable(1000), &["x"]);
        check(&settings, &event("\"1\""), Reading::Usable(1000), &["x"]);
        for out in ["false", "null", "{}", "1.0"] {
            check(&settings, &event(out), Reading::Filtered(Some(1000)), &[]);
        }
    }
}
