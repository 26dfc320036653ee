//! What a table is a function of, as one canonical text that lies with the table.
//!
//! Two aggregators may write the same table only if they mean the same by every row: the topic,
//! the windows, the keys, the filters, the measures, and what makes a record late or impossible.
//! Lateness and the bound on the future belong to it: recovery leans on every hour that is not
//! final having been judged by the same rules from its first record on. The watermark's delay,
//! the idle rule and the commit interval do not: they only say *when* something happens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Key, Measure, MeasureKind, Number, Settings, TimeUnit,
    grid::{Grid, MAX_WINDOW},
};
use crate::{
    fault::{Fault, Result},
    model::{Filter, Millis, Pointer},
};

/// The columns that every table has beside its keys and measures.
pub const RESERVED: [&str; 3] = ["window_start", "window_end", "dt"];

/// The parts of [`Settings`] that a table's rows depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    topic: String,
    window_ms: Millis,
    lateness_ms: Millis,
    future_bound_ms: Millis,
    time: String,
    time_unit: TimeUnit,
    keys: Vec<KeyText>,
    filters: Vec<FilterText>,
    measures: Vec<MeasureText>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    name: String,
    pointer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterText {
    pointer: String,
    include: bool,
    values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasureText {
    name: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minus: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

/// How a measure's column is made from records, and merged from rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// One for each record; added. A whole number.
    CountRecords,
    /// One for each record with a number; added. A whole number.
    CountNumbers,
    /// The numbers' sum; added. Floating point: exact for whole numbers up to 2⁵³.
    Sum,
    /// The smallest number; null if there is none.
    Min,
    /// The largest number; null if there is none.
    Max,
}

impl Op {
    /// Whether its column holds whole numbers (the others hold floating point).
    pub fn whole(self) -> bool {
        matches!(self, Self::CountRecords | Self::CountNumbers)
    }
}

/// A measure's column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub op: Op,
}

/// The columns of a table beside `window_start`, `window_end` and `dt`, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The windows' width in milliseconds: `window_end` is `window_start` plus this.
    pub window: Millis,
    /// Names of the key columns; texts, never null.
    pub keys: Vec<String>,
    /// The measures' columns; an average is two of them.
    pub measures: Vec<Column>,
}

impl Definition {
    /// What these settings say about a table's rows.
    pub fn of(settings: &Settings) -> Self {
        let key = |Key { name, pointer }: &Key| KeyText { name: name.clone(), pointer: pointer.to_string() };
        let filter = |Filter { pointer, include, values }: &Filter| {
            let mut values = values.clone();
            values.sort();
            values.dedup();
            FilterText { pointer: pointer.to_string(), include: *include, values }
        };
        // All filters must hold, so their order means nothing and must not change the text.
        let mut filters: Vec<_> = settings.filters.iter().map(filter).collect();
        filters.sort();
        Self {
            topic: settings.topic.to_string(),
            window_ms: millis(settings.window),
            lateness_ms: millis(settings.lateness),
            future_bound_ms: millis(settings.future_bound),
            time: settings.time.to_string(),
            time_unit: settings.time_unit,
            keys: settings.keys.iter().map(key).collect(),
            filters,
            measures: settings.measures.iter().map(MeasureText::of).collect(),
        }
    }

    /// The definition with this canonical text.
    ///
    /// # Errors
    /// `Data` if it is none, or one of a later version.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Fault::data(format!("is no table definition: {error}: {text}")))
    }

    /// The canonical text: equal for tables whose rows mean the same.
    ///
    /// # Errors
    /// `Internal`, which would be a mistake in this file.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Fault::internal(format!("table definition: {error}")))
    }

    /// The grid of its windows and hours.
    pub fn grid(&self) -> Grid {
        Grid::new(self.window_ms, self.lateness_ms)
    }

    /// How this definition differs from another, a sentence for each part.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let parts = |definition| match serde_json::to_value(definition) {
            Ok(serde_json::Value::Object(parts)) => parts,
            _ => serde_json::Map::new(),
        };
        let (ours, theirs) = (parts(self), parts(other));
        let differ = ours.iter().filter(|(part, value)| theirs.get(*part) != Some(*value));
        differ
            .map(|(part, value)| {
                format!("{part} is {value}, not {}", theirs.get(part).unwrap_or(&serde_json::Value::Null))
            })
            .collect()
    }

    /// The columns that follow from it.
    pub fn columns(&self) -> Columns {
        Columns {
            window: self.window_ms,
            keys: self.keys.iter().map(|key| key.name.clone()).collect(),
            measures: self.measures.iter().flat_map(MeasureText::columns).collect(),
        }
    }
}

impl MeasureText {
    fn of(measure: &Measure) -> Self {
        let kind = match &measure.kind {
            MeasureKind::Count => Kind::Count,
            MeasureKind::Sum(_) => Kind::Sum,
            MeasureKind::Min(_) => Kind::Min,
            MeasureKind::Max(_) => Kind::Max,
            MeasureKind::Avg(_) => Kind::Avg,
        };
        let number = measure.kind.number();
        let pointer = number.map(|number| number.pointer.to_string());
        let minus = number.and_then(|number| number.minus.as_ref()).map(Pointer::to_string);
        Self { name: measure.name.clone(), kind, pointer, minus }
    }

    fn columns(&self) -> Vec<Column> {
        columns_of(self.kind, &self.name)
    }
}

impl MeasureKind {
    /// The number it measures; a count measures none.
    fn number(&self) -> Option<&Number> {
        match self {
            Self::Count => None,
            Self::Sum(number) | Self::Min(number) | Self::Max(number) | Self::Avg(number) => Some(number),
        }
    }
}

