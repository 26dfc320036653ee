//! A table that is open for changes: what those who commit lanes and those who keep it in order share.

use std::sync::Arc;

use super::{
    Settings,
    definition::Definition,
    delta::{self, Change, Outcome, Snapshot},
    files,
    window::{Plan, Row},
};
use crate::{
    fault::Result,
    model::{Clock, Pause},
    store::{Entry, SharedStore, StorePath},
};

/// The table as one writer sees it, and all it takes to change it.
pub(super) struct Opened {
    pub(super) store: SharedStore,
    pub(super) pause: Arc<dyn Pause>,
    pub(super) plan: Arc<Plan>,
    /// The newest version that was seen.
    pub(super) snapshot: Snapshot,
    clock: Arc<dyn Clock>,
    definition: Definition,
}

impl Opened {
    /// Opens the table, and makes it if there is none.
    ///
    /// # Errors
    /// Those of [`delta::create`].
    pub(super) async fn open(
        settings: &Settings,
        store: SharedStore,
        pause: Arc<dyn Pause>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let definition = Definition::of(settings);
        let snapshot = delta::create(&*store, &*pause, &settings.path, &definition, clock.now()).await?;
        Ok(Self { store, pause, plan: Arc::new(Plan::new(settings)), snapshot, clock, definition })
    }

    /// Looks for newer versions.
    ///
    /// # Errors
    /// Those of [`Snapshot::follow`].
    pub(super) async fn follow(&mut self) -> Result<()> {
        self.snapshot.follow(&*self.store).await
    }

    /// Where a file of the table is, by its path within it.
    pub(super) fn at(&self, path: &str) -> StorePath {
        self.snapshot.table().join(path)
    }

    /// What is in a folder of the table.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        self.store.list(&self.at(folder)).await
    }

    /// The rows of a file of the table.
    ///
    /// # Errors
    /// Those of [`files::read_rows`].
    pub(super) async fn read_rows(&self, path: &str) -> Result<Vec<Row>> {
        files::read_rows(&*self.store, &self.snapshot, path).await
    }

    /// Writes rows of one hour; where to, and the file's length.
    ///
    /// # Errors
    /// Those of [`files::write_rows`].
    pub(super) async fn write_rows(&self, rows: &[Row], name: impl FnMut() -> StorePath) -> Result<(StorePath, u64)> {
        files::write_rows(&*self.store, &*self.pause, &self.plan, rows, name).await
    }

    /// Deletes a file of the table; whether it was there.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn delete(&self, path: &str) -> Result<bool> {
        let deleted = self.store.delete(&self.at(path)).await?;
        self.pause.stepped();
        Ok(deleted)
    }

    /// Puts a change on top of the newest version.
    ///
    /// # Errors
    /// Those of [`delta::commit`].
    pub(super) async fn commit(&mut self, change: &dyn Change) -> Result<Outcome> {
        let Self { store, pause, snapshot, definition, clock, .. } = self;
        delta::commit(&**store, &**pause, snapshot, definition, change, clock.now()).await
    }
}
