//! From a record to rows, without I/O: explode, filter, select, rename, type, templates, constants.
//!
//! A record is one *element*, or as many as the list that is exploded has. Of each element that no filter
//! keeps out a row is made: its columns, the key by which it is known, its time. What cannot become a row is
//! said with its place in the record and goes nowhere else.
//!
//! Rows are a pure function of the record: nothing here knows a clock, an offset or a sink.

mod column;
mod instant;
mod template;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeSet};

use bytes::Bytes;
use serde_json::value::RawValue;

pub use column::{Column, From, Kind, Value};
pub use instant::TimeUnit;
pub use template::Template;

use crate::model::{Extractor, Filter, Pointer, Scalar, json};

/// Bytes of a key at most.
const MAX_KEY: usize = 1_000;

/// What rows are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The list whose elements become rows; without it the whole record becomes one. All other pointers but
    /// [`From::Record`]'s lead into the element.
    pub explode: Option<Pointer>,
    /// All must hold; an element that does not meet them is filtered.
    pub filters: Vec<Filter>,
    /// The columns, in their order.
    pub columns: Vec<Column>,
    /// Where the key stands by which an element is known again.
    pub key: Option<Pointer>,
    /// Where the element's time stands, and what it is there.
    pub time: Option<(Pointer, TimeUnit)>,
}

/// An element's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'r> {
    /// The columns' values; `None` where there is none.
    pub values: Vec<Option<Value<'r>>>,
    /// The key, if one is wanted.
    pub key: Option<Bytes>,
    /// The time, if one is wanted: nanoseconds since 1970.
    pub time: Option<i64>,
    /// The element as it stands in the record.
    pub element: &'r [u8],
}

/// What became of an element.
#[derive(Clone, Debug, PartialEq)]
pub enum Made<'r> {
    /// This row.
    Row(Row<'r>),
    /// A filter kept it out.
    Filtered,
    /// It cannot be used, and why.
    Unusable(String),
}

/// Settings, compiled; see the module's text.
#[derive(Clone, Debug)]
pub struct Transform {
    explode: Option<Pointer>,
    of_element: Extractor,
    of_record: Option<Extractor>,
    filters: Vec<(bool, BTreeSet<String>)>,
    columns: Vec<Compiled>,
    key: Option<(Pointer, usize)>,
    time: Option<(Pointer, TimeUnit, usize)>,
}

#[derive(Clone, Debug)]
struct Compiled {
    column: Column,
    /// Where its parts stand among what was extracted.
    slots: Vec<usize>,
}

impl Transform {
    /// Compiles settings.
    pub fn new(settings: &Settings) -> Self {
        // Of an element: filters first, then what columns want, the key, the time.
        let mut pointers: Vec<&Pointer> = settings.filters.iter().map(|filter| &filter.pointer).collect();
        let mut of_record: Vec<&Pointer> = Vec::new();
        let mut columns = Vec::new();
        for column in &settings.columns {
            let (list, wanted): (&mut Vec<_>, Vec<&Pointer>) = match &column.from {
                From::Element(pointer) => (&mut pointers, vec![pointer]),
                From::Record(pointer) => (&mut of_record, vec![pointer]),
                From::Template(template) => (&mut pointers, template.pointers().collect()),
                From::Constant(_) => (&mut pointers, Vec::new()),
            };
            let slots = (list.len()..list.len() + wanted.len()).collect();
            list.extend(wanted);
            columns.push(Compiled { column: column.clone(), slots });
        }
        let key = settings.key.as_ref().map(|pointer| (pointer.clone(), pointers.len()));
        pointers.extend(&settings.key);
        let time = settings.time.as_ref().map(|(pointer, unit)| (pointer.clone(), *unit, pointers.len()));
        pointers.extend(settings.time.as_ref().map(|(pointer, _)| pointer));
        Self {
            explode: settings.explode.clone(),
            of_element: Extractor::new(pointers),
            of_record: (!of_record.is_empty()).then(|| Extractor::new(of_record)),
            filters: settings.filters.iter().map(|f| (f.include, f.values.iter().cloned().collect())).collect(),
            columns,
            key,
            time,
        }
    }

    /// What becomes of each of a record's elements, in their order.
    ///
    /// # Errors
    /// Why the record has no elements: it is no JSON, or there is no list where one should be.
    pub fn rows<'r>(&self, record: &'r [u8]) -> Result<Vec<Made<'r>>, String> {
        let mut outer = Vec::new();
        if let Some(extractor) = &self.of_record {
            extractor.extract(record, &mut outer).map_err(|error| no_json(&error))?;
        }
        let Some(explode) = &self.explode else {
            let mut found = Vec::new();
            self.of_element.extract(record, &mut found).map_err(|error| no_json(&error))?;
            return Ok(vec![self.row(record, &found, &outer)]);
        };
        let root: &RawValue = serde_json::from_slice(record).map_err(|error| no_json(&error))?;
        let list = json::at(root, explode).ok_or_else(|| format!("nothing stands at {explode}"))?;
        let elements = json::elements(list).ok_or_else(|| format!("what stands at {explode} is no list"))?;
        let mut found = Vec::new();
        let row = |element: &'r RawValue| {
            let text = element.get().as_bytes();
            match self.of_element.extract(text, &mut found) {
                Ok(()) => self.row(text, &found, &outer),
                Err(error) => Made::Unusable(no_json(&error)),
            }
        };
        Ok(elements.into_iter().map(row).collect())
    }

    fn row<'r>(&self, element: &'r [u8], found: &[Option<Scalar<'r>>], outer: &[Option<Scalar<'r>>]) -> Made<'r> {
        let mut scratch = String::new();
        for ((include, values), scalar) in self.filters.iter().zip(found) {
            let text = scalar.as_ref().and_then(|scalar| scalar.text(&mut scratch));
            if text.is_some_and(|text| values.contains(text)) != *include {
                return Made::Filtered;
            }
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for Compiled { column, slots } in &self.columns {
            let parts = if let From::Record(_) = column.from { outer } else { found };
            match column.value(slots.iter().map(|&slot| parts[slot].as_ref())) {
                Ok(value) => values.push(value),
                Err(why) => return Made::Unusable(why),
            }
        }
        let key = match &self.key {
            None => None,
            Some((pointer, slot)) => match found[*slot].as_ref().and_then(|scalar| scalar.text(&mut scratch)) {
                Some(text) if text.len() <= MAX_KEY => Some(Bytes::copy_from_slice(text.as_bytes())),
                Some(text) => {
                    return Made::Unusable(format!("{pointer}: a key of {} bytes, allowed: {MAX_KEY}", text.len()));
                }
                None => return Made::Unusable(format!("{pointer}: no text, number or boolean to be known by")),
            },
        };
        let time = match &self.time {
            None => None,
            Some((pointer, unit, slot)) => match found[*slot].as_ref().and_then(|scalar| unit.read(scalar)) {
                Some(time) => Some(time),
                None => return Made::Unusable(format!("{pointer}: no time in {}", unit.words())),
            },
        };
        Made::Row(Row { values, key, time, element })
    }
}

fn no_json(error: &serde_json::Error) -> String {
    format!("no JSON: {error}")
}

/// A text for a message, cut where it is long.
fn shown(text: &str) -> Cow<'_, str> {
    const MOST: usize = 60;
    if text.len() <= MOST {
        return Cow::Owned(format!("{text:?}"));
    }
    Cow::Owned(format!("{:?}…", text.chars().take(MOST).collect::<String>()))
}
