//! A table as a person wants to see it: one row per window and keys, and how far it goes.
//!
//! Every lane has its own rows in the table; they are merged here as any reader would merge them.

use super::{
    definition::Columns,
    delta::{LaneId, Positions, Snapshot},
    files::read_rows,
    window::{Merged, Row},
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
    /// All hours that begin before this are final, if any is.
    pub final_until: Option<Millis>,
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
    let mut merged = Merged::new(&columns);
    for (path, file) in snapshot.files() {
        // An hour's windows begin in it and end with it: whole files are passed over.
        let outside = |hour: super::grid::Hour| {
            let grid = snapshot.definition().grid();
            to.is_some_and(|to| hour.start() >= to) || from.is_some_and(|from| hour < grid.hour_of(from))
        };
        if file.hour.is_some_and(outside) {
            continue;
        }
        let rows = read_rows(store, &snapshot, path).await?;
        rows.into_iter().filter(|row| within(row.window_start)).for_each(|row| merged.add(row));
    }
    Ok(Some(View {
        version: snapshot.version(),
        positions: snapshot.lanes().collect(),
        final_until: snapshot.final_until(),
        rows: merged.rows(),
        columns,
    }))
}
