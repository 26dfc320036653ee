//! What keeps a table in order while it grows: one replica does it, between and beside the commits of
//! all, and nothing breaks if two do.
//!
//! A [`round`](Keeper::round) makes hours final ([`finalise`](super::finalise)) and keeps log and folder
//! bounded ([`upkeep`](super::upkeep)). Each step is one change of the table or one deletion that no
//! reader can notice, so a keeper may die at any point, and another may be at the same step.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Settings,
    definition::Definition,
    delta::{self, Change, Outcome, Snapshot},
    window::Plan,
};
use crate::{
    bus::TopicInfo,
    fault::Result,
    model::{Clock, Millis, Pause},
    store::SharedStore,
};

/// Keeps a table in order; see the module's text.
pub struct Keeper {
    pub(super) store: SharedStore,
    pub(super) pause: Arc<dyn Pause>,
    pub(super) settings: Settings,
    pub(super) plan: Arc<Plan>,
    pub(super) snapshot: Snapshot,
    /// The newest checkpoint that is known.
    pub(super) checkpoint: Option<u64>,
    /// The days that have their `_SUCCESS`, by when they begin.
    pub(super) marked: BTreeSet<Millis>,
    clock: Arc<dyn Clock>,
    definition: Definition,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The time before which all hours are final, if it moved.
    pub closed: Option<Millis>,
    /// Hours brought to where plain readers see them.
    pub swapped: u64,
    /// The version of the checkpoint that was made.
    pub checkpoint: Option<u64>,
    /// Files that were deleted: of the log, and of the table.
    pub deleted: u64,
}

impl Keeper {
    /// Opens the table, and makes it if there is none.
    ///
    /// # Errors
    /// Those of [`delta::create`].
    pub async fn open(
        settings: &Settings,
        store: SharedStore,
        pause: Arc<dyn Pause>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let definition = Definition::of(settings);
        let snapshot = delta::create(&*store, &*pause, &settings.path, &definition, clock.now()).await?;
        Ok(Self {
            store,
            pause,
            settings: settings.clone(),
            plan: Arc::new(Plan::new(settings)),
            checkpoint: None,
            marked: BTreeSet::new(),
            snapshot,
            clock,
            definition,
        })
    }

    /// Does all that is to be done by now; `topic` is the topic as the bus reports it.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`](crate::fault::Kind::Lost) for a file of the table that is gone
    /// or not what it was. The next round goes on from there.
    pub async fn round(&mut self, topic: &TopicInfo) -> Result<Kept> {
        self.snapshot.follow(&*self.store).await?;
        let closed = self.close(topic.id, topic.num_partitions).await?;
        let swapped = self.swap().await?;
        if self.settings.success_files {
            self.mark_days().await?;
        }
        let checkpoint = self.make_checkpoint().await?;
        let deleted = match checkpoint {
            Some(version) => self.clean(version).await? + self.vacuum().await?,
            None => 0,
        };
        Ok(Kept { closed, swapped, checkpoint, deleted })
    }

    /// The version it has seen last.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) async fn commit(&mut self, change: &dyn Change) -> Result<Outcome> {
        let Self { store, pause, snapshot, definition, clock, .. } = self;
        delta::commit(&**store, &**pause, snapshot, definition, change, clock.now()).await
    }
}

#[cfg(test)]
mod tests;
