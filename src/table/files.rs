//! The table's files: rows to Parquet files and back.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    delta::{FileFacts, Snapshot, checkpoint},
    grid::Hour,
    parquet,
    window::{Plan, Row},
};
use crate::{
    failpoint::rare,
    fault::{Fault, Kind, Result, Retry},
    model::Pause,
    store::{Store, StorePath},
};

/// How often a file is written again.
const ATTEMPTS: u32 = 14;

/// From so many rows on an hour is encoded on a thread for blocking work; below it takes about a
/// millisecond.
const MANY_ROWS: usize = 5_000;

/// Writes rows of one hour under the names that `name` gives, one after the other, until a file is whole
/// and durable. What a failed try leaves behind is the clean-up's.
///
/// # Errors
/// Those of the store.
pub async fn write_rows(
    store: &dyn Store,
    pause: &dyn Pause,
    plan: &Arc<Plan>,
    rows: &[Row],
    mut name: impl FnMut() -> StorePath,
) -> Result<(StorePath, u64)> {
    let bytes = encode(plan, rows).await?;
    let mut attempt = 0;
    loop {
        let path = name();
        match write(store, &path, bytes.clone()).await {
            Ok(()) => return Ok((path, bytes.len() as u64)),
            Err(fault) if fault.retry == Retry::Never || attempt == ATTEMPTS => return Err(fault),
            Err(_) => rare("table.live_again"),
        }
        attempt += 1;
        pause.pause(attempt).await;
    }
}

/// What the log says of a file of this length with these rows.
pub fn facts(hour: Hour, rows: &[Row], size: u64) -> FileFacts {
    let starts = || rows.iter().map(|row| row.window_start);
    let windows = (starts().min().unwrap_or(hour.start()), starts().max().unwrap_or(hour.start()));
    FileFacts { hour, size, num_rows: rows.len() as u64, windows }
}

/// The rows of a file of the table.
///
/// # Errors
/// [`Kind::Lost`] for a file that is gone or cannot be read; those of the store.
pub async fn read_rows(store: &dyn Store, snapshot: &Snapshot, path: &str) -> Result<Vec<Row>> {
    let at = snapshot.table().join(path);
    let gone = || Fault::data("the log names this file and it is not there").kind(Kind::Lost).at(&at);
    let bytes = store.read(&at).await?.ok_or_else(gone)?;
    parquet::read(&snapshot.definition().columns(), bytes).map_err(|fault| fault.at(&at))
}

async fn encode(plan: &Arc<Plan>, rows: &[Row]) -> Result<Bytes> {
    if rows.len() < MANY_ROWS {
        return parquet::write(plan.columns(), rows);
    }
    let (plan, rows) = (Arc::clone(plan), rows.to_vec());
    blocking(move || parquet::write(plan.columns(), &rows)).await
}

/// A checkpoint of this version.
///
/// # Errors
/// Those of [`checkpoint::encode`].
pub async fn encode_checkpoint(snapshot: &Snapshot) -> Result<Bytes> {
    let actions: Vec<_> = snapshot.actions().collect();
    if actions.len() < MANY_ROWS {
        return checkpoint::encode(actions.into_iter());
    }
    blocking(move || checkpoint::encode(actions.into_iter())).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::internal(format!("parquet: {error}")))?
}

async fn write(store: &dyn Store, path: &StorePath, bytes: Bytes) -> Result<()> {
    let mut writer = store.create(path).await?;
    writer.append(bytes).await?;
    writer.close().await
}