/// The columns of one measure, with the number each of them is made of.
pub(super) fn measure_columns(measure: &Measure) -> Vec<(Column, Option<&Number>)> {
    let number = measure.kind.number();
    MeasureText::of(measure).columns().into_iter().map(|column| (column, number)).collect()
}

fn columns_of(kind: Kind, name: &str) -> Vec<Column> {
    let column = |name: String, op| Column { name, op };
    match kind {
        Kind::Count => vec![column(name.to_owned(), Op::CountRecords)],
        Kind::Sum => vec![column(name.to_owned(), Op::Sum)],
        Kind::Min => vec![column(name.to_owned(), Op::Min)],
        Kind::Max => vec![column(name.to_owned(), Op::Max)],
        Kind::Avg => {
            vec![column(format!("{name}_sum"), Op::Sum), column(format!("{name}_count"), Op::CountNumbers)]
        }
    }
}

/// What is wrong with settings that no table can be made of; empty if nothing is. The
/// configuration's check says the same things with file and line.
pub fn complaints(settings: &Settings) -> Vec<String> {
    let mut complaints = Vec::new();
    let window = settings.window.as_nanos();
    let (milli, hour) = (Duration::from_millis(1).as_nanos(), Duration::from_secs(3600).as_nanos());
    let fits = hour.is_multiple_of(window) || window.is_multiple_of(hour);
    if window == 0 || !window.is_multiple_of(milli) || !fits {
        complaints.push(format!("window {:?}: it must divide an hour or be whole hours", settings.window));
    } else if settings.window > MAX_WINDOW {
        complaints.push(format!("window {:?}: at most {MAX_WINDOW:?}", settings.window));
    }
    if settings.measures.is_empty() {
        complaints.push("no measures: name at least one, like a count".to_owned());
    }
    let mut seen: Vec<String> = RESERVED.map(str::to_owned).into();
    let keys = settings.keys.iter().map(|key| key.name.clone());
    let measures = settings.measures.iter().flat_map(measure_columns).map(|(column, _)| column.name);
    for name in keys.chain(measures) {
        // Hive and Spark fold case and take no other characters without quotes or column mapping.
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            complaints.push(format!("column {name:?}: letters, digits and _ only, no digit first"));
        }
        let folded = name.to_ascii_lowercase();
        if seen.contains(&folded) {
            complaints.push(format!("column {name:?} is there already (case does not count)"));
        }
        seen.push(folded);
    }
    complaints
}

/// A duration in whole milliseconds, as large as they get.
pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{pointer, settings};

    #[test]
    fn the_text_is_the_same_again_and_changes_with_whatever_a_row_depends_on() {
        let base = settings();
        let text = Definition::of(&base).text().unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"topic":"wiki_changes","window_ms":60000,"lateness_ms":600000,"future_bound_ms":300000,"#,
                r#""time":"/timestamp","time_unit":"seconds","keys":[{"name":"wiki","pointer":"/wiki"}],"#,
                r#""filters":[{"pointer":"/meta/domain","include":false,"values":["canary"]}],"#,
                r#""measures":[{"name":"edits","kind":"count"},{"name":"size","kind":"avg","pointer":"/len"}]}"#
            )
        );
        assert_eq!(Definition::parse(&text).unwrap(), Definition::of(&base));
        let check = |change: fn(&mut Settings), same: bool| {
            let mut other = base.clone();
            change(&mut other);
            assert_eq!(Definition::of(&other).text().unwrap() == text, same);
        };
        check(|s| s.idle *= 2, true);
        check(|s| s.watermark_delay *= 2, true);
        check(|s| s.commit_records = 1, true);
        check(|s| s.filters[0].values = vec!["canary".into(), "canary".into()], true);
        check(|s| s.lateness *= 2, false);
        check(|s| s.window *= 2, false);
        check(|s| s.keys[0].pointer = pointer("/wikis"), false);
        check(|s| s.filters[0].include = true, false);
        check(|s| s.measures[0].name = "changes".into(), false);
        check(|s| s.time_unit = TimeUnit::Millis, false);
    }

    #[test]
    fn an_average_is_two_columns_that_can_be_merged() {
        let names: Vec<_> = Definition::of(&settings()).columns().measures.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["edits", "size_sum", "size_count"]);
    }

    #[test]
    fn what_no_table_can_be_made_of_is_named() {
        let check = |change: fn(&mut Settings), expected: &str| {
            let mut settings = settings();
            change(&mut settings);
            let complaints = complaints(&settings);
            assert_eq!(complaints.iter().any(|c| c.contains(expected)), !expected.is_empty(), "{complaints:?}");
            assert_eq!(complaints.is_empty(), expected.is_empty(), "{complaints:?}");
        };
        check(|_| (), "");
        for good in [1, 15, 60, 900, 3600, 7200, 86_400] {
            let mut settings = settings();
            settings.window = Duration::from_secs(good);
            assert!(complaints(&settings).is_empty(), "{good} s");
        }
        check(|s| s.window = Duration::from_secs(7), "divide an hour");
        check(|s| s.window = Duration::from_secs(5400), "divide an hour");
        check(|s| s.window = Duration::ZERO, "divide an hour");
        check(|s| s.window = Duration::from_micros(1500), "divide an hour");
        check(|s| s.window = Duration::from_secs(3600 * 24 * 32), "at most");
        check(|s| s.measures.clear(), "no measures");
        check(|s| s.keys[0].name = "Edits".into(), "there already");
        check(|s| s.keys[0].name = "DT".into(), "there already");
        check(|s| s.keys[0].name = "a b".into(), "letters");
        check(|s| s.keys[0].name = String::new(), "letters");
    }
}
