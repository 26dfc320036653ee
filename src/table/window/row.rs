//! Rows, and how two of the same window and keys become one.

use std::collections::BTreeMap;

use crate::{
    model::Millis,
    table::{
        definition::{Columns, Op},
        grid::Hour,
    },
};

/// The value of a measure's column in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// A whole number.
    Long(i64),
    /// A floating-point number, always finite.
    Double(f64),
    /// Nothing: the smallest or largest of no numbers.
    Null,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When its window begins.
    pub window_start: Millis,
    /// The keys' texts, in the columns' order.
    pub keys: Vec<String>,
    /// The measures' values, in the columns' order.
    pub cells: Vec<Cell>,
}

/// All rows that one partition has for one hour, sorted by window and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct HourRows {
    /// The hour.
    pub hour: Hour,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Whether an earlier commit wrote this hour, so that these rows stand in for that file's.
    pub replaces: bool,
}

impl Op {
    /// The value of no records.
    pub fn zero(self) -> Cell {
        match self {
            Self::CountRecords | Self::CountNumbers => Cell::Long(0),
            Self::Sum => Cell::Double(0.0),
            Self::Min | Self::Max => Cell::Null,
        }
    }

    /// Adds a record, in which this number (or none) stands.
    pub fn add(self, cell: &mut Cell, number: Option<f64>) {
        let one = match (self, number) {
            (Self::CountRecords, _) | (Self::CountNumbers, Some(_)) => Cell::Long(1),
            (Self::Sum | Self::Min | Self::Max, Some(number)) => Cell::Double(number),
            (_, None) => return,
        };
        self.merge(cell, one);
    }

    /// Merges another row's value into this one.
    pub fn merge(self, cell: &mut Cell, other: Cell) {
        *cell = match (*cell, other) {
            (Cell::Null, other) => other,
            (cell, Cell::Null) => cell,
            (Cell::Long(a), Cell::Long(b)) => Cell::Long(a.saturating_add(b)),
            (Cell::Double(a), Cell::Double(b)) => Cell::Double(match self {
                Self::Min => a.min(b),
                Self::Max => a.max(b),
                // Finite for ever: an infinite sum could turn into no number at all.
                _ => (a + b).clamp(f64::MIN, f64::MAX),
            }),
            // A column has one type; see `Columns`.
            (cell, _) => cell,
        };
    }
}

impl Columns {
    /// The cells of no records.
    pub fn zeros(&self) -> Box<[Cell]> {
        self.measures.iter().map(|column| column.op.zero()).collect()
    }

    /// Merges the cells of another row of the same window and keys into these.
    pub fn merge(&self, cells: &mut [Cell], other: &[Cell]) {
        for ((column, cell), &other) in self.measures.iter().zip(cells).zip(other) {
            column.op.merge(cell, other);
        }
    }
}

/// Rows of several files, those of one window and key as one.
#[derive(Debug)]
pub struct Merged<'c> {
    columns: &'c Columns,
    rows: BTreeMap<(Millis, Vec<String>), Box<[Cell]>>,
}

impl<'c> Merged<'c> {
    /// None yet.
    pub fn new(columns: &'c Columns) -> Self {
        Self { columns, rows: BTreeMap::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) {
        let cells = self.rows.entry((row.window_start, row.keys)).or_insert_with(|| self.columns.zeros());
        self.columns.merge(cells, &row.cells);
    }

    /// One row per window and key, sorted.
    pub fn rows(self) -> Vec<Row> {
        let row = |((window_start, keys), cells): (_, Box<[Cell]>)| Row { window_start, keys, cells: cells.into() };
        self.rows.into_iter().map(row).collect()
    }
}

/// Appends a text to a key, so that keys compare as the tuples of their texts do: a NUL ends a
/// text, and one within it is followed by 0xFF, which begins no UTF-8 text.
pub fn push_text(key: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(nul) = rest.iter().position(|&byte| byte == 0) {
        key.extend_from_slice(&rest[..=nul]);
        key.push(0xff);
        rest = &rest[nul + 1..];
    }
    key.extend_from_slice(rest);
    key.push(0);
}

/// The texts of a key made by [`push_text`].
pub fn texts(mut key: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut text = Vec::new();
    while let Some(nul) = key.iter().position(|&byte| byte == 0) {
        text.extend_from_slice(&key[..nul]);
        if key.get(nul + 1) == Some(&0xff) {
            text.push(0);
            key = &key[nul + 2..];
        } else {
            texts.push(String::from_utf8_lossy(&std::mem::take(&mut text)).into_owned());
            key = &key[nul + 1..];
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(texts: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        texts.iter().for_each(|text| push_text(&mut key, text));
        key
    }

    #[test]
    fn keys_come_back_as_they_went_in_and_compare_as_tuples() {
        let mut tuples: Vec<Vec<&str>> = Vec::new();
        let parts = ["", "a", "a\0", "a\0b", "ab", "\0", "\0\0", "ä", "\u{10ffff}"];
        for first in parts {
            tuples.extend(parts.iter().map(|second| vec![first, second]));
        }
        for tuple in &tuples {
            assert_eq!(&texts(&key(tuple)), tuple);
        }
        let mut by_key = tuples.clone();
        by_key.sort_by_key(|tuple| key(tuple));
        tuples.sort();
        assert_eq!(by_key, tuples);
        assert_eq!(texts(&key(&[])), Vec::<String>::new());
    }

    #[test]
    fn cells_hold_what_their_numbers_say() {
        let check = |op: Op, numbers: &[Option<f64>], expected: Cell| {
            let mut cell = op.zero();
            numbers.iter().for_each(|&number| op.add(&mut cell, number));
            assert_eq!(cell, expected, "{op:?} of {numbers:?}");
        };
        let some = [Some(3.0), None, Some(-1.5)];
        check(Op::CountRecords, &some, Cell::Long(3));
        check(Op::CountNumbers, &some, Cell::Long(2));
        check(Op::Sum, &some, Cell::Double(1.5));
        check(Op::Min, &some, Cell::Double(-1.5));
        check(Op::Max, &some, Cell::Double(3.0));
        check(Op::Sum, &[None], Cell::Double(0.0));
        check(Op::Min, &[None], Cell::Null);
        check(Op::Sum, &[Some(f64::MAX), Some(f64::MAX), Some(f64::MIN)], Cell::Double(0.0));
    }

    #[test]
    fn a_count_stands_still_at_its_end() {
        let mut cell = Cell::Long(i64::MAX);
        Op::CountRecords.add(&mut cell, None);
        assert_eq!(cell, Cell::Long(i64::MAX));
    }
}
