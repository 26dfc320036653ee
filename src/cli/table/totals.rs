//! What the tables of a pipeline sum up to: what the demo ends with.

use std::collections::BTreeMap;

use super::show::views;
use crate::{config::Pipeline, fault::Result, table::window::Cell};

/// What a whole table sums up to, by key.
pub struct Totals {
    keys: Vec<String>,
    measure: String,
    sums: BTreeMap<String, i64>,
}

impl Totals {
    /// The key columns' names.
    pub fn headings(&self) -> String {
        format!("{} by {}", self.measure, self.keys.join(", "))
    }

    /// The `n` keys with the largest sums.
    pub fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut rows: Vec<_> =
            self.sums.iter().map(|(key, sum)| (key.as_str(), (*sum).max(0).unsigned_abs())).collect();
        rows.sort_by(|(a_key, a), (b_key, b)| b.cmp(a).then(a_key.cmp(b_key)));
        rows.truncate(n);
        rows
    }
}

/// Of each table of a pipeline the sums of its first measure that is a count, over all windows.
///
/// # Errors
/// Those of the store.
pub async fn totals(pipeline: &Pipeline) -> Result<Vec<(String, Totals)>> {
    let mut all = Vec::new();
    for (name, view) in views(pipeline).await? {
        let Some(view) = view else { continue };
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        let is_whole = |cell: &Cell| matches!(cell, Cell::Long(_));
        let Some(at) = view.rows.first().and_then(|row| row.cells.iter().position(is_whole)) else { continue };
        for row in &view.rows {
            if let Some(Cell::Long(number)) = row.cells.get(at) {
                *sums.entry(row.keys.join(", ")).or_default() += number;
            }
        }
        let measure = view.columns.measures.get(at).map_or(String::new(), |column| column.name.clone());
        all.push((name, Totals { keys: view.columns.keys, measure, sums }));
    }
    Ok(all)
}
