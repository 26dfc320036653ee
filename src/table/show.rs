//! A table as a person wants to see it: one row per window and keys, and how far it goes.
//!
//! Every lane has its own rows in the table; they are merged here as any reader would merge them.

use std::collections::BTreeMap;

use super::{
    committer::read_rows,
    definition::Columns,
    delta::{LaneId, Positions, Snapshot},
    window::{Cell, Row},
};
use crate::{
    fault::Result,
    model::Millis,
    store::{Store, StorePath},
};

/// What a version of a table says.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The version.
    pub version: u64,
    /// The columns beside `window_start` and `window_end`.
    pub columns: Columns,
    /// What each lane stored last.
    pub positions: Vec<(LaneId, Positions)>,
    /// One row per window and keys, sorted.
    pub rows: Vec<Row>,
}

/// The newest version of the table at this path, with the windows that begin in `[from, to)`;
/// `None` if there is no table.
///
/// # Errors
/// Those of [`Snapshot::load`]; [`Kind::Lost`](crate::fault::Kind::Lost) for a file that the log
/// names and that is not there or cannot be read.
pub async fn show(
    store: &dyn Store,
    table: &StorePath,
    from: Option<Millis>,
    to: Option<Millis>,
) -> Result<Option<View>> {
    let Some(snapshot) = Snapshot::load(store, table).await? else { return Ok(None) };
    let within = |start: Millis| from.is_none_or(|from| from <= start) && to.is_none_or(|to| start < to);
    let columns = snapshot.definition().columns();
    let mut merged: BTreeMap<(Millis, Vec<String>), Vec<Cell>> = BTreeMap::new();
    for (path, file) in snapshot.files() {
        // An hour's windows begin in it and end with it: whole files are passed over.
        let outside = |hour: super::window::Hour| {
            let grid = snapshot.definition().grid();
            to.is_some_and(|to| hour.start() >= to) || from.is_some_and(|from| hour < grid.hour_of(from))
        };
        if file.hour.is_some_and(outside) {
            continue;
        }
        for row in read_rows(store, &snapshot, path).await? {
            if within(row.window_start) {
                let cells = merged.entry((row.window_start, row.keys)).or_insert_with(|| columns.zeros().into());
                columns.merge(cells, &row.cells);
            }
        }
    }
    let row = |((window_start, keys), cells)| Row { window_start, keys, cells };
    Ok(Some(View {
        version: snapshot.version(),
        positions: snapshot.lanes().collect(),
        rows: merged.into_iter().map(row).collect(),
        columns,
    }))
}
